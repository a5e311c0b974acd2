"""The Preprocess arithmetic: one box, one antialiased resize, across then down.

The box is where torchvision's and timm's resize-then-crop come to lie in the photo, between its
pixels too, so one resize of the box gives their result (tests/test_preprocess.py: a byte differs
by 1 at most). Pillow does the cheaper of its two passes first and rounds between them, so which
one it was shows in the bytes; here the order is fixed, so that an exported graph can do the same.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from PIL import Image

from zoo.catalog.spec import Preprocess
from zoo.data.decode import Picture, whole

Box = tuple[float, float, float, float]
Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
Values = np.ndarray[tuple[int, ...], np.dtype[np.float32]]

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

REACH = {"nearest": 0, "bilinear": 1, "bicubic": 2, "lanczos": 3}  # of a filter, in pixels
KEEP = 4.3  # times the network's size is what a large JPEG is decoded at, or more


def box(width: int, height: int, preprocess: Preprocess) -> Box:
    """Return the part of the picture that is resized: left, upper, right, lower in pixels.

    For `crop` the middle of the picture that has become so small that it just covers `full_size`,
    in the picture's own pixels.
    """
    if preprocess.fit != "crop":
        return (0, 0, width, height)
    full = full_size(preprocess)
    wide, high = (
        max(full[0] * length // height, full[1] * length // width) for length in (width, height)
    )
    left, right = _span(width, wide, preprocess.width)
    upper, lower = _span(height, high, preprocess.height)
    return (left, upper, right, lower)


def full_size(preprocess: Preprocess) -> tuple[int, int]:
    """Return height and width of the smallest picture of which the middle is seen.

    Where they are the same the shorter side of every resized picture is of that length.
    """
    height, width, crop = preprocess.height, preprocess.width, preprocess.crop
    return max(height, round(height / crop)), max(width, round(width / crop))


def _span(length: int, resized: int, seen: int) -> tuple[float, float]:
    """Return where the box begins and ends along a side of the picture, in its own pixels.

    resized: the side's length when the picture is resized. seen: how much of that is taken.
    """
    margin = round((resized - seen) / 2)  # half to even
    return margin * length / resized, (margin + seen) * length / resized


def fill(preprocess: Preprocess) -> int:
    """Return the grey that pads a picture under `fit = "pad"`: the mean of the means, 0 to 255."""
    return round(255 * sum(preprocess.mean) / len(preprocess.mean))


def mode(preprocess: Preprocess) -> str:
    """Return Pillow's mode of the network's input."""
    return "L" if preprocess.channels == 1 else "RGB"


def resize(
    image: Image.Image | Picture, preprocess: Preprocess, part: Box | None = None
) -> Image.Image:
    """Return the picture, or a part of it instead of the Preprocess' box, at the network's size."""
    (_, high, wide), interpolation = preprocess.shape, preprocess.interpolation
    picture = image if isinstance(image, Picture) else whole(image)
    full = picture.width, picture.height
    if part is not None or preprocess.fit != "pad":
        part = picture.part(part or box(*full, preprocess))
        return across_then_down(picture, wide, high, interpolation, part)
    width, height = padded_size(*full, preprocess)
    part = picture.part((0, 0, *full))
    small = across_then_down(picture, width, height, interpolation, part)
    canvas = Image.new(small.mode, (wide, high), (fill(preprocess),) * len(small.getbands()))
    canvas.paste(small, ((wide - width) // 2, (high - height) // 2))
    return canvas


def spare(width: int, height: int, preprocess: Preprocess, part: Box | None = None) -> float:
    """Return how many times smaller a large JPEG of that size, or its part, may be decoded.

    It stays at least KEEP times as large as what it is resized to. Between what comes of it and of
    the whole photo the mean difference is then 0.08 to 0.18 of 255 (real photos enlarged to 3 to 27
    megapixels, S from 32 to 384, at most 0.23 for one photo: `python -m benchmarks.input`). With
    2.9, which decodes 12 megapixels at a quarter for 224, a fifth of the time would be saved, and
    the difference there would be 0.35 (0.49 for one photo) instead of 0.13.
    """
    if part is None and preprocess.fit == "pad":
        across, down = padded_size(width, height, preprocess)
    else:
        across, down = preprocess.width, preprocess.height
    left, upper, right, lower = part or box(width, height, preprocess)
    return min((right - left) / across, (lower - upper) / down) / KEEP


def across_then_down(
    picture: Picture, width: int, height: int, interpolation: str, part: Box
) -> Image.Image:
    """Do Pillow's `resize(box=part)` with its two passes in this order.

    Pillow takes it too where the picture is no taller than wide and is shrunk no more down than
    across: then one call does both, in two thirds of the time. (The second pass' weights are those
    of other floats then: of 120 real photos one differs, 384 of its 150,528 bytes by 1.)

    Else the first pass takes the rows of the box and as many beside it as the second pass looks at.
    Each row of it depends on that row alone, so it may be done in bands.
    """
    resample, reach = FILTERS[interpolation], REACH[interpolation]
    image = picture.image
    if not picture.mode and image.height * max(width, height) <= image.width * min(width, height):
        return image.resize((width, height), resample, box=part)
    left, upper, right, lower = part
    margin = math.ceil(reach * max(1.0, (lower - upper) / height)) + 1
    top = max(0, math.floor(upper) - margin)
    bottom = min(image.height, math.ceil(lower) + margin)
    if picture.mode:
        across = Image.new(picture.mode, (width, bottom - top))
        for begin, band in picture.rows(top, bottom):
            box = (left, 0, right, band.height)
            across.paste(band.resize((width, band.height), resample, box=box), (0, begin - top))
    else:
        box = (left, top, right, bottom)
        across = image.resize((width, bottom - top), resample, box=box)
    return across.resize((width, height), resample, box=(0, upper - top, width, lower - top))


def padded_size(width: int, height: int, preprocess: Preprocess) -> tuple[int, int]:
    """Return width and height that fit into the input with the picture's own proportions.

    Rounded in whole numbers: an exported graph must come to the same size.
    """
    limits = (preprocess.width, width), (preprocess.height, height)
    across, down = (
        max(1, min((2 * length * most + side) // (2 * side) for most, side in limits))
        for length in (width, height)
    )
    return across, down


def to_array(image: Image.Image, preprocess: Preprocess) -> Pixels:
    """Return the picture's bytes, uint8, height x width x channels."""
    channels, height, width = preprocess.shape
    return np.asarray(image, dtype=np.uint8).reshape(height, width, channels)


def apply(image: Image.Image | Picture, preprocess: Preprocess) -> Pixels:
    """Return the plain centre view (view 0) of an upright picture, uint8 H x W x channels."""
    return to_array(resize(in_mode(image, preprocess), preprocess), preprocess)


def in_mode(image: Image.Image | Picture, preprocess: Preprocess) -> Picture:
    """Return the picture in the mode of the network's input."""
    picture = image if isinstance(image, Picture) else whole(image)
    if (picture.mode or picture.image.mode) == mode(preprocess):
        return picture
    picture = picture.complete()
    return replace(picture, image=picture.image.convert(mode(preprocess)))


def framed(pixels: Pixels, preprocess: Preprocess) -> Pixels:
    """Return a raw RGB picture whose box is these very pixels, which an exported file sees then.

    uint8 H x W x C to F x G x 3, the `full_size` of a crop, else H x W. The resize of a box of
    H x W whole pixels to H x W changes nothing, nor does the grey of a grey in RGB.
    """
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    seen, full = pixels.shape[:2], full_size(preprocess)
    if preprocess.fit != "crop" or full == seen:
        return pixels
    # Half to even, as in `_span`.
    top, left = (round((all_ - part) / 2) for all_, part in zip(full, seen, strict=True))
    frame = np.zeros((*full, 3), np.uint8)
    frame[top : top + seen[0], left : left + seen[1]] = pixels
    return frame


def as_it_is(data: bytes, preprocess: Preprocess) -> Pixels | None:
    """Return what `apply` gives for a binary PGM or PPM of the network's very size; else None.

    Such are the pictures of IDX files, of which there are many: no decoder and no resize needed.
    """
    (channels, height, width), kind = preprocess.shape, b"P5" if preprocess.channels == 1 else b"P6"
    head = b"%b\n%d %d\n255\n" % (kind, width, height)
    cropped = preprocess.fit == "crop" and full_size(preprocess) != (height, width)
    if cropped or not data.startswith(head):
        return None
    values = np.frombuffer(data, np.uint8, offset=len(head))
    if values.size != height * width * channels:
        return None
    return values.reshape(height, width, channels)


def normalise(pixels: Pixels, preprocess: Preprocess) -> Values:
    """Return uint8 H x W x C as float32 C x H x W: (x / 255 - mean) / std."""
    mean = np.array(preprocess.mean, np.float32)
    std = np.array(preprocess.std, np.float32)
    values = (pixels.astype(np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(values.transpose(2, 0, 1))
