"""What all pictures share: letters, enlarging, names of files, and how a file is written."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageFont

from zoo.data.preprocess import Pixels
from zoo.disk import replacing, writing

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@lru_cache(maxsize=64)
def font(size: float, bold: bool = False) -> Font:
    """Return matplotlib's typeface, which has Latin, Greek and Cyrillic letters."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf", name), size)


def shortened(text: str, letters: Font, width: float) -> str:
    """Return as much of a line as fits into so many pixels."""
    if letters.getlength(text) <= width:
        return text
    while text and letters.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def picture_of(pixels: Pixels) -> Image.Image:
    """Return H x W x C as a picture, grey where C is 1."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def times(image: Image.Image, factor: int) -> Image.Image:
    """Return a picture whose every pixel is a square of this side."""
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def own_name(name: str, taken: set[str]) -> str:
    """Return a name for a file that no other has: of an absolute path its last part, made plain."""
    stem = os.path.basename(name) if os.path.isabs(name) else name
    plain = re.sub(r"[^\w.-]+", "_", stem).strip("._")[-80:] or "picture"
    found, number = plain, 1
    while found.casefold() in taken:
        number += 1
        found = f"{plain}-{number}"
    taken.add(found.casefold())
    return found


def save(picture: Image.Image, path: Path) -> None:
    """Write a PNG, and make its folder. Replaces the file, whole or not at all."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, writing(path):
        picture.save(temporary, "PNG")


def save_text(text: str, path: Path) -> None:
    """Write a page or a drawing, as `save` does."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, writing(path):
        temporary.write_text(text, encoding="utf-8", errors="replace")
