"""How much of the picture one unit sees: its receptive field.

Found by the slope of the unit in the middle of a stage: where it is 0 for every channel and for
several pictures of noise, the pixel cannot change the unit. How strong it is elsewhere is the
effective field, which is much smaller (Luo et al. 2016, arXiv:1701.04128).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.data.preprocess import Values
from zoo.explain.places import device_of, tap
from zoo.network import Network

PICTURES = 4  # of noise: a unit that is silent for one of them has no slope there


@dataclass(frozen=True, slots=True)
class Field:
    """What a unit sees.

    box: left, upper, right, lower in pixels of the network's picture, cut off at its edges. whole:
    whether that is all of the picture. strength: float32 S S in 0..1.
    """

    box: tuple[int, int, int, int]
    strength: Values

    @property
    def size(self) -> tuple[int, int]:
        """Return its width and height in pixels."""
        return self.box[2] - self.box[0], self.box[3] - self.box[1]

    @property
    def whole(self) -> bool:
        return self.size == self.strength.shape[::-1]


def field_of(net: Network, stage: str) -> Field:
    """Return what the unit in the middle of a stage sees. Raises UnknownStage."""
    import torch

    tapped = tap(net, stage)
    about = net.preprocess
    random, row, column = np.random.default_rng(0), tapped.grid.height // 2, tapped.grid.width // 2
    total = np.zeros((about.height, about.width))
    for _ in range(PICTURES):
        noise = random.standard_normal((1, *about.shape)).astype(np.float32)
        picture = torch.from_numpy(noise).to(device_of(net.chain)).requires_grad_()
        with torch.enable_grad():
            values = tapped.grid.maps(tapped.first(picture))[0, :, row, column]
            signs = torch.from_numpy(random.choice([-1.0, 1.0], len(values)).astype(np.float32))
            (slope,) = torch.autograd.grad((values * signs.to(values.device)).sum(), picture)
        total += slope[0].abs().sum(0).cpu().numpy()
    down, across = (np.flatnonzero(total.any(axis)) for axis in (1, 0))
    box = (0, 0, 0, 0)
    if len(down):
        box = (int(across[0]), int(down[0]), int(across[-1]) + 1, int(down[-1]) + 1)
    strength = (total / max(total.max(), 1e-30)).astype(np.float32)
    return Field(box, strength)
