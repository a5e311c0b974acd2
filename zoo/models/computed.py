"""Heads that are written down from features and not trained, as torch has them.

What they compute is what `head/layers.py` computes with the same arrays.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

FLOOR = 1e-3  # as in head/layers.py


class Cosine(nn.Linear):
    """A Linear on features of length 1."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return functional.linear(functional.normalize(features, dim=1), self.weight, self.bias)


class Neighbours(nn.Module):
    """The nearest of the known rows vote: N D -> N K logarithms of shares."""

    def __init__(self, features: int, classes: int, nearest: int, rows: int) -> None:
        super().__init__()
        self.in_features, self.classes, self.nearest = features, classes, min(nearest, rows)
        self.whiten = nn.Linear(features, features)
        self.register_buffer("rows", torch.zeros(rows, features))
        self.register_buffer("labels", torch.zeros(rows, dtype=torch.int64))
        self.register_buffer("temperature", torch.ones(1))
        self.register_buffer("scale", torch.ones(1))

    @property
    def weight(self) -> torch.Tensor:
        """Return a tensor that lies where the head does, and has its type."""
        return self.whiten.weight

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        rows = functional.normalize(self.whiten(features), dim=1)  # B D
        cosines = rows @ self.get_buffer("rows").T  # B N
        near, places = cosines.topk(self.nearest, dim=1)  # B k
        shares = torch.softmax(near / self.get_buffer("temperature"), dim=1)
        numbers = torch.arange(self.classes, device=features.device)
        same = self.get_buffer("labels")[places].unsqueeze(-1) == numbers  # B k K
        votes = (shares.unsqueeze(-1) * same).sum(dim=1)  # B K
        return torch.log(votes + FLOOR) * self.get_buffer("scale")
