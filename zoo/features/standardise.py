"""Standardised features for a fresh head, folded into it at the end.

Features of different networks differ a hundredfold in scale; AdamW's one rate fits none of them
unless they are centred and brought to one scale first. The head that is saved takes the features
as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zoo.engine import Array
from zoo.features.cache import Features
from zoo.head.rows import ALIKE, spread_of

if TYPE_CHECKING:
    import torch
    from torch import nn

CHUNK = 1024


@dataclass(frozen=True, slots=True)
class Scaling:
    """x -> (x - mean) / scale; mean per feature (D), one scale for all.

    spread: see `zoo.head.rows.spread_of`. Where rows are all alike, scale is their size.
    """

    mean: Array
    scale: float
    spread: float

    @classmethod
    def of(cls, features: Features) -> Scaling:
        """From the training rows, in double precision and in constant memory."""
        count, total, squares = len(features), 0.0, 0.0
        mean = np.zeros(features.shape, np.float64)
        for start in range(0, count, CHUNK):
            rows = features.gather(range(start, min(start + CHUNK, count))).astype(np.float64)
            mean += rows.sum(axis=0) / count
            total += float((rows**2).sum())
        squares = total / count - float((mean**2).sum())
        return cls._made(mean, float(np.sqrt(max(squares, 0.0) / mean.size)))

    @classmethod
    def of_rows(cls, rows: Array) -> Scaling:
        """From some rows in memory, N x feature shape."""
        wide = rows.astype(np.float64)
        mean = wide.mean(axis=0)
        return cls._made(mean, float(np.sqrt(((wide - mean) ** 2).mean())))

    @classmethod
    def _made(cls, mean: Array, deviation: float) -> Scaling:
        spread = spread_of(np.full(mean.size, deviation), mean.ravel())
        size = float(np.sqrt((mean**2).mean()))
        return cls(mean.astype(np.float32), (deviation if spread > ALIKE else size) or 1.0, spread)

    def scaled(self, features: torch.Tensor) -> torch.Tensor:
        import torch

        mean = torch.from_numpy(self.mean).to(features.device)
        return (features - mean) / self.scale

    def fold(self, head: nn.Linear) -> None:
        """Makes the head take unscaled features: W / s and b - W mean / s."""
        import torch

        with torch.no_grad():
            weight = head.weight.double() / self.scale
            mean = torch.from_numpy(self.mean).double().to(weight.device).flatten()
            head.bias.copy_(head.bias.double() - weight @ mean)
            head.weight.copy_(weight)


class ScaledFeatures(Features):
    """Features seen through a Scaling."""

    def __init__(self, features: Features, scaling: Scaling) -> None:
        self.parts, self.table, self.shape = features.parts, features.table, features.shape
        self.scaling, self.unscaled = scaling, features
        self.dense = None
        if features.dense is not None:
            self.dense = self.scaled(features.dense)

    def scaled(self, rows: Array) -> Array:
        return np.asarray((rows - self.scaling.mean) / np.float32(self.scaling.scale))

    def gather(self, indices: object) -> Array:
        rows = super().gather(indices)  # type: ignore[arg-type]
        return rows if self.dense is not None else self.scaled(rows)
