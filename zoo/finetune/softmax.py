"""Softmax regression as numbers: features made ready, and the minimum of a convex function.

Three things make L-BFGS quick here. Few rows are worked on in their span, which is exact. The
variables are those of a basis in which the curvature is about the same in every direction: a
Cholesky factor of a bound of the Hessian (Böhning 1992), so that a dozen steps do for hundreds.
And several problems on the same rows, the folds of a cross-validation, are one sum, and one matrix
product serves them all.

float32 products, float64 objective, one BLAS thread: the same bits on any number of cores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

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
STEPS, GRADIENT = 1000, 1e-7  # at most; below is rounding


class Rows:
    """Standardised features, in their span where rows are few; N x R float32."""

    def __init__(self, features: Array) -> None:
        """features: N x D. Raises TrainingError where they are not finite."""
        mean = features.mean(axis=0, dtype=np.float64)
        rows = (features - mean).astype(np.float32)
        spread = np.sqrt(np.square(rows).mean(axis=0, dtype=np.float64))
        if not np.isfinite(spread).all():
            raise TrainingError(
                "the features hold values that are not finite", "use --precision fp32"
            )
        varies = spread > CONSTANT * np.abs(mean)
        self.mean = mean
        self.inverse = np.where(varies, 1 / np.where(varies, spread, 1), 0)
        rows *= self.inverse.astype(np.float32)
        self.turn: Array | None = None
        if len(rows) < rows.shape[1] and len(rows) <= SPAN:
            rows, self.turn = in_span(rows)
        self.values = np.ascontiguousarray(rows)

    @property
    def columns(self) -> int:
        return int(self.values.shape[1])

    @cached_property
    def covariance(self) -> Array | None:
        """R x R; None where there are too many columns."""
        if self.values.shape[1] > FACTOR:
            return None
        return (self.values.T @ self.values).astype(np.float64) / len(self.values)

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
    return (turned * root).astype(np.float32), (turned / root).T @ double


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
        """As torch's cross_entropy has it, weights and label smoothing together too."""
        each = np.ones(classes) if class_weights is None else np.asarray(class_weights, np.float64)
        price = ((1 - smoothing) * np.eye(classes) + smoothing / classes) * each[:, None]
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
    from scipy.linalg import cholesky, solve_triangular
    from scipy.optimize import minimize

    heads, classes, columns = start.weight.shape
    curvature = CURVATURE / classes
    if rows.covariance is not None:
        hessian = curvature * rows.covariance + penalty * np.eye(columns)
        lower = cholesky(hessian, lower=True, overwrite_a=True, check_finite=False)

    def divide(values: Array, transposed: bool) -> Array:
        """By the factor from the right, weights H x R."""
        if rows.covariance is None:
            return values / np.sqrt(curvature + penalty)
        how = {"lower": True, "trans": int(transposed), "check_finite": False}
        return np.asarray(solve_triangular(lower, values.T, **how).T)

    def unpack(values: Array) -> tuple[Array, Array]:
        weight, bias = np.split(values, [heads * classes * columns])
        weight = divide(weight.reshape(heads * classes, columns), transposed=True)
        return weight, bias.reshape(heads, classes) / np.sqrt(curvature)

    def objective(values: Array) -> tuple[float, Array]:
        if poll is not None:
            poll()
        weight, bias = unpack(values)
        loss, slope, bias_slope = cross_entropy(rows.values, task, shares, weight, bias)
        loss += penalty / 2 * float(np.vdot(weight, weight))
        slope = divide(slope + penalty * weight, transposed=False)
        return loss, np.concatenate([slope.ravel(), bias_slope.ravel() / np.sqrt(curvature)])

    first = start.weight.reshape(heads * classes, columns)
    first = first * np.sqrt(curvature + penalty) if rows.covariance is None else first @ lower
    first = np.concatenate([first.ravel(), start.bias.ravel() * np.sqrt(curvature)])
    loss, slope = objective(first)
    known = [(loss, slope)]
    unit = float(np.linalg.norm(slope)) or 1.0  # L-BFGS-B's first step is one long in its units

    def scaled(values: Array) -> tuple[float, Array]:
        loss, slope = known.pop() if known else objective(first + unit * values)
        return loss, unit * slope

    options = {"ftol": tolerance, "gtol": GRADIENT * unit, "maxiter": STEPS, "maxfun": 2 * STEPS}
    begin = np.zeros_like(first)
    found = minimize(scaled, begin, jac=True, method="L-BFGS-B", options=options)
    weight, bias = unpack(first + unit * found.x)
    return Heads(weight.reshape(start.weight.shape), bias, int(found.nit))


def cross_entropy(
    rows: Array, task: Task, shares: Array, weight: Array, bias: Array
) -> tuple[float, Array, Array]:
    """Summed over the heads: the loss, and its slope by weight (F K x R) and by bias (F x K)."""
    heads, classes = bias.shape
    single = weight.astype(np.float32)
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
        slope += chances.reshape(heads * classes, -1).astype(np.float32) @ block
    return loss, slope, bias_slope


def softmax(scores: Array) -> tuple[Array, Array]:
    """Probabilities and their logarithms over the middle of three axes."""
    logs = scores - scores.max(axis=1, keepdims=True)
    chances = np.exp(logs)
    total = chances.sum(axis=1, keepdims=True)
    chances /= total
    logs -= np.log(total)
    return chances, logs
