"""photos/CLASS/*.jpg and photos/{train,val}/CLASS/*.jpg; a test part is for measuring only.

Classes are the folder names of the training part, in string order; a class of val is matched by
name, never by position.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from zoo.data.decode import looks_like_image
from zoo.data.samples import DatasetIndex, Sample
from zoo.data.split import LAYOUT, PARTS, TRAIN_NAMES, VAL_NAMES, check_classes, split
from zoo.errors import DataError, nearest
from zoo.watch import check

PICTURES = "pictures"  # the one class of pictures without labels


def scan_folders(root: Path, val_fraction: float, seed: int) -> DatasetIndex:
    """The index of class folders. Raises DataError."""
    skipped: list[tuple[str, str]] = []
    train_part = part(root, TRAIN_NAMES)
    if train_part is None:
        classes, found = class_folders(root, "", skipped)
        check_classes(root, classes)
        samples, notes = split(found, classes, val_fraction, seed)
        return DatasetIndex(root, classes, tuple(samples), tuple(skipped), tuple(notes))

    classes, train = class_folders(root, train_part, skipped)
    check_classes(root / train_part, classes)
    name = part(root, VAL_NAMES)
    for other in sorted(entry.name for entry in os.scandir(root)):
        if other not in (train_part, name) and not other.startswith("."):
            skipped.append((other, "beside train and val"))
    if name is None:
        samples, notes = split(train, classes, val_fraction, seed)
        return DatasetIndex(root, classes, tuple(samples), tuple(skipped), tuple(notes))
    val_classes, val = class_folders(root, name, skipped)
    check_val(root / name, classes, val_classes, val)
    known = {name: label for label, name in enumerate(classes)}
    samples = [replace(sample, split="train") for sample in train]
    samples += [replace(s, split="val", label=known[val_classes[s.label]]) for s in val]
    absent = [name for name in classes if name not in val_classes]
    note = (f"no validation photo of: {', '.join(absent)}",) if absent else ()
    return DatasetIndex(root, classes, tuple(samples), tuple(skipped), note)


def labelled(root: Path) -> dict[str, list[tuple[str, str]]]:
    """For measuring: (path, class) of the photos of each part; of part `""` where there is none.

    Without a train part a folder has parts only where nothing else is in it: val may be a class.
    """
    folders = [
        entry.name for entry in listing(root) if is_folder(entry) and not entry.name.startswith(".")
    ]
    parts = {name: folder for name, names in PARTS.items() if (folder := part(root, names))}
    if "train" not in parts and len(parts) < len(folders):
        parts = {"": ""}
    found = {}
    for name, folder in (parts or {"": ""}).items():
        classes, samples = class_folders(root, folder, [])
        found[name] = [(sample.path, classes[sample.label]) for sample in samples]
    if not any(found.values()):
        raise DataError(f"{root} has no class folders with photos", f"expected {LAYOUT}")
    return {name: photos for name, photos in found.items() if photos}


def scan_pictures(root: Path, val_fraction: float, seed: int) -> DatasetIndex:
    """All pictures below a folder as one class, or {train,val} where it has those parts."""
    skipped: list[tuple[str, str]] = []
    top = {entry.name.casefold(): entry.name for entry in listing(root) if is_folder(entry)}
    parts = [
        next((top[name] for name in names if name in top), None)
        for names in (TRAIN_NAMES, VAL_NAMES)
    ]
    if parts[0] and parts[1]:
        samples = [
            Sample(path, 0, side, size)
            for folder, side in zip(parts, ("train", "val"), strict=True)
            for path, size in photos(root, str(folder), skipped, set())
        ]
        return DatasetIndex(root, (PICTURES,), tuple(samples), tuple(skipped))
    found = []
    for entry in listing(root):
        if is_folder(entry) and not entry.name.startswith("."):
            inside = photos(root, entry.name, skipped, set())
            found += [Sample(path, 0, "", size) for path, size in inside]
        elif entry.is_file() and looks_like_image(entry.path):
            found.append(Sample(entry.name, 0, "", entry.stat().st_size))
        else:
            skipped.append((entry.name, "not a picture"))
    if len(found) < 2:
        raise DataError(f"{root} has {len(found)} pictures", "add some: two are the least")
    samples, _ = split(found, (PICTURES,), val_fraction, seed)
    return DatasetIndex(root, (PICTURES,), tuple(samples), tuple(skipped))


def part(root: Path, names: tuple[str, ...]) -> str | None:
    """The folder of a part, in upper or lower case; a class of trains, say, is none."""
    for entry in listing(root):
        if entry.name.casefold() in names and is_folder(entry):
            inside = listing(root / entry.name)
            if any(each.is_dir() and not each.name.startswith(".") for each in inside):
                return entry.name
    return None


def class_folders(
    root: Path, part: str, skipped: list[tuple[str, str]]
) -> tuple[tuple[str, ...], list[Sample]]:
    """Class names of one part, sorted, and its photos; what is left out goes to `skipped`."""
    base = root / part
    names: list[str] = []
    samples: list[Sample] = []
    for entry in listing(base):
        relative = f"{part}/{entry.name}" if part else entry.name
        if entry.name.startswith("."):
            skipped.append((relative, "name begins with a dot"))
        elif not is_folder(entry):
            skipped.append((relative, "not in a class folder"))
        else:
            label = len(names)
            found = [
                Sample(path, label, "", size)
                for path, size in photos(root, relative, skipped, set())
            ]
            if found:
                names.append(entry.name)
                samples += found
            else:
                skipped.append((relative, "folder without photos"))
    return tuple(names), samples


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
        if entry.name.startswith("."):
            skipped.append((path, "name begins with a dot"))
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
