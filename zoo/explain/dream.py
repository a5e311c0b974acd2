"""The picture that a unit answers to most, found by climbing its slope from noise.

Mordvintsev et al. 2015, "Inceptionism", for octaves and jitter; Mahendran, Vedaldi 2015,
arXiv:1412.0035, for total variation; Olah et al. 2017, "Feature Visualization", Distill, for
colours without correlation and for why: left alone, a network is most excited by high frequencies
that no photo has. The picture is a sum of octaves, each half as large as the next, of which the
coarse ones are there from the beginning and the fine ones come later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi
from typing import TYPE_CHECKING

import numpy as np

from zoo.data.preprocess import Pixels
from zoo.explain.places import device_of, grid_of
from zoo.models import cut
from zoo.network import Network
from zoo.watch import Progress

if TYPE_CHECKING:
    from torch import Tensor, nn

STEPS, RATE = 96, 0.06
COARSEST = 7  # pixels of the first octave, about
SHIFT, TURN, ZOOM = 0.06, 5.0, 0.08  # of jitter: share of the side, degrees, share of the size
VARIATION = 2.0  # the weight of total variation, beside the unit's answer in its own scale
# The square root of how colours of ImageNet vary together, from lucid (Apache-2.0).
COLOURS = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))


@dataclass(frozen=True, slots=True)
class Dream:
    """pixels: uint8 S S C. before, after: the unit's answer to grey, and to the dream."""

    pixels: Pixels
    before: float
    after: float


def dream(
    net: Network, stage: str, unit: int, seed: int = 0, progress: Progress | None = None
) -> Dream:
    """Return a picture that maximises a unit: the mean of a map, or one number of a row.

    progress: is told how many steps are done, of how many. The same seed gives the same picture on
    the same machine. Raises UnknownStage.
    """
    import torch
    from torch.nn import functional

    first, _ = cut.halves(net.chain.eval(), stage)
    about, device = net.preprocess, device_of(net.chain)
    random = torch.Generator().manual_seed(seed)
    octaves = [
        (0.3 * torch.randn(1, about.channels, *sides, generator=random)).to(device).requires_grad_()
        for sides in _octaves(about.height, about.width)
    ]
    climber = torch.optim.Adam(octaves, lr=RATE)
    goal = _Goal(net, first, unit)
    with torch.no_grad():
        before = float(goal(torch.full_like(_seen(octaves), 0.5)))
    with torch.enable_grad():
        for step in range(STEPS):
            there = 1 + min(len(octaves) - 1, int(2 * len(octaves) * step / STEPS))
            picture = _seen(octaves[:there], about.shape[1:])
            moved = functional.grid_sample(
                picture, _jitter(random, about.shape[1:]).to(device), padding_mode="reflection",
                align_corners=False,
            )  # fmt: skip
            answer = goal(moved)
            loss = VARIATION * _variation(picture) - answer / answer.detach().abs().clamp_min(0.1)
            slopes = torch.autograd.grad(loss, octaves[:there])  # and none of the weights
            for octave, slope in zip(octaves, slopes, strict=False):
                octave.grad = slope
            climber.step()
            if progress:
                progress(step + 1, STEPS)
    with torch.no_grad():
        picture = _seen(octaves)
        after = float(goal(picture))
        values = (255 * picture[0]).round().permute(1, 2, 0).cpu().numpy()
    return Dream(np.asarray(values, np.uint8), before, after)


class _Goal:
    """Return how a unit answers to a picture with values in 0..1."""

    def __init__(self, net: Network, first: nn.Sequential, unit: int) -> None:
        import torch

        about = net.preprocess
        self.first, self.unit, self.about = first, unit, about
        shape, device = (1, -1, 1, 1), device_of(net.chain)
        self.mean = torch.tensor(about.mean, device=device).view(shape)
        self.std = torch.tensor(about.std, device=device).view(shape)

    def __call__(self, picture: Tensor) -> Tensor:
        values: Tensor = self.first((picture - self.mean) / self.std)
        grid = grid_of(tuple(values.shape[1:]), self.about)
        if grid:
            values = grid.maps(values)
        elif values.dim() == 3:  # tokens that are no places
            values = values.movedim(-1, 1)
        return values[0, self.unit].mean()


def _octaves(height: int, width: int) -> list[tuple[int, int]]:
    """Return height and width of the octaves, the coarsest first."""
    sides = [(height, width)]
    while min(sides[0]) // 2 >= COARSEST:
        sides.insert(0, (sides[0][0] // 2, sides[0][1] // 2))
    return sides


def _seen(octaves: list[Tensor], size: Sequence[int] | None = None) -> Tensor:
    """Return the sum of octaves as a picture with values in 0..1; size: the last one's."""
    import torch
    from torch.nn import functional

    size = tuple(size or octaves[-1].shape[2:])
    total = torch.stack([
        functional.interpolate(one, size, mode="bicubic", align_corners=False) for one in octaves
    ]).sum(0)  # fmt: skip
    if total.shape[1] == 3:
        colours = torch.tensor(COLOURS, device=total.device)
        colours = colours / colours.norm(dim=0).max()
        total = torch.einsum("nchw,dc->ndhw", total, colours)
    return total.sigmoid()


def _variation(picture: Tensor) -> Tensor:
    """Return how much neighbours differ, on average."""
    across = (picture[..., 1:] - picture[..., :-1]).square().mean()
    return across + (picture[..., 1:, :] - picture[..., :-1, :]).square().mean()


def _jitter(random: object, size: Sequence[int]) -> Tensor:
    """Return where each pixel is taken from: a little shifted, turned and zoomed."""
    import torch
    from torch.nn import functional

    assert isinstance(random, torch.Generator)
    x, y, turn, zoom = (2 * torch.rand(4, generator=random) - 1).tolist()
    angle, larger = torch.tensor(turn * TURN * pi / 180), 1 + zoom * ZOOM
    cos, sin = larger * float(angle.cos()), larger * float(angle.sin())
    matrix = torch.tensor([[[cos, -sin, 2 * SHIFT * x], [sin, cos, 2 * SHIFT * y]]])
    return functional.affine_grid(matrix, [1, 1, *size], align_corners=False)
