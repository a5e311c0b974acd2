"""Printed letters: the data of `zoo demo`, from the typefaces that matplotlib brings.

A picture is a glyph of a typeface under a random affine map, light on a dark, uneven, noisy
ground, as in MNIST. All randomness of a picture is `f(seed, typeface, character, number)`: any
picture can be drawn again alone.

The task is honest: validation pictures are in families of typefaces that training never sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, ImageFont

from zoo import extras
from zoo.data.drawn import random_of, write_pictures
from zoo.errors import DataError

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Names of font files. The families of the two lists are different ones.
TRAIN_TYPEFACES = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono",
    "DejaVuSansMono-BoldOblique", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic",
    "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta",
)  # fmt: skip
TEST_TYPEFACES = ("cmr10", "cmss10", "cmtt10", "cmb10", "cmti10")

BEYOND = 1_000_000  # numbers of pictures that are in no split
_CAP, _SIDE = 64, 144  # pixels: the height of an H, and the side of the picture that holds a glyph


def draw(character: str, typeface: str, seed: int, number: int, size: int = 32) -> Image.Image:
    """Return one picture, mode L, size x size: light ink on a dark, uneven, noisy ground."""
    rng = random_of(f"{seed}/{typeface}/{character}/{number}")
    turn, shear, squeeze, grow, right, down, soft, ground, ink, tilt_x, tilt_y, grain = rng.uniform(
        -1.0, 1.0, 12
    ).tolist()
    scale = 0.58 * size / _CAP * (1 + 0.14 * grow)  # pixels here for one of the glyph
    angle, aspect = np.deg2rad(12.0 * turn), 1 + 0.12 * squeeze
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    forward = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1, 0.18 * shear], [0, 1]])
    (a, b), (c, d) = np.linalg.inv(forward @ np.diag([scale * aspect, scale / aspect])).tolist()
    x, y = size * (0.5 + 0.06 * right), size * (0.5 + 0.06 * down)
    where = (a, b, _SIDE / 2 - a * x - b * y, c, d, _SIDE / 2 - c * x - d * y)
    bilinear = Image.Resampling.BILINEAR
    warped = _glyph(character, typeface, round(soft)).transform(
        (size, size), Image.Transform.AFFINE, where, bilinear
    )
    cover = np.asarray(warped, np.float32) / 255
    ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    dark = 48 + 32 * ground + 30 * (tilt_x * ramp + tilt_y * ramp[:, None])
    light = 185 + 55 * ink
    noise = rng.standard_normal((size, size), dtype=np.float32) * np.float32(16 + 10 * grain)
    grey = dark + (light - dark) * cover + noise
    return Image.fromarray(np.clip(np.rint(grey), 0, 255).astype(np.uint8))


@lru_cache(maxsize=2048)
def _glyph(character: str, typeface: str, soft: int) -> Image.Image:
    """Return the upright glyph, white on black, its ink in the middle; soft: -1, 0 or 1."""
    mask = _font(typeface).getmask(character, mode="L")
    ink = Image.frombytes("L", mask.size, bytes(mask))
    page = Image.new("L", (_SIDE, _SIDE))
    page.paste(ink, ((_SIDE - ink.width) // 2, (_SIDE - ink.height) // 2))
    return page.filter(ImageFilter.BoxBlur(2.8 + soft))


@lru_cache(maxsize=32)
def _font(typeface: str) -> ImageFont.FreeTypeFont:
    """Return the font in which an H is _CAP pixels high; DataError where it is not there."""
    extras.need("drawing letters", "matplotlib")
    spec = find_spec("matplotlib")
    path = Path(spec.origin if spec and spec.origin else "").parent / "mpl-data/fonts/ttf"
    try:
        probe = ImageFont.truetype(path / f"{typeface}.ttf", 100)
    except OSError as error:
        hint = f"matplotlib's package has it: `{extras.pip()} --force-reinstall matplotlib`"
        raise DataError(f"there is no typeface {typeface} in {path}", hint) from error
    _, top, _, bottom = probe.getbbox("H")
    return probe.font_variant(size=round(100 * _CAP / (bottom - top)))


def write_split(
    folder: Path, characters: str, per_class: Mapping[str, int] | int, seed: int
) -> dict[str, int]:
    """Write `folder/train/CLASS/*.png` and `folder/val/CLASS/*.png`; how many pictures in each.

    per_class: pictures of each character, `{"train": 200, "val": 60}`; a plain number is for train,
    and val gets a quarter of it. Train is drawn in TRAIN_TYPEFACES, val in TEST_TYPEFACES only,
    in turn. A split appears whole or not at all; DataError if it is already there.
    """
    if isinstance(per_class, int):
        per_class = {"train": per_class, "val": max(1, per_class // 4)}
    counts = {}
    for split, typefaces in (("train", TRAIN_TYPEFACES), ("val", TEST_TYPEFACES)):
        pictures = (
            (
                f"{character}/{number:04d}-{typeface}.png",
                draw(character, typeface, seed, number),
            )
            for character in characters
            for number in range(per_class[split])
            for typeface in (typefaces[number % len(typefaces)],)
        )
        counts[split] = write_pictures(folder / split, pictures)
    return counts


def write_unlabelled(folder: Path, characters: str, count: int, seed: int) -> dict[str, str]:
    """Write `count` pictures in test typefaces straight into `folder`; true character by name.

    Characters come in random order and names are numbers, so a name tells nothing. No picture is
    one of `write_split`'s of the same seed: the numbers they are drawn from differ.
    """
    order = random_of(f"{seed}/unlabelled/{characters}").permutation(count)
    truth = {f"{at:04d}.png": n for at, n in enumerate(order.tolist())}
    pictures = (
        (
            name,
            draw(characters[n % len(characters)], _test_typeface(n, characters), seed, BEYOND + n),
        )
        for name, n in truth.items()
    )
    write_pictures(folder, pictures)
    return {name: characters[n % len(characters)] for name, n in truth.items()}


def _test_typeface(number: int, characters: str) -> str:
    return TEST_TYPEFACES[number // len(characters) % len(TEST_TYPEFACES)]
