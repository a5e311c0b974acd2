"""ResNet: each block adds what it computes to what it was given.

He et al. 2015, "Deep Residual Learning for Image Recognition", arXiv:1512.03385, figures 2 and 5,
table 1. ResNet-50, 101 and 152 are the variant "v1.5" that torchvision's weights were trained
with: a block that halves the picture does so in its 3 x 3 convolution, not in the 1 x 1 before it
(catalog.ngc.nvidia.com, "ResNet v1.5 for PyTorch": about 0.5 % better, 5 % slower). Shortcuts
that change shape are 1 x 1 convolutions (option B). Names and order are torchvision's.

ResNet-200 is of He et al. 2016, "Identity Mappings in Deep Residual Networks", arXiv:1603.05027,
table 5, which trains it in two forms: with these blocks, and with norm and ReLU before each
convolution, which errs on 20.7 % for 21.8 %. Built here is the first, as v1.5; so is timm's
`resnet200`.

`shortcut` = none leaves the additions out: the plain network of table 2, which errs on more the
deeper it is (18 layers 27.94 %, 34 layers 28.54 %; with shortcuts 27.88 % and 25.03 %).
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from torch import Tensor, nn

from zoo.models.initial import he_normal_


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and the shortcut (figure 5 left): N C H W in, N width H/s W/s out."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int, adds: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)  # on its own sums only, never on the block's input
        self.downsample = _shortcut(channels, width, stride) if adds else None
        self.adds = adds

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.adds:
            out += x if self.downsample is None else self.downsample(x)
        out = self.relu(out)
        return out


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 and the shortcut (figure 5 right): N C H W in, N 4*width H/s W/s out."""

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int, adds: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)  # v1.5
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)  # on its own sums only, never on the block's input
        self.downsample = _shortcut(channels, 4 * width, stride) if adds else None
        self.adds = adds

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.adds:
            out += x if self.downsample is None else self.downsample(x)
        out = self.relu(out)
        return out


Block = type[BasicBlock] | type[Bottleneck]


def _resnet(
    block: Block,
    depths: tuple[int, int, int, int],
    num_classes: int = 1000,
    shortcut: str = "added",
) -> nn.Sequential:
    """Build a network with so many blocks at 56, 28, 14 and 7 pixels: N 3 224 224 in, N K out.

    shortcut: added, or none for the plain network.
    """
    e, layer = block.expansion, partial(_layer, block, adds=shortcut == "added")
    stages = OrderedDict(
        conv1=nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),  # N 64 112 112
        bn1=nn.BatchNorm2d(64),
        relu=nn.ReLU(),
        maxpool=nn.MaxPool2d(3, stride=2, padding=1),  #               N 64 56 56
        layer1=layer(64, 64, depths[0], stride=1),  #          N e*64 56 56
        layer2=layer(e * 64, 128, depths[1], stride=2),  #     N e*128 28 28
        layer3=layer(e * 128, 256, depths[2], stride=2),  #    N e*256 14 14
        layer4=layer(e * 256, 512, depths[3], stride=2),  #    N e*512 7 7
        avgpool=nn.AdaptiveAvgPool2d((1, 1)),  #                       N e*512 1 1
        flatten=nn.Flatten(),  #                                       N e*512
        fc=nn.Linear(e * 512, num_classes),  #                         N K
    )
    return he_normal_(nn.Sequential(stages))


def _layer(
    block: Block, channels: int, width: int, depth: int, stride: int, *, adds: bool
) -> nn.Sequential:
    first = block(channels, width, stride, adds)
    rest = [block(width * block.expansion, width, 1, adds) for _ in range(depth - 1)]
    return nn.Sequential(first, *rest)


def _shortcut(channels: int, outs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and channels == outs:
        return None
    return nn.Sequential(
        nn.Conv2d(channels, outs, 1, stride=stride, bias=False), nn.BatchNorm2d(outs)
    )


# Table 1; each takes the number of classes.
resnet18 = partial(_resnet, BasicBlock, (2, 2, 2, 2))
resnet34 = partial(_resnet, BasicBlock, (3, 4, 6, 3))
resnet50 = partial(_resnet, Bottleneck, (3, 4, 6, 3))
resnet101 = partial(_resnet, Bottleneck, (3, 4, 23, 3))
resnet152 = partial(_resnet, Bottleneck, (3, 8, 36, 3))
resnet200 = partial(_resnet, Bottleneck, (3, 24, 36, 3))
