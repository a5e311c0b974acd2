"""Stages that exist in training only: a classifier beside the chain that helps the gradient.

Szegedy et al. 2014 (GoogLeNet), section 5: their losses are added with weight 0.3 and they are
thrown away afterwards.
"""

from __future__ import annotations

import torch
from torch import nn

WEIGHT = 0.3


class AuxiliaryHead(nn.Module):
    """Hands its input on; in train mode it also keeps its own class scores, N K, in `scores`."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier
        self.scores: torch.Tensor | None = None

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.scores = self.classifier(inputs) if self.training else None
        return inputs


def heads_of(model: nn.Module) -> list[AuxiliaryHead]:
    """Return the auxiliary heads of a network."""
    return [part for part in model.modules() if isinstance(part, AuxiliaryHead)]
