"""How far a photo is from those of the training: what says that it shows none of the classes.

Mahalanobis distance to the nearest class mean, with one covariance for all classes (Lee et al.
2018, "A Simple Unified Framework for Detecting Out-of-Distribution Samples", arXiv:1807.03888). Few
photos say little of a covariance of a thousand features: its largest directions are kept, and all
others have their mean variance (probabilistic PCA: Tipping, Bishop 1999, JRSS B 61). The features
of a photo are brought to length 1 first, since the length says little (Mueller, Hein 2025,
"Mahalanobis++", arXiv:2505.18032).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from math import ceil

import numpy as np

from zoo.data.samples import evenly
from zoo.head.threads import in_order, one_thread, pieces
from zoo.metrics import Array

DIRECTIONS = 128
PHOTOS = 1500  # that the covariance is of; for more of them its eigenvectors take minutes
PER_CLASS = ("means", "scales")
AT_A_TIME = 64  # rows
LEAST = 1e-12  # variance, of features that are all alike


@dataclass(frozen=True)
class Distance:
    """A distance from the training photos, and that of known photos which it was not made from.

    means: K x D. directions: R x D, orthonormal. variances: R along them, rest: 1, in all others.
    known: distances of the val photos, rising. scales: K, by which distances to each mean are
    divided; 1 but for classes that were added. Floats of 32 bits, but for known.
    """

    means: Array
    directions: Array
    variances: Array
    rest: Array
    known: Array
    scales: Array

    def of(self, features: Array) -> Array:
        """Return the distance of each row of features, N x D.

        It is divided by the number of features, and so about 1 for a usual photo.
        """
        centre, means, inside, weights, of_means = self.ready
        rows = _unit(features) - centre
        with one_thread():
            along = rows @ self.directions.T  # N x R
            mixed = rows @ means.T + (along * weights * self.rest) @ inside.T  # N x K
        squares = (rows**2).sum(axis=1) / self.rest + (along**2 * weights).sum(axis=1)
        each = (squares[:, None] - 2 * mixed / self.rest + of_means) * self.shrunk
        nearest = each.min(axis=1)
        return np.asarray(np.sqrt(nearest.clip(0) / features.shape[1]))

    @cached_property
    def ready(self) -> tuple[Array, Array, Array, Array, Array]:
        """Return what does not depend on the photo, in double precision.

        The centre D, the means about it K x D and along the directions K x R, what a square along
        each counts beside the rest R, and the squared length of each mean K.
        """
        wide = self.means.astype(np.float64)
        centre = wide.mean(axis=0)
        means = wide - centre
        inside = means @ self.directions.T
        weights = 1 / self.variances.astype(np.float64) - 1 / self.rest.astype(np.float64)
        of_means = (means**2).sum(axis=1) / self.rest + (inside**2 * weights).sum(axis=1)
        return centre, means, inside, weights, of_means

    @property
    def shrunk(self) -> Array:
        """Return by what the squared distance to each mean is multiplied, K in double precision."""
        return np.asarray(1 / self.scales.astype(np.float64) ** 2)

    def limit(self, rate: float) -> float:
        """Return the distance that a share `rate` of new photos of the classes exceeds at most.

        It is the (n + 1)(1 - rate)-th of n val photos, rounded up: then it holds on average over
        val photos. Infinity for fewer of them than `needed`.
        """
        place = ceil(round((len(self.known) + 1) * (1 - rate), 9))
        return float(self.known[place - 1]) if place <= len(self.known) else float("inf")

    def with_class(self, features: Array, held_out: Array) -> Distance:
        """Return it with one class more, of features M x D: its mean joins those of the others.

        held_out: features of the val photos, whose distances may only fall by that. The covariance
        is of the other classes, and a mean of few photos is off by chance: photos of the new class
        would seem far. So its distances are divided by how much further its photos are than the
        known ones, each from the mean of the others.
        """
        rows, count = _unit(features), len(features)
        apart = [
            self._about(np.delete(rows, at, axis=0).mean(axis=0), 1.0).of(rows[at : at + 1])
            for at in range(count if count > 1 else 0)
        ]
        usual = np.sqrt(np.mean(self.known**2))
        scale = np.sqrt(np.mean(np.square(apart))) / usual if apart else np.sqrt(2)
        one = self._about(rows.mean(axis=0), max(1.0, float(scale)))
        both = {
            name: np.concatenate([getattr(self, name), getattr(one, name)]) for name in PER_CLASS
        }
        made = replace(self, **both)
        return replace(made, known=np.sort(made.of(held_out)))

    def _about(self, mean: Array, scale: float) -> Distance:
        """Return the distance from one class alone, of this mean."""
        means, scales = (np.asarray(part, np.float32) for part in (mean[None], [scale]))
        return replace(self, means=means, scales=scales)

    def arrays(self) -> dict[str, Array]:
        """Return what a file has to hold, by name."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, Array]) -> Distance:
        """Return what `arrays` gave. Raises ValueError where the arrays do not fit each other."""
        found = cls(*(arrays[one.name] for one in fields(cls)))
        dimensions = [array.ndim for array in found.arrays().values()]
        if dimensions != [2, 2, 1, 1, 1, 1] or found.rest.shape != (1,) or not found.means.size:
            raise ValueError("its arrays have other shapes than a distance")
        shape = (len(found.variances), found.means.shape[1])
        if found.directions.shape != shape or not len(found.known):
            raise ValueError("its arrays do not fit each other")
        if found.scales.shape != found.means.shape[:1] or not (found.scales > 0).all():
            raise ValueError("its scales are not above 0, one of each mean")
        if not (found.variances > 0).all() or not (found.rest > 0).all():
            raise ValueError("its variances are not above 0")
        return found


def needed(rate: float) -> int:
    """Return how many val photos it takes to say which distance a share `rate` exceeds."""
    return max(1, ceil(round(1 / rate, 9)) - 1)


def fit(features: Array, labels: Array, held_out: Array) -> Distance:
    """Return the distance from features N x D of classes N. held_out: features of the val photos.

    One row for each photo. The same input gives the same bits.
    """
    rows, held = _unit(features), np.zeros(0)
    present = np.flatnonzero(np.bincount(labels))
    means = np.stack([rows[labels == label].mean(axis=0) for label in present])
    some = np.array(evenly(np.argsort(labels, kind="stable").tolist(), PHOTOS))
    away = rows[some] - means[np.searchsorted(present, labels[some])]
    parts = _covariance(away, len(some) - len(present))
    directions, variances, rest = (np.asarray(part, np.float32) for part in parts)
    ones = np.ones(len(means), np.float32)
    made = Distance(np.asarray(means, np.float32), directions, variances, rest, held, ones)
    return replace(made, known=np.sort(made.of(held_out)))


def _covariance(away: Array, free: int) -> tuple[Array, Array, Array]:
    """Return the largest directions R x D of rows N x D about 0, their variances, that of the rest.

    free: by how much squares are divided: N less the means that were taken off.
    """
    free, width = max(1, free), away.shape[1]
    count = max(1, min(DIRECTIONS, free // 2, width - 1))
    wide = len(away) < width
    with one_thread():  # N x N, or D x D where there are fewer features than photos
        squares, vectors = np.linalg.eigh(away @ away.T if wide else away.T @ away)
        squares, vectors = squares[::-1].clip(0), vectors[:, ::-1]
        directions = vectors[:, :count].T
        if wide:
            directions = (directions / np.sqrt(squares[:count, None]).clip(LEAST)) @ away
    rest = squares[count:].sum() / free / max(1, width - count)
    return directions, (squares[:count] / free).clip(LEAST), np.array([max(rest, LEAST)])


def _unit(features: Array) -> Array:
    """Return rows brought to length 1, in double precision."""
    found = np.empty(features.shape)

    def work(part: slice) -> None:
        for first in range(part.start, part.stop, AT_A_TIME):  # what the cache of a core holds
            some = slice(first, min(first + AT_A_TIME, part.stop))
            wide = features[some].astype(np.float64)
            found[some] = wide / np.sqrt((wide**2).sum(axis=1, keepdims=True)).clip(LEAST)

    list(in_order(work, pieces(len(features))))
    return found
