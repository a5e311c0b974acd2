"""Passes over the rows of a file by several processes, added up as by one: the same bits.

One leads: it sends what is asked of the rows (a head, K x D) and adds what comes back (loss and
gradient) in the order of the pieces that rows are cut into, in float64. Each process has the pieces
that begin in its share of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from zoo.head.stored import Stored
from zoo.head.threads import in_order
from zoo.metrics import Array

One = TypeVar("One")


class Sums(NamedTuple):
    """What a piece of rows gives: the loss of the heads that have a part in it, and the gradients.

    heads: which of F. weight: F x K x R. bias: F x K.
    """

    heads: Array
    loss: float
    weight: Array
    bias: Array

    @property
    def numbers(self) -> Array:
        """Return all but the heads as one array."""
        return np.concatenate([[self.loss], self.weight.ravel(), self.bias.ravel()])

    @classmethod
    def read(cls, numbers: Array, shape: tuple[int, ...]) -> Sums:
        """Return them from one array, of all heads. shape: F, K, R."""
        loss, weight, bias = np.split(numbers, [1, 1 + np.prod(shape)])
        heads = np.arange(shape[0])
        return cls(heads, float(loss[0]), weight.reshape(shape), bias.reshape(shape[:2]))


def share(parts: Sequence[slice], rows: int, rank: int, world: int) -> list[slice]:
    """Return the pieces of so many rows that are a process's."""
    return [part for part in parts if part.start * world // rows == rank]


def over(
    rows: Array | Stored,
    parts: Sequence[slice],
    work: Callable[[slice], One],
    read: Callable[[Array], One],
    what: str,
    given: Sequence[Array] = (),
) -> Iterator[One]:
    """Yield what the work gives for each piece, in order; `what` it is, and of what, for a team.

    read: what a process of the team has sent for a piece.
    """
    team = rows.team if isinstance(rows, Stored) else None
    if team is None:
        yield from in_order(work, parts)
        return
    theirs = team.ask(what, *given)
    yield from in_order(work, share(parts, len(rows), 0, team.world))
    yield from map(read, theirs)
