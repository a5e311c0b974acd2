"""VGG: nothing but 3 x 3 convolutions and 2 x 2 pooling, then three dense layers of 120 M weights.

Simonyan, Zisserman 2014, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
arXiv:1409.1556, table 1, columns D (16 layers) and E (19). `norm` puts a norm, younger than the
paper, after each convolution; with `batch` that is torchvision's `_bn`, whose name has weights.
Names, order and the adaptive pooling (which changes nothing at 224) are torchvision's.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from torch import nn

from zoo.models.choices import MAP_NORMS
from zoo.models.initial import he_normal_

# Convolutions per block; every block ends with a pooling that halves height and width.
WIDTHS = (64, 128, 256, 512, 512)


def _vgg(depths: tuple[int, ...], num_classes: int = 1000, norm: str = "none") -> nn.Sequential:
    """Build a network with so many convolutions per block: N 3 224 224 in, N K class scores out.

    norm: none, batch or layer.
    """
    classifier = nn.Sequential(
        nn.Linear(512 * 7 * 7, 4096),  # N 4096
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(4096, 4096),  #        N 4096
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(4096, num_classes),  # N K
    )
    stages = OrderedDict(
        features=_features(depths, norm),  #     N 512 7 7
        avgpool=nn.AdaptiveAvgPool2d((7, 7)),  # N 512 7 7
        flatten=nn.Flatten(),  #                 N 25088
        classifier=classifier,  #                N K
    )
    return he_normal_(nn.Sequential(stages))


def _features(depths: tuple[int, ...], norm: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for width, depth in zip(WIDTHS, depths, strict=True):
        for _ in range(depth):
            layers.append(nn.Conv2d(channels, width, 3, padding=1))
            layers += [] if norm == "none" else [MAP_NORMS[norm](width)]
            layers.append(nn.ReLU())
            channels = width
        layers.append(nn.MaxPool2d(2))  # N 64 112 112, 128 56 56, 256 28 28, 512 14 14, 512 7 7
    return nn.Sequential(*layers)


# Columns D and E; each takes the number of classes.
vgg16 = partial(_vgg, (2, 2, 3, 3, 3))
vgg19 = partial(_vgg, (2, 2, 4, 4, 4))
vgg16_bn = partial(vgg16, norm="batch")
vgg19_bn = partial(vgg19, norm="batch")
