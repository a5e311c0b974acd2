"""Tapping a chain: what leaves any of its stages, as one row of numbers for each picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Tap(nn.Module):
    """N C S S pictures in; N D features out, and behind them N K class scores where wanted.

    averaged: axes of what leaves the first part over which the mean is taken. rest: the part that
    gives the scores.
    """

    def __init__(
        self, first: nn.Module, averaged: tuple[int, ...] = (), rest: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.first, self.rest, self.averaged = first, rest, averaged

    def forward(self, pictures: Tensor) -> Tensor:
        values = self.first(pictures)
        rows = (values.mean(self.averaged) if self.averaged else values).flatten(1)
        return rows if self.rest is None else torch.cat([rows, self.rest(values).flatten(1)], 1)


class WithCode(nn.Module):
    """An autoencoder that gives both: the picture again, and the code in its middle."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        code = self.encoder(pictures)
        return self.decoder(code), code
