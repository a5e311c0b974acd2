"""A head that begins with class names: rows from texts, blended with rows solved for on photos.

Both are linear on the same features, mapped to where texts are compared with pictures and of
length 1, so that a blend of them is one head again (as in Wortsman et al. 2022, arXiv:2109.01903,
for whole networks):

    rows = share * scale * texts + (1 - share) * solved

The share is the one with the least loss on the val photos, whose accuracy is therefore not
independent of it. The temperature of the val photos comes on top.
"""

from __future__ import annotations

import numpy as np

from zoo.head.layers import Cosine, Linear
from zoo.head.scores import loss_of
from zoo.metrics import Array

SHARES = np.linspace(0, 1, 21)


def blend(texts: Linear, solved: Linear, val: Array, labels: Array) -> tuple[Cosine, float]:
    """Return the blend with the least loss on val features, N x E of length 1, and texts' share.

    Of equal losses the one nearest to the texts is taken: they have not seen the photos.
    """
    ours, theirs = texts.scores(val), solved.scores(val)
    losses = [loss_of(share * ours + (1 - share) * theirs, labels) for share in SHARES]
    share = float(SHARES[len(SHARES) - 1 - int(np.argmin(losses[::-1]))])
    mixed = (share * texts.arrays[n] + (1 - share) * solved.arrays[n] for n in ("weight", "bias"))
    return Cosine(*(np.asarray(array, np.float32) for array in mixed)), share
