"""Are new photos like known ones? A permutation test of the energy distance, with its p-value.

Energy distance (Szekely, Rizzo 2013, "Energy statistics", J. Stat. Planning and Inference 143) of
two sets of features X and Y is 2 E|x - y| - E|x - x'| - E|y - y'|: 0 where they are from one
distribution, above otherwise. It is a maximum mean discrepancy whose kernel has no width to choose
(Sejdinovic et al. 2013, Annals of Statistics 41), and unlike a classifier two-sample test it trains
nothing and needs no part put aside, so all photos count where there are few. Were both sets one,
any division of all photos in two would be as likely as theirs: p is the share of divisions, theirs
among them, with a distance at least as large. So p is right for any number of photos; divided by
2 E|x - y| the distance is a share from 0 to 1, which says how much they differ and not how surely.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.data.samples import evenly
from zoo.data.views import generator
from zoo.head.threads import one_thread
from zoo.metrics import Array

MOST = 1500  # photos of each side that are compared
DIVISIONS = 999
FEWEST = 5  # photos of each side: with fewer no p below 0.01 is possible
STRANGE = 20  # photos that are named


@dataclass(frozen=True, slots=True)
class Drift:
    """p: of the permutation test. share: of the distance between the sets that is theirs, 0 to 1.

    strangest: rows of the new photos, the one that is furthest from the known ones first; counts:
    how many photos of each side were compared.
    """

    p: float
    share: float
    strangest: tuple[int, ...]
    counts: tuple[int, int]


def drift(known: Array, new: Array, seed: int = 0) -> Drift:
    """Compare features of known photos, N x D, with those of new ones, M x D. f(seed)."""
    rows = [np.array(evenly(range(len(each)), MOST)) for each in (known, new)]
    both = np.concatenate([known[rows[0]], new[rows[1]]]).astype(np.float64)
    both -= both.mean(axis=0)
    both /= both.std(axis=0).clip(1e-9)
    first, total = len(rows[0]), len(both)
    with one_thread():
        apart = _distances(both)
        random = generator("drift", seed)
        sides = np.zeros((DIVISIONS + 1, total))
        sides[0, :first] = 1
        for side in sides[1:]:
            side[random.permutation(total)[:first]] = 1
        energies, between = _energies(apart, sides)
    p = float((energies >= energies[0] * (1 - 1e-9)).mean())
    far = np.partition(apart[first:, :first], min(4, first - 1), axis=1)[:, :5].mean(axis=1)
    strangest = rows[1][np.argsort(-far)[:STRANGE]]
    share = float(max(0.0, energies[0]) / max(2 * between[0], 1e-12))
    return Drift(p, share, tuple(strangest.tolist()), (first, total - first))


def _distances(rows: Array) -> Array:
    squares = (rows**2).sum(axis=1)
    apart = np.sqrt((squares[:, None] + squares - 2 * (rows @ rows.T)).clip(0))
    np.fill_diagonal(apart, 0)
    return np.asarray(apart)


def _energies(apart: Array, sides: Array) -> tuple[Array, Array]:
    """Return the energy distance of each division, B, and the mean distance between its sides.

    sides: B x N, 1 for those of the first side. Means within a side are over different photos.
    """
    n, m = sides[0].sum(), (1 - sides[0]).sum()
    to_first = sides @ apart
    within = (to_first * sides).sum(axis=1)
    between = (to_first * (1 - sides)).sum(axis=1)
    rest = apart.sum() - within - 2 * between
    mean = between / (n * m)
    energy = 2 * mean - within / max(1, n * (n - 1)) - rest / max(1, m * (m - 1))
    return energy, mean
