"""The processes that solve a head together: torchrun's. Each has its share of the rows in a file.

The first one leads (see `zoo.head.team`): it sends what is asked, a head of K x D, and is sent loss
and gradient of each piece of the rows. The others have nothing else to do, until it is done.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import numpy as np

from zoo.head import rows
from zoo.head.softmax_regression import Pass, Targets
from zoo.head.stored import Stored
from zoo.head.team import share
from zoo.head.threads import in_order, one_thread, pieces
from zoo.metrics import Array
from zoo.train.distributed import Ranks

_WHAT = ("end", "total", "squares", "loss")
_HEADER = 32  # numbers that say what is asked, and the shapes of what is given


class Share:
    """A process's share of the rows of a file, which it has a copy of. labels: of all rows."""

    def __init__(self, features: Stored, labels: Array, rank: int, world: int) -> None:
        self.features, self.labels = features, labels
        self._mine = partial(share, rows=len(features), rank=rank, world=world)
        self._weights: Array | None = None

    def answer(self, what: str, given: Sequence[Array]) -> Array:
        """Return what is asked of each of this process's pieces, P x however many numbers."""
        parts, work = self._work(what, given)
        with one_thread():
            found = list(in_order(work, self._mine(parts)))
        return np.stack(found) if found else np.zeros((0, 0))

    def _work(
        self, what: str, given: Sequence[Array]
    ) -> tuple[list[slice], Callable[[slice], Array]]:
        features = self.features
        if what == "loss":
            one = self._pass(*given)
            return pieces(len(features)), lambda part: one.piece(part).numbers
        if what == "total":
            return rows.read_in(features), partial(rows.total, features)
        mean = given[0].astype(np.float32)
        return rows.read_in(features), partial(rows.squares, features, mean)

    def _pass(
        self, weight: Array, bias: Array, each: Array, smoothing: Array, *standard: Array
    ) -> Pass:
        mean, inverse = (every.astype(np.float32) for every in standard)
        values = self.features.standardised(mean, inverse, rows.type_of(*self.features.shape))
        targets = Targets(self.labels, len(each), None, each, float(smoothing[0]))
        if self._weights is None:  # of all rows, so that it is that of the process that leads
            self._weights = targets.sample_weight(np.ones((1, len(self.labels)), bool))
        return Pass.of(values, targets, self._weights, weight, bias)


def divided(train: Stored, labels: Array, ranks: Ranks, closing: ExitStack) -> Stored:
    """Return the rows to train on, shared by torchrun's ranks.

    closing: at its end all but the main rank do what that one asks, until it is there too.
    """
    if ranks.main:
        ours = Ranked(ranks)
        closing.callback(ours.end)
        return replace(train, team=ours)
    mine = Share(train, labels, ranks.rank, ranks.world)

    def to_the_end(failed: type | None, *_: object) -> None:
        if failed is None:
            _serve(ranks, mine)

    closing.push(to_the_end)
    return train


class Ranked:
    """The other processes of torchrun, asked by the main one."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks, self.world = ranks, ranks.world

    def ask(self, what: str, *given: Array) -> Iterator[Array]:
        """Have the others begin; yield what they give for each of their pieces, in order."""
        shapes = [number for each in given for number in (each.ndim, *each.shape)]
        header = [_WHAT.index(what), len(given), *shapes]
        self.ranks.broadcast(*header, *[0] * (_HEADER - len(header)))
        if given:
            self.ranks.broadcast_array(np.concatenate([each.ravel() for each in given]))
        return self._answers()

    def _answers(self) -> Iterator[Array]:
        for found in self.ranks.gather_arrays(np.zeros((0, 0)))[1:]:
            yield from found

    def end(self) -> None:
        """Let the others go."""
        self.ask("end")


def _serve(ranks: Ranks, mine: Share) -> None:
    """Answer the main process until it has no more to ask. Raises TeamError where it is gone."""
    while True:
        code, many, *shapes = (int(number) for number in ranks.broadcast(*[0.0] * _HEADER))
        if _WHAT[code] == "end":
            return
        left = iter(shapes)
        each = [tuple(itertools.islice(left, next(left))) for _ in range(many)]
        ends = np.cumsum([math.prod(shape) for shape in each], dtype=int)
        flat = ranks.broadcast_array(np.empty(ends[-1])) if many else np.empty(0)
        told = np.split(flat, ends[:-1]) if many else []
        given = [part.reshape(shape) for part, shape in zip(told, each, strict=True)]
        ranks.gather_arrays(mine.answer(_WHAT[code], given))
