"""Dense layers alone: one (the perceptron) and five, the start of every lecture on networks.

Rosenblatt 1958, "The Perceptron: A Probabilistic Model for Information Storage and Organization in
the Brain", Psychological Review 65(6); with the softmax loss that trains it here it is multinomial
logistic regression. Görner 2017, "TensorFlow and Deep Learning without a PhD" (the lecture's code:
github.com/GoogleCloudPlatform/tensorflow-without-a-phd, tensorflow-mnist-tutorial): 784-10, then
784-200-100-60-30-10, first with sigmoids, then with ReLU and dropout.

`initial`: `he` is He initialisation with biases of 0, ours; `normal` is the lecture's, a normal
distribution of deviation 0.1 cut off at two deviations, with biases of 0.1 (there 0 under sigmoids
and in the last layer, whose softmax does not see what all classes have in common).
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from zoo.models.choices import ACTIVATIONS, FEATURE_NORMS
from zoo.models.initial import INITIAL

WIDTHS = (784, 200, 100, 60, 30)


def perceptron(num_classes: int = 10) -> nn.Sequential:
    """Return one dense layer: N 1 28 28 grey values in, N K class scores out."""
    stages = OrderedDict(
        flatten=nn.Flatten(),  #           N 784
        fc=nn.Linear(784, num_classes),  # N K
    )
    return nn.Sequential(stages)


def mlp(
    num_classes: int = 10,
    activation: str = "relu",
    norm: str = "none",
    dropout: float = 0.0,
    initial: str = "he",
) -> nn.Sequential:
    """Five dense layers: N 1 28 28 grey values in, N K class scores out.

    activation: relu, sigmoid, tanh or softplus. norm: none, batch or layer, before each
    activation. dropout: after each. initial: he, glorot or normal, see `initial.py`.
    """
    stages: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())  # N 784
    for number, width in enumerate(WIDTHS[1:], start=1):
        stages[f"fc{number}"] = nn.Linear(WIDTHS[number - 1], width)  # N 200, 100, 60, 30
        if norm != "none":
            stages[f"norm{number}"] = FEATURE_NORMS[norm](width)
        stages[f"act{number}"] = ACTIVATIONS[activation]()
        if dropout:
            stages[f"dropout{number}"] = nn.Dropout(dropout)
    stages["fc5"] = nn.Linear(WIDTHS[-1], num_classes)  #               N K
    return INITIAL[initial](nn.Sequential(stages))
