"""GoogLeNet as its paper has it: 5 x 5 branches, normalised responses, heads that only train.

Szegedy et al. 2014, "Going Deeper with Convolutions", arXiv:1409.4842, figures 2b and 3, table 1.
No BatchNorm, which is younger. The names are those of the one file of weights that we know in this
form, Caffe's (github.com/BVLC/caffe, models/bvlc_googlenet), in the short form that it was
converted to: `inc3a.b1` (1 x 1), `r3` and `c3` (3 x 3 after its reduction), `r5` and `c5`, `pp`
(projection after pooling). As in Caffe and in figure 3 the first pooling comes before the first
normalisation, whose constants (5 maps, 1e-4, 0.75), which the paper leaves open, are AlexNet's.

`with_auxiliary` adds the two classifiers of section 5 for training from scratch. Drawn with He
initialisation (Caffe: Glorot's, as the file's weights were).
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.models.auxiliary import AuxiliaryHead
from zoo.models.googlenet import INCEPTION
from zoo.models.initial import he_normal_

# After these stages, with so many channels at 14 x 14.
AUXILIARY = {"aux1": ("inc4a", 512), "aux2": ("inc4d", 528)}


def googlenet_2014(num_classes: int = 1000) -> nn.Sequential:
    """GoogLeNet without auxiliary classifiers: N 3 224 224 in, N K class scores out."""
    stages: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(3, 64, 7, stride=2, padding=3),  # N 64 112 112
        relu1=nn.ReLU(),
        maxpool1=_halved(),  #                             N 64 56 56
        norm1=_normalised(),
        reduce2=nn.Conv2d(64, 64, 1),  #                   N 64 56 56
        relu2=nn.ReLU(),
        conv2=nn.Conv2d(64, 192, 3, padding=1),  #         N 192 56 56
        relu3=nn.ReLU(),
        norm2=_normalised(),
        maxpool2=_halved(),  #                             N 192 28 28
        inc3a=_inception("3a"),  #                         N 256 28 28
        inc3b=_inception("3b"),  #                         N 480 28 28
        maxpool3=_halved(),  #                             N 480 14 14
        inc4a=_inception("4a"),  #                         N 512 14 14
        inc4b=_inception("4b"),  #                         N 512 14 14
        inc4c=_inception("4c"),  #                         N 512 14 14
        inc4d=_inception("4d"),  #                         N 528 14 14
        inc4e=_inception("4e"),  #                         N 832 14 14
        maxpool4=_halved(),  #                             N 832 7 7
        inc5a=_inception("5a"),  #                         N 832 7 7
        inc5b=_inception("5b"),  #                         N 1024 7 7
        avgpool=nn.AdaptiveAvgPool2d((1, 1)),  #           N 1024 1 1
        flatten=nn.Flatten(),  #                           N 1024
        dropout=nn.Dropout(0.4),
        fc=nn.Linear(1024, num_classes),  #                N K
    )
    return he_normal_(nn.Sequential(stages))


def with_auxiliary(chain: nn.Sequential, num_classes: int) -> nn.Sequential:
    """Return a chain that also has `aux1` and `aux2`, behind the stages that they look at.

    Of a part of the chain only what follows a stage of that part is added. Pictures are of 224.
    """
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    for name, stage in chain.named_children():
        stages[name] = stage
        for auxiliary, (place, channels) in AUXILIARY.items():
            if name == place:
                stages[auxiliary] = AuxiliaryHead(_classifier(channels, num_classes))
    return nn.Sequential(stages)


def _classifier(channels: int, num_classes: int) -> nn.Sequential:
    stages = (
        nn.AvgPool2d(5, stride=3),  #    N C 4 4
        nn.Conv2d(channels, 128, 1),  #  N 128 4 4
        nn.ReLU(),
        nn.Flatten(),  #                 N 2048
        nn.Linear(128 * 4 * 4, 1024),  # N 1024
        nn.ReLU(),
        nn.Dropout(0.7),
        nn.Linear(1024, num_classes),  # N K
    )
    return he_normal_(nn.Sequential(*stages))


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
        self.b1 = nn.Conv2d(channels, ones, 1)
        self.r3 = nn.Conv2d(channels, threes[0], 1)
        self.c3 = nn.Conv2d(threes[0], threes[1], 3, padding=1)
        self.r5 = nn.Conv2d(channels, fives[0], 1)
        self.c5 = nn.Conv2d(fives[0], fives[1], 5, padding=2)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.pp = nn.Conv2d(channels, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        threes = self.c3(F.relu(self.r3(x)))
        fives = self.c5(F.relu(self.r5(x)))
        return F.relu(torch.cat([self.b1(x), threes, fives, self.pp(self.pool(x))], 1))


def _inception(place: str) -> Inception:
    return Inception(*INCEPTION[f"inception{place}"])


def _halved() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)


def _normalised() -> nn.LocalResponseNorm:
    """Divide each value by what the 5 maps around it have at its pixel: (1 + 1e-4 mean)^0.75."""
    return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
