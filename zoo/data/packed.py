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
from zoo.data.samples import DatasetIndex, Photos, Sample
from zoo.data.split import check_classes, not_measured
from zoo.errors import DataError

IDX = re.compile(r"(train|t10k|test|val)[-._](images|labels)[-._]idx[134][-._]ubyte(\.gz)?")
TRAIN_BATCH = re.compile(r"data_batch_([0-9]{1,3})\.bin")
TEST_BATCH = "test_batch.bin"
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
        """Return the labels that occur."""
        return [int(value) for value in np.unique(self.labels)]

    def samples(self, known: dict[int, int], split: str) -> list[Sample]:
        """Return the samples. known: from the number in the file to that of the class."""
        return [
            Sample(f"{self.name}#{n}", known[label], split, self.bytes)
            for n, label in enumerate(self.labels.tolist())
            if split != "test" or label in known
        ]


def scan_packed(root: Path) -> DatasetIndex | None:
    """Return the index of a folder with IDX files or CIFAR-10's batches, None for another folder.

    Without a val part the samples have no split. The data set's own test part is the val part
    where there is no other, as its published accuracies are on it; else it is for the end.
    """
    names = [entry.name for entry in listing(root)]
    parts = _parts_of(root, names)
    if not parts:
        return None
    if "val" not in parts and "test" in parts:
        parts["val"] = parts.pop("test")
    values = _labels_of(parts["train"])
    classes, notes = class_names(root, values, parts["train"])
    check_classes(root, classes, f"{parts['train'][0].name} holds one label only; two are needed")
    known = {value: number for number, value in enumerate(values)}
    _check_val(root, parts.get("val", []), values)
    order = sorted(parts, key=("train", "val", "test").index)
    samples = []
    for part in order:
        split = "" if "val" not in parts else part
        samples += [each for one in parts[part] for each in one.samples(known, split)]
    files = tuple(file for part in order for one in parts[part] for file in one.files)
    used = {name for name, _ in files} | {NAMES}
    skipped = [(name, _why_not(name)) for name in names if name not in used]
    strange = [
        (f"{part.name}#{n}", str(label))
        for part in parts.get("test", [])
        for n, label in enumerate(part.labels.tolist())
        if label not in known
    ]
    notes += not_measured(strange, skipped)
    return DatasetIndex(root, classes, tuple(samples), tuple(skipped), tuple(notes), files)


def labelled(root: Path) -> dict[str, Photos] | None:
    """Return (path, class) of the photos of each part, for measuring; None for another folder.

    A part is what its name says, so MNIST's t10k and CIFAR-10's test_batch are test.
    """
    parts = _parts_of(root, [entry.name for entry in listing(root)])
    if not parts:
        return None
    values = _labels_of(parts["train"])
    known = dict(zip(values, class_names(root, values, parts["train"])[0], strict=True))
    found = {}
    for name, part in parts.items():
        _check_val(root, part, values)
        labels = [(one.name, n, k) for one in part for n, k in enumerate(one.labels.tolist())]
        found[name] = [(f"{file}#{n}", known[label]) for file, n, label in labels]
    return found


def _labels_of(parts: Sequence[Packed]) -> list[int]:
    return sorted({label for part in parts for label in part.values})


def _why_not(name: str) -> str:
    if name.startswith("."):
        return "name begins with a dot"
    if IDX.fullmatch(name.lower()) or BATCH.fullmatch(name):
        return "another file of this part is used"
    return "no part of the data set"


def _parts_of(root: Path, names: Sequence[str]) -> dict[str, list[Packed]]:
    """Return the parts that the names tell: train, val, test; none in another folder.

    The training batches of CIFAR-10 are in the order of their numbers.
    """
    found: dict[tuple[str, str], str] = {}  # (train, images) -> name; as distributed first
    for name in sorted(names, key=lambda name: (not name.lower().endswith(".gz"), name)):
        if match := IDX.fullmatch(name.lower()):
            found.setdefault((match[1], match[2]), name)
    images = [part for part, kind in found if kind == "images"]
    if images and "train" not in images:
        what = f"{root} has {min(found.values())}, but no pictures to train on"
        raise DataError(what, f"expected {EXPECTED}")
    if images:
        test = "t10k" if "t10k" in images else "test"
        words = {"train": "train", "val": "val", "test": test}
        return {p: [idx_part(root, word, found)] for p, word in words.items() if word in images}
    batches = [(int(match[1]), match[0]) for match in map(TRAIN_BATCH.fullmatch, names) if match]
    if not batches:
        return {}
    parts = {"train": [cifar_part(root, name) for _, name in sorted(batches)]}
    if TEST_BATCH in names:
        parts["test"] = [cifar_part(root, TEST_BATCH)]
    return parts


def idx_part(root: Path, part: str, found: dict[tuple[str, str], str]) -> Packed:
    """Return pictures and labels of one part. Raises DataError where they do not fit together."""
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


def cifar_part(root: Path, name: str) -> Packed:
    box = load(root / name)
    assert box.labels is not None
    return Packed(name, box.labels, box.bytes, ((name, sha256(root / name)),))


def class_names(
    root: Path, values: Sequence[int], train: Sequence[Packed]
) -> tuple[tuple[str, ...], list[str]]:
    """Return names of the labels, and a note that says whose; the numbers where unknown."""
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


def _check_val(root: Path, val: Sequence[Packed], values: Sequence[int]) -> None:
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
