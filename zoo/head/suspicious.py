"""Which labels are probably wrong: what heads say of photos that they were not fitted on.

Confident learning (Northcutt, Jiang, Chuang 2021, "Confident Learning: Estimating Uncertainty in
Dataset Labels", JAIR 70, arXiv:1911.00068). A class is usually as sure as it is of its own photos
on average; a photo counts as of another class where that one is at least as sure of it, and so
many labels are taken for wrong. Which ones: those whose probability is the least share of what is
usual for their class, where the heads answer otherwise. (On real photos with 5 % of the labels
changed that finds more of them than the margin to the likeliest class does: benchmarks/check.py.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.metrics import Array


@dataclass(frozen=True, slots=True)
class Suspicious:
    """Rows by how suspicious their label is.

    order: row numbers, the most suspicious first; rows without probabilities are not in it.
    flagged: so many of them, from the first on, are probably wrong. scores: N, 0 to 1: by how
    much the label's probability falls short of what is usual for its class. proposed: N, the
    likeliest other class, -1 where there are no probabilities.
    """

    order: Array
    flagged: int
    scores: Array
    proposed: Array


def suspicious(probabilities: Array, labels: Array) -> Suspicious:
    """Return the rows by how suspicious their label is.

    probabilities: N x K, of heads that were fitted without the row, NaN where there is none.
    labels: N class numbers.
    """
    count, classes = probabilities.shape
    scores, proposed = np.zeros(count), np.full(count, -1)
    rows = np.flatnonzero(np.isfinite(probabilities).all(axis=1))
    if classes < 2 or not len(rows):
        return Suspicious(rows[:0], 0, scores, proposed)
    known, given = probabilities[rows].astype(np.float64), labels[rows].astype(np.int64)
    own = np.take_along_axis(known, given[:, None], axis=1)[:, 0]
    photos = np.bincount(given, minlength=classes)
    usual = np.bincount(given, own, classes) / photos.clip(1)
    usual[photos == 0] = np.inf  # a class without photos claims none
    others = known.copy()
    np.put_along_axis(others, given[:, None], -1, axis=1)
    proposed[rows] = others.argmax(axis=1)
    share = own / usual[given].clip(np.finfo(np.float64).tiny)
    scores[rows] = 1 - share.clip(0, 1)
    agrees = own >= others.max(axis=1)
    apart = _claimed(known, usual, given) != given
    order = np.lexsort((share, agrees))
    return Suspicious(rows[order], int(min(apart.sum(), (~agrees).sum())), scores, proposed)


def _claimed(known: Array, usual: Array, given: Array) -> Array:
    """Return the class that each row counts as: the likeliest of those as sure of it as usual.

    Where none is, the label. known: M x K, usual: K, given: M.
    """
    claims = np.where(known >= usual, known, -1)
    return np.asarray(np.where(claims.max(axis=1) < 0, given, claims.argmax(axis=1)))
