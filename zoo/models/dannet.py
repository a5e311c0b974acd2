"""DanNet: the first convolutional network to win contests on a GPU; one column of it, for digits.

Ciresan, Meier, Masci, Gambardella, Schmidhuber 2011, "Flexible, High Performance Convolutional
Neural Networks for Image Classification", IJCAI; the very layers are of Ciresan, Meier, Schmidhuber
2012, "Multi-column Deep Neural Networks for Image Classification", arXiv:1202.2745, section 3.1:
29x29-20C4-MP2-40C5-MP3-150N-10N, scaled tanh, weights drawn evenly from -0.05 to 0.05.

What differs: the paper stretches the digits to 29 x 29, here a black row and a black column are
added below and to the right, so that no pixel is resampled; one column for the paper's 35, whose
answers it averages; each max-pooling comes after the activation, which for a rising function is
the same. ReLU, with He initialisation, is ours.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from zoo.models.choices import ScaledTanh
from zoo.models.initial import he_forward_

BLACK = -1.0  # of pixels in [-1, 1]


def dannet(num_classes: int = 10, activation: str = "tanh", dropout: float = 0.0) -> nn.Sequential:
    """Return one column of DanNet: N 1 28 28 grey values in [-1, 1] in, N K class scores out.

    activation: tanh (scaled, as the paper's) or relu. dropout: before the last layer.
    """
    make = {"tanh": ScaledTanh, "relu": nn.ReLU}[activation]
    stages: OrderedDict[str, nn.Module] = OrderedDict(
        pad=nn.ConstantPad2d((0, 1, 0, 1), BLACK),  # N 1 29 29
        conv1=nn.Conv2d(1, 20, 4),  #                 N 20 26 26
        act1=make(),
        pool1=nn.MaxPool2d(2),  #                     N 20 13 13
        conv2=nn.Conv2d(20, 40, 5),  #                N 40 9 9
        act2=make(),
        pool2=nn.MaxPool2d(3),  #                     N 40 3 3
        flatten=nn.Flatten(),  #                      N 360
        fc1=nn.Linear(360, 150),  #                   N 150
        act3=make(),
    )
    if dropout:
        stages["dropout"] = nn.Dropout(dropout)
    stages["fc2"] = nn.Linear(150, num_classes)  #    N K
    chain = nn.Sequential(stages)
    return _evenly_(chain) if activation == "tanh" else he_forward_(chain)


def _evenly_(chain: nn.Sequential) -> nn.Sequential:
    """Draw all weights and biases as the paper does."""
    for parameter in chain.parameters():
        nn.init.uniform_(parameter, -0.05, 0.05)
    return chain
