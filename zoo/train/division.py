"""Which process of a team has which rows to train on, where each reads its own and no others.

Rows lie in parts, one part after the other. Process r has the parts r, r + W, … of W processes. In
an epoch each row has a number drawn by (seed, epoch, part), and a process takes its rows in the
order of these numbers, so rows of all its parts are mixed: parts of a sorted list have a class or
two each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from zoo.data.views import generator
from zoo.metrics import Array


@dataclass(frozen=True)
class Division:
    """part: N, rising, the part that each row lies in, counted from 0."""

    part: Array
    rank: int
    world: int

    def of(self, rank: int) -> Array:
        """Return the numbers of a process's rows, rising."""
        return np.flatnonzero(self.part % self.world == rank)

    @cached_property
    def own(self) -> Array:
        """Return the numbers of this process's rows, rising."""
        return self.of(self.rank)

    def places(self, rows: Array) -> Array:
        """Return where rows of this process stand among its own."""
        return np.searchsorted(self.own, rows)

    def steps(self, seed: int, epoch: int, count: int) -> list[tuple[Array, Array]]:
        """Return the rows of each of `count` steps of an epoch, and this process's of them.

        Each process takes the same share of its rows in every step, to a row: all have work until
        the end, and each row is taken once.
        """
        drawn, found = self._drawn(seed, epoch), []
        for rank in range(self.world):
            rows = self.of(rank)
            rows = rows[np.argsort(drawn[rows], kind="stable")]
            found.append(np.split(rows, len(rows) * np.arange(1, count) // count))
        whole = [np.concatenate(shares) for shares in zip(*found, strict=True)]
        return list(zip(whole, found[self.rank], strict=True))

    def fewest(self, count: int) -> int:
        """Return the rows of the smallest share of any of `count` steps."""
        return min(len(self.of(rank)) for rank in range(self.world)) // count

    def _drawn(self, seed: int, epoch: int) -> Array:
        """Return a number between 0 and 1 for each row."""
        return np.concatenate(
            [
                generator("order", seed, epoch, part).random(many)
                for part, many in enumerate(np.bincount(self.part))
            ]
        )
