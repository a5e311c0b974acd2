"""The loss around a trained network, along two random directions in the space of its weights.

Li, Xu, Taylor, Studer, Goldstein 2018, "Visualizing the Loss Landscape of Neural Nets",
arXiv:1712.09913, section 4: a direction is drawn from a Gaussian, and each of its filters gets the
norm of the network's own filter, so that networks can be compared whatever the scale of their
weights. As in the authors' code a row of a dense layer is a filter, biases and BatchNorm's factors
are not moved, and BatchNorm answers by the statistics of its training. The network given is left as
it was.
"""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Values = np.ndarray[Any, np.dtype[np.float64]]
GRIDS, PHOTOS = (25, 21, 17, 13, 11), (256, 128, 64, 32)
BUDGET = 1.2e12  # multiply-adds, about a minute on two cores
OVERHEAD = 1e6  # of a photo beside its multiply-adds, in these
BATCH = 128
Loss = Callable[["nn.Module"], float]


@dataclass(frozen=True, slots=True)
class Landscape:
    """losses: G x G, a row for each step along the second direction. along: G steps, -1 to 1."""

    along: Values
    losses: Values

    @property
    def centre(self) -> float:
        """Return the loss of the network itself."""
        middle = len(self.along) // 2
        return float(self.losses[middle, middle])


def affordable(macs: int, photos: int) -> tuple[int, int]:
    """Return how many steps a side and how many of the photos about a minute is enough for.

    macs: multiply-adds of one photo. The same on every machine: figures do not depend on its speed.
    """
    for grids in (GRIDS[:2], GRIDS[2:]):
        for many in PHOTOS:
            for grid in grids:
                if grid * grid * min(many, photos) * (macs + OVERHEAD) <= BUDGET:
                    return grid, min(many, photos)
    return GRIDS[-1], min(PHOTOS[-1], photos)


def landscape(
    chain: nn.Module, loss: Loss, grid: int, seed: int, progress: Callable[[int, float], None]
) -> Landscape:
    """Return the loss on a grid of so many steps a side, from -1 to 1 along each direction.

    loss: of a network of this form, in eval mode. progress: told how many points are done and the
    seconds that it took.
    """
    import torch

    moved = copy.deepcopy(chain).eval().requires_grad_(False)
    first, second = (directions(moved, seed, number) for number in (0, 1))
    weights = {name: tensor.clone() for name, tensor in moved.named_parameters()}
    along, losses = np.linspace(-1, 1, grid), np.zeros((grid, grid))
    along[grid // 2] = 0.0
    begun = time.perf_counter()
    with torch.inference_mode():
        for number in range(grid * grid):
            row, column = divmod(number, grid)
            for name, tensor in moved.named_parameters():
                if name in first:
                    step = along[column] * first[name] + along[row] * second[name]
                    tensor.copy_(weights[name] + step)
            losses[row, column] = loss(moved)
            progress(number + 1, time.perf_counter() - begun)
    return Landscape(along, losses)


def directions(chain: nn.Module, seed: int, number: int) -> dict[str, Tensor]:
    """Return a random direction: for each tensor of filters one with the norms of its filters."""
    found = {}
    for name, weights in chain.named_parameters():
        if weights.ndim > 1:
            drawn = _drawn(f"{seed}/{number}/{name}", weights)
            norms, ours = (each.flatten(1).norm(dim=1) for each in (weights, drawn))
            scale = norms / ours.clamp_min(1e-10)
            found[name] = drawn * scale.reshape(-1, *[1] * (weights.ndim - 1))
    return found


def _drawn(key: str, like: Tensor) -> Tensor:
    import torch

    digest = hashlib.blake2b(key.encode(), digest_size=7).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest))
    return torch.randn(like.shape, generator=generator).to(like.device)


def mean_loss(pictures: torch.Tensor, labels: torch.Tensor | None) -> Loss:
    """Return the mean loss over photos: cross-entropy; without labels the MSE of their pixels."""
    import torch
    from torch.nn import functional

    def loss(model: nn.Module) -> float:
        total = 0.0
        for start in range(0, len(pictures), BATCH):
            some = pictures[start : start + BATCH]
            with torch.inference_mode():
                answers = model(some)
                if labels is None:
                    mean = functional.mse_loss(answers, some)
                else:
                    mean = functional.cross_entropy(answers, labels[start : start + BATCH])
            total += float(mean) * len(some)
        return total / len(pictures)

    return loss
