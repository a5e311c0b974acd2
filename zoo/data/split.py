"""Which photos are put aside for validation, and what must hold of classes wherever they are from.

A share of each class, by a hash of the seed and the path: adding photos moves few others.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from zoo.data.copies import Copies, pairs
from zoo.data.names import check_numbers, plain
from zoo.data.samples import DatasetIndex, Sample
from zoo.errors import DataError

TRAIN_NAMES = ("train", "training")
VAL_NAMES = ("val", "valid", "validation")
TEST_NAMES = ("test", "testing")
PARTS = {"train": TRAIN_NAMES, "val": VAL_NAMES, "test": TEST_NAMES}
LAYOUT = "photos/CLASS/*.jpg or photos/{train,val}/CLASS/*.jpg"


def check_classes(
    base: Path,
    classes: tuple[str, ...],
    hint: str = f"at least two class folders are needed: {LAYOUT}",
) -> None:
    """Raises DataError for fewer than two classes, and for names that cannot stand together."""
    if len(classes) < 2:
        what = f"only one class ('{classes[0]}')" if classes else "no class folders with photos"
        raise DataError(f"{base} has {what}", hint)
    odd = next((name for name in classes if not is_utf8(name)), None)
    if odd is not None:
        raise DataError(f"the class folder {odd!a} has no name in UTF-8", "rename the folder")
    folded = Counter(plain(name).casefold() for name in classes)
    twins = [name for name in classes if folded[plain(name).casefold()] > 1]
    if twins:
        raise DataError(
            f"classes that differ by upper and lower case only: {', '.join(twins)}",
            "merge or rename the classes: the names would collide on other systems",
        )
    check_numbers(base, classes)


def not_measured(strange: list[tuple[str, str]], skipped: list[tuple[str, str]]) -> list[str]:
    """Leaves photos (path, class) of test out whose class training does not know; says so."""
    if not strange:
        return []
    skipped += [
        (path, f"class '{name}' of the test part is not in training") for path, name in strange
    ]
    names = list(dict.fromkeys(name for _, name in strange))
    shown = ", ".join(names[:5]) + (", …" if names[5:] else "")
    return [
        f"the test part has {'a class' if len(names) == 1 else 'classes'} that train has not: "
        f"{shown}; not measured ({len(strange):,} photo{'s'[: len(strange) - 1]})"
    ]


def is_utf8(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)


def drawn(index: DatasetIndex, val_fraction: float, seed: int, copies: Copies) -> DatasetIndex:
    """Return the index with a share of the samples that have no split yet put aside for val.

    Copies of a photo are on one side. Raises DataError where no photo can be put aside.
    """
    open_samples = [sample for sample in index.samples if not sample.split]
    rest = [sample for sample in index.samples if sample.split]
    copies = copies.among(open_samples)
    groups = copies.joined(index.groups) if copies.groups else dict(index.groups)
    share = (index.classes, val_fraction, seed)
    if index.multilabel:
        samples, notes = split_several(open_samples, groups, *share)
    elif any(index.groups.values()):
        samples, notes = split_groups(open_samples, groups, *share)
    else:
        samples, notes = split(open_samples, *share, copies)
    if copies.groups:
        count = sum(len(group) - 1 for group in copies.groups)
        what = "1 photo is a copy of another" if count == 1 else f"{count:,} photos are copies"
        notes.append(f"{what}, by content ({shown(copies)}): copies are on one side of the split")
    return replace(
        index, samples=(*samples, *rest), notes=(*index.notes, *notes), groups={}, drawn=True
    )


def shown(copies: Copies) -> str:
    return pairs([(twin, group[0]) for group in copies.groups for twin in group[1:]])


def split(
    found: list[Sample],
    classes: tuple[str, ...],
    val_fraction: float,
    seed: int,
    copies: Copies,
) -> tuple[list[Sample], list[str]]:
    """The same samples, of each class a share put aside for val; a class keeps one for train.

    Copies are on one side: of one class that which has room for all of them, else train.
    """
    first = copies.first()
    pinned = {group[0].path for group in copies.torn}
    samples: list[Sample] = []
    alone: list[str] = []
    for label, name in enumerate(classes):
        mine = [sample for sample in found if sample.label == label]
        sizes = Counter(first.get(sample.path, sample.path) for sample in mine)
        free = [path for path in sizes if path not in pinned]
        ranked = sorted(free, key=lambda path: rank(seed, path))
        # Of the different photos too: many copies of one must not leave train only that one.
        different = max(1, round(val_fraction * len(sizes)))
        room = min(len(mine) - 1, max(1, round(val_fraction * len(mine))))
        chosen: set[str] = set()
        for path in ranked:
            if sizes[path] <= room and len(chosen) < different:
                chosen.add(path)
                room -= sizes[path]
        if not chosen and (fitting := [p for p in ranked if sizes[p] < len(mine)]):
            chosen.add(min(fitting, key=sizes.__getitem__))
        samples += [
            replace(s, split="val" if first.get(s.path, s.path) in chosen else "train")
            for s in mine
        ]
        if not chosen:
            alone.append(name)
    only = f"one photo only{', copies left aside' if copies.groups else ''}"
    if len(alone) == len(classes):
        which = f": {shown(copies)}" if copies.groups else ""
        raise DataError(f"every class has {only}{which}", "add photos: validation needs some")
    note = f"{only}, so none for validation: {', '.join(alone)}"
    return samples, [note] if alone else []


def split_groups(
    found: list[Sample],
    groups: dict[str, str],
    classes: tuple[str, ...],
    val_fraction: float,
    seed: int,
) -> tuple[list[Sample], list[str]]:
    """Split so that all photos of a group go to one side. groups: path -> group, or nothing.

    A group is put aside where that brings the classes nearer to their shares; then, for each class
    that has none, the smallest group that holds it. Every class keeps a photo for training.
    """
    members: dict[str, list[Sample]] = {}
    for sample in found:
        name = groups.get(sample.path, "")
        members.setdefault(f"group {name}" if name else f"photo {sample.path}", []).append(sample)
    counts = {name: Counter(sample.label for sample in mine) for name, mine in members.items()}
    left = Counter(sample.label for sample in found)
    lacking = {label: max(1, round(val_fraction * count)) for label, count in left.items()}
    chosen: set[str] = set()

    def choose(name: str) -> None:
        chosen.add(name)
        left.subtract(counts[name])
        for label, count in counts[name].items():
            lacking[label] -= count

    def spared(name: str) -> bool:
        return name not in chosen and all(left[k] > count for k, count in counts[name].items())

    ranked = sorted(members, key=lambda name: rank(seed, name))
    for name in ranked:
        mine = counts[name].items()
        nearer = sum(abs(lacking[k] - count) - abs(lacking[k]) for k, count in mine)
        if nearer < 0 and spared(name):
            choose(name)
    alone = []
    for label, name in enumerate(classes):
        if not any(counts[group][label] for group in chosen):
            holding = [group for group in ranked if counts[group][label] and spared(group)]
            if holding:
                choose(min(holding, key=lambda group: counts[group].total()))
            else:
                alone.append(name)
    if not chosen:
        raise DataError(
            "no group can be put aside for validation: each holds all photos of a class",
            "make the groups smaller, or give a column split",
        )
    aside = {sample.path for group in chosen for sample in members[group]}
    samples = [replace(s, split="val" if s.path in aside else "train") for s in found]
    note = f"in one group only, so none for validation: {', '.join(alone)}"
    return samples, [note] if alone else []


class Unit(NamedTuple):
    """Photos that go to one side together: a group, or one photo. counts: photos of each class."""

    paths: list[str]
    counts: Counter[int]


def split_several(
    found: list[Sample],
    groups: dict[str, str],
    classes: tuple[str, ...],
    val_fraction: float,
    seed: int,
) -> tuple[list[Sample], list[str]]:
    """Split photos with several classes or none, so that val has its share of each class.

    The rarest class first, among the photos that are still undecided, since it is the hardest to
    share out (iterative stratification: Sechidis, Tsoumakas, Vlahavas 2011, "On the Stratification
    of Multi-label Data", ECML PKDD); photos without a class count as one class more, and come
    last. groups: as for `split_groups`. Every class keeps a photo for training.
    """
    none = len(classes)
    undecided = units(found, groups, none, seed)
    left = Counter[int]()
    for unit in undecided:
        left.update(unit.counts)
    remaining = left.copy()
    lacking = {k: max(1, round(val_fraction * count)) for k, count in left.items()}
    aside: set[str] = set()
    while undecided:
        rarest = min(+remaining, key=lambda k: (k == none, remaining[k], k))
        rest = []
        for unit in undecided:
            if not unit.counts[rarest]:
                rest.append(unit)
                continue
            remaining.subtract(unit.counts)
            if lacking[rarest] > 0 and all(left[k] > unit.counts[k] for k in unit.counts):
                aside.update(unit.paths)
                left.subtract(unit.counts)
                for label, count in unit.counts.items():
                    lacking[label] -= count
        undecided = rest
    if not aside:
        raise DataError(
            "no photo can be put aside for validation: each is the only one of a class",
            "add photos, or give a column split",
        )
    samples = [replace(s, split="val" if s.path in aside else "train") for s in found]
    seen = {label for s in samples if s.split == "val" for label in s.labels}
    alone = [name for label, name in enumerate(classes) if label not in seen]
    note = f"too few photos, so none for validation: {', '.join(alone)}"
    return samples, [note] if alone else []


def units(found: list[Sample], groups: dict[str, str], none: int, seed: int) -> list[Unit]:
    """In the order in which they are asked; none: the number that stands for no class."""
    members: dict[str, list[Sample]] = {}
    for sample in found:
        name = groups.get(sample.path, "")
        members.setdefault(f"group {name}" if name else f"photo {sample.path}", []).append(sample)
    return [
        Unit(
            [sample.path for sample in members[name]],
            Counter(label for sample in members[name] for label in sample.labels or (none,)),
        )
        for name in sorted(members, key=lambda name: rank(seed, name))
    ]


def rank(seed: int, path: str) -> bytes:
    return hashlib.sha256(f"{seed}:{path}".encode(errors="surrogateescape")).digest()
