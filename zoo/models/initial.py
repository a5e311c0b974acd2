"""The start of training from scratch, one draw per tensor: pretrained weights overwrite it anyway.

He et al. 2015, "Delving Deep into Rectifiers", arXiv:1502.01852, eq. 10 and 14. torchvision draws
GoogLeNet from a truncated normal, which is many times slower, and the dense layers of VGG twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn


def he_normal_(chain: nn.Sequential) -> nn.Sequential:
    """Draw the convolutions for ReLU; dense layers and norms keep PyTorch's own start."""
    for module in chain.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return chain


def he_forward_(chain: nn.Sequential) -> nn.Sequential:
    """Draw convolutions and dense layers so that what goes in keeps its size on its way out.

    That is eq. 10, with the inputs of a unit; `he_normal_` is eq. 14, which does the same for the
    gradient on its way back and is what torchvision uses. Biases start at 0.
    """
    for module in chain.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, std=math.sqrt(2 / _inputs(module)))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return chain


def _glorot_(chain: nn.Sequential) -> nn.Sequential:
    """Draw convolutions and dense layers for sigmoids and tanh; biases start at 0.

    Between what keeps the size of the signal on its way out and of the gradient on its way back
    (Glorot, Bengio 2010, "Understanding the Difficulty of Training Deep Feedforward Neural
    Networks", AISTATS, eq. 12, as a normal distribution).
    """
    for module in chain.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return chain


def _truncated_(chain: nn.Sequential) -> nn.Sequential:
    """Draw convolutions and dense layers as the lecture of `perceptron.py` does."""
    for module in chain.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.1, a=-0.2, b=0.2)
            if module.bias is not None:
                nn.init.constant_(module.bias, 0.1)
    return chain


# What `initial` of the lectures' networks chooses from.
INITIAL: dict[str, Callable[[nn.Sequential], nn.Sequential]] = {
    "he": he_forward_,
    "glorot": _glorot_,
    "normal": _truncated_,
}


def _inputs(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> float:
    """Return how many values one output of the layer sums up; of a transposed one, on average."""
    if isinstance(layer, nn.ConvTranspose2d):
        return layer.weight[:, 0].numel() / math.prod(layer.stride)
    return layer.weight[0].numel()
