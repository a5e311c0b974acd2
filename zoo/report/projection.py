"""Rows of many numbers as points in a plane: PCA, or t-SNE from scikit-learn (the extra `tsne`).

t-SNE: van der Maaten, Hinton 2008, "Visualizing Data using t-SNE", JMLR 9. As there, it begins
with principal components; it keeps neighbours together, and distances between groups mean nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo import extras
from zoo.errors import UsageError
from zoo.machine import one_thread
from zoo.metrics import Array

METHODS = ("pca", "tsne")
FEWEST = 3  # rows
COMPONENTS = 50  # that t-SNE works on
PERPLEXITY = 30.0
EXACT = 4096  # rows or columns, the fewer of the two
SMALL = 1024  # of them: all eigenvectors are found at once


@dataclass(frozen=True, slots=True)
class Projection:
    """points: N x 2. explained: share of the variance along each axis, of PCA only."""

    points: Array
    axes: tuple[str, str]
    explained: tuple[float, float] | None = None


def project(rows: Array, method: str = "pca", seed: int = 0) -> Projection:
    """Bring N x D to N x 2. Raises UsageError for fewer than FEWEST rows, or another method."""
    if method not in METHODS:
        raise UsageError(f"--map {method}", f"one of: {', '.join(METHODS)}")
    if len(rows) < FEWEST:
        raise UsageError(
            f"a map of {len(rows)} pictures", f"{FEWEST} or more make one; or --picture none"
        )
    return pca(rows, seed) if method == "pca" else tsne(rows, seed)


def pca(rows: Array, seed: int) -> Projection:
    components, shares = _principal(rows, 2, seed)
    points = np.zeros((len(rows), 2))
    points[:, : components.shape[1]] = components
    first, second = (*shares, 0.0, 0.0)[:2]
    names = tuple(
        f"principal component {number}: {100 * share:.1f} % of the variance"
        for number, share in ((1, first), (2, second))
    )
    return Projection(points, (names[0], names[1]), (first, second))


def tsne(rows: Array, seed: int) -> Projection:
    extras.need("--map tsne", "sklearn", instead="or leave --map out for pca")
    from sklearn.manifold import TSNE

    few, _ = _principal(rows, COMPONENTS, seed)
    perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
    small = few.shape[1] < 2 or not few[:, :2].std(axis=0).all()
    model = TSNE(
        n_components=2,
        perplexity=perplexity,
        init="random" if small else "pca",
        random_state=seed,
    )
    points = model.fit_transform(few.astype(np.float32))
    names = (f"t-SNE, perplexity {perplexity:.3g}", "distances between groups mean nothing")
    return Projection(np.asarray(points), names)


def _principal(rows: Array, most: int, seed: int) -> tuple[Array, tuple[float, ...]]:
    """Return up to `most` principal components of each row, and their shares of the variance.

    Of each component the number that is farthest from 0 is positive. seed: of where the search for
    them begins, among rows and columns too many for the exact way.
    """
    centred = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    count, wide = min(most, *rows.shape), len(rows) < rows.shape[1]
    if min(rows.shape) > EXACT and centred.any():
        from scipy.sparse.linalg import svds

        start = np.random.default_rng(seed).standard_normal(min(rows.shape))
        left, lengths, _ = svds(centred, k=count, v0=start)
        components, variance = left * lengths, lengths**2
    else:
        with one_thread():  # the same figures on any number of cores, and sooner
            products = centred @ centred.T if wide else centred.T @ centred
            variance, vectors = _largest(products, count)
        variance = variance.clip(0)
        components = vectors * np.sqrt(variance) if wide else centred @ vectors
    components, variance = components[:, ::-1], variance[::-1]
    farthest = np.abs(components).argmax(axis=0)
    components = components * np.where(components[farthest, range(count)] < 0, -1.0, 1.0)
    total = float((centred**2).sum()) or 1.0  # rows that are all equal have nothing to share
    return components, tuple(float(each) / total for each in variance)


def _largest(matrix: Array, count: int) -> tuple[Array, Array]:
    """Return so many of the largest eigenvalues, rising, and their vectors."""
    if len(matrix) <= SMALL:  # done before SciPy is imported
        values, vectors = np.linalg.eigh(matrix)
        return values[len(matrix) - count :], vectors[:, len(matrix) - count :]
    from scipy.linalg import eigh

    values, vectors = eigh(matrix, subset_by_index=[len(matrix) - count, len(matrix) - 1])
    return values, vectors
