"""Promises that hold for new photos, from the val photos: sets of classes, and a share of errors.

Both hold for photos of the same kind as the val photos, whatever the network is.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log, log1p

import numpy as np

from zoo.data.views import generator
from zoo.metrics import Array

HALVES = 20  # times that photos are divided, to measure what sets do
CONFIDENCE = 0.95
TRIED = 10  # thresholds that `threshold` chooses from


# Prediction sets: adaptive (APS) without chance, by split conformal prediction. A set is the fewest
# of the likeliest classes whose probabilities add up to more than a limit. Romano, Sesia, Candès
# 2020, "Classification with Valid and Adaptive Coverage", arXiv:2006.02544; the penalty of RAPS
# (arXiv:2009.14193) makes the sets of our data no smaller. No set is empty, so where the first
# class alone is right more often than asked for, sets of one class hold more than that.


def likelier(probabilities: Array, labels: Array) -> Array:
    """Return the sum of the probabilities of the classes before the true one: N, of N x K."""
    order = np.argsort(-probabilities, axis=1, kind="stable")
    before = before_each(np.take_along_axis(probabilities, order, axis=1))
    rank = (order == labels[:, None]).argmax(axis=1)
    return np.asarray(before[np.arange(len(labels)), rank])


def before_each(falling: Array) -> Array:
    """Return the sum of what stands before each probability; those fall along the last axis."""
    sums = np.cumsum(falling, axis=-1)
    return np.concatenate([np.zeros_like(sums[..., :1]), sums[..., :-1]], axis=-1)


def limit(scores: Array, coverage: float) -> float:
    """Return the limit by which sets hold the true class with at least this probability.

    scores: `likelier` of the val photos. It is their (n + 1) coverage-th, rounded up: the chance is
    between coverage and coverage + 1/(n + 1) unless scores are equal. Infinity for fewer photos
    than `needed`.
    """
    place = ceil(round((len(scores) + 1) * coverage, 9))
    return float(np.sort(scores)[place - 1]) if place <= len(scores) else float("inf")


def needed(coverage: float) -> int:
    """Return how many val photos it takes for this coverage."""
    return max(1, ceil(round(coverage / (1 - coverage), 9)))


@dataclass(frozen=True, slots=True)
class Covered:
    """The share of sets that hold the true class, and how many classes they have on average."""

    coverage: float
    size: float


def covered(falling: Array, scores: Array, limit: float) -> Covered:
    """Measure sets by a limit on photos: their probabilities falling, N x K, and `likelier`."""
    sizes = (before_each(falling) <= limit).sum(axis=1)
    return Covered(float((scores <= limit).mean()), float(sizes.mean()))


def by_halves(falling: Array, scores: Array, coverage: float) -> Covered | None:
    """Measure sets on each half of the photos by the limit of the other half, on average.

    None where a half has fewer photos than needed.
    """
    count = len(scores)
    if count // 2 < needed(coverage):
        return None
    found = []
    for turn in range(HALVES):
        order = generator("halves", 0, turn).permutation(count)
        ours, theirs = order[: count // 2], order[count // 2 :]
        found.append(covered(falling[theirs], scores[theirs], limit(scores[ours], coverage)))
    return Covered(
        float(np.mean([each.coverage for each in found])),
        float(np.mean([each.size for each in found])),
    )


# A share of errors, as selective classification with guaranteed risk has it: Geifman, El-Yaniv
# 2017, "Selective Classification for Deep Neural Networks", arXiv:1705.08500, algorithm 1, over
# thresholds that keep a tenth of the val photos, two tenths and so on, in the place of a search.


@dataclass(frozen=True, slots=True)
class Threshold:
    """A probability, the val photos that reach it, the errors in them and their upper bound."""

    probability: float
    kept: int
    errors: int
    bound: float


def thresholds(probability: Array, kept: Array, errors: Array) -> list[Threshold]:
    """Return TRIED thresholds of a risk-coverage curve, with bounds that all hold at a time.

    The curve's photos kept rise to all of them. Each bound is Clopper and Pearson's (1934) of the
    share of errors in new photos that reach the threshold; all hold with CONFIDENCE (Bonferroni).
    """
    places = np.searchsorted(kept, kept[-1] * np.arange(1, TRIED + 1) / TRIED, side="right") - 1
    return [
        Threshold(float(probability[at]), int(kept[at]), int(errors[at]), bound)
        for at in dict.fromkeys(places[places >= 0].tolist())
        for bound in [upper_bound(int(errors[at]), int(kept[at]), (1 - CONFIDENCE) / TRIED)]
    ]


def upper_bound(errors: int, count: int, chance: float) -> float:
    """Return the share of errors that is exceeded with this chance at most, of `count` seen."""
    from scipy.special import betaincinv

    return 1.0 if errors >= count else float(betaincinv(errors + 1, count - errors, 1 - chance))


def fewest(most: float) -> int:
    """Return how many photos kept without an error promise this share of errors."""
    return ceil(log((1 - CONFIDENCE) / TRIED) / log1p(-most))
