"""A sheet of photos and of what a network is fed of each: a row a photo, a column a view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from zoo.disk import replacing, writing
from zoo.report.sheet import GAP, INK, PAPER, SIDE, SOFT, TEXT, cut_to_fit

HEAD = 18  # pixels of the line above the columns
FRAME, EDGE = "#ffd400", "#202020"  # light on dark: seen on any photo

Array = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True, slots=True)
class Row:
    """A photo, uint8 H x W x 3 or None, the frame of its crop in shares, and two lines of text."""

    photo: Array | None
    frame: tuple[float, float, float, float]
    inputs: Sequence[Array]
    first: str
    second: str


def draw(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Write a PNG: the photo with the frame of its crop first, then its inputs by column."""
    width, height = SIDE + GAP, SIDE + TEXT + GAP
    size = ((1 + len(columns)) * width + GAP, HEAD + len(rows) * height + GAP)
    sheet = Image.new("RGB", size, PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for number, name in enumerate(("photo, and its crop", *columns)):
        pen.text((GAP + number * width, 4), name, INK, font)
    for number, row in enumerate(rows):
        top = HEAD + number * height
        if row.photo is not None:
            photo = _framed(_fitted(row.photo), row.frame)
            sheet.paste(photo, (GAP + (SIDE - photo.width) // 2, top))
        for place, pixels in enumerate(row.inputs, 1):
            sheet.paste(_fitted(pixels), (GAP + place * width, top))
        pen.text((GAP, top + SIDE + 2), cut_to_fit(pen, font, row.first), INK, font)
        pen.text((GAP, top + SIDE + 15), cut_to_fit(pen, font, row.second), SOFT, font)
    with replacing(path) as temporary, writing(path):
        sheet.save(temporary, "PNG")


def _fitted(pixels: Array) -> Image.Image:
    """Return a picture as large as its tile; small ones enlarged pixel by pixel."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
    factor = SIDE // max(image.size)
    if factor > 1:
        size = (image.width * factor, image.height * factor)
        return image.resize(size, Image.Resampling.NEAREST)
    image.thumbnail((SIDE, SIDE))
    return image


def _framed(image: Image.Image, frame: tuple[float, float, float, float]) -> Image.Image:
    """Return the picture with a frame between two edges around what is seen of it."""
    pen, (width, height) = ImageDraw.Draw(image), image.size
    box = [round(frame[0] * width), round(frame[1] * height),
           round(frame[2] * width) - 1, round(frame[3] * height) - 1]  # fmt: skip
    pen.rectangle(box, outline=EDGE, width=4)
    pen.rectangle([box[0] + 1, box[1] + 1, box[2] - 1, box[3] - 1], outline=FRAME, width=2)
    return image
