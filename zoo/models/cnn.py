"""The convolutional network of the tutorials: two layers of 5 x 5 detectors, then a wide dense one.

TensorFlow's tutorial "Deep MNIST for Experts" (tensorflow.org, 2015 to 2018; its later form is
"Build a Convolutional Neural Network using Estimators", from which the dropout of 0.4 is): 32 and
64 detectors, each followed by a pooling, and 1024 dense units. Norms are ours, before each ReLU;
so is He initialisation, for the tutorial's normal distribution of deviation 0.1.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from zoo.models.choices import FEATURE_NORMS, MAP_NORMS
from zoo.models.initial import he_forward_


def cnn(num_classes: int = 10, norm: str = "none", dropout: float = 0.4) -> nn.Sequential:
    """Return two layers of detectors: N 1 28 28 grey values in, N K class scores out.

    norm: none, batch or layer, before each activation. dropout: before the last layer.
    """
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    stages["conv1"] = nn.Conv2d(1, 32, 5, padding=2)  #   N 32 28 28
    if norm != "none":
        stages["norm1"] = MAP_NORMS[norm](32)
    stages["act1"] = nn.ReLU()
    stages["pool1"] = nn.MaxPool2d(2)  #                  N 32 14 14
    stages["conv2"] = nn.Conv2d(32, 64, 5, padding=2)  #  N 64 14 14
    if norm != "none":
        stages["norm2"] = MAP_NORMS[norm](64)
    stages["act2"] = nn.ReLU()
    stages["pool2"] = nn.MaxPool2d(2)  #                  N 64 7 7
    stages["flatten"] = nn.Flatten()  #                   N 3136
    stages["fc1"] = nn.Linear(64 * 7 * 7, 1024)  #        N 1024
    if norm != "none":
        stages["norm3"] = FEATURE_NORMS[norm](1024)
    stages["act3"] = nn.ReLU()
    if dropout:
        stages["dropout"] = nn.Dropout(dropout)
    stages["fc2"] = nn.Linear(1024, num_classes)  #       N K
    return he_forward_(nn.Sequential(stages))
