"""A folder of pairs, two pictures side by side, with a sheet of them and a table of errors.

Or of single pictures, as they came out of a code, with their table.

The folder appears when it is complete: all is written into one beside it with a name of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from PIL import Image

from zoo.data.preprocess import Pixels
from zoo.disk import hidden, unfinished, writing
from zoo.errors import RunError
from zoo.report.pictures import own_name, picture_of, times
from zoo.text import csv_line

SIDE = 140  # pixels that a small picture is enlarged to, by whole numbers
GAP = 4
ON_SHEET = 144  # pairs
PAPER = 128  # the grey around them
COLUMNS = ("path", "status", "mse", "mae", "pair", "error")
SINGLE = ("path", "status", "picture", "error")


class PairFolder:
    """The folder while it is made; `pairs` counts what is in it."""

    def __init__(self, folder: Path, table: IO[str], columns: tuple[str, ...]) -> None:
        self.folder, self.table, self.columns = folder, table, columns
        self.pairs = 0
        self.taken = {"sheet", "errors", "pictures"}
        self.tiles: list[Image.Image] = []

    def add(
        self, path: str, mse: float, mae: float, before: Pixels, after: Pixels, *, draw: bool
    ) -> None:
        """Add a row to the table, and a picture of the pair where wanted."""
        name = self._drawn(path, pair := _side_by_side(before, after), pair) if draw else ""
        self.table.write(csv_line((path, "ok", f"{mse:.6g}", f"{mae:.6g}", name, "")))

    def add_single(self, path: str, pixels: Pixels, *, draw: bool) -> None:
        """Add a row to the table, and the picture, pixel by pixel, where wanted."""
        image = picture_of(pixels)
        name = self._drawn(path, image, times(image, _factor(pixels))) if draw else ""
        self.table.write(csv_line((path, "ok", name, "")))

    def add_error(self, path: str, error: str) -> None:
        nothing = [""] * (len(self.columns) - 3)
        self.table.write(csv_line((path, "error", *nothing, error)))

    def _drawn(self, path: str, picture: Image.Image, tile: Image.Image) -> str:
        """Write the picture of a path; return the name of its file."""
        stem = path if "#" in path else os.path.splitext(path)[0]
        name = own_name(stem, self.taken) + ".png"
        picture.save(self.folder / name)
        self.pairs += 1
        if len(self.tiles) < ON_SHEET:
            self.tiles.append(tile)
        return name


@contextmanager
def pair_folder(path: Path, columns: tuple[str, ...] = COLUMNS) -> Iterator[PairFolder]:
    """Make a folder that appears whole, or not at all. Raises RunError where there is one.

    columns: COLUMNS for pairs and errors.csv, SINGLE for pictures and pictures.csv.
    """
    refuse(path)
    temporary = hidden(path)
    with unfinished(temporary), writing(path):
        temporary.mkdir(parents=True)
        table = "errors.csv" if columns == COLUMNS else "pictures.csv"
        with open(temporary / table, "w", newline="", encoding="utf-8") as file:
            file.write(csv_line(columns))
            made = PairFolder(temporary, file, columns)
            yield made
            file.flush()
            os.fsync(file.fileno())
        if made.tiles:
            _sheet(made.tiles).save(temporary / "sheet.png")
        refuse(path)
        os.rename(temporary, path)


def refuse(path: Path) -> None:
    if os.path.lexists(path):
        raise RunError(
            f"{path} exists already", "choose another folder with -o, or remove this one"
        )


def _side_by_side(before: Pixels, after: Pixels) -> Image.Image:
    """Draw two pictures S x S x C with a gap; small ones enlarged by nearest neighbour."""
    left, right = (times(picture_of(pixels), _factor(before)) for pixels in (before, after))
    canvas = Image.new(left.mode, (left.width + GAP + right.width, left.height), paper(left.mode))
    canvas.paste(left, (0, 0))
    canvas.paste(right, (left.width + GAP, 0))
    return canvas


def _factor(pixels: Pixels) -> int:
    return max(1, SIDE // max(pixels.shape[:2]))


def _sheet(tiles: list[Image.Image]) -> Image.Image:
    """Draw all pairs in one picture, row by row, about as wide as high."""
    width, height = tiles[0].width + 3 * GAP, tiles[0].height + 3 * GAP
    across = max(1, min(len(tiles), round((len(tiles) * height / width) ** 0.5)))
    down = -(-len(tiles) // across)
    mode = tiles[0].mode
    canvas = Image.new(mode, (across * width, down * height), paper(mode))
    for number, tile in enumerate(tiles):
        row, column = divmod(number, across)
        canvas.paste(tile, (column * width + GAP, row * height + GAP))
    return canvas


def paper(mode: str) -> int | tuple[int, int, int]:
    return PAPER if mode == "L" else (PAPER, PAPER, PAPER)
