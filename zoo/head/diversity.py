"""Which photos to label next: those that the network is unsure of, and no two that say the same.

BADGE (Ash et al. 2020, "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds",
arXiv:1906.03671): a photo stands where the gradient of the head's loss would be if the answer were
true, which is long where the answer is unsure. The photos that are chosen lie far apart there. By
k-centre greedy (Sener, Savarese 2018, arXiv:1708.00489) in the place of k-means++: without chance.
"""

from __future__ import annotations

import numpy as np

from zoo.head.layers import unit
from zoo.head.threads import one_thread
from zoo.metrics import Array


def chosen(features: Array, probabilities: Array, count: int) -> list[int]:
    """Return the numbers of up to so many rows, the first one first, of N x D and N x K.

    The first is the one that the network is least sure of, each further one lies furthest from all
    before it. Equal photos are chosen once only.
    """
    rows = unit(features.astype(np.float64))
    errors = probabilities.astype(np.float64)
    errors[np.arange(len(errors)), errors.argmax(axis=1)] -= 1
    squares = (errors**2).sum(
        axis=1
    )  # of the gradients, error x feature, as features have length 1
    nearest, found = squares.copy(), list[int]()
    with one_thread():
        while len(found) < min(count, len(rows)):
            at = int(nearest.argmax())
            if nearest[at] <= 1e-12:
                break
            found.append(at)
            away = squares + squares[at] - 2 * (errors @ errors[at]) * (rows @ rows[at])
            nearest = np.minimum(nearest, away)
            nearest[at] = 0
    return found
