"""Folders of pictures that our own code draws: each appears whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from zoo.disk import hidden, unfinished
from zoo.errors import DataError
from zoo.watch import check


def random_of(key: str) -> np.random.Generator:
    """Return the random numbers of what has this key: the same ones whenever it is drawn."""
    digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest))


def write_pictures(folder: Path, pictures: Iterable[tuple[str, Image.Image]]) -> int:
    """Write pictures by name into a hidden folder beside `folder`, then rename it.

    Returns how many were written. Raises DataError where there is something already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is already there", "name a folder that does not exist yet")
    partial, count = hidden(folder), 0
    with unfinished(partial):
        partial.mkdir(parents=True)
        for name, picture in pictures:
            check()
            path = partial / name
            if not path.parent.is_dir():
                path.parent.mkdir(parents=True)
            picture.save(path, compress_level=1)
            count += 1
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    return count
