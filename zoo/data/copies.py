"""Photos with the same bytes under several names: where they may lie, and what is said of them.

A network that is measured on a photo that it was trained on is measured on its memory. So copies
are on one side of a split that is drawn; where the data say themselves what is val and test, the
copies of training photos are left out of those, and named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from zoo.data.samples import DatasetIndex, Sample
from zoo.errors import DataError

SHOWN = 3  # pairs that a note names; skipped.csv has all
ORDER = ("train", "val", "test")  # a photo is left out of the later part

# The sha256 of the content by path, at least of all photos that have a copy.
Contents = Callable[[DatasetIndex], dict[str, bytes]]
Group = tuple[Sample, ...]
T = TypeVar("T")


class Forest(Generic[T]):
    """Things that are joined to groups, each group called by one of them (union-find)."""

    def __init__(self) -> None:
        self.above: dict[T, T] = {}

    def root(self, one: T) -> T:
        """Return what the group of a thing is called by."""
        while one in self.above:
            one = self.above[one]
        return one

    def join(self, one: T, other: T) -> bool:
        """Make one group of two, called as that of the other; return whether they were two."""
        first, second = self.root(one), self.root(other)
        if first != second:
            self.above[first] = second
        return first != second


@dataclass(frozen=True, slots=True)
class Copies:
    """Groups of two samples or more with the same content, in the order of the index."""

    groups: tuple[Group, ...] = ()

    @classmethod
    def of(cls, samples: Sequence[Sample], digests: Mapping[str, bytes]) -> Copies:
        """Return the groups among these samples; one without a digest has no copy."""
        found: dict[bytes, list[Sample]] = {}
        for sample in samples:
            if digest := digests.get(sample.path):
                found.setdefault(digest, []).append(sample)
        return cls(tuple(tuple(group) for group in found.values() if len(group) > 1))

    def among(self, samples: Sequence[Sample]) -> Copies:
        """Return the groups that these samples have among themselves."""
        there = {sample.path for sample in samples}
        kept = (tuple(each for each in group if each.path in there) for group in self.groups)
        return Copies(tuple(group for group in kept if len(group) > 1))

    @property
    def torn(self) -> tuple[Group, ...]:
        """Return the groups whose samples have different labels."""
        return tuple(group for group in self.groups if len(set(map(_said, group))) > 1)

    def first(self) -> dict[str, str]:
        """Return by path, of samples with copies, the path of the first of them."""
        return {sample.path: group[0].path for group in self.groups for sample in group}

    def joined(self, groups: Mapping[str, str]) -> dict[str, str]:
        """Return groups of photos (by path) that hold all copies of each of their photos."""
        forest = Forest[str]()
        whole = {path: name for path, name in groups.items() if name}
        for group in self.groups:
            names = dict.fromkeys(whole[s.path] for s in group if s.path in whole)
            name = next(iter(names), f"copies of {group[0].path}")
            whole |= {sample.path: name for sample in group if sample.path not in whole}
            for other in names:
                forest.join(other, name)
        return {path: forest.root(name) for path, name in whole.items()}


def _said(sample: Sample) -> tuple[int, ...]:
    """Return the labels of a sample, one or several."""
    return (sample.label, *sample.labels)


def left_apart(index: DatasetIndex, copies: Copies, keep: bool) -> DatasetIndex:
    """Return the index less the photos of val and test that are in a part before them.

    keep: none is left out, and the note says so. Raises DataError where val is left empty.
    """
    gone: dict[str, tuple[Sample, Sample]] = {}  # path -> the sample, and the one that it is
    for group in copies.groups:
        ranked = sorted(group, key=lambda sample: ORDER.index(sample.split))
        for sample in ranked:
            if sample.split != ranked[0].split:
                gone[sample.path] = sample, ranked[0]
    told = [_note(index, part, list(gone.values()), keep) for part in ORDER]
    told.append(_contradictions(index, copies))
    notes = (*index.notes, *filter(None, told))
    if keep or not gone:
        return replace(index, notes=notes)
    samples = tuple(sample for sample in index.samples if sample.path not in gone)
    if index.of("val") and not any(sample.split == "val" for sample in samples):
        raise DataError(
            f"every photo of val is in train too, by content: {pairs(list(gone.values()))}",
            "give val other photos, or remove it to have a part of train put aside; "
            "--keep-duplicates measures on them all the same",
        )
    skipped = tuple((path, _why(index, *pair)) for path, pair in gone.items())
    return replace(index, samples=samples, skipped=(*index.skipped, *skipped), notes=notes)


def _why(index: DatasetIndex, sample: Sample, twin: Sample) -> str:
    """Return the reason in skipped.csv."""
    other = f", where it is {index.named(twin)}" if _said(sample) != _said(twin) else ""
    return f"the same photo as {twin.path} of {twin.split}, by content{other}"


def _note(index: DatasetIndex, part: str, gone: list[tuple[Sample, Sample]], keep: bool) -> str:
    """Return what the plan says of a part's photos that are in a part before it; or nothing."""
    mine = [pair for pair in gone if pair[0].split == part]
    if not mine:
        return ""
    where = " or ".join(dict.fromkeys(twin.split for _, twin in mine))
    one = len(mine) == 1
    done = "kept: --keep-duplicates"
    if not keep:
        done = "left out; --keep-duplicates keeps " + ("it" if one else "them")
    return (
        f"{len(mine):,} {'photo' if one else 'photos'} of {part} {'is' if one else 'are'} in "
        f"{where} too, by content ({pairs(mine)}): {done}"
    )


def pairs(found: list[tuple[Sample, Sample]]) -> str:
    """Return the first of the pairs in words."""
    shown = [f"{sample.path} is {twin.path}" for sample, twin in found[:SHOWN]]
    return ", ".join((*shown, *(["…"] if len(found) > SHOWN else [])))


def _contradictions(index: DatasetIndex, copies: Copies) -> str:
    """Return what is said of photos that are there under different labels; or nothing."""
    torn = copies.torn
    if not torn:
        return ""
    shown = []
    for group in torn[:SHOWN]:
        other = next(sample for sample in group if _said(sample) != _said(group[0]))
        names = [f"{s.path} as {index.named(s) or 'none'}" for s in (group[0], other)]
        shown.append(", ".join(names))
    more = "; …" if len(torn) > SHOWN else ""
    what = "1 photo is" if len(torn) == 1 else f"{len(torn):,} photos are"
    return f"{what} there under different labels, by content: {'; '.join(shown)}{more}"
