"""Softmax regression as numbers: features made ready, and the minimum of a convex function.

Three things make L-BFGS quick here. Few rows are worked on in their span, which is exact. The
variables are those of a basis in which the curvature is about the same in every direction: a
Cholesky factor of a bound of the Hessian (Böhning 1992), so that a dozen steps do for hundreds.
And several problems on the same rows, the folds of a cross-validation, are one sum, and one matrix
product serves them all.

One BLAS thread: the same bits on any number of cores. Products are float32 where there is much to
multiply; the objective is float64 always.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from zoo.errors import TrainingError
from zoo.metrics import Array

Poll = Callable[[], None]

SPAN = 2500  # rows up to which the Gram matrix is taken apart
FACTOR = 4096  # columns up to which the covariance is
BLOCK = 1 << 18  # scores in memory at a time
RANK = 1e-10  # of the largest eigenvalue: below is rounding
CONSTANT = 1e-6  # spread of a feature against its size: below is rounding
CURVATURE = 0.5  # of the bound 1/K: what the Hessian has about the optimum
STEPS = 1000  # at most
DOUBLE = 1 << 22  # values up to which products are float64
ROUNDING = 1e-8  # of a loss by float32 products: a search for less ends nowhere
GRADIENT = 1e-7


class Rows:
    """Standardised features, in their span where rows are few; N x R."""

    def __init__(self, features: Array) -> None:
        """features: N x D. Raises TrainingError where they are not finite."""
        with np.errstate(invalid="ignore", over="ignore"):  # is told by what comes of it
            mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
            rows = np.subtract(features, mean, dtype=np.float32)
            spread = np.sqrt(np.einsum("nd,nd->d", rows, rows, dtype=np.float64) / len(rows))
        if not np.isfinite(spread).all():
            raise TrainingError(
                "the features hold values that are not finite", "use --precision fp32"
            )
        varies = spread > CONSTANT * np.abs(mean)
        self.mean = mean.astype(np.float64)
        self.inverse = np.where(varies, 1 / np.where(varies, spread, 1), 0)
        rows *= self.inverse.astype(np.float32)
        self.turn: Array | None = None
        if len(rows) < rows.shape[1] and len(rows) <= SPAN:
            rows, self.turn = in_span(rows)
        kind = np.float64 if rows.size <= DOUBLE else np.float32
        self.values = np.ascontiguousarray(rows, dtype=kind)

    @property
    def count(self) -> int:
        return len(self.values)

    @property
    def columns(self) -> int:
        return int(self.values.shape[1])

    @cached_property
    def covariance(self) -> Array:
        """R x R; or its diagonal, R, which is all there is in the span, or else too large."""
        values: Any = self.values
        if self.turn is not None or self.columns > FACTOR:
            squares: Array = np.einsum("nr,nr->r", values, values, dtype=np.float64)
            return np.asarray(squares / self.count)
        products: Array = values.T @ values
        return np.asarray(products.astype(np.float64) / self.count)

    def fold(self, weight: Array, bias: Array) -> tuple[Array, Array]:
        """K x R and K for these rows as K x D and K for the features as they were given."""
        if self.turn is not None:
            weight = weight @ self.turn
        weight = weight * self.inverse
        return weight.astype(np.float32), (bias - weight @ self.mean).astype(np.float32)


def in_span(rows: Array) -> tuple[Array, Array]:
    """N x R and R x D with orthonormal rows, whose product are the rows; R at most N."""
    double = rows.astype(np.float64)
    values, vectors = np.linalg.eigh(double @ double.T)
    kept = values > RANK * max(values[-1], np.finfo(np.float64).tiny)
    if not kept.any():
        kept[-1] = True
    root = np.sqrt(np.maximum(values[kept], np.finfo(np.float64).tiny))
    turned = vectors[:, kept]
    return turned * root, (turned / root).T @ double


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked of the rows: their labels, and what each answer costs.

    price: K x K float64, by answer and label: weight of the log of the answer's probability.
    """

    labels: Array
    classes: int
    price: Array
    weights: Array  # of each row

    @classmethod
    def of(cls, labels: Array, classes: int, class_weights: Array | None, smoothing: float) -> Task:
        """Return the task of weighted, smoothed labels; a class's weight belongs to its rows.

        torch's cross_entropy gives it to the smoothed share of the other rows too. The share of
        a rare class, with its weight, then outweighs the labels, and every row is answered so.
        """
        each = np.ones(classes) if class_weights is None else np.asarray(class_weights, np.float64)
        price = ((1 - smoothing) * np.eye(classes) + smoothing / classes) * each
        return cls(labels, classes, price, each[labels])


@dataclass(frozen=True, slots=True)
class Heads:
    """F heads: weight F x K x R and bias F x K, float64, and in how many steps they were found."""

    weight: Array
    bias: Array
    steps: int = 0

    @classmethod
    def zero(cls, heads: int, classes: int, columns: int) -> Heads:
        return cls(np.zeros((heads, classes, columns)), np.zeros((heads, classes)))

    @property
    def mean(self) -> Heads:
        return Heads(self.weight.mean(axis=0, keepdims=True), self.bias.mean(axis=0, keepdims=True))


def minimise(
    rows: Rows,
    task: Task,
    shares: Array,
    penalty: float,
    start: Heads,
    *,
    tolerance: float,
    poll: Poll | None = None,
) -> Heads:
    """The F heads of least mean cross-entropy + penalty/2 * sum of their squared weights.

    shares: F x N, the part of each row in each mean. tolerance: of the loss, relative.
    """
    from scipy.optimize import minimize

    heads, classes, columns = start.weight.shape
    curvature = CURVATURE / classes
    factor = factor_of(curvature * rows.covariance, penalty)

    def unpack(values: Array) -> tuple[Array, Array]:
        weight, bias = np.split(values, [heads * classes * columns])
        weight = divide(weight.reshape(heads * classes, columns), factor, transposed=True)
        return weight, bias.reshape(heads, classes) / np.sqrt(curvature)

    def objective(values: Array) -> tuple[float, Array]:
        if poll is not None:
            poll()
        weight, bias = unpack(values)
        loss, slope, bias_slope = cross_entropy(rows.values, task, shares, weight, bias)
        loss += penalty / 2 * float(np.vdot(weight, weight))
        slope = divide(slope + penalty * weight, factor, transposed=False)
        return loss, np.concatenate([slope.ravel(), bias_slope.ravel() / np.sqrt(curvature)])

    first = start.weight.reshape(heads * classes, columns)
    first = first @ factor if factor.ndim == 2 else first * factor
    first = np.concatenate([first.ravel(), start.bias.ravel() * np.sqrt(curvature)])
    loss, slope = objective(first)
    known = [(loss, slope)]
    unit = float(np.linalg.norm(slope)) or 1.0  # L-BFGS-B's first step is one long in its units

    def scaled(values: Array) -> tuple[float, Array]:
        loss, slope = known.pop() if known else objective(first + unit * values)
        return loss, unit * slope

    options = {"ftol": tolerance, "gtol": GRADIENT * unit, "maxiter": STEPS}
    if rows.values.dtype == np.float32:
        options["ftol"] = max(tolerance, ROUNDING)
    begin = np.zeros_like(first)
    found = minimize(scaled, begin, jac=True, method="L-BFGS-B", options=options)
    weight, bias = unpack(first + unit * found.x)
    return Heads(weight.reshape(start.weight.shape), bias, int(found.nit))


def factor_of(hessian: Array, penalty: float) -> Array:
    """The lower factor of the Hessian with its penalty; of a diagonal its diagonal."""
    from scipy.linalg import cholesky

    if hessian.ndim == 1:
        return np.asarray(np.sqrt(hessian + penalty))
    whole = hessian + penalty * np.eye(len(hessian))
    return np.asarray(cholesky(whole, lower=True, overwrite_a=True, check_finite=False))


def divide(values: Array, factor: Array, *, transposed: bool) -> Array:
    """Weights H x R by the factor, from the right: by its transpose unless transposed."""
    from scipy.linalg import solve_triangular

    if factor.ndim == 1:
        return np.asarray(values / factor)
    how = {"lower": True, "trans": int(transposed), "check_finite": False}
    return np.asarray(solve_triangular(factor, values.T, **how).T)


def cross_entropy(
    rows: Array, task: Task, shares: Array, weight: Array, bias: Array
) -> tuple[float, Array, Array]:
    """Summed over the heads: the loss, and its slope by weight (F K x R) and by bias (F x K)."""
    heads, classes = bias.shape
    single = weight.astype(rows.dtype)
    loss, slope, bias_slope = 0.0, np.zeros(weight.shape), np.zeros(bias.shape)
    step = max(64, BLOCK // len(weight))
    for first in range(0, len(rows), step):
        block = rows[first : first + step]
        price = task.price[:, task.labels[first : first + step]]  # K N
        share = shares[:, None, first : first + step]  # F 1 N
        scores = (single @ block.T).astype(np.float64).reshape(heads, classes, -1) + bias[..., None]
        chances, logs = softmax(scores)
        loss -= float(np.sum(share * price * logs))
        chances *= price.sum(axis=0)
        chances -= price
        chances *= share
        bias_slope += chances.sum(axis=2)
        slope += chances.reshape(heads * classes, -1).astype(rows.dtype) @ block
    return loss, slope, bias_slope


def softmax(scores: Array) -> tuple[Array, Array]:
    """Probabilities and their logarithms over the middle of three axes."""
    logs = scores - scores.max(axis=1, keepdims=True)
    chances = np.exp(logs)
    total = chances.sum(axis=1, keepdims=True)
    chances /= total
    logs -= np.log(total)
    return chances, logs
