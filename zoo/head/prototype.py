"""Heads of class means: the nearest mean is the answer, by the cosine or by Mahalanobis.

cosine: features of length 1, and a mean of them for each class.

mahalanobis: the distance (x - m_k)^T S^-1 (x - m_k) by one covariance S for all classes. Its
quadratic part is the same for all classes, so that what is left is linear in x (Fisher 1936):

    score_k = m_k^T S^-1 x - m_k^T S^-1 m_k / 2

S is shrunk towards a multiple of the identity, by what Ledoit and Wolf 2004 ("A well-conditioned
estimator for large-dimensional covariance matrices") derive: photos are fewer than features.

The scale of both, how sure a difference makes them, is the likeliest on training photos that had
no part in the means. The temperature of the val photos comes on top.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.errors import DataError, TrainingError
from zoo.head import temperature
from zoo.head.folds import Photos
from zoo.head.layers import Cosine, Linear, unit
from zoo.metrics import Array

DOUBLE = 1 << 23  # values up to which products are float64
LEAST = 1e-4  # of the identity in a covariance
SAMPLED = 2000  # photos whose likelihood says the scale
# By which scores are divided, so that the bounds of a temperature hold what they can be.
COSINES, DISTANCES = 0.01, 10.0


@dataclass(frozen=True, slots=True)
class Spread:
    """The covariance of features about their class means, shrunk, ready to be divided by.

    rows: N x D, less the means. share: of the identity in it. size: of that, a variance.
    """

    rows: Array
    share: float
    size: float

    def covariance(self) -> Array:
        """Return it, D x D."""
        whole = (1 - self.share) / len(self.rows) * (self.rows.T @ self.rows)
        whole[np.diag_indices_from(whole)] += self.share * self.size
        return np.asarray(whole)

    def divide(self, vectors: Array) -> Array:
        """Return S^-1 of each of K x D; by the smaller of N x N and D x D."""
        count, columns = self.rows.shape
        if count >= columns:
            return np.asarray(np.linalg.solve(self.covariance(), vectors.T).T)
        identity, own = self.share * self.size, (1 - self.share) / count
        inner = own * (self.rows @ self.rows.T) + identity * np.eye(count)  # Woodbury's identity
        inside = np.linalg.solve(inner, self.rows @ vectors.T)
        return np.asarray((vectors - own * (self.rows.T @ inside).T) / identity)


def spread_of(features: Array, labels: Array, means: Array) -> Spread:
    """Return the shrunk covariance of features, N x D, about their class means, K x D.

    Raises DataError where no feature differs within a class.
    """
    kind = np.float64 if features.size <= DOUBLE else np.float32
    rows: Array = np.subtract(features, means[labels], dtype=kind)
    count, columns = rows.shape
    squares = np.einsum("nd,nd->n", rows, rows, dtype=np.float64)
    size = float(squares.sum()) / (count * columns)
    if not size > 0:
        raise DataError(
            "the photos of each class have the same features: there is no spread to measure by",
            "give 2 photos or more of a class; or --head prototype:cosine, which needs one",
        )
    products = rows @ rows.T if count < columns else rows.T @ rows
    squared = float(np.vdot(products, products)) / count**2  # of the covariance, Frobenius
    apart = squared / columns - size * size
    noise = (float(np.vdot(squares, squares)) / count**2 - squared / count) / columns
    share = noise / apart if apart > 0 else 1.0
    return Spread(rows, min(1.0, max(share, LEAST)), size)


def means_of(features: Array, labels: Array, classes: int) -> Array:
    """Return the mean of each class, K x D float64. Raises TrainingError for what is no number."""
    if not np.isfinite(features).all():
        raise TrainingError("the features hold values that are not finite", "use --precision fp32")
    counts = np.bincount(labels, minlength=classes)
    order, ends = np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1]
    sums = [features[own].sum(axis=0, dtype=np.float64) for own in np.split(order, ends)]
    return np.asarray(np.stack(sums) / counts[:, None])


def mahalanobis(features: Array, labels: Array, photos: Photos) -> tuple[Linear, str]:
    """Return the head of features, N x D, and what was found for it, in words."""
    classes = int(labels.max()) + 1
    means = means_of(features, labels, classes)
    spread = spread_of(features, labels, means)
    held, scale, why = photos.held_out(np.ones(len(labels), bool), 0, 5), 1.0, ""
    if len(held):  # a fifth of the photos, by what the others say
        out = held[0]
        rest = means_of(features[~out], labels[~out], classes)
        trial = nearest(rest, spread_of(features[~out], labels[~out], rest))
        some = np.flatnonzero(out & photos.plain)[:SAMPLED]
        scores = trial.scores(features[some]) / DISTANCES
        scale = DISTANCES * temperature.best(scores, labels[some])
        why = f", scores divided by {scale:.3g}: the likeliest on a fifth of the training photos"
    head = nearest(means, spread).divided(scale)
    return head, f"covariance shrunk by {spread.share:.2f} (Ledoit-Wolf){why}"


def nearest(means: Array, spread: Spread) -> Linear:
    """Return the head of means, K x D, by this covariance."""
    weight = spread.divide(means.astype(spread.rows.dtype))
    bias = -np.einsum("kd,kd->k", weight, means) / 2
    return Linear(weight.astype(np.float32), bias.astype(np.float32))


def cosine(features: Array, labels: Array, photos: Photos) -> tuple[Cosine, str]:
    """Return the head of features, N x D, and its scale in words."""
    classes, rows = int(labels.max()) + 1, unit(features)
    counts = np.bincount(labels)
    sums = means_of(rows, labels, classes) * counts[:, None]
    several = np.flatnonzero(photos.plain & (counts[labels] > 1))
    scale, why = 1 / COSINES, "by default: no class has two photos"
    if len(several):
        some = several[np.linspace(0, len(several) - 1, min(SAMPLED, len(several))).astype(int)]
        scores = _without_itself(rows[some], labels[some], sums)
        scale = 1 / (COSINES * temperature.best(scores / COSINES, labels[some]))
        why = "the likeliest on the training photos, each left out in turn"
    weight = unit(sums).astype(np.float32) * np.float32(scale)
    return Cosine(weight, np.zeros(classes, np.float32)), f"scale {scale:.3g}, {why}"


def _without_itself(rows: Array, labels: Array, sums: Array) -> Array:
    """Return N x K cosines with the class means, that with its own mean taken without the row."""
    found = rows @ unit(sums).T
    own = np.einsum("nd,nd->n", rows, unit(sums[labels] - rows))
    found[np.arange(len(rows)), labels] = own
    return np.asarray(found)
