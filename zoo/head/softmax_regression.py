"""Softmax regression as numbers: the minimum of a convex function of standardised rows.

For N rows X (N x R) with labels y, K classes, a head W (K x R) and b (K):

    Z = X W^T + b                                                N x K  scores
    P = softmax(Z)                                               N x K  probabilities
    T = (1 - smoothing) [k = y_i] + smoothing / K                N x K  what is asked for
    loss = - sum_i s_i sum_k T_ik log P_ik + penalty / 2 ||W||^2
    G = s_i (P - T)                                              N x K  gradient by Z
    gradient by W = G^T X + penalty W                            K x R
    gradient by b = sum_i G_i                                    K

s is `sample_weight`, N: the part of each row in the mean, in which its class has its weight. F
heads on the same rows, the folds of a cross-validation, have an s each; their losses are one sum,
and one matrix product serves those that have a part in a block of rows.

What makes L-BFGS quick here (`lbfgs.py`): few rows are worked on in their span, which is exact
(`rows.py`), and it begins from a bound of the Hessian (Böhning 1992) that is known in the
directions in which rows vary most, so that a dozen steps do for hundreds.

Rows are cut into pieces that all cores work on, and their sums are added in one order, in float64
(`threads.py`): the same bits on any number of cores. Products are float32 where there is much to
multiply.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from zoo.head import lbfgs
from zoo.head.rows import Principal, Rows
from zoo.head.stored import Stored
from zoo.head.team import Sums, over
from zoo.head.threads import in_order, pieces
from zoo.metrics import Array

Poll = Callable[[], None]

BLOCK = 1 << 19  # scores in memory at a time, of each thread
BOUND = 0.5  # of the bound 1/K: what the Hessian has about the optimum
FLAT = 0.02  # of that at least: of rows that a head is sure of it is nothing, where that begins
ROUNDING = 1e-8  # of a loss by float32 products: a search for less ends nowhere


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

    def sample_weight(self, trained: Array) -> Array:
        """Return F x N: the part of each row in the mean of each fold; trained: F x N.

        A class's weight belongs to its rows. torch's cross_entropy gives it to the smoothed share
        of the other rows too: a rare class, with its weight, then outweighs the labels.
        """
        weights = trained * self.each[self.labels]
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))

    def taken(self, order: Array) -> Targets:
        """Return those of these rows, in this order, without groups."""
        return replace(self, labels=self.labels[order], groups=None)


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
    """Rows and what is asked of them. poll: called at each iteration, may raise.

    edges: rows before which the heads that have a part in the rows change.
    """

    rows: Rows
    targets: Targets
    poll: Poll | None = None
    edges: tuple[int, ...] = ()

    def zero(self, heads: int) -> Heads:
        """Return so many heads to begin with."""
        classes = self.targets.classes
        return Heads(np.zeros((heads, classes, self.rows.columns)), np.zeros((heads, classes)))


def minimise(
    problem: Problem, sample_weight: Array, penalty: float, start: Heads, tolerance: float
) -> Heads:
    """Return the F heads of least loss. sample_weight: F x N. tolerance: of the loss, relative."""
    rows, shape = problem.rows, start.weight.shape
    curvature, weights = _curvature(rows.some, start), start.weight.size

    def split(values: Array) -> tuple[Array, Array]:
        return values[:weights].reshape(-1, shape[2]), values[weights:].reshape(shape[:2])

    def objective(values: Array) -> tuple[float, Array]:
        if problem.poll is not None:
            problem.poll()
        weight, bias = split(values)
        loss, gradient, bias_gradient = cross_entropy(
            rows.values, problem.targets, sample_weight, weight, bias, problem.edges
        )
        loss += penalty / 2 * float(np.vdot(weight, weight))
        gradient += penalty * weight
        return loss, np.concatenate([gradient.ravel(), bias_gradient.ravel()])

    def inverse(gradient: Array) -> Array:
        weight, bias = split(gradient)
        weight = curvature.divided(weight, penalty)
        bias = (bias / curvature.bias).astype(weight.dtype)
        return np.concatenate([weight.ravel(), bias.ravel()])

    least = max(tolerance, ROUNDING) if rows.values.dtype == np.float32 else tolerance
    begin = np.concatenate([start.weight.ravel(), start.bias.ravel()])
    found, steps = lbfgs.minimise(objective, begin, inverse, least)
    weight, bias = split(found)
    return Heads(weight.reshape(shape), bias, steps)


@dataclass(frozen=True, slots=True)
class _Curvature:
    """About what the Hessian is, for every class: of the weights, scale x rows, and of the bias."""

    rows: Principal
    scale: float
    bias: float

    def divided(self, values: Array, penalty: float) -> Array:
        """Return values, F x R, by the inverse of the Hessian, whose penalty this is."""
        return self.rows.divided(values, self.scale, penalty)


def _curvature(rows: Rows, start: Heads) -> _Curvature:
    """Return that of one head where it begins, and of the folds' heads a part of the bound."""
    classes = start.weight.shape[1]
    bound = BOUND / classes
    if len(start.weight) > 1 or not start.weight.any():
        return _Curvature(rows.principal, bound, bound)
    sure = np.exp(log_probabilities(rows.values, start.weight[0], start.bias[0]))
    unsure = (1 - np.einsum("nk,nk->n", sure, sure, dtype=np.float64)) / classes + FLAT * bound
    return _Curvature(rows.principal_of(unsure / len(unsure)), 1.0, float(unsure.mean()))


def cross_entropy(
    rows: Array | Stored,
    targets: Targets,
    sample_weight: Array,
    weight: Array,
    bias: Array,
    edges: tuple[int, ...] = (),
) -> tuple[float, Array, Array]:
    """Return the loss, summed over the heads, and its gradient by weight and by bias.

    The penalty is not in it. weight: F K x R. bias: F x K. edges: see Problem.
    """
    one = Pass.of(rows, targets, sample_weight, weight, bias)
    loss, gradient, bias_gradient = 0.0, np.zeros(one.weight.shape), np.zeros(bias.shape)
    given = [weight, bias, targets.each, np.array([targets.label_smoothing])]
    if isinstance(rows, Stored) and rows.mean is not None and rows.inverse is not None:
        given += [rows.mean, rows.inverse]
    read = partial(Sums.read, shape=one.weight.shape)
    for sums in over(rows, pieces(len(rows), edges), one.piece, read, "loss", given):
        loss += sums.loss
        bias_gradient[sums.heads] += sums.bias
        if len(sums.heads) == len(bias):
            gradient += sums.weight
        else:
            gradient[sums.heads] += sums.weight
    return loss, gradient.reshape(weight.shape), bias_gradient


@dataclass(frozen=True, slots=True)
class Pass:
    """A pass of heads over rows; weight: F x K x R, of the type of the rows. bias: F x K."""

    rows: Array | Stored
    targets: Targets
    sample_weight: Array
    weight: Array
    bias: Array

    @classmethod
    def of(
        cls,
        rows: Array | Stored,
        targets: Targets,
        sample_weight: Array,
        weight: Array,
        bias: Array,
    ) -> Pass:
        single = weight.astype(rows.dtype).reshape(*bias.shape, -1)
        return cls(rows, targets, sample_weight, single, bias)

    def piece(self, part: slice) -> Sums:
        """Return the sums of a piece of rows."""
        heads, classes = self.bias.shape
        rows, targets, sample_weight = self.rows, self.targets, self.sample_weight
        taking = np.flatnonzero(sample_weight[:, part].any(axis=1))
        mine = self.weight if len(taking) == heads else self.weight[taking]
        total, sums, by_bias = 0.0, np.zeros(mine.shape), np.zeros((len(taking), classes))
        step = max(64, BLOCK // max(1, len(taking) * classes))
        step = min(step, rows.at_once) if isinstance(rows, Stored) else step
        for first in range(part.start, part.stop, step):
            block = slice(first, min(first + step, part.stop))
            values = rows[block]
            scores = _scores(mine, self.bias[taking], values)
            some = targets.labels[block], sample_weight[taking, block]
            total += _by_scores(scores, *some, targets.label_smoothing)
            by_bias += scores.sum(axis=2, dtype=np.float64)
            sums += (scores.reshape(-1, scores.shape[2]) @ values).reshape(sums.shape)
        return Sums(taking, total, sums, by_bias)


def _scores(weight: Array, bias: Array, rows: Array) -> Array:
    """Return F x K x N, of the type of the rows; weight: F x K x R, bias: F x K."""
    scores = weight.reshape(-1, weight.shape[2]) @ rows.T
    scores = scores.reshape(*bias.shape, len(rows))
    scores += bias[..., None].astype(rows.dtype)
    return np.asarray(scores)


def _by_scores(scores: Array, labels: Array, sample_weight: Array, smoothing: float) -> float:
    """Put the gradient by the scores, F x K x N, in their place; return the loss."""
    classes, each = scores.shape[1], np.arange(len(labels))
    scores -= scores.max(axis=1, keepdims=True)
    asked = (1 - smoothing) * scores[:, labels, each].astype(np.float64)
    if smoothing:
        asked += smoothing / classes * scores.sum(axis=1, dtype=np.float64)
    np.exp(scores, out=scores)
    sums = scores.sum(axis=1, dtype=np.float64)
    scores *= (sample_weight / sums).astype(scores.dtype)[:, None]
    if smoothing:
        scores -= (sample_weight * (smoothing / classes)).astype(scores.dtype)[:, None]
    scores[:, labels, each] -= ((1 - smoothing) * sample_weight).astype(scores.dtype)
    return float(np.sum(sample_weight * (np.log(sums) - asked)))


def log_probabilities(rows: Array, weight: Array, bias: Array) -> Array:
    """Return those that a head, K x R and K, gives rows; N x K, of the type of the rows."""
    found = np.empty((len(rows), len(weight)), rows.dtype)
    wide = weight[None].astype(rows.dtype)

    def work(part: slice) -> None:
        logs = _scores(wide, bias[None], rows[part])[0]
        logs -= logs.max(axis=0)
        logs -= np.log(np.exp(logs).sum(axis=0, dtype=np.float64)).astype(logs.dtype)
        found[part] = logs.T

    list(in_order(work, pieces(len(rows))))
    return found
