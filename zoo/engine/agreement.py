"""Does a lower precision answer as fp32 does? A sequential test: few photos, chosen well.

What the lower precision says of every photo is known; what fp32 says is asked of the photos whose
answer is nearest to another one first, since those alone can change: 16, then twice as many, as
long as the verdict is open. Each photo asked tells whether the answer is another, which counts, and
by how much precision moves the lead of the answer. With s, the root mean square of that over the n
asked, a photo whose lead is m is taken to change with the probability P(T > m / s) of
Student's t with n degrees of freedom; the sum over the photos not asked is what is still to be
expected.

With differences taken as Poisson's, the verdict stands once the probability that it is wrong is at
most ERROR, to either side: that enough are the same with 2 s in the place of s, since precision may
move more where another answer is far; that they are not with s as it is. Where so many photos are
asked that more would cost more than they tell, the expectation decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from zoo.engine import Array

FIRST, MOST = 16, 256  # photos that fp32 is asked of
ERROR = 0.05  # probability of a wrong verdict, to either side
ROUGHER = 2.0  # times as much as for those asked: 1.4 was measured, on real photos and weights


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether enough photos get the answer of fp32.

    photos: all of them. asked: those that fp32 was asked of, differ: those of them with another
    answer. expected: how many of the others have one.
    """

    enough: bool
    photos: int
    asked: int
    differ: int
    expected: float

    @property
    def share(self) -> float:
        """Return the share of all photos with the same answer, as far as is known."""
        return max(0.0, 1 - (self.differ + self.expected) / max(1, self.photos))


def leads(scores: Array, told: Array, several: bool) -> Array:
    """Return how far what was told is from another answer, by these scores N x K: N, float64.

    told: scores N x K whose answer it is. Below 0 where these scores give another one.
    several: labels a photo, each where its score is 0 or more.
    """
    scores = scores.astype(np.float64)
    if several:
        return np.asarray(np.where(told >= 0, scores, -scores).min(axis=1))
    rows, answer = np.arange(len(scores)), told.argmax(axis=1)
    rest = scores.copy()
    rest[rows, answer] = -np.inf
    return np.asarray(scores[rows, answer] - rest.max(axis=1))


Exact = Callable[[Sequence[int]], tuple[Sequence[int], Array]]


def compare(ours: Array, exact: Exact, enough: float, several: bool = False) -> Verdict:
    """Return the verdict on scores N x K of a lower precision.

    exact: gives the scores of fp32 for these rows, and the rows that it has them of. enough: the
    share of all photos that is asked for.
    """
    lead = leads(ours, ours, several)
    order, room = np.argsort(lead, kind="stable"), math.floor((1 - enough) * len(ours) + 1e-9)
    moved = np.zeros(0)
    differ = done = 0
    while True:
        ask = order[done : max(FIRST, 2 * done)]
        rows, scores = exact(ask.tolist())
        if len(rows):
            theirs = leads(scores, ours[list(rows)], several)
            moved = np.append(moved, lead[list(rows)] - theirs)
            differ += int((theirs < 0).sum())
        done += len(ask)
        size = float(np.sqrt(np.mean(moved**2))) if len(moved) else 0.0
        rest, last = lead[order[done:]], done >= min(MOST, len(order))
        likely, most = (_expected(rest, by * size, len(moved)) for by in (1.0, ROUGHER))
        if _settled(room - differ, likely, most) or last:
            enough = room >= differ and (likely if last else most) <= room - differ
            return Verdict(enough, len(ours), len(moved), differ, likely)


def _expected(lead: Array, size: float, asked: int) -> float:
    """Return how many photos with these leads are to be expected to have another answer."""
    from scipy.special import stdtr

    return float(stdtr(asked, -lead / size).sum()) if len(lead) and size else 0.0


def _settled(room: int, likely: float, most: float) -> bool:
    """Return whether at most `room` photos differ, or more, but for ERROR."""
    from scipy.special import pdtr

    if room < 0:
        return True
    sure = (float(pdtr(room, expected)) if expected else 1.0 for expected in (most, likely))
    return next(sure) >= 1 - ERROR or next(sure) <= ERROR
