"""Softmax regression as numbers: features made ready, and the minimum of a convex function.

For N rows X (N x R) with labels y, K classes, a head W (K x R) and b (K):

    Z = X W^T + b                                                N x K  scores
    P = softmax(Z)                                               N x K  probabilities
    loss = - sum_i s_i sum_k C[k, y_i] log P_ik + penalty / 2 ||W||^2
    G_ik = s_i (P_ik sum_j C[j, y_i] - C[k, y_i])                N x K  gradient by Z
    gradient by W = G^T X + penalty W                            K x R
    gradient by b = sum_i G_i                                    K

s is `sample_weight` (N, the part of each row in the mean) and C is `label_cost` (K x K: class
weights and label smoothing). F heads on the same rows, the folds of a cross-validation, have an s
each; their losses are one sum, and one matrix product serves them all.

Two things more make L-BFGS quick here. Few rows are worked on in their span, which is exact. The
variables are those of a basis in which the curvature is about the same in every direction: a
Cholesky factor of a bound of the Hessian (Böhning 1992), so that a dozen steps do for hundreds.

One BLAS thread: the same bits on any number of cores. Products are float32 where there is much to
multiply; the objective is float64 always.
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
            what = "the features hold values that are not finite"
            raise TrainingError(what, "use --precision fp32")
        varies = spread > CONSTANT * np.abs(mean)
        self.mean = mean.astype(np.float64)
        self.inverse = np.where(varies, 1 / np.where(varies, spread, 1), 0)
        rows *= self.inverse.astype(np.float32)
        self.directions: Array | None = None
        if len(rows) < rows.shape[1] and len(rows) <= SPAN:
            rows, self.directions = _in_span(rows)
        kind = np.float64 if rows.size <= DOUBLE else np.float32
        self.values: Array = np.ascontiguousarray(rows, dtype=kind)

    @property
    def columns(self) -> int:
        return int(self.values.shape[1])

    @cached_property
    def covariance(self) -> Array:
        """Return R x R; or its diagonal, R, in the span (all else is 0) and of too many columns."""
        values = self.values
        if self.directions is not None or self.columns > FACTOR:
            products = np.einsum("nr,nr->r", values, values, dtype=np.float64)
        else:
            products = (values.T @ values).astype(np.float64)
        return np.asarray(products / len(values))

    def for_features(self, weight: Array, bias: Array) -> tuple[Array, Array]:
        """Return K x D and K for the features as they were given, of K x R and K for these rows."""
        if self.directions is not None:
            weight = weight @ self.directions
        weight = weight * self.inverse
        return weight.astype(np.float32), (bias - weight @ self.mean).astype(np.float32)


def _in_span(rows: Array) -> tuple[Array, Array]:
    """Return N x R and R x D with orthonormal rows, whose product is N x D; R is at most N."""
    double = rows.astype(np.float64)
    values, vectors = np.linalg.eigh(double @ double.T)
    kept = values > RANK * max(values[-1], np.finfo(np.float64).tiny)
    if not kept.any():
        kept[-1] = True
    root = np.sqrt(np.maximum(values[kept], np.finfo(np.float64).tiny))
    vectors = vectors[:, kept]
    return vectors * root, (vectors / root).T @ double


@dataclass(frozen=True)
class Targets:
    """What is asked of the rows: their labels, and what each answer costs.

    labels: N class numbers. groups: N, rows of one number are views of one photo, the first of
    them the plain one; None: every row is a photo. class_weights: K.
    """

    labels: Array
    classes: int
    groups: Array | None = None
    class_weights: Array | None = None
    label_smoothing: float = 0.0

    @cached_property
    def each(self) -> Array:
        """Return K float64: the weight of each class."""
        weights = self.class_weights
        return np.ones(self.classes) if weights is None else np.asarray(weights, np.float64)

    @cached_property
    def label_cost(self) -> Array:
        """Return K x K float64, by answer and label: what -log of the answer's probability costs.

        A class's weight belongs to its rows. torch's cross_entropy gives it to the smoothed share
        of the other rows too: a rare class, with its weight, then outweighs the labels.
        """
        smoothed = self.label_smoothing / self.classes
        return ((1 - self.label_smoothing) * np.eye(self.classes) + smoothed) * self.each

    def sample_weight(self, trained: Array) -> Array:
        """Return F x N: the part of each row in the mean of each fold; trained: F x N."""
        return np.asarray(trained / (trained @ self.each[self.labels])[:, None])


@dataclass(frozen=True, slots=True)
class Heads:
    """F heads: weight F x K x R and bias F x K, float64, and in how many steps they were found."""

    weight: Array
    bias: Array
    steps: int = 0

    @property
    def mean(self) -> Heads:
        return Heads(self.weight.mean(axis=0, keepdims=True), self.bias.mean(axis=0, keepdims=True))


@dataclass(frozen=True, slots=True)
class Problem:
    """Rows and what is asked of them. poll: called at each iteration, may raise."""

    rows: Rows
    targets: Targets
    poll: Poll | None = None

    def zero(self, heads: int) -> Heads:
        """Return so many heads to begin with."""
        classes = self.targets.classes
        return Heads(np.zeros((heads, classes, self.rows.columns)), np.zeros((heads, classes)))


def minimise(
    problem: Problem, sample_weight: Array, penalty: float, start: Heads, tolerance: float
) -> Heads:
    """Return the F heads of least loss. sample_weight: F x N. tolerance: of the loss, relative."""
    from scipy.optimize import minimize

    rows, basis = problem.rows, _Basis.of(problem.rows, start, penalty)

    def objective(values: Array) -> tuple[float, Array]:
        if problem.poll is not None:
            problem.poll()
        weight, bias = basis.head(values)
        loss, gradient, bias_gradient = cross_entropy(
            rows.values, problem.targets, sample_weight, weight, bias
        )
        loss += penalty / 2 * float(np.vdot(weight, weight))
        return loss, basis.gradient(gradient + penalty * weight, bias_gradient)

    first = basis.variables(start)
    loss, gradient = objective(first)
    known = [(loss, gradient)]
    unit = float(np.linalg.norm(gradient)) or 1.0  # L-BFGS-B's first step is one long in its units

    def scaled(values: Array) -> tuple[float, Array]:
        loss, gradient = known.pop() if known else objective(first + unit * values)
        return loss, unit * gradient

    least = max(tolerance, ROUNDING) if rows.values.dtype == np.float32 else tolerance
    options = {"ftol": least, "gtol": GRADIENT * unit, "maxiter": STEPS}
    begin = np.zeros_like(first)
    found = minimize(scaled, begin, jac=True, method="L-BFGS-B", options=options)
    weight, bias = basis.head(first + unit * found.x)
    return Heads(weight.reshape(start.weight.shape), bias, int(found.nit))


@dataclass(frozen=True, slots=True)
class _Basis:
    """The variables of L-BFGS: heads in which the curvature is about the same in every direction.

    shape: F, K, R. factor: the lower factor of the Hessian, R x R; of a diagonal its diagonal, R.
    root: that of the bias. Here a weight is F K x R.
    """

    shape: tuple[int, ...]
    factor: Array
    root: float

    @classmethod
    def of(cls, rows: Rows, start: Heads, penalty: float) -> _Basis:
        from scipy.linalg import cholesky

        curvature = CURVATURE / start.weight.shape[1]
        hessian = curvature * rows.covariance
        if hessian.ndim == 1:
            factor = np.sqrt(hessian + penalty)
        else:
            whole = hessian + penalty * np.eye(len(hessian))
            factor = cholesky(whole, lower=True, overwrite_a=True, check_finite=False)
        return cls(start.weight.shape, np.asarray(factor), np.sqrt(curvature))

    def variables(self, heads: Heads) -> Array:
        weight = heads.weight.reshape(-1, self.shape[2])
        weight = weight @ self.factor if self.factor.ndim == 2 else weight * self.factor
        return np.concatenate([weight.ravel(), heads.bias.ravel() * self.root])

    def head(self, values: Array) -> tuple[Array, Array]:
        """Return the weight and the bias, F x K, that these variables stand for."""
        weight, bias = np.split(values, [np.prod(self.shape)])
        weight = self._divide(weight.reshape(-1, self.shape[2]), transposed=True)
        return weight, bias.reshape(self.shape[:2]) / self.root

    def gradient(self, weight: Array, bias: Array) -> Array:
        """Return the gradient by the variables, from that by weight and bias."""
        weight = self._divide(weight, transposed=False)
        return np.concatenate([weight.ravel(), bias.ravel() / self.root])

    def _divide(self, values: Array, *, transposed: bool) -> Array:
        """Divide by the factor, from the right: by its transpose unless transposed."""
        from scipy.linalg import solve_triangular

        if self.factor.ndim == 1:
            return np.asarray(values / self.factor)
        how = {"lower": True, "trans": int(transposed), "check_finite": False}
        return np.asarray(solve_triangular(self.factor, values.T, **how).T)


def cross_entropy(
    rows: Array, targets: Targets, sample_weight: Array, weight: Array, bias: Array
) -> tuple[float, Array, Array]:
    """Return the loss, summed over the heads, and its gradient by weight and by bias.

    The penalty is not in it. weight: F K x R. bias: F x K.
    """
    heads, classes = bias.shape
    single = weight.astype(rows.dtype)
    loss, gradient, bias_gradient = 0.0, np.zeros(weight.shape), np.zeros(bias.shape)
    step = max(64, BLOCK // len(weight))
    for first in range(0, len(rows), step):
        block = rows[first : first + step]
        cost = targets.label_cost[:, targets.labels[first : first + step]]  # K N
        share = sample_weight[:, None, first : first + step]  # F 1 N
        scores = (single @ block.T).astype(np.float64).reshape(heads, classes, -1) + bias[..., None]
        by_scores, logs = softmax(scores)  # F K N
        loss -= float(np.sum(share * cost * logs))
        by_scores *= cost.sum(axis=0)
        by_scores -= cost
        by_scores *= share
        bias_gradient += by_scores.sum(axis=2)
        gradient += by_scores.reshape(heads * classes, -1).astype(rows.dtype) @ block
    return loss, gradient, bias_gradient


def softmax(scores: Array) -> tuple[Array, Array]:
    """Return probabilities and their logarithms over the middle of three axes."""
    logs = scores - scores.max(axis=1, keepdims=True)
    probabilities = np.exp(logs)
    total = probabilities.sum(axis=1, keepdims=True)
    probabilities /= total
    logs -= np.log(total)
    return probabilities, logs
