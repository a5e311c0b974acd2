"""What the first layer looks for, and what the units of a stage make of a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.data.preprocess import Pixels, Values, normalise
from zoo.errors import UsageError, nearest
from zoo.explain.places import device_of, grid_of, shape_after, tap
from zoo.network import Network
from zoo.text import listed


@dataclass(frozen=True, slots=True)
class Kernels:
    """The kernels of a layer: N h w C values in 0..1 in which 0.5 stands for no weight.

    signed: there is one colour, whose weights are above 0 or below. layer: its dotted name.
    """

    values: Values
    signed: bool
    layer: str


def kernels(net: Network) -> Kernels:
    """Return the kernels of the first layer, as pictures of what each unit answers to most.

    They are those of a convolution or patch embedding on the picture itself, or, where a dense
    layer takes all pixels, its rows. Raises UsageError for other networks.
    """
    from torch import nn

    channels, height, width = net.preprocess.shape
    for name, part in net.chain.named_modules():
        own = any(True for _ in part.parameters(recurse=False))
        if not own or any(True for _ in part.children()):  # a ViT's own are tokens and places
            continue
        if isinstance(part, nn.Conv2d) and part.in_channels == channels:
            weights = part.weight.detach().cpu().numpy().transpose(0, 2, 3, 1)  # N h w C
        elif isinstance(part, nn.Linear) and part.in_features == channels * height * width:
            rows = part.weight.detach().cpu().numpy()
            weights = rows.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
        else:
            kind = type(part).__name__
            break
        largest = np.abs(weights).max((1, 2, 3), keepdims=True)
        values = 0.5 + weights / np.maximum(2 * largest, 1e-30)
        return Kernels(values.astype(np.float32), channels == 1, name)
    else:
        kind = "nothing"
    raise UsageError(
        f"the first layer of {net.spec.name} ({kind}) has no kernels on the picture",
        "--occlusion shows what it looks at; --filters is for networks that begin with a "
        "convolution, a patch embedding or a dense layer on all pixels",
    )


@dataclass(frozen=True, slots=True)
class Maps:
    """The maps of a stage for N pictures: N C h w, as they leave it."""

    values: Values
    stage: str

    def strongest(self, picture: int, count: int) -> list[int]:
        """Return the units that answer most to a picture somewhere, the strongest first."""
        highest = self.values[picture].max((1, 2))
        return [int(unit) for unit in np.argsort(-highest, kind="stable")[:count]]


def feature_maps(net: Network, stage: str, pixels: Pixels) -> Maps:
    """Return what leaves a stage for each picture, uint8 N S S C. Raises UnknownStage."""
    import torch

    tapped = tap(net, stage)
    pictures = np.stack([normalise(one, net.preprocess) for one in pixels])
    with torch.inference_mode():
        values = tapped.first(torch.from_numpy(pictures).to(device_of(net.chain)))
        return Maps(tapped.grid.maps(values).float().cpu().numpy(), stage)


def unit_of(net: Network, words: str) -> tuple[str, int | None]:
    """Return the stage and the unit of `STAGE:UNIT`; no unit for `STAGE`.

    Of the last stage the unit may be the name of a class. Raises UnknownStage, UsageError.
    """
    stage, _, unit = words.partition(":")
    shape = shape_after(net, stage)
    if not unit:
        return stage, None
    units = units_of(net, shape)
    if unit in net.classes and units == len(net.classes):
        return stage, net.classes.index(unit)
    if not unit.isdecimal() or int(unit) >= units:
        hint = f"it has {units:,}: {stage}:0 to {stage}:{units - 1}"
        if units == len(net.classes):
            close = nearest(unit, net.classes) or f"they are {listed(net.classes, 5)}"
            hint += f", or the name of a class: {close}"
        raise UsageError(f"{stage} has no unit '{unit}'", hint)
    return stage, int(unit)


def units_of(net: Network, shape: tuple[int, ...]) -> int:
    """Return how many units a stage has whose output has this shape: channels, or numbers."""
    grid = grid_of(shape, net.preprocess)
    return grid.channels if grid else shape[0] if len(shape) == 3 else shape[-1]
