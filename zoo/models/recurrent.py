"""Recurrent networks that read a picture as a text: row by row, and answer after the last.

Elman 1990, "Finding Structure in Time", Cognitive Science 14(2), for `rnn`; Hochreiter, Schmidhuber
1997, "Long Short-Term Memory", Neural Computation 9(8), with the forget gate of Gers, Schmidhuber,
Cummins 2000, "Learning to Forget", Neural Computation 12(10), and without peepholes, for `lstm`.
28 steps of 28 values, as in "TensorFlow and Deep Learning without a PhD".

The recurrent weights start orthogonal, so that over 28 steps a state neither grows nor fades (Saxe
et al. 2013, arXiv:1312.6120), and the forget gate starts open, with a bias of 1 (Jozefowicz et al.
2015, "An Empirical Exploration of Recurrent Network Architectures", ICML). PyTorch has two biases
per unit, where papers have one: the second is 0 at first.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

HIDDEN = 128


def rnn(num_classes: int = 10, dropout: float = 0.0) -> nn.Sequential:
    """Simple recurrent network: N 1 28 28 grey values in, N K class scores out.

    dropout: before the last layer.
    """
    return _recurrent("rnn", nn.RNN(28, HIDDEN, batch_first=True), num_classes, dropout)


def lstm(num_classes: int = 10, dropout: float = 0.0) -> nn.Sequential:
    """Long short-term memory: N 1 28 28 grey values in, N K class scores out.

    dropout: before the last layer.
    """
    return _recurrent("lstm", nn.LSTM(28, HIDDEN, batch_first=True), num_classes, dropout)


def _recurrent(name: str, layer: nn.RNNBase, num_classes: int, dropout: float) -> nn.Sequential:
    _draw_(layer)
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    stages["rows"] = nn.Flatten(1, 2)  #                  N 28 28: steps and values
    stages[name] = LastStep(layer)  #                     N 128
    if dropout:
        stages["dropout"] = nn.Dropout(dropout)
    stages["fc"] = nn.Linear(HIDDEN, num_classes)  #      N K
    return nn.Sequential(stages)


class LastStep(nn.Module):
    """What a recurrent layer gives after the last step: N steps values in, N hidden out."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, steps: Tensor) -> Tensor:
        states, _ = self.layer(steps)
        last: Tensor = states[:, -1]
        return last


def _draw_(layer: nn.RNNBase) -> None:
    """Return the start of training: see the head of the file."""
    weights = dict(layer.named_parameters())
    gates = 4 if isinstance(layer, nn.LSTM) else 1  # input, forget, cell, output
    nn.init.xavier_uniform_(weights["weight_ih_l0"])
    for gate in torch.chunk(weights["weight_hh_l0"].detach(), gates):
        nn.init.orthogonal_(gate)
    for name in ("bias_ih_l0", "bias_hh_l0"):
        nn.init.zeros_(weights[name])
    if isinstance(layer, nn.LSTM):
        nn.init.ones_(torch.chunk(weights["bias_ih_l0"].detach(), gates)[1])
