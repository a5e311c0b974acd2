"""The nearest photos as a head: k nearest neighbours by the cosine of their whitened features.

Whitened: features less their mean, by the inverse of a Cholesky factor of the covariance within
classes, shrunk as in `prototype`. Cosines of plain features were 5 to 16 points behind the solved
head on ten classes of clothes, these are beside it (`python -m benchmarks.head_kinds`).

Votes weighted by a softmax over cosines are those of Wu et al. 2018 ("Unsupervised Feature
Learning via Non-Parametric Instance Discrimination", section 3.4), whose temperature is 0.07; here
it is the likeliest of a few on the training photos, each left out in turn, so that no val photo
has a part in it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from zoo.data.samples import evenly
from zoo.errors import UsageError
from zoo.head import temperature
from zoo.head.folds import Photos
from zoo.head.layers import Neighbours
from zoo.head.prototype import means_of, spread_of
from zoo.metrics import Array

TEMPERATURES = (0.01, 0.02, 0.04, 0.07, 0.14, 0.3)
USUAL = 0.07
SAMPLED = 2000  # rows that are left out in turn, evenly of all
LARGEST = 1_000_000_000  # bytes of a head


def must_fit(rows: int, columns: int, nearest: int) -> None:
    """Raises UsageError for more neighbours than photos, or more bytes than a head may have."""
    if nearest > rows:
        raise UsageError(
            f"--head knn:{nearest} with {rows:,} views of training photos: so many neighbours "
            "there are not",
            f"give --head knn:{min(20, rows)}, or more photos",
        )
    if (size := size_of(rows, columns)) > LARGEST:
        raise UsageError(
            f"--head knn:{nearest} would keep {rows:,} x {columns:,} features in the network, "
            f"{size / 1e9:.1f} GB: more than {LARGEST / 1e9:g} GB",
            "give --head prototype or linear, whose size does not grow with the photos, or fewer "
            "photos or --views",
        )


def size_of(rows: int, columns: int) -> int:
    """Return the bytes of the head of so many rows."""
    return rows * (4 * columns + 8) + 4 * columns * (columns + 1)


def neighbours(
    features: Array, labels: Array, photos: Photos, nearest: int
) -> tuple[Neighbours, str]:
    """Return the head of features, N x D, and how its temperature was found.

    Views of one photo are left out together.
    """
    must_fit(len(features), features.shape[1], nearest)
    classes = int(labels.max()) + 1
    centre = features.mean(axis=0, dtype=np.float64)
    spread = spread_of(features, labels, means_of(features, labels, classes))
    weight = np.linalg.inv(np.linalg.cholesky(spread.covariance()))
    weight = (weight * np.sqrt(spread.size)).astype(np.float32)  # lengths as they were
    bias = -(weight @ centre).astype(np.float32)
    numbers = labels.astype(np.int64)
    head = Neighbours(weight, bias, np.empty((0, 0)), numbers, classes, nearest, USUAL)
    head = replace(head, rows=head.whitened(features).astype(np.float32))
    found, why = _warmed(head, photos)
    return found, f"{why}; covariance shrunk by {spread.share:.2f} (Ledoit-Wolf)"


def _warmed(head: Neighbours, photos: Photos) -> tuple[Neighbours, str]:
    """Return the head with the likeliest temperature, and that in words."""
    count, groups = len(head.rows), photos.of_row
    if count - np.bincount(groups).max() < head.nearest:
        return head, f"temperature {USUAL:g}, by default: too few photos to leave one out"
    some = np.array(evenly(range(count), SAMPLED))
    cosines = head.rows[some] @ head.rows.T
    cosines[groups[some][:, None] == groups[None]] = -2  # farther than any
    places = np.argpartition(-cosines, head.nearest - 1, axis=1)[:, : head.nearest]
    near = np.take_along_axis(cosines, places, axis=1)
    trials = [replace(head, temperature=each) for each in TEMPERATURES]
    losses = [
        temperature.likelihood(trial.of_nearest(near, places), head.labels[some])
        for trial in trials
    ]
    best = trials[int(np.argmin(losses))]
    return best, (
        f"temperature {best.temperature:g}, the likeliest of {len(trials)} on the training "
        "photos, each left out in turn"
    )
