"""A sheet of photos and of what a network is fed of each: a row a photo, a column a view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from zoo.data.preprocess import Pixels
from zoo.report.pictures import picture_of, save, times
from zoo.report.sheet import GAP, INK, PAPER, SIDE, SOFT, TEXT, cut_to_fit, tile

HEAD = 18  # pixels of the line above the columns
FRAME, EDGE = "#ffd400", "#202020"  # light on dark: seen on any photo


@dataclass(frozen=True, slots=True)
class Row:
    """A photo, uint8 H x W x 3 or None, the frame of its crop in shares, and two lines of text."""

    photo: Pixels | None
    frame: tuple[float, float, float, float]
    inputs: Sequence[Pixels]
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
        pen.text((GAP, top + SIDE + 2), cut_to_fit(font, row.first), INK, font)
        pen.text((GAP, top + SIDE + 15), cut_to_fit(font, row.second), SOFT, font)
    save(sheet, path)


def _fitted(pixels: Pixels) -> Image.Image:
    """Return a picture as large as its tile; small ones enlarged pixel by pixel."""
    image = picture_of(pixels)
    return tile(times(image, max(1, SIDE // max(image.size))))


def _framed(image: Image.Image, frame: tuple[float, float, float, float]) -> Image.Image:
    """Return the picture with a frame between two edges around what is seen of it."""
    pen, (width, height) = ImageDraw.Draw(image), image.size
    box = [round(frame[0] * width), round(frame[1] * height),
           round(frame[2] * width) - 1, round(frame[3] * height) - 1]  # fmt: skip
    pen.rectangle(box, outline=EDGE, width=4)
    pen.rectangle([box[0] + 1, box[1] + 1, box[2] - 1, box[3] - 1], outline=FRAME, width=2)
    return image
