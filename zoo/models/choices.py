"""What the variants of several networks choose from: activations and norms, by name.

The scaled tanh is LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition",
appendix A: f(1) = 1 and f(-1) = -1, and a unit's output keeps about the variance of its input.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class ScaledTanh(nn.Module):
    """1.7159 tanh(2x/3)."""

    def forward(self, x: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(x * (2 / 3))


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
}

# Over features N D and over maps N C H W. `batch` normalises each feature or map over the pictures
# of a batch, `layer` each picture over its features (Ba et al. 2016, arXiv:1607.06450; over all
# maps and pixels together, which is one group of GroupNorm, Wu, He 2018, arXiv:1803.08494).
FEATURE_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm1d,
    "layer": nn.LayerNorm,
}
MAP_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "layer": lambda channels: nn.GroupNorm(1, channels),
}
