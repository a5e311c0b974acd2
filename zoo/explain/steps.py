"""Every number on the way of one picture through a small network, stage by stage.

This is how the lectures show it: the filters, what each makes of the picture, what ReLU and pooling
leave of that, and the votes of the last layer. Nothing is made up for the page: each array is what
the stage itself gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zoo.catalog.spec import pixels
from zoo.data.preprocess import Pixels, Values, normalise
from zoo.errors import UsageError
from zoo.network import Network

if TYPE_CHECKING:
    from torch import nn

MOST_SIDE, MOST_STAGES, MOST_MAPS, MOST_NUMBERS = 64, 40, 128, 4096


@dataclass(frozen=True, slots=True)
class Step:
    """What leaves one stage: C x H x W maps, or D numbers. said: what the stage does, in words.

    kernels: of a convolution over one map, K x h x w. learned: it has parameters.
    """

    stage: str
    said: str
    values: Values
    kernels: Values | None = None
    biases: Values | None = None
    learned: bool = False


@dataclass(frozen=True, slots=True)
class Votes:
    """The last layer's sum, taken apart: K x D products of a weight and an input, and K biases."""

    products: Values
    biases: Values


@dataclass(frozen=True, slots=True)
class Steps:
    """picture: C x S x S as the network gets it, normalised. votes: where the last is a Linear."""

    picture: Values
    steps: tuple[Step, ...]
    votes: Votes | None

    @property
    def scores(self) -> Values:
        return self.steps[-1].values


def steps(net: Network, pixels: Pixels) -> Steps:
    """Return what leaves each stage for one picture, uint8 S x S x C.

    Stages that do nothing when the network answers, as dropout, are left out. The chain is put in
    eval mode. Raises UsageError for a network that is too large for a page.
    """
    import torch
    from torch import nn

    _must_be_small(net)
    picture = normalise(pixels, net.preprocess)
    place = next(net.chain.parameters()).device
    found, votes = [], None
    with torch.inference_mode():
        x = torch.from_numpy(picture)[None].to(place)
        for name, stage in net.chain.eval().named_children():
            before, x = x, stage(x)
            values = np.asarray(x[0].cpu().numpy(), np.float32)
            _must_fit(net, name, values)
            votes = None
            if isinstance(stage, nn.Linear):
                votes = _votes(stage, before[0].cpu().numpy())
            if not isinstance(stage, nn.Dropout | nn.Identity):
                found.append(_step(name, stage, values))
    return Steps(picture, tuple(found), votes)


def _step(name: str, stage: nn.Module, values: Values) -> Step:
    from torch import nn

    kernels = biases = None
    if isinstance(stage, nn.Conv2d) and stage.in_channels == 1:
        kernels = stage.weight[:, 0].cpu().numpy()
        biases = None if stage.bias is None else stage.bias.cpu().numpy()
    learned = any(True for _ in stage.parameters())
    values = values.reshape(-1) if values.ndim == 3 and values.shape[1:] == (1, 1) else values
    values = values[None] if values.ndim == 2 else values
    return Step(name, _said(stage), values, kernels, biases, learned)


def _votes(layer: nn.Linear, inputs: Values) -> Votes | None:
    if inputs.ndim != 1:
        return None
    weights = layer.weight.cpu().numpy()
    biases = np.zeros(len(weights)) if layer.bias is None else layer.bias.cpu().numpy()
    return Votes(weights * inputs, biases.astype(np.float32))


def _said(stage: nn.Module) -> str:
    """Return what a stage does, in words of the lecture."""
    from torch import nn

    if isinstance(stage, nn.Conv2d):
        high, wide = stage.kernel_size
        of = f"{stage.out_channels} filters of"
        if stage.in_channels == 1:
            return f"{of} {high} x {wide}"
        return f"{of} {stage.in_channels} x {high} x {wide}"
    if isinstance(stage, nn.MaxPool2d):
        return f"the largest of each {_window(stage.kernel_size)}"
    if isinstance(stage, nn.AvgPool2d):
        return f"the mean of each {_window(stage.kernel_size)}"
    if isinstance(stage, nn.Linear):
        return f"dense: {stage.in_features:,} to {stage.out_features:,}"
    if isinstance(stage, nn.ReLU):
        return "ReLU: below 0 becomes 0"
    if isinstance(stage, nn.Flatten):
        return "the same, in a row"
    if isinstance(stage, nn.modules.batchnorm._NormBase | nn.LayerNorm | nn.GroupNorm):
        return "normalised"
    return type(stage).__name__


def _window(size: int | tuple[int, ...]) -> str:
    high, wide = (size, size) if isinstance(size, int) else size
    return f"{high} x {wide}"


def _must_be_small(net: Network) -> None:
    about, stages = net.preprocess, len(net.chain)
    large = max(about.height, about.width) > MOST_SIDE
    if large or stages > MOST_STAGES:
        what = f"pictures of {pixels(about.size)}" if large else f"{stages} stages"
        raise _too_large(net, what)


def _must_fit(net: Network, stage: str, values: Values) -> None:
    maps = values.ndim == 3 and values.shape[1:] != (1, 1)
    if maps and len(values) > MOST_MAPS:
        raise _too_large(net, f"{len(values):,} maps in {stage}")
    if values.ndim > 3 or (not maps and values.size > MOST_NUMBERS):
        raise _too_large(net, f"{values.size:,} numbers in {stage}")


def _too_large(net: Network, what: str) -> UsageError:
    return UsageError(
        f"{net.spec.name} has {what}: too much for one page of its steps",
        "--maps STAGE draws the maps of one stage, --filters the first kernels; --steps is for "
        "small networks: `zoo train xo`, lenet, cnn",
    )
