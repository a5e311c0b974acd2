"""photos/CLASS/*.jpg and photos/{train,val,test}/CLASS/*.jpg; test is for measuring at the end.

Classes are the folder names of the training part, in string order; a class of val is matched by
name, never by position. Names are compared as names.py does it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from zoo.data import left_out, names
from zoo.data.decode import looks_like_image
from zoo.data.samples import DatasetIndex, Sample
from zoo.data.split import (
    LAYOUT,
    PARTS,
    TEST_NAMES,
    TRAIN_NAMES,
    VAL_NAMES,
    check_classes,
    not_measured,
)
from zoo.errors import DataError, nearest
from zoo.watch import check

PICTURES = "pictures"  # the one class of pictures without labels


def scan_folders(root: Path) -> DatasetIndex:
    """The index of class folders, without a split where there is no val part. Raises DataError."""
    skipped: list[tuple[str, str]] = []
    said: list[str] = []
    train_part = part(root, TRAIN_NAMES)
    if train_part is None:
        classes, found = class_folders(root, "", skipped, said)
        check_classes(root, classes)
        return DatasetIndex(root, classes, tuple(found), tuple(skipped), tuple(said))

    classes, train = class_folders(root, train_part, skipped, said)
    check_classes(root / train_part, classes)
    val_part, test_part = part(root, VAL_NAMES), part(root, TEST_NAMES)
    for entry in listing(root):
        if entry.name not in (train_part, val_part, test_part):
            why = left_out.reason(entry.name, is_folder(entry))
            skipped.append((entry.name, why or why_beside(root / entry.name)))
    known = {name: label for label, name in enumerate(classes)}
    samples = train
    if val_part is not None:
        val_classes, val = class_folders(root, val_part, skipped, said, classes)
        check_val(root / val_part, classes, val_classes, val)
        samples = [replace(sample, split="train") for sample in train]
        samples += [replace(s, split="val", label=known[val_classes[s.label]]) for s in val]
    if test_part is not None:
        test_classes, test = class_folders(root, test_part, skipped, said, classes)
        named = [(sample, test_classes[sample.label]) for sample in test]
        samples += [replace(s, split="test", label=known[n]) for s, n in named if n in known]
        said += not_measured([(s.path, n) for s, n in named if n not in known], skipped)
    return DatasetIndex(root, classes, tuple(samples), tuple(skipped), tuple(said))


def why_beside(path: Path) -> str:
    """Why what lies beside train and val is left out."""
    if path.name.casefold() in TEST_NAMES and path.is_dir():
        return "a test part without class folders: there is nothing to measure on"
    return "beside train and val"


def labelled(
    root: Path, skipped: list[tuple[str, str]] | None = None
) -> dict[str, list[tuple[str, str]]]:
    """For measuring: (path, class) of the photos of each part; of part `""` where there is none.

    Without a train part a folder has parts only where nothing else is in it: val may be a class.
    What is left out goes to `skipped`.
    """
    skipped = [] if skipped is None else skipped
    folders = [
        entry.name
        for entry in listing(root)
        if is_folder(entry) and not left_out.reason(entry.name, True)
    ]
    parts = {name: folder for name, names in PARTS.items() if (folder := part(root, names))}
    if "train" not in parts and len(parts) < len(folders):
        parts = {"": ""}
    found = {}
    for name, folder in (parts or {"": ""}).items():
        classes, samples = class_folders(root, folder, skipped, [])
        found[name] = [(sample.path, classes[sample.label]) for sample in samples]
    if not any(found.values()):
        raise DataError(f"{root} has no class folders with photos", f"expected {LAYOUT}")
    return {name: photos for name, photos in found.items() if photos}


def scan_pictures(root: Path) -> DatasetIndex:
    """All pictures below a folder as one class, or {train,val,test} where it has those parts."""
    skipped: list[tuple[str, str]] = []
    top = {entry.name.casefold(): entry.name for entry in listing(root) if is_folder(entry)}
    parts = {
        part: next((top[name] for name in names if name in top), "")
        for part, names in PARTS.items()
    }
    if parts["train"] and (parts["val"] or parts["test"]):
        if not parts["val"]:  # which is to be drawn from the training part
            parts = {"": parts["train"], "test": parts["test"]}
        samples = [
            Sample(path, 0, side, size)
            for side, folder in parts.items()
            if folder
            for path, size in photos(root, folder, skipped, set())
        ]
        if len([sample for sample in samples if sample.split != "test"]) < 2:
            raise DataError(f"{root} has no two pictures to train on", "add some")
        return DatasetIndex(root, (PICTURES,), tuple(samples), tuple(skipped))
    found = []
    for entry in listing(root):
        if why := left_out.reason(entry.name, is_folder(entry)):
            skipped.append((entry.name, why))
        elif is_folder(entry):
            inside = photos(root, entry.name, skipped, set())
            found += [Sample(path, 0, "", size) for path, size in inside]
        elif entry.is_file() and looks_like_image(entry.path):
            found.append(Sample(entry.name, 0, "", entry.stat().st_size))
        else:
            skipped.append((entry.name, "not a picture"))
    if len(found) < 2:
        raise DataError(f"{root} has {len(found)} pictures", "add some: two are the least")
    return DatasetIndex(root, (PICTURES,), tuple(found), tuple(skipped))


def part(root: Path, names: tuple[str, ...]) -> str | None:
    """The folder of a part, in upper or lower case; a class of trains, say, is none."""
    for entry in listing(root):
        if entry.name.casefold() in names and is_folder(entry):
            inside = listing(root / entry.name)
            if any(each.is_dir() and not left_out.reason(each.name, True) for each in inside):
                return entry.name
    return None


def class_folders(
    root: Path,
    part: str,
    skipped: list[tuple[str, str]],
    said: list[str],
    known: tuple[str, ...] = (),
) -> tuple[tuple[str, ...], list[Sample]]:
    """Class names of one part, sorted, and its photos; what is left out goes to `skipped`.

    Folders whose names are the same, see names.py, are one class, called as among the classes that
    are known; `said` is told of it.
    """
    found: dict[str, list[tuple[str, int]]] = {}
    for entry in listing(root / part):
        relative = f"{part}/{entry.name}" if part else entry.name
        if why := left_out.reason(entry.name, is_folder(entry)):
            skipped.append((relative, why))
        elif not is_folder(entry):
            skipped.append((relative, "not in a class folder"))
        elif inside := list(photos(root, relative, skipped, set())):
            found[entry.name] = inside
        else:
            skipped.append((relative, "folder without photos"))
    kinds, notes = names.merged({name: len(inside) for name, inside in found.items()})
    same = names.matching(kinds.values(), known)
    said += notes + names.otherwise(same)
    kinds = {name: same.get(kind, kind) for name, kind in kinds.items()}
    classes = tuple(sorted(set(kinds.values())))
    number = {kind: label for label, kind in enumerate(classes)}
    return classes, [
        Sample(path, number[kinds[name]], "", size)
        for name, inside in found.items()
        for path, size in inside
    ]


def listing(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(
            f"{folder} cannot be listed: {error.strerror}", "check its permissions"
        ) from None


def is_folder(entry: os.DirEntry[str]) -> bool:
    """`entry.is_dir()` that is false, not an OSError, for a link to itself."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def photos(
    root: Path, relative: str, skipped: list[tuple[str, str]], seen: set[tuple[int, int]]
) -> Iterator[tuple[str, int]]:
    """(path below root, bytes) of the photos at any depth; a loop of links is walked once."""
    status = os.stat(root / relative)
    if (status.st_dev, status.st_ino) in seen:
        skipped.append((relative, "a link back to a folder above"))
        return
    seen = seen | {(status.st_dev, status.st_ino)}
    for entry in listing(root / relative):
        check()
        path = f"{relative}/{entry.name}"
        if why := left_out.reason(entry.name, is_folder(entry)):
            skipped.append((path, why))
        elif is_folder(entry):
            yield from photos(root, path, skipped, seen)
        elif not os.path.isfile(entry.path):
            skipped.append((path, "not a regular file"))
        elif not looks_like_image(entry.path):
            skipped.append((path, "not a picture"))
        else:
            yield path, entry.stat().st_size


def check_val(
    base: Path, classes: tuple[str, ...], val_classes: tuple[str, ...], val: list[Sample]
) -> None:
    unknown = [name for name in val_classes if name not in classes]
    if unknown:
        close = nearest(unknown[0], classes)
        raise DataError(
            f"{base} has {'a class' if len(unknown) == 1 else 'classes'} that train has not: "
            f"{', '.join(unknown[:5])}",
            (f"{close} " if close else "") + f"train has: {', '.join(classes[:10])}",
        )
    if not val:
        raise DataError(f"{base} has no photos", "remove it to have a part of train put aside")
