"""A contact sheet: small pictures in a grid, with two lines of text below each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from zoo.report.pictures import Font, save, shortened

SIDE, TEXT, GAP, ACROSS = 160, 30, 8, 8  # pixels, and tiles in a row
PAPER, INK, SOFT = "white", "black", "#666666"
MOST = 20_000_000  # pixels of a sheet


def limit() -> int:
    """Return how many tiles a sheet holds."""
    return MOST // ((SIDE + GAP) * (SIDE + TEXT + GAP))


def tile(image: Image.Image) -> Image.Image:
    """Return a picture made to fit its tile."""
    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    return small


def draw(path: Path, tiles: Sequence[tuple[Image.Image | None, str, str]]) -> None:
    """Write a PNG of pictures and their two lines; None leaves a place empty."""
    across = max(1, min(ACROSS, len(tiles)))
    down = max(1, -(-len(tiles) // across))
    width, height = SIDE + GAP, SIDE + TEXT + GAP
    sheet = Image.new("RGB", (across * width + GAP, down * height + GAP), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for number, (image, first, second) in enumerate(tiles):
        left, top = GAP + number % across * width, GAP + number // across * height
        if image is not None:
            place = (left + (SIDE - image.width) // 2, top + (SIDE - image.height) // 2)
            sheet.paste(image, place)
        pen.text((left, top + SIDE + 2), cut_to_fit(font, first), INK, font)
        pen.text((left, top + SIDE + 15), cut_to_fit(font, second), SOFT, font)
    save(sheet, path)


def cut_to_fit(font: Font, text: str) -> str:
    """Return as much of a line as a tile is wide; what the font has not is a ?."""
    line = "".join(c if c.isprintable() and ord(c) < 0x250 else "?" for c in text)
    return shortened(line, font, SIDE)
