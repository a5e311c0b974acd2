"""Folds for cross-validation over the photos of an index."""

from __future__ import annotations

from typing import Any

import numpy as np

from zoo.data.index import DatasetIndex
from zoo.data.views import generator
from zoo.errors import UsageError
from zoo.text import count

Array = np.ndarray[Any, np.dtype[Any]]


def folds_of(index: DatasetIndex, digests: dict[str, bytes], folds: int, seed: int) -> Array:
    """Return the fold of each sample: classes are dealt out evenly, equal photos stay together.

    Raises UsageError where a fold would have no photo, or leave none of a class to train on.
    """
    groups: dict[object, list[int]] = {}
    for row, sample in enumerate(index.samples):
        groups.setdefault(digests.get(sample.path, sample.path), []).append(row)
    random = generator("folds", seed)
    units = [list(groups.values())[place] for place in random.permutation(len(groups))]
    numbers = _dealt(index, units, folds, rarest_first=False)
    if index.multilabel and _together(index, numbers, folds):
        numbers = _dealt(index, units, folds, rarest_first=True)
    _check_folds(index, numbers, folds)
    return numbers


def _dealt(index: DatasetIndex, units: list[list[int]], folds: int, rarest_first: bool) -> Array:
    """Return the fold of each sample: where its kind is rarest, then where there are fewest photos.

    A kind is a class; photos with several labels are one kind more. rarest_first: they are of the
    rarest of their labels instead, and units of rare kinds come first, which can still go anywhere.
    """
    photos = [sum(both) for both in zip(index.counts("train"), index.counts("val"), strict=True)]
    other = len(index.classes)

    def kinds(unit: list[int]) -> list[int]:
        sample = index.samples[unit[0]]
        if not index.multilabel:
            return [sample.label]
        return sorted(sample.labels, key=photos.__getitem__) if rarest_first else []

    if rarest_first:
        units = sorted(units, key=lambda unit: min((photos[k] for k in kinds(unit)), default=1e9))
    counts = np.zeros((other + 1, folds), np.int64)
    totals = np.zeros(folds, np.int64)
    numbers = np.zeros(len(index.samples), np.int64)
    for unit in units:
        mine = kinds(unit) or [other]
        fold = int(np.lexsort((totals, counts[mine[0]]))[0])
        numbers[unit] = fold
        counts[mine, fold] += len(unit)
        totals[fold] += len(unit)
    return numbers


def _together(index: DatasetIndex, numbers: Array, folds: int) -> list[str]:
    """Return the classes whose photos are all in one fold, which has none to train on."""
    counts = np.zeros((len(index.classes), folds), np.int64)
    for sample, fold in zip(index.samples, numbers.tolist(), strict=True):
        for label in sample.labels if index.multilabel else (sample.label,):
            counts[label, fold] += 1
    of_class = counts.sum(axis=1)
    alone = np.flatnonzero((of_class > 0) & (of_class == counts.max(axis=1)))
    return [index.classes[label] for label in alone]


def _check_folds(index: DatasetIndex, numbers: Array, folds: int) -> None:
    """Raise UsageError where a fold would have no photo, or leave none of a class to train on."""
    if len(np.unique(numbers)) < folds:
        photos = count(len(index.samples), "photo")
        raise UsageError(f"--folds {folds} of {photos}", "give fewer folds, or more photos")
    if alone := _together(index, numbers, folds):
        raise UsageError(
            f"--folds {folds}: the photos of class '{alone[0]}' are all in one, "
            "and none is left to train on",
            "give this class two different photos or more, or leave --folds out",
        )
