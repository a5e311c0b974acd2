"""LeNet-5 for 32 x 32 grey pictures, with today's activations.

LeCun, Bottou, Bengio, Haffner 1998, "Gradient-Based Learning Applied to Document Recognition",
Proc. IEEE 86(11), figure 2. Layers and sizes are the paper's. What differs, because it trains
faster and better: ReLU for the scaled tanh; max-pooling for the trainable average of S2 and S4;
C3 sees all six maps of S2 (table I connects 60 of the 96 pairs, to save multiplications); a Linear
and softmax for the Gaussian (RBF) units of the output. There is no reference file of weights, so
the names of the stages are ours.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from zoo.models.initial import he_normal_


def lenet(num_classes: int = 10) -> nn.Sequential:
    """LeNet-5: N 1 32 32 grey values in, N K class scores out."""
    stages = OrderedDict(
        conv1=nn.Conv2d(1, 6, 5),  # C1   N 6 28 28
        act1=nn.ReLU(),
        pool1=nn.MaxPool2d(2),  # S2      N 6 14 14
        conv2=nn.Conv2d(6, 16, 5),  # C3  N 16 10 10
        act2=nn.ReLU(),
        pool2=nn.MaxPool2d(2),  # S4      N 16 5 5
        conv3=nn.Conv2d(16, 120, 5),  # C5, a dense layer written as a convolution: N 120 1 1
        act3=nn.ReLU(),
        flatten=nn.Flatten(),  #          N 120
        fc1=nn.Linear(120, 84),  # F6     N 84
        act4=nn.ReLU(),
        fc2=nn.Linear(84, num_classes),  # N K
    )
    return he_normal_(nn.Sequential(stages))
