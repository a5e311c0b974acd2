"""LeNet-5 for 32 x 32 grey pictures, with today's activations or, by its variants, as published.

LeCun, Bottou, Bengio, Haffner 1998, "Gradient-Based Learning Applied to Document Recognition",
Proc. IEEE 86(11), figure 2. Layers and sizes are the paper's. What differs, because it trains
faster and better: ReLU for the scaled tanh; max-pooling for the trainable average of S2 and S4;
C3 sees all six maps of S2 (table I connects 60 of the 96 pairs, to save multiplications); a Linear
and softmax for the Gaussian (RBF) units of the output. There is no reference file of weights, so
the names of the stages are ours.

`activation` = tanh, `pooling` = average and `connections` = table switch the first three back, each
alone or together. The RBF units stay away, and so does the paper's first draw of the weights.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.models.choices import ScaledTanh
from zoo.models.initial import he_normal_

# Table I: the maps of S2 that each of the 16 maps of C3 sees.
TABLE = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)


def lenet(
    num_classes: int = 10,
    activation: str = "relu",
    pooling: str = "max",
    connections: str = "full",
) -> nn.Sequential:
    """LeNet-5: N 1 32 32 grey values in, N K class scores out.

    activation: relu or tanh (scaled). pooling: max or average. connections of C3: full or table.
    """
    make = {"relu": nn.ReLU, "tanh": ScaledTanh}[activation]

    def pool(channels: int) -> nn.Module:
        return nn.MaxPool2d(2) if pooling == "max" else Subsample(channels, make())

    stages = OrderedDict(
        conv1=nn.Conv2d(1, 6, 5),  # C1    N 6 28 28
        act1=make(),
        pool1=pool(6),  # S2               N 6 14 14
        conv2=nn.Conv2d(6, 16, 5),  # C3   N 16 10 10
        act2=make(),
        pool2=pool(16),  # S4              N 16 5 5
        conv3=nn.Conv2d(16, 120, 5),  # C5, a dense layer written as a convolution: N 120 1 1
        act3=make(),
        flatten=nn.Flatten(),  #           N 120
        fc1=nn.Linear(120, 84),  # F6      N 84
        act4=make(),
        fc2=nn.Linear(84, num_classes),  # N K
    )
    chain = he_normal_(nn.Sequential(stages))
    if connections == "table":
        full = chain.get_submodule("conv2")
        assert isinstance(full, nn.Conv2d)
        chain.conv2 = TableConv2d(full)
    return chain


class Subsample(nn.Module):
    """S2 and S4: averages of 2 x 2 by one coefficient, plus one bias, per map; N C H W, halved.

    The paper sums the four: its coefficients are a quarter of these.
    """

    def __init__(self, channels: int, activation: nn.Module) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        averages = F.avg_pool2d(x, 2) * self.coefficient + self.bias
        out: Tensor = self.activation(averages)
        return out


class TableConv2d(nn.Module):
    """C3: a convolution without the pairs of maps that TABLE leaves out.

    Their weights are kept, as 0: the mask takes their gradient, and decay leaves 0 at 0.
    """

    mask: Tensor

    def __init__(self, full: nn.Conv2d) -> None:
        super().__init__()
        mask = torch.zeros(len(TABLE), 6, 1, 1)
        for number, seen in enumerate(TABLE):
            mask[number, seen] = 1.0
        self.register_buffer("mask", mask)
        self.weight = nn.Parameter(full.weight.detach() * mask)
        self.bias = full.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias)
