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
from zoo.head.softmax_regression import Heads, Poll, Rows, Task, minimise, softmax
from zoo.metrics import Array

GRID = tuple(10 ** (-half / 2) for half in range(-2, 11))  # 10 to 1e-5 in half decades
UNTESTED = 0.3  # the penalty where no photo can be held out
CHOOSING, TESTING, SOLVING = 3e-4, 1e-6, 1e-10  # tolerance of the loss
TOGETHER = 1 << 21  # weights of the folds that are solved as one problem
FEW, MANY = 2000, 5000  # rows: from here on what is tried is coarser, and in fewer folds
FOLDS_OF_MANY = 3  # to choose a penalty by: so many photos held out say as much in three


@dataclass(frozen=True, slots=True)
class Tried:
    """A penalty on photos held out: mean log-loss, its standard error over folds, accuracy."""

    penalty: float
    loss: float
    error: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Solution:
    """weight: K x D and bias: K, float32, for the features as given. table: of what was tried."""

    weight: Array
    bias: Array
    penalty: float
    table: tuple[Tried, ...]
    iterations: int
    reason: str


def solve(
    features: Array,
    labels: Array,
    classes: int,
    *,
    seed: int,
    groups: Array | None = None,
    class_weights: Array | None = None,
    label_smoothing: float = 0.0,
    penalty: float | None = None,
    folds: int = 5,
    poll: Poll | None = None,
) -> Solution:
    """The head of features N x D with labels N. The same input gives the same bits.

    groups: N, rows of one number are views of one photo, the first of them the plain one: they
    are never on both sides of a fold. class_weights: K. penalty: None chooses it. poll: called at
    each iteration, may raise.
    """
    with one_thread():
        rows = Rows(features)
        task = Task.of(np.asarray(labels), classes, class_weights, label_smoothing)
        choice = Choice(penalty or 0.0, "as asked for", Heads.zero(1, classes, rows.columns))
        if penalty is None:
            everyone = np.ones(len(task.labels), bool)
            choice = choose(rows, task, everyone, Photos.of(groups, task.labels), seed, folds, poll)
        whole = shares(task, np.ones((1, len(task.labels)), bool))
        heads = minimise(
            rows, task, whole, choice.penalty, choice.head, tolerance=SOLVING, poll=poll
        )
        weight, bias = rows.fold(heads.weight[0], heads.bias[0])
    reason = f"penalty {choice.penalty:.2g}, {choice.reason}"
    iterations = choice.steps + heads.steps
    return Solution(weight, bias, choice.penalty, choice.table, iterations, reason)


# The penalty.


@dataclass(frozen=True, slots=True)
class Choice:
    """A penalty, why, and the mean of the heads that the folds had with it."""

    penalty: float
    reason: str
    head: Heads
    table: tuple[Tried, ...] = ()
    steps: int = 0


def choose(
    rows: Rows,
    task: Task,
    inside: Array,
    photos: Photos,
    seed: int,
    folds: int,
    poll: Poll | None,
) -> Choice:
    """By cross-validation on the rows inside, from the strongest penalty until the loss rises."""
    count = int(inside.sum())
    held = photos.held_out(inside, seed, min(folds, FOLDS_OF_MANY) if count > MANY else folds)
    start = Heads.zero(max(1, len(held)), task.classes, rows.columns)
    if not len(held):
        return Choice(UNTESTED, "by default: no class has two photos to choose it by", start.mean)
    table: list[Tried] = []
    kept: list[Heads] = []
    steps = 0
    parts = shares(task, inside & ~held)
    grid = GRID if count <= FEW else GRID[::2]
    for penalty in grid:
        start = together(rows, task, parts, penalty, start, poll)
        kept.append(start.mean)
        steps += start.steps
        table.append(tried(rows, task, held & photos.plain, penalty, start))
        best = min(table, key=lambda row: row.loss)
        if table[-1] is not best:  # the loss has a single valley: weaker ones are worse
            break
    chosen = table.index(best)
    reason = f"the best of {len(table)} tried by {len(held)}-fold cross-validation"
    return Choice(grid[chosen], reason, kept[chosen], tuple(table), steps)


def shares(task: Task, trained: Array) -> Array:
    """F x N: the part of each row in the mean of each fold; trained: F x N."""
    return np.asarray(trained / (trained @ task.weights)[:, None])


def together(
    rows: Rows, task: Task, parts: Array, penalty: float, start: Heads, poll: Poll | None
) -> Heads:
    """The folds as one problem, or as several where they are large."""
    size = max(1, TOGETHER // start.weight[0].size)
    found = [
        minimise(
            rows,
            task,
            parts[first : first + size],
            penalty,
            Heads(start.weight[first : first + size], start.bias[first : first + size]),
            tolerance=CHOOSING,
            poll=poll,
        )
        for first in range(0, len(parts), size)
    ]
    return Heads(
        np.concatenate([heads.weight for heads in found]),
        np.concatenate([heads.bias for heads in found]),
        sum(heads.steps for heads in found),
    )


def tried(rows: Rows, task: Task, held: Array, penalty: float, heads: Heads) -> Tried:
    losses, hits = [], []
    for number, out in enumerate(held):
        logs, labels, weights = (
            answers(rows, heads, number, out),
            task.labels[out],
            task.weights[out],
        )
        losses.append(-np.average(logs[labels, np.arange(len(labels))], weights=weights))
        hits.append(np.mean(logs.argmax(axis=0) == labels))
    error = np.std(losses, ddof=1) / np.sqrt(len(losses))
    return Tried(penalty, float(np.mean(losses)), float(error), float(np.mean(hits)))


def answers(rows: Rows, heads: Heads, number: int, out: Array) -> Array:
    """K x M: log-probabilities of the rows held out by one of the heads."""
    scores = heads.weight[number].astype(rows.values.dtype) @ rows.values[out].T
    _, logs = softmax((scores + heads.bias[number][:, None])[None].astype(np.float64))
    return np.asarray(logs[0])


@contextmanager
def one_thread() -> Iterator[None]:
    """Threads of a BLAS that contend for cores make seconds minutes, and other sums."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield


def scores_of(features: Array, weight: Array, bias: Array) -> Array:
    """N x K float32 of N x D; on one thread, for the same bits on any number of cores."""
    with one_thread():
        return np.asarray(features @ weight.T + bias)


def loss_of(scores: Array, labels: Array) -> float:
    """Mean cross-entropy, in nats."""
    from scipy.special import logsumexp

    wide = scores.astype(np.float64)
    return float(np.mean(logsumexp(wide, axis=1) - wide[np.arange(len(labels)), labels]))
