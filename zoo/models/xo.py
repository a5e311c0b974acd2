"""The smallest network of the lectures: it tells an X from an O by three filters of 3 x 3.

Rohrer 2016, "How do Convolutional Neural Networks work?": pictures of 9 x 9 whose pixels are 1 and
-1; what leaves a filter is large where the picture matches it, ReLU leaves the matches, pooling
keeps the best one nearby, and each number that is left is a vote for a class. His filters are drawn
by hand: a diagonal, a crossing, the other diagonal. Here they are learned; `initial` = lecture
begins with his, whose map is then the share of pixels that match, from -1 to 1.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn


def xo(num_classes: int = 2, initial: str = "random") -> nn.Sequential:
    """Return three filters and a dense layer: N 1 9 9 values of -1 and 1 in, N K class scores out.

    initial: random, or lecture for filters that are those of the lecture, biases 0.
    """
    stages: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(1, 3, 3),  #                    N 3 7 7
        act1=nn.ReLU(),
        pool1=nn.MaxPool2d(2, ceil_mode=True),  #       N 3 4 4
        pool2=nn.MaxPool2d(2),  #                       N 3 2 2
        flatten=nn.Flatten(),  #                        N 12
        fc=nn.Linear(12, num_classes),  #               N K
    )
    chain = nn.Sequential(stages)
    if initial == "lecture":
        conv = chain.get_submodule("conv1")
        assert isinstance(conv, nn.Conv2d)
        assert conv.bias is not None
        with torch.no_grad():
            conv.weight.copy_(_drawn_by_hand() / 9)
            conv.bias.zero_()
    return chain


def _drawn_by_hand() -> torch.Tensor:
    """Return the lecture's filters, 3 1 3 3: 1 on their strokes and -1 elsewhere."""
    down = torch.eye(3)
    up = down.flip(1)
    return 2 * torch.stack([down, torch.maximum(down, up), up])[:, None] - 1
