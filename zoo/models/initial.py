"""The start of training from scratch, one draw per tensor: pretrained weights overwrite it anyway.

He et al. 2015, "Delving Deep into Rectifiers", arXiv:1502.01852, eq. 10. torchvision draws
GoogLeNet from a truncated normal, which is many times slower, and the dense layers of VGG twice.
"""

from __future__ import annotations

from torch import nn


def he_normal_(chain: nn.Sequential) -> nn.Sequential:
    """Draw the convolutions for ReLU; dense layers and norms keep PyTorch's own start."""
    for module in chain.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return chain
