"""Detectors with and without shared weights: what a convolution saves, and what it does not.

The same picture of two networks: 32 detectors of 5 x 5 at 12 x 12 places, 64 of 5 x 5 at 4 x 4
places, then dense layers. In `shared` a detector has the same weights at every place, which makes
the layer a convolution (LeCun et al. 1989, "Backpropagation Applied to Handwritten Zip Code
Recognition", Neural Computation 1(4)); in `local` it has its own at each (LeCun 1989,
"Generalization and Network Design Strategies", where both are compared, as Net-3 to Net-5). Both
multiply equally often.

The arithmetic of the lectures: 256 detectors of 16 x 16 pixels on a picture of 100 x 100 have
256 * 256 = 65,536 weights of their own; where 4 places share 64 detectors there are 64 * 256 =
16,384 (counted on these layers in tests/test_networks.py).
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from zoo.models.initial import he_forward_


def local(num_classes: int = 10) -> nn.Sequential:
    """Detectors of their own at every place: N 1 28 28 grey values in, N K class scores out."""
    return _detectors(Local2d(1, 32, 5, 2, size=28), Local2d(32, 64, 5, 2, size=12), num_classes)


def shared(num_classes: int = 10) -> nn.Sequential:
    """Return the same detectors at every place: N 1 28 28 grey values in, N K class scores out."""
    return _detectors(nn.Conv2d(1, 32, 5, stride=2), nn.Conv2d(32, 64, 5, stride=2), num_classes)


def _detectors(first: nn.Module, second: nn.Module, num_classes: int) -> nn.Sequential:
    stages = OrderedDict(
        detect1=first,  #                   N 32 12 12
        act1=nn.ReLU(),
        detect2=second,  #                  N 64 4 4
        act2=nn.ReLU(),
        flatten=nn.Flatten(),  #            N 1024
        fc1=nn.Linear(64 * 4 * 4, 256),  #  N 256
        act3=nn.ReLU(),
        fc2=nn.Linear(256, num_classes),  # N K
    )
    return he_forward_(nn.Sequential(stages))


class Local2d(nn.Module):
    """A convolution whose weights differ from place to place: N C H H in, N O P P out.

    size: H; there are P = (H - kernel) // stride + 1 places a side. weight: P*P places, C*kernel
    *kernel inputs, O detectors.
    """

    def __init__(self, channels: int, detectors: int, kernel: int, stride: int, size: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.side = (size - kernel) // stride + 1
        places, inputs = self.side**2, channels * kernel**2
        self.weight = nn.Parameter(torch.empty(places, inputs, detectors))
        self.bias = nn.Parameter(torch.zeros(places, 1, detectors))
        nn.init.normal_(self.weight, std=(2 / inputs) ** 0.5)  # as he_forward_

    def forward(self, x: Tensor) -> Tensor:
        patches = x.unfold(2, self.kernel, self.stride).unfold(3, self.kernel, self.stride)
        patches = patches.permute(2, 3, 0, 1, 4, 5)  # P P N C kernel kernel
        patches = patches.flatten(3).flatten(0, 1)  #  P*P N inputs
        found = torch.bmm(patches, self.weight) + self.bias  # P*P N O
        return torch.unflatten(found.permute(1, 2, 0), 2, (self.side, self.side))
