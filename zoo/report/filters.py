"""Pages of small pictures with a number under each: kernels, feature maps, patches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from zoo.data.preprocess import Pixels, Values
from zoo.report.cards import (
    GAP,
    PAPER,
    SMALL,
    SOFT,
    Panel,
    coloured,
    enlarged,
    fitting,
    overlay,
)
from zoo.report.pictures import font, times

TILE = 56  # pixels of a kernel, at least
MAP = 96  # of a feature map
PATCH, PATCHES = 112, 9  # of a patch, and how many in a row
FRAME = "#d62728"


def kernels(values: Values, signed: bool) -> Panel:
    """Return N kernels h x w x C in 0..1 in rows, in order, with their numbers.

    signed: of one colour: blue where a weight is below 0, red where it is above.
    """
    tiles = []
    for number, one in enumerate(values):
        pixels = coloured(one[..., 0], "RdBu_r") if signed else (255 * one).round().astype(np.uint8)
        tiles.append((_at_least(Image.fromarray(pixels), TILE), str(number)))
    said = (
        "blue below 0, red above" if signed else "grey is no weight; each kernel in its own scale"
    )
    return Panel(grid(tiles), said)


def maps(photo: Pixels, values: Values, units: Sequence[int]) -> tuple[Panel, ...]:
    """Return the photo and, beside it, maps h x w of these units of C, each in its own scale."""
    tiles = []
    for unit in units:
        one = values[unit]
        low, high = float(one.min()), float(one.max())
        small = Image.fromarray(coloured((one - low) / max(high - low, 1e-30)))
        tiles.append((_at_least(small, MAP), f"{unit}: {high:.3g}"))
    said = "unit: its highest value; dark is lowest, yellow highest, each map in its own scale"
    return Panel(enlarged(photo), "as the network sees it"), Panel(grid(tiles), said)


def field(photo: Pixels, box: tuple[int, int, int, int], strength: Values) -> tuple[Panel, ...]:
    """Return a photo with the field of a unit, and what it sees with how much each pixel counts."""
    from scipy.ndimage import uniform_filter

    plain = enlarged(photo)
    factor = plain.width / photo.shape[1]
    left, upper, right, lower = (round(factor * edge) for edge in box)
    marked = Image.eval(plain, lambda value: 110 + value // 3)  # pale beside the field
    marked.paste(plain.crop((left, upper, right, lower)), (left, upper))
    pen = ImageDraw.Draw(marked)
    pen.rectangle(
        (left, upper, max(left, right - 1), max(upper, lower - 1)), outline=FRAME, width=2
    )
    values = uniform_filter(strength.astype(np.float32), 5)  # strides leave a grid
    return (
        Panel(marked, f"a unit sees {box[2] - box[0]} x {box[3] - box[1]} pixels"),
        Panel(
            overlay(photo, values / np.float32(max(values.max(), 1e-30))), "how much each counts"
        ),
    )


def patches(tiles: Sequence[tuple[Pixels, str]], said: str) -> Panel:
    """Return square patches h x w x C in a row, a line under each."""
    size = (PATCH, PATCH)
    images = [(enlarged(pixels, PATCH).resize(size), text) for pixels, text in tiles]
    return Panel(grid(images, min(len(tiles), PATCHES)), said)


def grid(tiles: Sequence[tuple[Image.Image, str]], across: int | None = None) -> Image.Image:
    """Return pictures of one size in rows, a line under each, about as wide as high."""
    wide, high = tiles[0][0].size
    under = SMALL + 4
    across = across or max(1, round((len(tiles) * (high + under) / wide * 1.5) ** 0.5))
    across = min(across, len(tiles))
    down = -(-len(tiles) // across)
    gap = GAP // 2
    sheet = Image.new(
        "RGB", (across * (wide + gap) - gap, down * (high + under + gap) - gap), PAPER
    )
    pen = ImageDraw.Draw(sheet)
    for number, (image, text) in enumerate(tiles):
        row, column = divmod(number, across)
        left, top = column * (wide + gap), row * (high + under + gap)
        sheet.paste(image, (left, top))
        pen.text((left, top + high), fitting(text, SMALL - 2, wide), SOFT, font(SMALL - 2))
    return sheet


def _at_least(image: Image.Image, side: int) -> Image.Image:
    """Return a small picture enlarged by a whole number, a large one made to fit."""
    if max(image.size) > side:
        scale = side / max(image.size)
        return image.resize([max(1, round(scale * length)) for length in image.size])
    return times(image, -(-side // max(image.size)))
