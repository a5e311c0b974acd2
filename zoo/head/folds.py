"""Which photos a cross-validation holds out: a share of each class, with all of their views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo.data.views import generator
from zoo.metrics import Array


def alike(digests: Sequence[bytes], views: int) -> Array:
    """Return the group of each row, the views of a photo side by side; copies are one group.

    A group's number is that of its first photo, so without copies it is the photo's.
    """
    first: dict[bytes, int] = {}
    groups = [first.setdefault(digest, number) for number, digest in enumerate(digests)]
    return np.repeat(np.array(groups, np.int64), views)


@dataclass(frozen=True, slots=True)
class Photos:
    """Rows as views of photos: the photo of each row, and which rows are plain views.

    labels: of each photo.
    """

    of_row: Array
    plain: Array
    labels: Array

    @classmethod
    def of(cls, groups: Array | None, labels: Array) -> Photos:
        """Find the photos. groups: N, one number for the views of one; None: each row is one."""
        rows = np.arange(len(labels))
        _, first, of_row = np.unique(
            rows if groups is None else groups, return_index=True, return_inverse=True
        )
        plain = np.zeros(len(rows), bool)
        plain[first] = True
        return cls(of_row, plain, labels[first])

    def some(self, inside: Array, seed: int, most: int) -> Array:
        """Return N: at most about so many of the rows inside, a share of each class's photos."""
        count = int(np.count_nonzero(inside))
        if count <= most:
            return inside
        random = generator("sample", seed)
        chosen = np.zeros(len(self.labels), bool)
        there = np.bincount(self.of_row, inside, len(self.labels)) > 0
        for label in np.flatnonzero(np.bincount(self.labels[there])):
            mine = random.permutation(np.flatnonzero(there & (self.labels == label)))
            chosen[mine[: max(2, len(mine) * most // count)]] = True
        return np.asarray(inside & chosen[self.of_row])

    def held_out(self, inside: Array, seed: int, folds: int) -> Array:
        """Return F x N: the rows that each fold tests on, of those inside.

        A class's photos are dealt out to the folds; one that is the only of its class stays in
        the training part of all. F is less than asked for where no class has as many.
        """
        random = generator("folds", seed)
        there = np.bincount(self.of_row, inside, len(self.labels)) > 0
        fold = np.full(len(self.labels), -1)
        counts = np.bincount(self.labels[there])
        folds, dealt = min(folds, int(counts.max())), 0
        for label in np.flatnonzero(counts > 1):
            mine = random.permutation(np.flatnonzero(there & (self.labels == label)))
            fold[mine] = (dealt + np.arange(len(mine))) % folds
            dealt += len(mine)
        used = np.flatnonzero(np.bincount(fold[fold >= 0]))
        return np.asarray(inside & (fold[self.of_row] == used[:, None]))
