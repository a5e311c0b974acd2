"""The Preprocess arithmetic: one box of whole pixels, one antialiased resize, across then down.

Pillow does the cheaper pass first and rounds between the two, so which one it was shows in the
bytes; here the order is fixed, so that an exported graph can do the very same. Where torchvision's
resize-then-crop also comes to whole pixels the result differs from its by at most 1 of 255;
elsewhere its box, which it rounds at the network's resolution, lies up to one pixel of the larger
grid beside ours.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from PIL import Image

from zoo.catalog.spec import Preprocess

Box = tuple[int, int, int, int]
Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

REACH = {"nearest": 0, "bilinear": 1, "bicubic": 2, "lanczos": 3}  # of a filter, in pixels


def box(width: int, height: int, preprocess: Preprocess) -> Box:
    """The part of the picture that is resized: left, upper, right, lower in pixels."""
    if preprocess.fit != "crop":
        return (0, 0, width, height)
    side = max(1, round(preprocess.crop * min(width, height)))
    left, upper = (width - side) // 2, (height - side) // 2
    return (left, upper, left + side, upper + side)


def fill(preprocess: Preprocess) -> int:
    """The grey that pads a picture under `fit = "pad"`: the mean of the means, 0 to 255."""
    return round(255 * sum(preprocess.mean) / len(preprocess.mean))


def mode(preprocess: Preprocess) -> str:
    """Pillow's mode of the network's input."""
    return "L" if preprocess.channels == 1 else "RGB"


def resize(image: Image.Image, preprocess: Preprocess, part: Box | None = None) -> Image.Image:
    """The picture, or a part of it, at the network's size; `part` overrides the Preprocess' box."""
    size, interpolation = preprocess.size, preprocess.interpolation
    if part is not None or preprocess.fit != "pad":
        part = part or box(*image.size, preprocess)
        return across_then_down(image, size, size, interpolation, part)
    width, height = padded_size(*image.size, size)
    small = across_then_down(image, width, height, interpolation, (0, 0, *image.size))
    canvas = Image.new(image.mode, (size, size), (fill(preprocess),) * len(image.getbands()))
    canvas.paste(small, ((size - width) // 2, (size - height) // 2))
    return canvas


def across_then_down(
    image: Image.Image, width: int, height: int, interpolation: str, part: Box
) -> Image.Image:
    """Pillow's `resize(box=part)` with its two passes in this order.

    The first pass takes the rows of the box and as many beside it as the second pass looks at.
    """
    resample, reach = FILTERS[interpolation], REACH[interpolation]
    left, upper, right, lower = part
    margin = math.ceil(reach * max(1.0, (lower - upper) / height)) + 1
    top, bottom = max(0, upper - margin), min(image.height, lower + margin)
    across = image.resize((width, bottom - top), resample, box=(left, top, right, bottom))
    return across.resize((width, height), resample, box=(0, upper - top, width, lower - top))


def padded_size(width: int, height: int, size: int) -> tuple[int, int]:
    """Width and height that fit into a square of `size` with the picture's own proportions.

    Rounded in whole numbers: an exported graph must come to the same size.
    """
    longest = max(width, height)
    return (
        max(1, (2 * width * size + longest) // (2 * longest)),
        max(1, (2 * height * size + longest) // (2 * longest)),
    )


def to_array(image: Image.Image, preprocess: Preprocess) -> Pixels:
    """The picture's bytes, uint8, size x size x channels."""
    return np.asarray(image, dtype=np.uint8).reshape(
        preprocess.size, preprocess.size, preprocess.channels
    )


def apply(image: Image.Image, preprocess: Preprocess) -> Pixels:
    """The plain centre view (view 0) of an upright picture: uint8, size x size x channels."""
    return to_array(resize(image.convert(mode(preprocess)), preprocess), preprocess)


def normalise(pixels: Pixels, preprocess: Preprocess) -> np.ndarray[tuple[int, ...], Any]:
    """uint8 S x S x C to float32 C x S x S: (x / 255 - mean) / std."""
    mean = np.array(preprocess.mean, np.float32)
    std = np.array(preprocess.std, np.float32)
    values = (pixels.astype(np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(values.transpose(2, 0, 1))
