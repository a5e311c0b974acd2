"""DatasetIndex: which photos there are, of which class, in which split. Decodes no picture.

Understands photos/CLASS/*.jpg and photos/{train,val}/CLASS/*.jpg. Classes are the folder names of
the training part, in string order; a class of val is matched by name, never by position.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from zoo.data.decode import looks_like_image
from zoo.errors import DataError, nearest

TRAIN_NAMES = ("train", "training")
VAL_NAMES = ("val", "valid", "validation")
LAYOUT = "photos/CLASS/*.jpg or photos/{train,val}/CLASS/*.jpg"


@dataclass(frozen=True, slots=True)
class Sample:
    """One photo: its path below the root (with `/`), its class and its split."""

    path: str
    label: int
    split: str  # "train" or "val"
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class DatasetIndex:
    """Classes, samples and what was left out, with the reason."""

    root: Path
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def fingerprint(self) -> str:
        """Changes when a photo is added, removed, renamed, resized in bytes or moved."""
        digest = hashlib.sha256("\0".join(self.classes).encode(errors="surrogateescape"))
        for sample in self.samples:
            line = f"\n{sample.path}\0{sample.label}\0{sample.split}\0{sample.bytes}"
            digest.update(line.encode(errors="surrogateescape"))
        return digest.hexdigest()

    def of(self, split: str) -> tuple[Sample, ...]:
        return tuple(sample for sample in self.samples if sample.split == split)

    def counts(self, split: str) -> list[int]:
        """Photos per class, in the order of `classes`."""
        counter = Counter(sample.label for sample in self.of(split))
        return [counter[label] for label in range(len(self.classes))]

    def without(self, bad: dict[str, str]) -> DatasetIndex:
        """The index less the unreadable photos; raises DataError when a class has none left."""
        kept = tuple(sample for sample in self.samples if sample.path not in bad)
        if not kept:
            raise DataError(
                f"none of the {len(self.samples)} photos in {self.root} can be read "
                f"({next(iter(bad.values()))})",
                "check that the files are pictures: `file photos/CLASS/*`",
            )
        smaller = replace(self, samples=kept, skipped=(*self.skipped, *sorted(bad.items())))
        for name, count in zip(self.classes, smaller.counts("train"), strict=True):
            if count == 0:
                raise DataError(
                    f"no photo of class '{name}' for training can be read",
                    "remove the class folder or replace its photos",
                )
        return smaller


def scan(root: Path, *, val_fraction: float = 0.2, seed: int = 0) -> DatasetIndex:
    """The index of a folder of photos. Raises DataError.

    Where the folder has no val part, a share `val_fraction` of each class is put aside for it;
    which photos is a function of the seed and their paths, so adding photos moves few others.
    """
    root = Path(root)
    if not root.is_dir():
        problem = "is not a folder" if root.exists() else "does not exist"
        raise DataError(f"{root} {problem}", f"give a folder with {LAYOUT}")
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


def check_classes(base: Path, classes: tuple[str, ...]) -> None:
    if len(classes) < 2:
        what = f"only one class ('{classes[0]}')" if classes else "no class folders with photos"
        raise DataError(f"{base} has {what}", f"at least two class folders are needed: {LAYOUT}")
    odd = next((name for name in classes if not is_utf8(name)), None)
    if odd is not None:
        raise DataError(f"the class folder {odd!a} has no name in UTF-8", "rename the folder")
    folded = Counter(name.casefold() for name in classes)
    twins = [name for name in classes if folded[name.casefold()] > 1]
    if twins:
        raise DataError(
            f"classes that differ by upper and lower case only: {', '.join(twins)}",
            "merge or rename the folders: the names would collide on other systems",
        )


def is_utf8(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)


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


def split(
    found: list[Sample], classes: tuple[str, ...], val_fraction: float, seed: int
) -> tuple[list[Sample], list[str]]:
    """The same samples, of each class a share put aside for val; a class keeps one for train."""
    samples: list[Sample] = []
    alone: list[str] = []
    for label, name in enumerate(classes):
        mine = [sample for sample in found if sample.label == label]
        ranked = sorted(mine, key=lambda sample: rank(seed, sample.path))
        count = min(len(mine) - 1, max(1, round(val_fraction * len(mine))))
        chosen = {sample.path for sample in ranked[:count]}
        samples += [replace(s, split="val" if s.path in chosen else "train") for s in mine]
        if count == 0:
            alone.append(name)
    note = f"one photo only, so none for validation: {', '.join(alone)}"
    if len(alone) == len(classes):
        raise DataError("every class has one photo only", "add photos: validation needs some")
    return samples, [note] if alone else []


def rank(seed: int, path: str) -> bytes:
    return hashlib.sha256(f"{seed}:{path}".encode(errors="surrogateescape")).digest()
