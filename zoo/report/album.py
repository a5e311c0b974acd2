"""Small pictures of photos for a page: each read once, as many as there is room for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from zoo.data.decode import decode_for, read_bytes
from zoo.errors import ImageError
from zoo.metrics import Array
from zoo.report.page import SIDE, small_picture

ROOM = 2_000_000  # characters of all pictures of a page together
READERS = 4
WARM = ((255, 214, 10), (255, 69, 0))  # of a heat map: where it is half, and where it is 1


class Album:
    """Pictures by a photo's path in the data, as `data:` addresses; errors: why there is none."""

    def __init__(self, root: Path, room: int = ROOM) -> None:
        self.root, self.room = root, room
        self.pictures: dict[str, str] = {}
        self.errors: dict[str, str] = {}

    def add(self, paths: Iterable[str]) -> None:
        """Read photos that are not in it, in this order, until there is no room."""
        fresh = [p for p in dict.fromkeys(paths) if p not in self.pictures and p not in self.errors]
        with ThreadPoolExecutor(READERS, "zoo-report") as pool:
            for some in (fresh[k : k + 4 * READERS] for k in range(0, len(fresh), 4 * READERS)):
                if self.room <= 0:
                    return
                for path, (picture, error) in zip(some, pool.map(self._read, some), strict=True):
                    if error:
                        self.errors[path] = error
                    else:
                        self.pictures[path] = picture
                        self.room -= len(picture)

    def _read(self, path: str) -> tuple[str, str]:
        """Return a picture's address, or an error in its place."""

        def spare(width: int, height: int) -> float:
            return max(width, height) / (2 * SIDE)

        try:
            photo = decode_for(read_bytes(self.root / path), "RGB", spare)
            return small_picture(photo.image), ""
        except ImageError as error:
            return "", str(error)

    def is_there(self, paths: Sequence[str]) -> bool:
        """Return whether any of the photos is where it was; of one in a container, that."""
        places = (os.path.join(self.root, path) for path in paths)
        return any(os.path.exists(p) or os.path.exists(p.rpartition("#")[0]) for p in places)


def seen(view: Array, heat: Array) -> str:
    """Return the address of a view, uint8 S x S x C, under a heat map H x W of 0 to 1.

    What the map says nothing of is grey and as bright as it was.
    """
    grey = np.asarray(Image.fromarray(view.squeeze()).convert("L").convert("RGB"), np.float32)
    size = (view.shape[1], view.shape[0])
    smooth = Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    share = np.asarray(smooth).clip(0, 1)[..., None]
    half, full = (np.array(colour, np.float32) for colour in WARM)
    colour = half + (full - half) * (2 * share - 1).clip(0, 1)
    mixed = grey + (colour - grey) * 0.75 * share
    return small_picture(Image.fromarray(mixed.astype(np.uint8)))
