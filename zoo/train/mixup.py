"""mixup and cutmix: every row of a batch is mixed with another row of it, its label likewise.

mixup: Zhang, Cisse, Dauphin, Lopez-Paz 2018, arXiv:1710.09412: share * x + (1 - share) * x', the
share drawn from Beta(alpha, alpha) once for the batch. cutmix: Yun et al. 2019, arXiv:1905.04899,
algorithm 1: a box of x' is pasted over x, its sides sqrt(1 - share) of the picture's, its centre
anywhere; what is clipped at the border goes back to the share. Of both, a coin takes one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from zoo.data.views import generator
from zoo.errors import UsageError
from zoo.metrics import Array

if TYPE_CHECKING:
    import torch


class Mixed(NamedTuple):
    """A mixed batch; its loss is share * loss(rows) + (1 - share) * loss(rows[partner]).

    inputs: of the batch's shape. partner: the place in the batch of each row's other half.
    """

    inputs: torch.Tensor
    partner: Array
    share: float


def mix(
    inputs: torch.Tensor, key: tuple[object, ...], mixup: float = 0.0, cutmix: float = 0.0
) -> Mixed:
    """Return a batch mixed with a permutation of itself, f(key); `inputs` stay as they are.

    mixup, cutmix: alpha; one of them may be 0. cutmix is for N C H W; raises UsageError.
    """
    import torch

    random = generator(*key)
    pasted = cutmix > 0 and (mixup == 0 or random.random() < 0.5)
    if pasted:
        check_cutmix(tuple(inputs.shape[1:]))
    alpha = cutmix if pasted else mixup
    share = float(random.beta(alpha, alpha))
    partner = random.permutation(len(inputs))
    others = inputs[torch.from_numpy(partner).to(inputs.device)]
    if not pasted:
        return Mixed(torch.lerp(others, inputs, share), partner, share)
    height, width = inputs.shape[-2:]
    top, bottom, left, right = _box(height, width, share, random)
    mixed = inputs.clone()
    mixed[..., top:bottom, left:right] = others[..., top:bottom, left:right]
    return Mixed(mixed, partner, 1 - (bottom - top) * (right - left) / (height * width))


def check_cutmix(shape: tuple[int, ...]) -> None:
    """Raises UsageError where an input of this shape has no place for a box."""
    if len(shape) != 3 or min(shape[1:]) < 2:
        raise UsageError(
            f"cutmix on an input of {' x '.join(map(str, shape))}: there is no picture to paste in",
            "give --mixup in its place, or cut earlier with --cut",
        )


def _box(
    height: int, width: int, share: float, random: np.random.Generator
) -> tuple[int, int, int, int]:
    """Return top, bottom, left, right of a box of 1 - share of the area before it is clipped."""
    side = math.sqrt(1 - share)
    down, across = int(height * side), int(width * side)
    y, x = int(random.integers(height)), int(random.integers(width))
    return (
        max(0, y - down // 2),
        min(height, y + down // 2),
        max(0, x - across // 2),
        min(width, x + across // 2),
    )
