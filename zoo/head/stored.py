"""Features that lie in a file and are read in pieces: of more rows than memory should hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from zoo.metrics import Array

READ = 1 << 21  # values that are read at once, 8 MB, of each thread
_SINGLE = np.dtype(np.float32)


class Team(Protocol):
    """Processes that have a share of the rows each, `world` of them; the one that asks is 0."""

    world: int

    def ask(self, what: str, *given: Array) -> Iterator[Array]:
        """Have the others begin; yield what they give for each of their pieces, in order."""


@dataclass(frozen=True, slots=True)
class Stored:
    """N x D float32 in a file, of which `[slice]` and `[row numbers]` are read when asked for.

    Read, not mapped: mapped pages would count as memory of this process. mean, inverse: D; where
    they are given, rows are standardised by them, and of this dtype. team: see `team.py`.
    """

    path: Path
    shape: tuple[int, int]
    mean: Array | None = None
    inverse: Array | None = None
    dtype: np.dtype[Any] = _SINGLE
    team: Team | None = None

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def at_once(self) -> int:
        """Return how many rows to read at a time."""
        return max(1, READ // self.shape[1])

    def standardised(self, mean: Array, inverse: Array, dtype: np.dtype[Any]) -> Stored:
        """Return the same rows, less the mean and times the inverse, D each."""
        return replace(self, mean=mean, inverse=inverse, dtype=dtype)

    def __getitem__(self, chosen: slice | Array) -> Array:
        columns = self.shape[1]
        if isinstance(chosen, slice):
            first, last, _ = chosen.indices(len(self))
            rows = np.fromfile(
                self.path, np.float32, (last - first) * columns, "", 4 * columns * first
            )
            rows = rows.reshape(last - first, columns)
        else:
            rows = np.empty((len(chosen), columns), np.float32)
            with self.path.open("rb") as file:
                for place in np.argsort(chosen, kind="stable"):
                    file.seek(4 * columns * int(chosen[place]))
                    file.readinto(rows[place].data)
        if self.mean is not None and self.inverse is not None:
            rows -= self.mean
            rows *= self.inverse
        return rows.astype(self.dtype, copy=False)
