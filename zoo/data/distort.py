"""Distortions of small pictures: random affine maps and elastic fields, f(seed, epoch, sample).

Simard, Steinkraus, Platt 2003, "Best Practices for Convolutional Neural Networks Applied to Visual
Document Analysis": every pixel is moved by a random field that a Gaussian has made smooth. The
sizes are those of Ciresan, Meier, Schmidhuber 2012 (arXiv:1202.2745) for MNIST, section 3.1:
5 % of translation, 15 % of scale, 15 degrees of rotation. The whole batch is moved at once: the
Gaussian is a product with a small matrix on either side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np

Kind = Literal["none", "affine", "elastic"]
Values = np.ndarray[Any, np.dtype[np.float32]]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]

TRANSLATION = 0.05  # of the side, either way
SCALE = 0.15
ROTATION = math.radians(15)
SIGMA = 5.0 / 29  # of the Gaussian, as a share of the side
ALPHA = 36.0 / 29  # strength of the field, as a share of the side


def distort(
    pictures: Bytes, rows: Sequence[int], *, kind: Kind, seed: int, epoch: int, strength: float = 1
) -> Bytes:
    """Distort uint8 N H W C; `rows` are the samples' numbers, on which their distortion depends.

    kind: `affine`, or `elastic` for an affine map and an elastic field. strength scales both.
    """
    if kind == "none":
        return pictures
    _, height, width, _ = pictures.shape
    draws = [generator(seed, epoch, row) for row in rows]
    numbers = np.stack([draw.random(5, np.float32) for draw in draws]) * 2 - 1
    down, across = affine(numbers * np.float32(strength), height, width)
    if kind == "elastic":
        fields = np.stack([draw.random((2, height, width), np.float32) for draw in draws])
        smooth = gaussian(height) @ (fields * 2 - 1) @ gaussian(width).T
        down += smooth[:, 0] * np.float32(ALPHA * height * strength)
        across += smooth[:, 1] * np.float32(ALPHA * width * strength)
    return sample(pictures, down, across)


def generator(seed: int, epoch: int, row: int) -> np.random.Generator:
    """Return random numbers of one sample in one epoch; to make a counter-based one takes 10 µs."""
    return np.random.Generator(np.random.Philox(key=[seed, (epoch << 40) | row]))


def affine(numbers: Values, height: int, width: int) -> tuple[Values, Values]:
    """Return where each pixel is taken from: rows and columns, N H W. numbers: N 5 in [-1, 1]."""
    angle = numbers[:, 0] * ROTATION
    zoom_down, zoom_across = 1 + SCALE * numbers[:, 1], 1 + SCALE * numbers[:, 2]
    middle_down, middle_across = (height - 1) / 2, (width - 1) / 2
    y = (np.arange(height, dtype=np.float32) - middle_down)[None, :, None]
    x = (np.arange(width, dtype=np.float32) - middle_across)[None, None, :]
    cosine, sine = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    down = (cosine * y - sine * x) / zoom_down[:, None, None]
    across = (sine * y + cosine * x) / zoom_across[:, None, None]
    shift = numbers[:, 3:5] * np.float32(TRANSLATION)
    down += middle_down + (shift[:, 0] * height)[:, None, None]
    across += middle_across + (shift[:, 1] * width)[:, None, None]
    return down.astype(np.float32), across.astype(np.float32)


@lru_cache(4)
def gaussian(side: int) -> Values:
    """Return the Gaussian as a matrix, side x side; what lies outside counts as zero."""
    sigma = SIGMA * side
    offsets = np.arange(side)[:, None] - np.arange(side)[None, :]
    weights = np.exp(-(offsets**2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
    return weights.astype(np.float32)


def sample(pictures: Bytes, down: Values, across: Values) -> Bytes:
    """Return bilinear values at the given places, rounded; outside, the nearest border pixel."""
    count, height, width, channels = pictures.shape
    down = np.clip(down, 0, height - 1)
    across = np.clip(across, 0, width - 1)
    top = np.minimum(down.astype(np.int32), height - 2)
    left = np.minimum(across.astype(np.int32), width - 2)
    below, right = (down - top)[..., None], (across - left)[..., None]
    flat = pictures.reshape(-1, channels)
    first = np.arange(count, dtype=np.int32)[:, None, None] * (height * width)
    at = first + top * width + left
    upper = flat[at] * (1 - right) + flat[at + 1] * right
    lower = flat[at + width] * (1 - right) + flat[at + width + 1] * right
    values = np.rint(upper * (1 - below) + lower * below)
    return np.asarray(values, dtype=np.uint8)
