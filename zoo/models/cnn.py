"""The convolutional network of the tutorials: layers of detectors, then a wide dense one.

TensorFlow's tutorial "Deep MNIST for Experts" (tensorflow.org, 2015 to 2018; its later form is
"Build a Convolutional Neural Network using Estimators", from which the dropout of 0.4 is): 32 and
64 detectors of 5 x 5, each layer followed by a pooling, and 1024 dense units. Norms are ours,
before each activation; so is He initialisation, for the tutorial's normal distribution of
deviation 0.1.

All of it can be chosen otherwise. `kernels` has as many numbers as there are layers; `kernel`,
`stride` and `window` have one for all layers, or one for each. The network of Görner 2017
(`perceptron.py` has the lecture) is kernels=6,12,24 kernel=6,5,4 stride=1,2,2 window=1 dense=200.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from zoo.errors import UsageError
from zoo.models.choices import ACTIVATIONS, FEATURE_NORMS, MAP_NORMS
from zoo.models.initial import INITIAL

SIDE = 28  # of a picture, height and width


def cnn(
    num_classes: int = 10,
    kernels: str = "32,64",
    kernel: str = "5",
    padding: str = "same",
    stride: str = "1",
    window: str = "2",
    pooling: str = "max",
    activation: str = "relu",
    dense: int = 1024,
    norm: str = "none",
    dropout: float = 0.4,
    initial: str = "he",
) -> nn.Sequential:
    """Return layers of detectors: N 1 28 28 grey values in, N K class scores out.

    padding: same, with zeros around each map so that a stride of 1 keeps its size, or valid.
    window: what a pooling takes together, max or average; 1 pools nothing. norm: none, batch or
    layer, before each activation. dropout: before the last layer. initial: see `initial.py`.

    Raises UsageError where a layer would have no place to stand.
    """
    pools = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}
    common = _Common(padding == "same", pools[pooling], ACTIVATIONS[activation], norm)
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    channels, side = 1, SIDE
    layers = _layers(kernels, kernel, stride, window)
    for number, layer in enumerate(layers, start=1):
        side = layer.side_behind(side, number, common)
        stages |= layer.stages(channels, number, common)  #       N 32 14 14, N 64 7 7
        channels = layer.kernels
    last = len(layers) + 1
    stages["flatten"] = nn.Flatten()  #                           N 3136
    stages["fc1"] = nn.Linear(channels * side * side, dense)  #   N 1024
    if norm != "none":
        stages[f"norm{last}"] = FEATURE_NORMS[norm](dense)
    stages[f"act{last}"] = ACTIVATIONS[activation]()
    if dropout:
        stages["dropout"] = nn.Dropout(dropout)
    stages["fc2"] = nn.Linear(dense, num_classes)  #              N K
    return INITIAL[initial](nn.Sequential(stages))


@dataclass(frozen=True, slots=True)
class _Common:
    """What all layers have in common. same: zeros around each map."""

    same: bool
    pool: Callable[[int], nn.Module]
    activation: Callable[[], nn.Module]
    norm: str


@dataclass(frozen=True, slots=True)
class _Layer:
    """One layer of detectors: how many, of how many pixels, and the pooling behind them."""

    kernels: int
    kernel: int
    stride: int
    window: int

    def stages(self, channels: int, number: int, common: _Common) -> dict[str, nn.Module]:
        """Return the stages by name, in order."""
        found: dict[str, nn.Module] = {}
        around = self.kernel - 1 if common.same else 0  # zeros in a row, left and right
        if around % 2:  # one more on the right, which no convolution of PyTorch's own can
            left = around // 2
            found["pad"], around = nn.ZeroPad2d((left, left + 1) * 2), 0
        found["conv"] = nn.Conv2d(
            channels, self.kernels, self.kernel, stride=self.stride, padding=around // 2
        )
        if common.norm != "none":
            found["norm"] = MAP_NORMS[common.norm](self.kernels)
        found["act"] = common.activation()
        if self.window > 1:
            found["pool"] = common.pool(self.window)
        return {f"{name}{number}": stage for name, stage in found.items()}

    def side_behind(self, side: int, number: int, common: _Common) -> int:
        """Return the side of its maps. Raises UsageError where a detector or window is larger."""
        if not common.same and self.kernel > side:
            raise UsageError(
                f"conv{number} has detectors of {self.kernel} x {self.kernel} for maps of "
                f"{side} x {side}",
                f"a kernel of at most {side} fits there; or give padding=same, or a smaller "
                "kernel, stride or window before it",
            )
        side = (side - 1 if common.same else side - self.kernel) // self.stride + 1
        if self.window > side:
            raise UsageError(
                f"pool{number} has a window of {self.window} x {self.window} for maps of "
                f"{side} x {side}",
                f"a window of at most {side} fits there, and 1 pools nothing; or give fewer "
                "layers, or a smaller stride or window before it",
            )
        return side // self.window


def _layers(kernels: str, kernel: str, stride: str, window: str) -> list[_Layer]:
    """Return the layers. Raises UsageError where a setting has not one number, or one a layer."""
    counts = [int(count) for count in kernels.split(",")]
    columns = [counts]
    for name, text in (("kernel", kernel), ("stride", stride), ("window", window)):
        each = [int(part) for part in text.split(",")]
        if len(each) not in (1, len(counts)):
            raise UsageError(
                f"{name}={text} for {len(counts)} layers: kernels={kernels}",
                f"give one number for all layers, or {len(counts)} with commas",
            )
        columns.append(each if len(each) > 1 else each * len(counts))
    return [_Layer(*row) for row in zip(*columns, strict=True)]
