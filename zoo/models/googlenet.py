"""GoogLeNet (Inception v1): four branches side by side, joined along the channels.

Szegedy et al. 2014, "Going Deeper with Convolutions", arXiv:1409.4842, figures 2b and 3, table 1.
The published weights are torchvision's, and this is the network that they fit:

- the "5x5" branch has a 3 x 3 kernel (a known slip that the weights were trained with,
  github.com/pytorch/vision/issues/906);
- BatchNorm after each convolution, where the paper had none and normalised responses twice;
- `maxpool4` is 2 x 2 (paper: 3 x 3) and dropout 0.2 (paper: 0.4);
- no auxiliary classifiers: they help only while training from scratch and published files hold
  untrained ones (`aux1.*`, `aux2.*`, ignored on loading);
- no `transform_input`. torchvision rescales ImageNet-normalised pixels inside the network to the
  (p - 0.5) / 0.5 of the original; here the weights' Preprocess says mean = std = 0.5 instead.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.models.initial import he_normal_

# Input, 1x1, 3x3 after its reduction, "5x5" after its reduction, projection after pooling: table 1.
INCEPTION = {
    "inception3a": (192, 64, (96, 128), (16, 32), 32),
    "inception3b": (256, 128, (128, 192), (32, 96), 64),
    "inception4a": (480, 192, (96, 208), (16, 48), 64),
    "inception4b": (512, 160, (112, 224), (24, 64), 64),
    "inception4c": (512, 128, (128, 256), (24, 64), 64),
    "inception4d": (512, 112, (144, 288), (32, 64), 64),
    "inception4e": (528, 256, (160, 320), (32, 128), 128),
    "inception5a": (832, 256, (160, 320), (32, 128), 128),
    "inception5b": (832, 384, (192, 384), (48, 128), 128),
}


def googlenet(num_classes: int = 1000) -> nn.Sequential:
    """GoogLeNet without auxiliary classifiers: N 3 224 224 in [-1, 1], N K class scores out."""
    stages = OrderedDict(
        conv1=ConvNorm(3, 64, 7, stride=2, padding=3),  #      N 64 112 112
        maxpool1=nn.MaxPool2d(3, stride=2, ceil_mode=True),  # N 64 56 56
        conv2=ConvNorm(64, 64, 1),  #                          N 64 56 56
        conv3=ConvNorm(64, 192, 3, padding=1),  #              N 192 56 56
        maxpool2=nn.MaxPool2d(3, stride=2, ceil_mode=True),  # N 192 28 28
        inception3a=_inception("inception3a"),  #              N 256 28 28
        inception3b=_inception("inception3b"),  #              N 480 28 28
        maxpool3=nn.MaxPool2d(3, stride=2, ceil_mode=True),  # N 480 14 14
        inception4a=_inception("inception4a"),  #              N 512 14 14
        inception4b=_inception("inception4b"),  #              N 512 14 14
        inception4c=_inception("inception4c"),  #              N 512 14 14
        inception4d=_inception("inception4d"),  #              N 528 14 14
        inception4e=_inception("inception4e"),  #              N 832 14 14
        maxpool4=nn.MaxPool2d(2, stride=2, ceil_mode=True),  # N 832 7 7
        inception5a=_inception("inception5a"),  #              N 832 7 7
        inception5b=_inception("inception5b"),  #              N 1024 7 7
        avgpool=nn.AdaptiveAvgPool2d((1, 1)),  #               N 1024 1 1
        flatten=nn.Flatten(),  #                               N 1024
        dropout=nn.Dropout(0.2),
        fc=nn.Linear(1024, num_classes),  #                    N K
    )
    return he_normal_(nn.Sequential(stages))


class Inception(nn.Module):
    """Four branches over one input (figure 2b): N C H W in, N (sum of the branches) H W out."""

    def __init__(
        self,
        channels: int,
        ones: int,
        threes: tuple[int, int],
        fives: tuple[int, int],
        pooled: int,
    ) -> None:
        super().__init__()
        self.branch1 = ConvNorm(channels, ones, 1)
        self.branch2 = nn.Sequential(
            ConvNorm(channels, threes[0], 1), ConvNorm(threes[0], threes[1], 3, padding=1)
        )
        self.branch3 = nn.Sequential(
            ConvNorm(channels, fives[0], 1), ConvNorm(fives[0], fives[1], 3, padding=1)
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True), ConvNorm(channels, pooled, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class ConvNorm(nn.Module):
    """Convolution without bias, BatchNorm (eps 0.001, as trained), ReLU."""

    def __init__(self, ins: int, outs: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(ins, outs, kernel, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(outs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


def _inception(name: str) -> Inception:
    return Inception(*INCEPTION[name])
