"""X's and O's of 9 x 9 pixels, black and white: the toy pictures of the lectures.

Rohrer 2016, "How do Convolutional Neural Networks work?". A picture is shifted, turned, scaled,
drawn thin or thick, and 3 of 100 pixels are noise: all of it is `f(seed, part, class, number)`. The
first of each class in val is drawn plainly, as on the lecture's first page. No picture is there
twice.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from zoo.catalog.datasets import DataSet
from zoo.data.drawn import random_of, write_pictures
from zoo.data.preprocess import Pixels

SIDE = 9
NOISE = 0.03  # share of the pixels that are turned over


def draw(letter: str, seed: int, part: str, number: int) -> Image.Image:
    """Return one picture of an X or an O, mode L, 9 x 9, white on black."""
    return Image.fromarray(_pixels(letter, seed, part, number))


def _pixels(letter: str, seed: int, part: str, number: int) -> Pixels:
    rng = random_of(f"{seed}/{part}/{letter}/{number}")
    right, down, turn, grow, squash, thick = rng.uniform(-1.0, 1.0, 6).tolist()
    noise = rng.random((SIDE, SIDE)) < NOISE
    if part == "val" and number == 0:
        right = down = turn = grow = squash = 0.0
        thick, noise = -1.0, np.zeros_like(noise)
    angle, aspect, half = np.deg2rad(15 * turn), 1 + 0.12 * squash, 0.5 + 0.5 * max(0.0, thick)
    radius = 3 * (1 + 0.15 * grow)
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    x, y = x - right, y - down
    u = (np.cos(angle) * x + np.sin(angle) * y) / aspect
    v = (np.cos(angle) * y - np.sin(angle) * x) * aspect
    if letter == "X":
        from_strokes = np.minimum(abs(u - v), abs(u + v)) / np.sqrt(2)
        ink = (from_strokes < half) & (np.maximum(abs(u), abs(v)) < radius + 0.4)
    else:
        ink = abs(np.hypot(u, v) - radius) < half
    return np.where(ink ^ noise, np.uint8(255), np.uint8(0))


def write(folder: Path, row: DataSet, seed: int = 0) -> None:
    """Write `folder/PART/CLASS/NNNN.png`; what is there is replaced, as it is not whole."""
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)
    write_pictures(folder, _pictures(row, seed))


def _pictures(row: DataSet, seed: int) -> Iterator[tuple[str, Image.Image]]:
    seen = set()
    for part, each in sorted(row.drawn, reverse=True):  # val first: it has the plain ones
        for letter in row.classes:
            number = written = 0
            while written < each:
                picture = draw(letter, seed, part, number)
                if (content := picture.tobytes()) not in seen:
                    seen.add(content)
                    yield f"{part}/{letter}/{written:04d}.png", picture
                    written += 1
                number += 1


def is_whole(folder: Path, row: DataSet) -> bool:
    """Return whether the folder has all the pictures of a set."""
    with suppress(OSError):
        places = [(folder / part / name, n) for part, n in row.drawn for name in row.classes]
        return all(len(os.listdir(place)) == each for place, each in places)
    return False
