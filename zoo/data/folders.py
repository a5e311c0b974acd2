"""photos/CLASS/*.jpg and photos/{train,val,test}/CLASS/*.jpg; test is for measuring at the end.

Classes are the folder names of the training part, in string order; a class of val is matched by
name, never by position. Names are compared as names.py does it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from zoo.data import ignored, names
from zoo.data.decode import looks_like_image
from zoo.data.samples import DatasetIndex, Photos, Sample, Skipped, Stat, status_of
from zoo.data.split import LAYOUT, PARTS, TEST_NAMES, TWO, check_classes, not_measured
from zoo.errors import DataError, nearest
from zoo.text import listed
from zoo.watch import check

PICTURES = "pictures"  # the one class of pictures without labels


def scan_folders(root: Path) -> DatasetIndex:
    """Return the index of class folders, without a split where there is no val part.

    Raises DataError.
    """
    look = _Look(root)
    parts = {name: look.part(names) for name, names in PARTS.items()}
    if parts["train"] is None:
        classes, found = look.class_folders("")
        check_classes(root, classes, _where_else(root, found) or TWO)
        return look.index(classes, found)
    classes, samples = look.class_folders(parts["train"])
    check_classes(root / parts["train"], classes)
    for entry in listing(root):
        if entry.name not in parts.values():
            why = ignored.reason(entry.name, is_folder(entry))
            look.skipped.append((entry.name, why or _why_beside(root / entry.name)))
    known = {name: label for label, name in enumerate(classes)}
    if parts["val"] is not None:
        val_classes, val = look.class_folders(parts["val"], classes)
        _check_val(root / parts["val"], classes, val_classes, val)
        samples = [replace(sample, split="train") for sample in samples]
        samples += [replace(s, split="val", label=known[val_classes[s.label]]) for s in val]
    if parts["test"] is not None:
        test_classes, test = look.class_folders(parts["test"], classes)
        named = [(sample, test_classes[sample.label]) for sample in test]
        samples += [replace(s, split="test", label=known[n]) for s, n in named if n in known]
        strange = [(s.path, n) for s, n in named if n not in known]
        look.notes.extend(not_measured(strange, look.skipped))
    return look.index(classes, samples)


def _where_else(root: Path, found: list[Sample]) -> str:
    """Return where the class folders are, if all of them are in one folder below: an archive's."""
    folders = {os.path.dirname(sample.path) for sample in found}
    above = os.path.commonpath(folders) if folders else ""
    if len(folders) < 2 or not above or above in folders:
        return ""
    return f"its photos are in folders below {root / above}: give that one"


def scan_pictures(root: Path, least: int = 2) -> DatasetIndex:
    """Return all pictures below a folder as one class, in parts where it has train and another.

    least: to train on.
    Raises DataError.
    """
    look = _Look(root)
    top = {entry.name.casefold(): entry.name for entry in listing(root) if is_folder(entry)}
    parts = {
        part: next((top[name] for name in names if name in top), "")
        for part, names in PARTS.items()
    }
    if not parts["train"] or not (parts["val"] or parts["test"]):
        sides = [("", "")]
    elif not parts["val"]:  # which is to be drawn from the training part
        sides = [("", parts["train"]), ("test", parts["test"])]
    else:
        sides = [(part, folder) for part, folder in parts.items() if folder]
    samples = [
        Sample(path, 0, side, now[0], status=now)
        for side, folder in sides
        for path, now in look.photos(folder)
    ]
    count = sum(sample.split != "test" for sample in samples)
    if count < least:
        have = "1 picture" if count == 1 else f"{count or 'no'} pictures"
        hint = "add some: two are the least" if least == 2 else "name a folder that has some"
        raise DataError(f"{root} has {have} to train on", hint)
    return look.index((PICTURES,), samples)


def labelled(root: Path, skipped: Skipped | None = None) -> dict[str, Photos]:
    """Return (path, class) of the photos of each part, for measuring; of part `""` without parts.

    Without a train part a folder has parts only where nothing else is in it: val may be a class.
    What is left out goes to `skipped`.
    """
    look = _Look(root, [] if skipped is None else skipped)
    folders = list(filter(is_folder, listing(root)))
    folders = [entry for entry in folders if not ignored.reason(entry.name, True)]
    parts = {name: folder for name, names in PARTS.items() if (folder := look.part(names))}
    if "train" not in parts and len(parts) < len(folders):
        parts = {}
    found = {}
    for name, folder in (parts or {"": ""}).items():
        classes, samples = look.class_folders(folder)
        found[name] = [(sample.path, classes[sample.label]) for sample in samples]
    if not any(found.values()):
        raise DataError(f"{root} has no class folders with photos", f"expected {LAYOUT}")
    return {name: photos for name, photos in found.items() if photos}


@dataclass(frozen=True, slots=True)
class _Look:
    """A folder that is looked through, what is left out of it with the reason, and notes."""

    root: Path
    skipped: Skipped = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def index(self, classes: tuple[str, ...], samples: list[Sample]) -> DatasetIndex:
        notes = tuple(self.notes)
        return DatasetIndex(self.root, classes, tuple(samples), tuple(self.skipped), notes)

    def part(self, names: tuple[str, ...]) -> str | None:
        """Return the folder of a part, in upper or lower case; a class of trains, say, is none."""
        for entry in listing(self.root):
            if entry.name.casefold() in names and is_folder(entry):
                inside = listing(self.root / entry.name)
                if any(each.is_dir() and not ignored.reason(each.name, True) for each in inside):
                    return entry.name
        return None

    def class_folders(
        self, part: str, known: tuple[str, ...] = ()
    ) -> tuple[tuple[str, ...], list[Sample]]:
        """Return the class names of one part, sorted, and its photos.

        Folders whose names are the same, see names.py, are one class, called as among the classes
        that are known.
        """
        found: dict[str, list[tuple[str, Stat]]] = {}
        for entry in listing(self.root / part):
            relative = f"{part}/{entry.name}" if part else entry.name
            if why := ignored.reason(entry.name, is_folder(entry)):
                self.skipped.append((relative, why))
            elif not is_folder(entry):
                self.skipped.append((relative, "not in a class folder"))
            elif inside := list(self.photos(relative)):
                found[entry.name] = inside
            else:
                self.skipped.append((relative, "folder without photos"))
        kinds, notes = names.merged({name: len(inside) for name, inside in found.items()})
        same = names.matching(kinds.values(), known)
        self.notes.extend(notes + names.otherwise(same))
        kinds = {name: same.get(kind, kind) for name, kind in kinds.items()}
        classes = tuple(sorted(set(kinds.values())))
        number = {kind: label for label, kind in enumerate(classes)}
        return classes, [
            Sample(path, number[kinds[name]], "", now[0], status=now)
            for name, inside in found.items()
            for path, now in inside
        ]

    def photos(
        self, relative: str, above: frozenset[tuple[int, int]] = frozenset()
    ) -> Iterator[tuple[str, Stat]]:
        """Yield (path below root, status) of the photos at any depth; loops of links are left."""
        status = os.stat(self.root / relative)
        if (status.st_dev, status.st_ino) in above:
            self.skipped.append((relative, "a link back to a folder above"))
            return
        above |= {(status.st_dev, status.st_ino)}
        for entry in listing(self.root / relative):
            check()
            path = f"{relative}/{entry.name}" if relative else entry.name
            inside = is_folder(entry)
            if why := ignored.reason(entry.name, inside):
                self.skipped.append((path, why))
            elif inside:
                yield from self.photos(path, above)
            elif not (os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file()):
                self.skipped.append((path, "not a regular file"))
            elif not looks_like_image(entry.path):
                self.skipped.append((path, "not a picture"))
            else:
                yield path, status_of(entry.stat())


def listing(folder: Path) -> list[os.DirEntry[str]]:
    """Return what is in a folder, by name. Raises DataError."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        gone = not os.path.isdir(folder)
        hint = "give a folder of photos that is there" if gone else "check its permissions"
        raise DataError(f"{folder} cannot be listed: {error.strerror}", hint) from None


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Do as `entry.is_dir()`, which for a link to itself is an OSError; here it is none."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _why_beside(path: Path) -> str:
    """Return why what lies beside train and val is left out."""
    if path.name.casefold() in TEST_NAMES and path.is_dir():
        return "a test part without class folders: there is nothing to measure on"
    return "beside train and val"


def _check_val(
    base: Path, classes: tuple[str, ...], val_classes: tuple[str, ...], val: list[Sample]
) -> None:
    unknown = [name for name in val_classes if name not in classes]
    if unknown:
        close = nearest(unknown[0], classes)
        raise DataError(
            f"{base} has {'a class' if len(unknown) == 1 else 'classes'} that train has not: "
            f"{listed(unknown, 5)}",
            f"{close} train has: {listed(classes, 10)}".lstrip(),
        )
    if not val:
        raise DataError(f"{base} has no photos", "remove it to have a part of train put aside")
