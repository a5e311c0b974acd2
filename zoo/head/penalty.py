"""How strong the penalty of a linear head should be: what photos held out say.

It is the one with the least loss on the photos held out. (The strongest within a standard error of
it is as accurate on our sets, and on small ones so strong that its probabilities are far too even.)
The loss has a single valley over the penalties: from the middle of the grid they are tried until it
rises. Of many photos a part of each class is enough to choose by: what is known of weights before
a photo is seen counts less by the mean, the more rows there are. (30,000 digits, raw pixels: by
10,000 of them 0.01, so 0.0033, with a test loss of 0.276 where 0.01 has 0.284.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo.head.folds import Photos
from zoo.head.rows import Rows
from zoo.head.softmax_regression import Heads, Problem, log_probabilities, minimise
from zoo.metrics import Array

GRID = tuple(10 ** (-half / 2) for half in range(-4, 13))  # 100 to 1e-6 in half decades
BEGIN = 1.0  # of the grid
UNTESTED = 0.3  # the penalty where no photo can be held out
CHOOSING = 3e-5  # tolerance of the loss
AT_ONCE = 1 << 21  # weights of the folds that are solved as one problem
ENOUGH = 1e-3  # nats: a loss that falls by less is at its least
FEW, MANY = 2000, 5000  # rows: from here on what is tried is coarser, and in fewer folds
FOLDS_OF_MANY = 3  # to choose a penalty by: so many photos held out say as much in three
SAMPLE, USUAL, EACH = 10_000, 6000, 10  # rows to choose by at most, of few classes, of each class
ANSWERS = 1 << 24  # probabilities of the rows beside the sample that are told
AT_A_TIME = 4096  # of these rows


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
class HeldOut:
    """What heads say of rows that they were not found on: M row numbers, M x K probabilities."""

    rows: Array
    probabilities: Array


@dataclass(frozen=True, slots=True)
class Choice:
    """A penalty, why, and the mean of the heads that the folds had with it.

    table: of what was tried, from the strongest on. folds: nothing is held out where it is None.
    """

    penalty: float
    reason: str
    head: Heads
    table: tuple[Tried, ...] = ()
    steps: int = 0
    folds: _Folds | None = None
    heads: Heads | None = None

    def held_out(self) -> HeldOut | None:
        """Return what the heads of the folds say of the photos, by their plain views."""
        return self.folds.held_out(self.heads, self.head) if self.folds and self.heads else None


def choose(problem: Problem, search: Search, inside: Array) -> Choice:
    """Return the penalty that cross-validation on the rows inside prefers, or the one given."""
    if search.penalty is not None:
        return Choice(search.penalty, "as asked for", problem.zero(1))
    folds = _Folds.of(problem, search, inside)
    if folds is None:
        reason = "by default: no class has two photos to choose it by"
        return Choice(UNTESTED, reason, problem.zero(1))
    rows, every = len(folds.order), int(inside.sum())
    grid = GRID if rows <= FEW else GRID[::2]
    found = _attempts(folds, grid)
    places = sorted(found)
    best = min(places, key=lambda place: found[place][0].loss)
    tried, heads = found[best]
    reason = f"the best of {len(found)} tried by {len(folds.held)}-fold cross-validation"
    if rows < every:
        reason += f" on {rows:,} of {every:,} rows, {tried.penalty:.2g}, by their share"
    if best in (0, len(grid) - 1):
        reason += f"; none {'weaker' if best else 'stronger'} was tried"
    table = tuple(found[place][0] for place in places)
    steps = sum(heads.steps for _, heads in found.values())
    penalty = tried.penalty * rows / every
    return Choice(penalty, reason, heads.mean, table, steps, folds, heads)


def _attempts(folds: _Folds, grid: Sequence[float]) -> dict[int, tuple[Tried, Heads]]:
    """Return what was tried, by its place on the grid: from BEGIN on while the loss falls."""
    begin = grid.index(BEGIN)
    found = {begin: folds.tried(grid[begin], folds.problem.zero(len(folds.held)))}
    for step in (1, -1):  # weaker, else stronger
        place = begin
        while 0 <= place + step < len(grid):
            found[place + step] = folds.tried(grid[place + step], found[place][1])
            if found[place + step][0].loss > found[place][0].loss - ENOUGH:
                break
            place += step
        if place != begin:
            break
    return found


@dataclass(frozen=True, slots=True)
class _Folds:
    """The rows of a cross-validation, those that a fold holds out side by side.

    problem: of these rows, M. order: M, their numbers among all. held: F x M, the plain views that
    each fold tests on. weights: F x M, the sample_weight of each. rest: numbers of plain views
    that have no part in it. whole: all rows.
    """

    whole: Rows
    problem: Problem
    order: Array
    held: Array
    weights: Array
    rest: Array

    @classmethod
    def of(cls, problem: Problem, search: Search, inside: Array) -> _Folds | None:
        """Return the folds; None where no class has two photos."""
        targets = problem.targets
        photos = Photos.of(targets.groups, targets.labels)
        most = min(SAMPLE, max(USUAL, EACH * targets.classes))
        some = photos.some(inside, search.seed, most)
        count = min(search.folds, FOLDS_OF_MANY) if some.sum() > MANY else search.folds
        held = photos.held_out(some, search.seed, count)
        if not len(held):
            return None
        fold = np.where(held.any(axis=0), held.argmax(axis=0), len(held))
        order = np.flatnonzero(some)
        order = order[np.argsort(fold[order], kind="stable")]
        edges = tuple((np.flatnonzero(np.diff(fold[order])) + 1).tolist())
        mine = targets.taken(order)
        part = Problem(problem.rows.taken(order), mine, problem.poll, edges)
        weights = mine.sample_weight(~held[:, order])
        rest = np.flatnonzero(inside & ~some & photos.plain)
        return cls(problem.rows, part, order, (held & photos.plain)[:, order], weights, rest)

    def tried(self, penalty: float, start: Heads) -> tuple[Tried, Heads]:
        """Return a penalty on the rows held out, and the head of each fold."""
        heads = self._minimised(penalty, start)
        losses, hits, targets = [], [], self.problem.targets
        for number, held in enumerate(self.held):
            logs, labels = self._logs(heads, number), targets.labels[held]
            of_labels = logs[np.arange(len(labels)), labels].astype(np.float64)
            losses.append(-np.average(of_labels, weights=targets.each[labels]))
            hits.append(np.mean(logs.argmax(axis=1) == labels))
        error = float(np.std(losses, ddof=1) / np.sqrt(len(losses)))
        return Tried(penalty, float(np.mean(losses)), error, float(np.mean(hits))), heads

    def _logs(self, heads: Heads, number: int) -> Array:
        rows = self.problem.rows.values[self.held[number]]
        return log_probabilities(rows, heads.weight[number], heads.bias[number])

    def _minimised(self, penalty: float, start: Heads) -> Heads:
        """Return the heads of all folds, found as one problem, or as several where they are large.

        Of several each has the rows that it is found on to itself.
        """
        size = max(1, AT_ONCE // start.weight[0].size)
        found = []
        for first in range(0, len(self.held), size):
            part = slice(first, first + size)
            begin = Heads(start.weight[part], start.bias[part])
            found.append(minimise(self.problem, self.weights[part], penalty, begin, CHOOSING))
        return Heads(
            np.concatenate([heads.weight for heads in found]),
            np.concatenate([heads.bias for heads in found]),
            sum(heads.steps for heads in found),
        )

    def held_out(self, heads: Heads, mean: Heads) -> HeldOut:
        """Return what the folds' heads say of the rows that they were not found on.

        Of the rest it is their mean that says it, where these are not too many.
        """
        rows = [self.order[held] for held in self.held]
        logs = [self._logs(heads, number) for number in range(len(rows))]
        if 0 < len(self.rest) <= ANSWERS // mean.bias.size:
            for some in np.array_split(self.rest, -(-len(self.rest) // AT_A_TIME)):
                rows.append(some)
                values = self.whole.values[some].astype(np.float32, copy=False)
                logs.append(log_probabilities(values, mean.weight[0], mean.bias[0]))
        return HeldOut(np.concatenate(rows), np.exp(np.concatenate(logs)))
