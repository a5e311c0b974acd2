"""Which photos are put aside for validation, and what must hold of classes wherever they are from.

A share of each class, by a hash of the seed and the path: adding photos moves few others.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from zoo.data.copies import Copies, pairs
from zoo.data.names import check_numbers, plain
from zoo.data.samples import DatasetIndex, Photos, Sample, Skipped
from zoo.errors import DataError
from zoo.text import listed

TRAIN_NAMES = ("train", "training")
VAL_NAMES = ("val", "valid", "validation")
TEST_NAMES = ("test", "testing")
PARTS = {"train": TRAIN_NAMES, "val": VAL_NAMES, "test": TEST_NAMES}
LAYOUT = "photos/CLASS/*.jpg or photos/{train,val}/CLASS/*.jpg"
TWO = f"at least two class folders are needed: {LAYOUT}"


def check_classes(base: Path, classes: tuple[str, ...], hint: str = TWO) -> None:
    """Raise DataError for fewer than two classes, and for names that cannot stand together."""
    if len(classes) < 2:
        what = f"only one class ('{classes[0]}')" if classes else "no class folders with photos"
        raise DataError(f"{base} has {what}", hint)
    odd = next((name for name in classes if not _is_utf8(name)), None)
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


def not_measured(strange: Photos, skipped: Skipped) -> list[str]:
    """Leave photos (path, class) of test out whose class training does not know; return a note."""
    if not strange:
        return []
    skipped += [
        (path, f"class '{name}' of the test part is not in training") for path, name in strange
    ]
    names = list(dict.fromkeys(name for _, name in strange))
    shown = listed(names, 5)
    return [
        f"the test part has {'a class' if len(names) == 1 else 'classes'} that train has not: "
        f"{shown}; not measured ({len(strange):,} photo{'s'[: len(strange) - 1]})"
    ]


def _is_utf8(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)


def drawn(index: DatasetIndex, val_fraction: float, seed: int, copies: Copies) -> DatasetIndex:
    """Return the index with a share of the samples that have no split yet put aside for val.

    Copies of a photo are on one side. Raises DataError where no photo can be put aside.
    """
    undecided = [sample for sample in index.samples if not sample.split]
    rest = [sample for sample in index.samples if sample.split]
    copies = copies.among(undecided)
    if index.multilabel or any(index.groups.values()):
        units = units_of(undecided, index.groups, copies, seed)
        divide = split_several if index.multilabel else _split_groups
        samples, notes = divide(undecided, index.classes, units, val_fraction)
    else:
        samples, notes = split(undecided, index.classes, val_fraction, seed, copies)
    if copies.groups:
        count = sum(len(group) - 1 for group in copies.groups)
        what = "1 photo is a copy of another" if count == 1 else f"{count:,} photos are copies"
        notes.append(f"{what}, by content ({_shown(copies)}): copies are on one side of the split")
    return replace(
        index, samples=(*samples, *rest), notes=(*index.notes, *notes), groups={}, drawn=True
    )


def _shown(copies: Copies) -> str:
    return pairs([(twin, group[0]) for group in copies.groups for twin in group[1:]])


Split = tuple[list[Sample], list[str]]  # the samples, each with its part, and notes


def split(
    found: list[Sample], classes: tuple[str, ...], val_fraction: float, seed: int, copies: Copies
) -> Split:
    """Return the samples, of each class a share put aside for val; a class keeps one for train.

    Copies are on one side: of one class that which has room for all of them, else train.
    """
    first = copies.first()
    pinned = {group[0].path for group in copies.torn}
    samples: list[Sample] = []
    single: list[str] = []
    of_class: list[list[Sample]] = [[] for _ in classes]
    for sample in found:
        of_class[sample.label].append(sample)
    for mine, name in zip(of_class, classes, strict=True):
        sizes = Counter(first.get(sample.path, sample.path) for sample in mine)
        ranked = sorted(sizes.keys() - pinned, key=lambda path: rank(seed, path))
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
        aside = {s.path for s in mine if first.get(s.path, s.path) in chosen}
        samples += _parted(mine, aside)
        single += [] if chosen else [name]
    only = f"one photo only{', copies left aside' if copies.groups else ''}"
    if len(single) == len(classes):
        which = f": {_shown(copies)}" if copies.groups else ""
        raise DataError(f"every class has {only}{which}", "add photos: validation needs some")
    return samples, _none_for_validation(only, single)


def _parted(samples: list[Sample], aside: set[str]) -> list[Sample]:
    return [
        Sample(s.path, s.label, "val" if s.path in aside else "train", s.bytes, s.labels, s.status)
        for s in samples
    ]


def _none_for_validation(why: str, names: list[str]) -> list[str]:
    return [f"{why}, so none for validation: {', '.join(names)}"] if names else []


# Photos with groups, or with several classes.


@dataclass(frozen=True, slots=True)
class Unit:
    """Photos that go to one side together: a group, or one photo, and the copies of all of them.

    photos: of each class; -1 stands for none. different: the same with copies counted as one.
    repeats: how often that photo is in it of which there are most copies.
    """

    paths: tuple[str, ...]
    photos: Counter[int]
    different: Counter[int]
    repeats: int


def units_of(
    found: list[Sample], groups: Mapping[str, str], copies: Copies, seed: int
) -> list[Unit]:
    """Return the units in the order in which they are looked at. groups: path -> group."""
    first, joined = copies.first(), copies.joined(groups)
    members: dict[str, list[Sample]] = {}
    for sample in found:
        name = joined.get(sample.path, "")
        members.setdefault(f"group {name}" if name else f"photo {sample.path}", []).append(sample)
    units = []
    for name in sorted(members, key=lambda name: rank(seed, name)):
        mine = [(first.get(s.path, s.path), s.labels or (s.label,)) for s in members[name]]
        every = [(content, label) for content, labels in mine for label in labels]
        photos = Counter(label for _, label in every)
        different = Counter(label for _, label in set(every))
        repeats = max(Counter(content for content, _ in mine).values())
        units.append(Unit(tuple(s.path for s in members[name]), photos, different, repeats))
    return units


@dataclass(slots=True)
class Shares:
    """Which photos are put aside so far. left, given: photos of each class for train, for val.

    lacking: how many val still lacks, copies counted as one. often: so often a photo is there, on
    average; in val none is there more often, where there are others.
    """

    left: Counter[int]
    lacking: dict[int, int]
    often: int
    given: Counter[int] = field(default_factory=Counter)
    aside: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, units: list[Unit], val_fraction: float) -> Shares:
        left, different = Counter[int](), Counter[int]()
        for unit in units:
            left.update(unit.photos)
            different.update(unit.different)
        lacking = {k: max(1, round(val_fraction * count)) for k, count in different.items()}
        return cls(left, lacking, -(-left.total() // max(1, different.total())))

    def spares(self, unit: Unit) -> bool:
        """Return whether every class keeps a photo for training."""
        return all(self.left[k] > count for k, count in unit.photos.items())

    def put_aside(self, unit: Unit) -> None:
        self.aside.update(unit.paths)
        self.left.subtract(unit.photos)
        self.given.update(unit.photos)
        for label, count in unit.different.items():
            self.lacking[label] -= count


def _split_groups(
    found: list[Sample], classes: tuple[str, ...], units: list[Unit], val_fraction: float
) -> Split:
    """Split so that all photos of a group go to one side.

    A group is put aside where that brings the classes nearer to their shares; then, for each class
    that has none, the smallest group that holds it. Every class keeps a photo for training.
    """
    shares = Shares.of(units, val_fraction)
    for unit in units:
        lacking = [(shares.lacking[k], count) for k, count in unit.different.items()]
        nearer = sum(abs(short - count) - abs(short) for short, count in lacking)
        if nearer < 0 and unit.repeats <= shares.often and shares.spares(unit):
            shares.put_aside(unit)
    without = []
    for label, name in enumerate(classes):
        if shares.given[label]:
            continue
        if spared := [unit for unit in units if unit.photos[label] and shares.spares(unit)]:
            shares.put_aside(min(spared, key=lambda unit: unit.photos.total()))
        else:
            without.append(name)
    if not shares.aside:
        raise DataError(
            "no group can be put aside for validation: each holds all photos of a class",
            "make the groups smaller, or give a column split",
        )
    return _parted(found, shares.aside), _none_for_validation("in one group only", without)


def split_several(
    found: list[Sample], classes: tuple[str, ...], units: list[Unit], val_fraction: float
) -> Split:
    """Split photos with several classes or none, so that val has its share of each class.

    The rarest class first, among the photos that are still undecided, since it is the hardest to
    share out (iterative stratification: Sechidis, Tsoumakas, Vlahavas 2011, "On the Stratification
    of Multi-label Data", ECML PKDD); photos without a class count as one class more, and come
    last. Every class keeps a photo for training.
    """
    shares = Shares.of(units, val_fraction)
    remaining = shares.left.copy()
    while units:
        rarest = min(+remaining, key=lambda k: (k < 0, remaining[k], k))
        for unit in (unit for unit in units if unit.photos[rarest]):
            remaining.subtract(unit.photos)
            wanted = shares.lacking[rarest] > 0 and unit.repeats <= shares.often
            if wanted and shares.spares(unit):
                shares.put_aside(unit)
        units = [unit for unit in units if not unit.photos[rarest]]
    if not shares.aside:
        raise DataError(
            "no photo can be put aside for validation: each is the only one of a class",
            "add photos, or give a column split",
        )
    without = [name for label, name in enumerate(classes) if not shares.given[label]]
    return _parted(found, shares.aside), _none_for_validation("too few photos", without)


def rank(seed: int, path: str) -> bytes:
    return hashlib.sha256(f"{seed}:{path}".encode(errors="surrogateescape")).digest()
