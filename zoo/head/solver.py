"""The optimum of a linear head: softmax regression, its penalty chosen by cross-validation.

mean cross-entropy + penalty/2 * ||W||^2 over standardised features, the bias free, is convex with
one minimum, which L-BFGS finds. How strong the penalty should be is what the data decide: it is the
one with the least loss on the photos held out. (The strongest within a standard error of it is as
accurate on our sets, and on small ones so strong that its probabilities are far too even.)

numpy and scipy only. `softmax_regression.py` has the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from zoo.head.folds import Photos
from zoo.head.layers import Layer
from zoo.head.softmax_regression import Heads, Poll, Problem, Rows, Targets, minimise, softmax
from zoo.metrics import Array

GRID = tuple(10 ** (-half / 2) for half in range(-2, 11))  # 10 to 1e-5 in half decades
UNTESTED = 0.3  # the penalty where no photo can be held out
CHOOSING, TESTING, SOLVING = 3e-4, 1e-6, 1e-10  # tolerance of the loss
AT_ONCE = 1 << 21  # weights of the folds that are solved as one problem
FEW, MANY = 2000, 5000  # rows: from here on what is tried is coarser, and in fewer folds
FOLDS_OF_MANY = 3  # to choose a penalty by: so many photos held out say as much in three


@dataclass(frozen=True, slots=True)
class Search:
    """How the penalty is chosen: by so many folds, drawn by the seed; or it is given."""

    seed: int
    folds: int = 5
    penalty: float | None = None


@dataclass(frozen=True, slots=True)
class Tried:
    """A penalty on photos held out: mean log-loss, its standard error over folds, accuracy."""

    penalty: float
    loss: float
    error: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Solution:
    """weight: K x D and bias: K, float32, for the features as given. table: of what was tried.

    held_out: N x K float32, what the heads of the folds say of the rows that they were not found
    on, with this penalty; NaN for rows that no fold holds out. None where nothing was tried.
    """

    weight: Array
    bias: Array
    penalty: float
    table: tuple[Tried, ...]
    iterations: int
    reason: str
    held_out: Array | None = None


def solve(features: Array, targets: Targets, search: Search, poll: Poll | None = None) -> Solution:
    """Return the head of features, N x D. The same input gives the same bits."""
    with one_thread():
        problem = Problem(Rows(features), targets, poll)
        everyone = np.ones(len(features), bool)
        choice = choose(problem, search, everyone)
        weights = targets.sample_weight(everyone[None])
        heads = minimise(problem, weights, choice.penalty, choice.head, SOLVING)
        weight, bias = problem.rows.for_features(heads.weight[0], heads.bias[0])
    reason = f"penalty {choice.penalty:.2g}, {choice.reason}"
    about = (choice.penalty, choice.table, choice.steps + heads.steps)
    return Solution(weight, bias, *about, reason, choice.held_out)


# The penalty.


@dataclass(frozen=True, slots=True)
class Choice:
    """A penalty, why, and the mean of the heads that the folds had with it."""

    penalty: float
    reason: str
    head: Heads
    table: tuple[Tried, ...] = ()
    steps: int = 0
    held_out: Array | None = None


def choose(problem: Problem, search: Search, inside: Array) -> Choice:
    """Return the penalty that cross-validation on the rows inside prefers, or the one given.

    From the strongest on they are tried until the loss rises.
    """
    if search.penalty is not None:
        return Choice(search.penalty, "as asked for", problem.zero(1))
    count, targets = int(inside.sum()), problem.targets
    photos = Photos.of(targets.groups, targets.labels)
    folds = min(search.folds, FOLDS_OF_MANY) if count > MANY else search.folds
    held = photos.held_out(inside, search.seed, folds)
    if not len(held):
        reason = "by default: no class has two photos to choose it by"
        return Choice(UNTESTED, reason, problem.zero(1))
    heads, weights = problem.zero(len(held)), targets.sample_weight(inside & ~held)
    table: list[Tried] = []
    means: list[Heads] = []
    steps, kept = 0, None
    grid = GRID if count <= FEW else GRID[::2]
    for penalty in grid:
        heads = _minimise_folds(problem, weights, penalty, heads)
        means.append(heads.mean)
        steps += heads.steps
        tried, answers = _tried(problem, held & photos.plain, penalty, heads)
        table.append(tried)
        best = min(table, key=lambda row: row.loss)
        if tried is not best:  # the loss has a single valley: weaker ones are worse
            break
        kept = answers
    chosen = table.index(best)
    reason = f"the best of {len(table)} tried by {len(held)}-fold cross-validation"
    return Choice(grid[chosen], reason, means[chosen], tuple(table), steps, kept)


def _minimise_folds(problem: Problem, weights: Array, penalty: float, start: Heads) -> Heads:
    """Return the heads of all folds, found as one problem, or as several where they are large.

    weights: F x N, the sample_weight of each fold.
    """
    size = max(1, AT_ONCE // start.weight[0].size)
    found = []
    for first in range(0, len(weights), size):
        part = slice(first, first + size)
        begin = Heads(start.weight[part], start.bias[part])
        found.append(minimise(problem, weights[part], penalty, begin, CHOOSING))
    return Heads(
        np.concatenate([heads.weight for heads in found]),
        np.concatenate([heads.bias for heads in found]),
        sum(heads.steps for heads in found),
    )


def _tried(problem: Problem, held: Array, penalty: float, heads: Heads) -> tuple[Tried, Array]:
    """Return what the heads make of the rows held out, F x N, with the probabilities, N x K."""
    losses, hits, targets = [], [], problem.targets
    answers = np.full((held.shape[1], targets.classes), np.nan, np.float32)
    for number, out in enumerate(held):
        logs, labels = log_probabilities(problem.rows, heads, number, out), targets.labels[out]
        answers[out] = np.exp(logs.T)
        of_labels = logs[labels, np.arange(len(labels))]
        losses.append(-np.average(of_labels, weights=targets.each[labels]))
        hits.append(np.mean(logs.argmax(axis=0) == labels))
    error = np.std(losses, ddof=1) / np.sqrt(len(losses))
    tried = Tried(penalty, float(np.mean(losses)), float(error), float(np.mean(hits)))
    return tried, answers


def log_probabilities(rows: Rows, heads: Heads, number: int, out: Array) -> Array:
    """Return those that one of the heads gives the rows held out, K x M."""
    scores = heads.weight[number].astype(rows.values.dtype) @ rows.values[out].T
    _, logs = softmax((scores + heads.bias[number][:, None])[None].astype(np.float64))
    return np.asarray(logs[0])


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep BLAS to one thread: several that contend make seconds minutes, and other sums."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield


def scores_of(features: Array, layer: Layer) -> Array:
    """Return the scores of features N x D, N x K float32; the same bits on any number of cores."""
    with one_thread():
        return layer.scores(features)


def loss_of(scores: Array, labels: Array) -> float:
    """Return the mean cross-entropy, in nats."""
    from scipy.special import logsumexp

    wide = scores.astype(np.float64)
    return float(np.mean(logsumexp(wide, axis=1) - wide[np.arange(len(labels)), labels]))
