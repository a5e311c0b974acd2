"""A folder with many pictures in few files: IDX as MNIST is distributed, CIFAR-10's batches.

`train-*` or `data_batch_*` is the training part, `t10k-*`, `test-*`, `val-*` or `test_batch` the
val part. Classes are the labels that occur in training, as numbers in their order; a data set that
is known (by the hash of its labels, else by its folder's name) gives them names.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo.catalog import datasets
from zoo.data.container import BATCH, Bytes, load, read_labels
from zoo.data.folders import listing
from zoo.data.samples import DatasetIndex, Sample
from zoo.data.split import check_classes, not_measured
from zoo.errors import DataError

IDX = re.compile(r"(train|t10k|test|val)[-._](images|labels)[-._]idx[134][-._]ubyte(\.gz)?")
VAL_PARTS = ("val", "t10k", "test")  # the first that is there is used
TRAIN_BATCH = re.compile(r"data_batch_([0-9]{1,3})\.bin")
NAMES = "batches.meta.txt"
EXPECTED = "train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz, and t10k-… likewise"


@dataclass(frozen=True, slots=True)
class Packed:
    """One file of pictures, its labels, and the files (name, sha256) that it was read from."""

    name: str
    labels: Bytes
    bytes: int  # of a picture
    files: tuple[tuple[str, str], ...]

    @property
    def values(self) -> list[int]:
        """The labels that occur."""
        return [int(value) for value in np.unique(self.labels)]

    def samples(self, known: dict[int, int], split: str) -> list[Sample]:
        """known: from the number in the file to that of the class."""
        return [
            Sample(f"{self.name}#{n}", known[label], split, self.bytes)
            for n, label in enumerate(self.labels.tolist())
            if split != "test" or label in known
        ]


def scan_packed(root: Path) -> DatasetIndex | None:
    """The index of a folder with IDX files or CIFAR-10's batches, None for another folder.

    Without a val part the samples have no split. The data set's own test part is the val part
    where there is no other, as its published accuracies are on it; else it is for the end.
    """
    names = [entry.name for entry in listing(root)]
    train, val = idx_parts(root, names) or cifar_parts(root, names) or ([], [])
    if not train:
        return None
    test = test_beside(root, names, val)
    values = sorted({label for part in train for label in part.values})
    classes, notes = class_names(root, values, train)
    check_classes(root, classes, f"{train[0].name} holds one label only; two are needed")
    known = {value: number for number, value in enumerate(values)}
    own = "train" if val else ""
    samples = [sample for part in train for sample in part.samples(known, own)]
    check_val(root, val, values)
    samples += [sample for part in val for sample in part.samples(known, "val")]
    samples += [sample for part in test for sample in part.samples(known, "test")]
    files = tuple(file for part in (*train, *val, *test) for file in part.files)
    used = {name for name, _ in files} | {NAMES}
    skipped = [(name, why_not(name)) for name in names if name not in used]
    strange = [
        (f"{part.name}#{n}", str(label))
        for part in test
        for n, label in enumerate(part.labels.tolist())
        if label not in known
    ]
    notes += not_measured(strange, skipped)
    return DatasetIndex(root, classes, tuple(samples), tuple(skipped), tuple(notes), files)


def test_beside(root: Path, names: Sequence[str], val: Sequence[Packed]) -> list[Packed]:
    """The test part, where another part is the val part."""
    if not val or not val[0].name.lower().startswith("val"):
        return []
    rest = [name for name in names if not name.lower().startswith("val")]
    return (idx_parts(root, rest) or ([], []))[1]


def labelled(root: Path) -> dict[str, list[tuple[str, str]]] | None:
    """For measuring: (path, class) of the photos of each part; None for another folder.

    A part is what its name says, so MNIST's t10k and CIFAR-10's test_batch are test.
    """
    names = [entry.name for entry in listing(root)]
    train, val = idx_parts(root, names) or cifar_parts(root, names) or ([], [])
    if not train:
        return None
    parts = {"train": train}
    if val and val[0].name.lower().startswith("val"):
        parts |= {"val": val, "test": test_beside(root, names, val)}
    else:
        parts["test"] = val
    values = sorted({label for part in train for label in part.values})
    known = dict(zip(values, class_names(root, values, train)[0], strict=True))
    found = {}
    for name, part in parts.items():
        check_val(root, part, values)
        labels = [(one.name, n, k) for one in part for n, k in enumerate(one.labels.tolist())]
        found[name] = [(f"{file}#{n}", known[label]) for file, n, label in labels]
    return {name: photos for name, photos in found.items() if photos}


def why_not(name: str) -> str:
    if name.startswith("."):
        return "name begins with a dot"
    if IDX.fullmatch(name.lower()) or BATCH.fullmatch(name):
        return "another file of this part is used"
    return "no part of the data set"


def idx_parts(root: Path, names: Sequence[str]) -> tuple[list[Packed], list[Packed]] | None:
    """The training part and the val part, if any, of a folder with IDX files."""
    found: dict[tuple[str, str], str] = {}  # (train, images) -> name; as distributed first
    for name in sorted(names, key=lambda name: (not name.lower().endswith(".gz"), name)):
        match = IDX.fullmatch(name.lower())
        if match:
            found.setdefault((match[1], match[2]), name)
    if not any(kind == "images" for _, kind in found):
        return None
    if ("train", "images") not in found:
        raise DataError(
            f"{root} has {min(found.values())}, but no pictures to train on",
            f"expected {EXPECTED}",
        )
    val = next((part for part in VAL_PARTS if (part, "images") in found), None)
    return [idx_part(root, "train", found)], [idx_part(root, val, found)] if val else []


def idx_part(root: Path, part: str, found: dict[tuple[str, str], str]) -> Packed:
    """Pictures and labels of one part. Raises DataError where they do not fit together."""
    images = found[part, "images"]
    if (part, "labels") not in found:
        raise DataError(f"{root / images} has no labels beside it", f"expected {EXPECTED}")
    names = (images, found[part, "labels"])
    box, labels = load(root / names[0]), read_labels(root / names[1])
    if len(box) != len(labels):
        raise DataError(
            f"{root / names[0]} has {len(box):,} pictures, {names[1]} {len(labels):,} labels",
            "the two belong together: one label for each picture",
        )
    return Packed(images, labels, box.bytes, tuple((name, sha256(root / name)) for name in names))


def cifar_parts(root: Path, names: Sequence[str]) -> tuple[list[Packed], list[Packed]] | None:
    """The training batches in the order of their numbers, and the test batch if it is there."""
    numbers = [(int(match[1]), match[0]) for match in map(TRAIN_BATCH.fullmatch, names) if match]
    if not numbers:
        return None
    test = [name for name in names if name == "test_batch.bin"]
    return [cifar_part(root, name) for _, name in sorted(numbers)], [
        cifar_part(root, name) for name in test
    ]


def cifar_part(root: Path, name: str) -> Packed:
    box = load(root / name)
    assert box.labels is not None
    return Packed(name, box.labels, box.bytes, ((name, sha256(root / name)),))


def class_names(
    root: Path, values: Sequence[int], train: Sequence[Packed]
) -> tuple[tuple[str, ...], list[str]]:
    """Names of the labels, and a note that says whose; the numbers themselves where unknown."""
    path = root / NAMES
    if path.is_file() and BATCH.fullmatch(train[0].name):
        text = path.read_text(encoding="utf-8", errors="replace")[:100_000]
        names = tuple(filter(None, map(str.strip, text.splitlines())))
        if values[-1] >= len(names) or len(set(names)) < len(names):
            raise DataError(
                f"{path} has {len(set(names))} different names, labels go up to {values[-1]}",
                "one name a line, the first for label 0; or remove it to have the numbers",
            )
        return tuple(names[value] for value in values), []
    row = next(filter(None, (datasets.holding(file[1]) for file in train[0].files)), None)
    parent = root.absolute().parent if root.absolute().name == "raw" else root.absolute()
    row = row or datasets.called(parent.name)
    if row is None or values[-1] >= len(row.classes):
        return tuple(map(str, values)), []
    classes = tuple(row.classes[value] for value in values)
    numbers = classes == tuple(map(str, values))
    return classes, [] if numbers else [f"the names of the classes are those of {row.name}"]


def check_val(root: Path, val: Sequence[Packed], values: Sequence[int]) -> None:
    for part in val:
        unknown = sorted(set(part.values) - set(values))
        if unknown:
            raise DataError(
                f"{root / part.name} has labels that training has not: "
                f"{', '.join(map(str, unknown[:5]))}",
                f"training has {', '.join(map(str, values[:20]))}; do the two belong together?",
            )


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
