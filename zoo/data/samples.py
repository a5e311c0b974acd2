"""The records of an index: samples, and what is known of all of them. Opens nothing.

In text several labels of a photo are one cell, `SEPARATOR` between them.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar

from zoo.errors import DataError

SEPARATOR = "|"
T = TypeVar("T")

Stat = tuple[int, int, int, int]  # of a file: bytes, modified and changed in ns, inode
Photos = list[tuple[str, str]]  # path and class
Skipped = list[tuple[str, str]]  # path, and why it is left out


def labels_in(cell: str) -> tuple[str, ...]:
    """Return the labels that a cell holds, each once, in string order; none where it is empty."""
    return tuple(sorted({part.strip() for part in cell.split(SEPARATOR)} - {""}))


def status_of(status: os.stat_result) -> Stat:
    """Return what tells a file from the same one changed."""
    inode = status.st_ino & (1 << 63) - 1
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, inode


def evenly(items: Sequence[T], count: int) -> tuple[T, ...]:
    """Return up to so many of the items, from all over the list, in its order."""
    import numpy as np

    places = np.linspace(0, len(items) - 1, min(count, len(items))).astype(int)
    return tuple(items[place] for place in places)


@dataclass(frozen=True, slots=True)
class Sample:
    """One photo: its path below the root (with `/`, and #N in a container), class and split.

    labels: of multi-label data all classes of the photo, none or several; `label` is -1 there.
    status: of its file, where that was looked at when it was listed.
    """

    path: str
    label: int
    split: str  # train, val or test; empty where that is still to be drawn
    bytes: int = 0
    labels: tuple[int, ...] = ()
    status: Stat | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class DatasetIndex:
    """Classes, samples and what was left out, with the reason.

    containers: (path, sha256) of the files with many pictures. source: what was scanned, which a
    resumed run scans again; the root, unless it is a manifest. multilabel: a photo may have
    several classes, or none. groups: path -> group, of photos that a split must not tear apart.
    drawn: the split was not the data's own. taught: the classes are those of a teacher, of which
    some may have no photo; with `labels` the labels are its answers, 0 until it was asked.
    Samples of a test part are behind all others: they are measured on at the end, and nothing is
    chosen by them.
    """

    root: Path
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = field(default=())
    containers: tuple[tuple[str, str], ...] = ()
    source: Path = Path()
    multilabel: bool = False
    groups: Mapping[str, str] = field(default_factory=dict)
    drawn: bool = False
    taught: Literal["", "classes", "labels"] = ""
    _parts: dict[str, tuple[Sample, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if self.source == Path():
            object.__setattr__(self, "source", self.root)

    @property
    def fingerprint(self) -> str:
        """Changes when a photo is added, removed, renamed, resized in bytes or moved.

        And with every byte of a container.
        """
        digest = hashlib.sha256("\0".join(self.classes).encode(errors="surrogateescape"))
        for sample in self.samples:
            label = sample.labels if self.multilabel else sample.label
            line = f"\n{sample.path}\0{label}\0{sample.split}\0{sample.bytes}"
            digest.update(line.encode(errors="surrogateescape"))
        for path, sha256 in self.containers:
            digest.update(f"\n{path}\0{sha256}".encode(errors="surrogateescape"))
        return digest.hexdigest()

    @property
    def val_is_test(self) -> bool:
        """Return whether the val part is the test part of IDX or Parquet files."""
        # Of those only: a folder of photos may well begin with "test".
        held = next((sample.path for sample in self.samples if sample.split == "val"), "")
        return bool(self.containers) and held.startswith(("t10k", "test"))

    def of(self, split: str) -> tuple[Sample, ...]:
        """Return the samples of a split; they are looked for once."""
        if split not in self._parts:
            found = tuple(sample for sample in self.samples if sample.split == split)
            self._parts[split] = found
        return self._parts[split]

    def labels(self, split: str) -> list[int]:
        """Return the class of each sample of a split, in the order of `of`."""
        return [sample.label for sample in self.samples if sample.split == split]

    def named(self, sample: Sample) -> str:
        """Return the class of a sample, or all of its classes, as a cell of a table."""
        if not self.multilabel:
            return self.classes[sample.label]
        return SEPARATOR.join(self.classes[label] for label in sample.labels)

    def counts(self, split: str) -> list[int]:
        """Return photos per class, in the order of `classes`."""
        if self.multilabel:
            counter = Counter(label for sample in self.of(split) for label in sample.labels)
        else:
            counter = Counter(self.labels(split))
        return [counter[label] for label in range(len(self.classes))]

    def targets(self, split: str) -> Sequence[int | list[float]]:
        """Return the target of each sample: its class; of multi-label data K numbers, 0 or 1."""
        if not self.multilabel:
            return self.labels(split)
        every = range(len(self.classes))
        return [[float(k in sample.labels) for k in every] for sample in self.of(split)]

    def without_test(self) -> DatasetIndex:
        """Return the index less its test part."""
        kept = tuple(sample for sample in self.samples if sample.split != "test")
        return replace(self, samples=kept)

    def absent(self, split: str) -> list[str]:
        """Return the classes that have no photo in a part."""
        counted = zip(self.classes, self.counts(split), strict=True)
        return [name for name, count in counted if not count]

    def without(self, bad: dict[str, str]) -> DatasetIndex:
        """Return the index less the unreadable photos. Raises DataError for a class without any."""
        kept = tuple(sample for sample in self.samples if sample.path not in bad)
        if not kept:
            raise DataError(
                f"none of the {len(self.samples)} photos in {self.root} can be read "
                f"({next(iter(bad.values()))})",
                "check that the files are pictures: `file photos/CLASS/*`",
            )
        smaller = replace(self, samples=kept, skipped=(*self.skipped, *sorted(bad.items())))
        for name, count in zip(self.classes, smaller.counts("train"), strict=True):
            if count == 0 and not self.taught:
                raise DataError(
                    f"no photo of class '{name}' for training can be read",
                    "remove the class folder or replace its photos",
                )
        return smaller
