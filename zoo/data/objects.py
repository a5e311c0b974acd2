"""Drawn photos of three kinds of things, for trying zoo without photos of one's own.

A leaf, a button or a mug lies on an uneven ground, turned, lit from one side, with its shadow, a
texture of its own, a little blur and grain. No colour belongs to one class alone. All randomness
of a picture is `f(seed, part, class, number)`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from zoo.data.drawn import random_of, write_pictures

Field = NDArray[np.floating]  # a value for each pixel: height x width
WIDTH, HEIGHT = 240, 180
COUNTS = {"train": 20, "val": 10}  # of each class


def write(folder: Path, seed: int = 0) -> int:
    """Write `folder/{train,val}/CLASS/*.jpg`, all or none, and return how many photos they are.

    Raises DataError where there is something in the folder.
    """
    pictures = (
        (f"{part}/{name}/{name}-{number:02d}.jpg", draw(name, f"{seed}/{part}/{number}"))
        for part, count in COUNTS.items()
        for name in KINDS
        for number in range(1, count + 1)
    )
    return write_pictures(folder, pictures)


def draw(name: str, key: str) -> Image.Image:
    """Return one picture of a class of KINDS; the same key gives the same picture."""
    random = random_of(f"{name}/{key}")
    u, v = _places(random, upright=name == "mugs")
    inside, bright = KINDS[name](u, v, random)
    cover = np.clip(0.5 - inside * 30, 0, 1)  # a soft edge of about two pixels
    rough = 0.12 * _clouds(random, 24) + 0.05 * _clouds(random, 3)
    ground = _tint(random, 20, random.uniform(0.45, 0.75) + rough)
    shadow = _blurred(np.roll(cover, (5, 4), axis=(0, 1)), 5)
    light = 1 + 0.25 * (u * random.uniform(-1, 1) + v * random.uniform(-1, 1))
    surface = _tint(random, 75, bright * light + 0.06 * _clouds(random, 6))
    photo = ground * (1 - 0.45 * shadow[..., None])
    photo += (surface - photo) * cover[..., None]
    photo += random.normal(0, 4, photo.shape)
    made = Image.fromarray(np.clip(photo, 0, 255).astype(np.uint8))
    return made.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 0.9)))


# Each kind takes coordinates in which the thing is about 2 units long, and returns what is negative
# inside of its outline, and how bright it is there (0.5 is usual).


def _leaf(u: Field, v: Field, random: np.random.Generator) -> tuple[Field, Field]:
    """Return a pointed blade with a midrib, side veins and a stalk."""
    width, slant, count = random.uniform(0.35, 0.55), random.uniform(0.5, 1.1), random.uniform(4, 7)
    blade = np.abs(v) - width * (1 - u**2)
    stalk = np.maximum(np.abs(v) - 0.035, np.abs(u - 1.1) - 0.3)
    vein = np.abs((count * (u + slant * np.abs(v))) % 1 - 0.5) < 0.07
    rib = np.abs(v) < 0.03
    bright = 0.55 + 0.25 * (vein | rib) - 0.1 * np.abs(v) / width
    return np.minimum(blade, stalk), bright


def _button(u: Field, v: Field, random: np.random.Generator) -> tuple[Field, Field]:
    """Return a disc with a raised rim and two or four holes."""
    radius, apart = np.hypot(u, v), random.uniform(0.16, 0.24)
    holes = [np.hypot(u - apart, v - apart), np.hypot(u + apart, v + apart)]
    if random.random() < 0.6:
        holes += [np.hypot(u - apart, v + apart), np.hypot(u + apart, v - apart)]
    pierced = 0.1 - np.minimum.reduce(holes)
    rim = np.exp(-(((radius - 0.68) / 0.05) ** 2))
    bright = 0.5 + 0.3 * rim * (1 - u) - 0.15 * (radius < 0.6)
    return np.maximum(radius - 0.8, pierced), bright


def _mug(u: Field, v: Field, random: np.random.Generator) -> tuple[Field, Field]:
    """Return a cup with a handle, its dark opening, and stripes or dots around it."""
    body = np.maximum(np.abs(u) - 0.55, np.abs(v) - 0.7)
    handle = np.maximum(np.abs(np.hypot(u - 0.55, v) - 0.32) - 0.08, 0.5 - u)
    opening = np.hypot(u / 0.55, (v + 0.7) / 0.16) - 1
    count = random.uniform(2.5, 4)
    if random.random() < 0.5:
        pattern = (count * v) % 1 < 0.4
    else:
        pattern = np.hypot((count * u) % 1 - 0.5, (count * v) % 1 - 0.5) < 0.25
    round_body = 0.75 - 0.5 * u**2  # a cylinder is darker where it turns away
    bright = np.where(opening < 0, 0.12, round_body - 0.4 * (pattern & (body < 0)))
    return np.minimum.reduce([body, handle, 0.16 * opening]), bright.astype(np.float32)


KINDS: dict[str, Callable[[Field, Field, np.random.Generator], tuple[Field, Field]]] = {
    "buttons": _button,
    "leaves": _leaf,
    "mugs": _mug,
}


def _places(random: np.random.Generator, upright: bool) -> tuple[Field, Field]:
    """Return each pixel's coordinates in the frame of a thing that is turned, moved and scaled."""
    turn = random.uniform(-0.35, 0.35) if upright else random.uniform(-np.pi, np.pi)
    scale = HEIGHT * random.uniform(0.32, 0.44)
    x0, y0 = WIDTH * random.uniform(0.4, 0.6), HEIGHT * random.uniform(0.44, 0.56)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    x, y = (x - x0) / scale, (y - y0) / scale
    cos, sin = np.cos(turn), np.sin(turn)
    return (cos * x + sin * y).astype(np.float32), (cos * y - sin * x).astype(np.float32)


def _clouds(random: np.random.Generator, grain: int) -> Field:
    """Return smooth noise from -1 to 1, about `grain` pixels from bright to dark."""
    coarse = random.uniform(-1, 1, (HEIGHT // grain + 2, WIDTH // grain + 2)).astype(np.float32)
    wide = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    return np.asarray(wide, np.float32)


def _blurred(values: Field, radius: float) -> Field:
    soft = Image.fromarray(np.uint8(255 * values)).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(soft, np.float32) / 255


def _tint(random: np.random.Generator, colourful: float, bright: Field) -> Field:
    """Return a picture of one hue from its brightness: height x width x 3, about 0 to 255."""
    hue = random.uniform(0, 1) + np.array([0, 1 / 3, 2 / 3])
    colour = random.uniform(90, 170) + colourful * np.cos(2 * np.pi * hue)
    return (2 * bright[..., None] * colour).astype(np.float32)
