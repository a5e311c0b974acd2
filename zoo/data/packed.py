"""Data with many pictures in few files: IDX as MNIST is distributed, Parquet with photos inside.

`train-*` is the training part, `t10k-*`, `test-*`, `val-*` or `validation-*` the val part; Parquet
without such names is one part. Classes are the labels that occur in training: names in their order,
or numbers, to which an IDX data set that is known (by the hash of its labels, else by its folder's
name) gives names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.catalog import datasets
from zoo.data import ignored
from zoo.data.container import is_container, load
from zoo.data.folders import listing
from zoo.data.idx import read_labels
from zoo.data.parquet import LAYOUT, Photos
from zoo.data.samples import DatasetIndex, Sample
from zoo.data.split import PARTS, check_classes, not_measured
from zoo.disk import sha256_of
from zoo.errors import DataError
from zoo.text import listed

IDX = re.compile(r"(train|t10k|test|val)[-._](images|labels)[-._]idx[134][-._]ubyte(\.gz)?")
VAL_PARTS = ("val", "t10k", "test")  # the first that is there is used
PARQUET = re.compile(r"([a-z]+)[-._0-9].*\.parquet")
EXPECTED = "train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz, and t10k-… likewise"

Label = int | str


def ordered(labels: Iterable[Label]) -> list[Label]:
    """Return numbers in their order, names in string order."""
    return sorted(labels, key=lambda label: (0, label) if isinstance(label, str) else (label, ""))


@dataclass(frozen=True, slots=True)
class Packed:
    """One file of pictures, their labels, and the files (name, sha256) that it was read from."""

    name: str
    labels: Sequence[Label | None]
    bytes: int  # of a picture
    files: tuple[tuple[str, str], ...]

    @property
    def values(self) -> list[Label]:
        """Return the labels that occur, in their order."""
        return ordered({label for label in self.labels if label is not None})

    def samples(self, known: dict[Label, int], split: str) -> list[Sample]:
        """known: from the label in the file to the number of the class."""
        return [
            Sample(f"{self.name}#{n}", known[label], split, self.bytes)
            for n, label in enumerate(self.labels)
            if label in known
        ]

    def others(self, known: dict[Label, int]) -> list[tuple[str, str]]:
        """Return the pictures (path, label) whose label is not known, or that have none."""
        pairs = ((n, label) for n, label in enumerate(self.labels) if label not in known)
        return [(f"{self.name}#{n}", "" if label is None else str(label)) for n, label in pairs]


def _parts_in(root: Path) -> tuple[Path, list[Packed], list[Packed], list[Packed]] | None:
    """Return the folder and the train, val and test part of IDX or Parquet; None for others.

    root: a folder, or one Parquet file. Without another val part the test part is the val part.
    """
    if root.is_file():
        return (root.parent, [_parquet_part(root)], [], []) if is_container(root) else None
    names = [entry.name for entry in listing(root)]
    found = _idx_parts(root, names) or _parquet_parts(root, names)
    return (root, *found) if found else None


def scan_packed(root: Path) -> DatasetIndex | None:
    """Return the index of such data, None for others.

    Without a val part the samples have no split. The data set's own test part is the val part
    where there is no other, as its published accuracies are on it; else it is for the end.
    """
    found = _parts_in(root)
    if found is None:
        return None
    folder, train, val, test = found
    values = ordered({label for part in train for label in part.values})
    if not values:
        raise DataError(f"{folder / train[0].name} has no labels", f"expected {LAYOUT}")
    classes, notes = class_names(folder, values, train)
    check_classes(root, classes, f"{train[0].name} holds one label only; two are needed")
    known = {value: number for number, value in enumerate(values)}
    _check_val(folder, val, values)
    parts = [("train" if val else "", train), ("val", val), ("test", test)]
    samples = [
        each for split, some in parts for part in some for each in part.samples(known, split)
    ]
    files = tuple(file for part in (*train, *val, *test) for file in part.files)
    used, skipped = {name for name, _ in files}, []
    if root.is_dir():
        names = [entry.name for entry in listing(root)]
        skipped = [(name, why_not(name)) for name in names if name not in used]
    for part in (*train, *val):
        skipped += [(path, "has no label") for path, _ in part.others(known)]
    strange = [each for part in test for each in part.others(known)]
    notes += not_measured(strange, skipped)
    return DatasetIndex(folder, classes, tuple(samples), tuple(skipped), tuple(notes), files, root)


def labelled(root: Path) -> dict[str, list[tuple[str, str]]] | None:
    """For measuring: (path, class) of the photos of each part; None for another folder.

    A part is what its name says, so MNIST's t10k is test.
    """
    found = _parts_in(root)
    if found is None:
        return None
    folder, train, val, test = found
    parts = {"train": train, "val": val, "test": test}
    if val and not _is_val(val[0].name):
        parts |= {"val": [], "test": val}
    values = ordered({label for part in train for label in part.values})
    known = dict(zip(values, class_names(folder, values, train)[0], strict=True))
    _check_val(folder, [*val, *test], values)
    if root.is_file():
        parts = {"": train}
    photos = {
        name: [
            (f"{one.name}#{n}", known[label])
            for one in part
            for n, label in enumerate(one.labels)
            if label is not None
        ]
        for name, part in parts.items()
    }
    return {name: some for name, some in photos.items() if some}


def _is_val(name: str) -> bool:
    return name.lower().startswith("val")


def why_not(name: str) -> str:
    if name.startswith("."):
        return ignored.DOT
    if IDX.fullmatch(name.lower()):
        return "another file of this part is used"
    return "no part of the data set"


def _idx_parts(
    root: Path, names: Sequence[str]
) -> tuple[list[Packed], list[Packed], list[Packed]] | None:
    """Return the train, val and test part of a folder with IDX files."""
    found: dict[tuple[str, str], str] = {}  # (train, images) -> name; as distributed first
    for name in sorted(names, key=lambda name: (not name.lower().endswith(".gz"), name)):
        match = IDX.fullmatch(name.lower())
        if match:
            found.setdefault((match[1], match[2]), name)
    there = [part for part in VAL_PARTS if (part, "images") in found]
    if not there and ("train", "images") not in found:
        return None
    if ("train", "images") not in found:
        raise DataError(
            f"{root} has {min(found.values())}, but no pictures to train on",
            f"expected {EXPECTED}",
        )
    parts = [idx_part(root, part, found) for part in there[: 2 if there[:1] == ["val"] else 1]]
    return [idx_part(root, "train", found)], parts[:1], parts[1:]


def _parquet_parts(
    root: Path, names: Sequence[str]
) -> tuple[list[Packed], list[Packed], list[Packed]] | None:
    """Return the train, val and test part of a folder with Parquet files that hold photos."""
    found: dict[str, list[Packed]] = {}
    for name in sorted(name for name in names if name.lower().endswith(".parquet")):
        if is_container(root / name):
            match = PARQUET.fullmatch(name.lower())
            part = next((part for part, of in PARTS.items() if match and match[1] in of), "")
            found.setdefault(part, []).append(_parquet_part(root / name))
    if not found:
        return None
    train = found.get("train", found.get("", []))
    if not train:
        first = next(iter(found.values()))[0].name
        raise DataError(f"{root} has {first}, but no photos to train on", "add train-….parquet")
    val, test = found.get("val", []), found.get("test", [])
    return (train, val, test) if val else (train, test, [])


def _parquet_part(path: Path) -> Packed:
    box = load(path)
    assert isinstance(box, Photos)
    return Packed(path.name, box.labels, box.bytes, ((path.name, sha256_of(path)),))


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
    return Packed(
        images, labels.tolist(), box.bytes, tuple((name, sha256_of(root / name)) for name in names)
    )


def class_names(
    root: Path, values: Sequence[Label], train: Sequence[Packed]
) -> tuple[tuple[str, ...], list[str]]:
    """Names of the labels, and a note that says whose; the numbers themselves where unknown."""
    numbers = [value for value in values if isinstance(value, int)]
    if not numbers:
        return tuple(map(str, values)), []
    row = next(filter(None, (datasets.holding(file[1]) for file in train[0].files)), None)
    parent = root.absolute().parent if root.absolute().name == "raw" else root.absolute()
    row = row or datasets.called(parent.name)
    if row is None or numbers[-1] >= len(row.classes):
        return tuple(map(str, values)), []
    classes = tuple(row.classes[value] for value in numbers)
    same = classes == tuple(map(str, values))
    return classes, [] if same else [f"the names of the classes are those of {row.name}"]


def _check_val(root: Path, val: Sequence[Packed], values: Sequence[Label]) -> None:
    for part in val:
        unknown = ordered(set(part.values) - set(values))
        if unknown:
            raise DataError(
                f"{root / part.name} has labels that training has not: {listed(unknown, 5)}",
                f"training has {listed(values, 20)}; do the two belong together?",
            )
