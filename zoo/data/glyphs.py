"""Drawn digits and letters: the data of `zoo demo`, from our own strokes and no font file.

A typeface is a pen and some habits; a glyph in a typeface is a distance field (how far a point
is outside the ink), computed once. A picture samples that field through a random affine map,
which makes weight, blur and antialiasing one clip each. All randomness of a picture is
`f(seed, typeface, character, number)`: any picture can be drawn again alone.

The task is honest: validation pictures are in typefaces that training never sees. Light ink on a
dark ground, always, as in MNIST: both at random cost LeNet accuracy for the same seconds.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zoo.data.glyph_table import GLYPHS, TEST_TYPEFACES, TRAIN_TYPEFACES, Typeface
from zoo.errors import DataError
from zoo.watch import check, undoing

__all__ = [
    "DIGITS", "LETTERS", "TEST_TYPEFACES", "TRAIN_TYPEFACES", "Typeface",
    "clean", "draw", "sheet", "write_split", "write_unlabelled",
]  # fmt: skip

DIGITS = "0123456789"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

Floats = NDArray[np.float32]
Point = NDArray[np.float64]  # x, y in cap heights; or a chain of them, one a row

_GRID, _SPAN = 60, 1.8  # a field is GRID x GRID samples over SPAN x SPAN cap heights
_PIECE = 0.12  # strokes are cut into straight pieces of about this length


def draw(character: str, typeface: Typeface, seed: int, number: int, size: int = 32) -> Image.Image:
    """One picture, mode L, size x size: light ink on a dark, uneven, noisy ground."""
    key = f"{seed}/{typeface.name}/{character}/{number}".encode()
    rng = np.random.default_rng(int.from_bytes(hashlib.blake2b(key, digest_size=16).digest()))
    turn, shear, squeeze, grow, right, down, bold, soft, ground, ink, tilt_x, tilt_y, grain = (
        rng.uniform(-1.0, 1.0, 13).tolist()
    )
    scale = 0.58 * size * (1 + 0.14 * grow)  # pixels per cap height
    angle, aspect = np.deg2rad(12.0 * turn), 1 + 0.12 * squeeze
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    forward = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1, 0.18 * shear], [0, 1]])
    inverse = np.linalg.inv(forward @ np.diag([scale * aspect, scale / aspect]))
    shift = (0.06 * size * right, 0.06 * size * down)
    distance = _sample(_field(character, typeface), inverse, shift, size) - 0.012 * bold
    blur = 1.6 + 0.6 * soft  # pixels from no ink to full ink
    cover = np.clip(0.5 - distance * np.float32(scale / blur), 0, 1)
    ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    dark = 48 + 32 * ground + 30 * (tilt_x * ramp + tilt_y * ramp[:, None])
    light = 185 + 55 * ink
    noise = rng.standard_normal((size, size), dtype=np.float32) * np.float32(16 + 10 * grain)
    grey = dark + (light - dark) * cover + noise
    return Image.fromarray(np.clip(np.rint(grey), 0, 255).astype(np.uint8))


def clean(character: str, typeface: Typeface, size: int = 32) -> Image.Image:
    """The glyph itself, mode L, upright and centred, white on black: no map, no noise."""
    scale = 0.62 * size
    distance = _sample(_field(character, typeface), np.diag([1 / scale] * 2), (0, 0), size)
    cover = np.clip(0.5 - distance * np.float32(scale), 0, 1)
    return Image.fromarray(np.rint(cover * 255).astype(np.uint8))


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
            (f"{character}/{number:04d}-{typeface.name}.png", character, typeface, number)
            for character in characters
            for number in range(per_class[split])
            for typeface in (typefaces[number % len(typefaces)],)
        )
        counts[split] = _write(folder / split, pictures, seed)
    return counts


def write_unlabelled(folder: Path, characters: str, count: int, seed: int) -> dict[str, str]:
    """Write `count` pictures in test typefaces straight into `folder`; true character by name.

    Characters come in random order and names are numbers, so a name tells nothing. No picture is
    one of `write_split`'s of the same seed: the numbers they are drawn from differ.
    """
    key = hashlib.blake2b(f"{seed}/unlabelled/{characters}".encode(), digest_size=16).digest()
    order = np.random.default_rng(int.from_bytes(key)).permutation(count)
    pictures = [
        (
            f"{position:04d}.png",
            characters[number % len(characters)],
            TEST_TYPEFACES[number // len(characters) % len(TEST_TYPEFACES)],
            1_000_000 + number,
        )
        for position, number in enumerate(order.tolist())
    ]
    _write(folder, pictures, seed)
    return {name: character for name, character, _, _ in pictures}


def sheet(
    characters: str = DIGITS + LETTERS,
    typefaces: Sequence[Typeface] = TRAIN_TYPEFACES + TEST_TYPEFACES,
    size: int = 32,
    seed: int | None = None,
) -> Image.Image:
    """A contact sheet, one row per typeface: clean glyphs, or with a seed drawn pictures."""
    page = Image.new("L", (size * len(characters), size * len(typefaces)))
    for row, typeface in enumerate(typefaces):
        for column, character in enumerate(characters):
            picture = (
                clean(character, typeface, size)
                if seed is None
                else draw(character, typeface, seed, row, size)
            )
            page.paste(picture, (column * size, row * size))
    return page


def _write(folder: Path, pictures: Iterable[tuple[str, str, Typeface, int]], seed: int) -> int:
    """Draw into a hidden folder beside `folder`, then rename it; how many were written."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is already there", "name a folder that does not exist yet")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    count = 0
    with ExitStack() as removing:
        removing.callback(shutil.rmtree, partial, ignore_errors=True)
        removing.enter_context(undoing(lambda: shutil.rmtree(partial)))
        partial.mkdir(parents=True)
        for name, character, typeface, number in pictures:
            check()
            path = partial / name
            if not path.parent.is_dir():
                path.parent.mkdir()
            draw(character, typeface, seed, number).save(path, compress_level=1)
            count += 1
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    return count


def _sample(
    field: Image.Image, inverse: NDArray[np.float64], shift: tuple[float, float], size: int
) -> Floats:
    """Distances at the pixels: `inverse` maps pixels from the centre to cap heights."""
    step = _GRID / _SPAN
    (a, b), (c, d) = (inverse * step).tolist()
    x, y = size / 2 + shift[0], size / 2 + shift[1]
    centre = _GRID / 2
    matrix = (a, b, centre - a * x - b * y, c, d, centre - c * x - d * y)
    warped = field.transform(
        (size, size), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=1.0
    )
    return np.asarray(warped, dtype=np.float32)


@lru_cache(maxsize=2048)
def _field(character: str, typeface: Typeface) -> Image.Image:
    """Signed distance to the ink (negative inside), cap heights, mode F, glyph in the centre."""
    axis = ((np.arange(_GRID) + 0.5) * (_SPAN / _GRID) - _SPAN / 2).astype(np.float32)
    x, y = (plane.reshape(-1, 1) for plane in np.meshgrid(axis, axis))
    field = _distance(x, y, *_pieces(character, typeface))
    if typeface.style == "outline":
        field = np.abs(field + 0.025) - 0.025
    elif typeface.style == "inline":
        field = np.maximum(field, 0.022 - np.abs(field + typeface.pen))
    elif typeface.style == "stencil":
        field = np.maximum(field, 0.032 - np.abs(0.94 * x[:, 0] + 0.34 * y[:, 0] - 0.02))
    return Image.fromarray(field.reshape(_GRID, _GRID).astype(np.float32))


def _distance(
    x: Floats,
    y: Floats,
    starts: Floats,
    stops: Floats,
    radii: Floats | np.float32,
    squares: NDArray[np.bool_],
) -> Floats:
    """Signed distance of each point to the nearest piece: rows are points, columns pieces."""
    along = stops - starts
    length = np.hypot(along[:, 0], along[:, 1])
    unit = np.where(length[:, None] > 1e-6, along / np.maximum(length, 1e-6)[:, None], (1, 0))
    ux, uy = unit.astype(np.float32).T
    dx, dy = x - starts[:, 0], y - starts[:, 1]
    forth = dx * ux + dy * uy
    aside = np.abs(dy * ux - dx * uy)
    beyond = np.maximum(np.maximum(forth - length, -forth), 0)
    distance = np.sqrt(aside * aside + beyond * beyond)
    if squares.any():
        square = np.where(forth < length / 2, squares[:, 0], squares[:, 1])
        distance = np.where(square, np.maximum(aside, beyond), distance)
    nearest: Floats = (distance - radii).min(axis=1)
    return nearest


def _pieces(character: str, typeface: Typeface) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
    """The glyph as straight pieces: starts, stops, half widths, and which ends are square."""
    chains = _chains(character, typeface)
    rows: list[tuple[Point, Point, float, bool, bool]] = []
    for index, chain in enumerate(chains):
        closed = bool(np.allclose(chain[0], chain[-1]))
        square = typeface.cap == "square" and not closed
        last = len(chain) - 2
        for piece, (start, stop) in enumerate(pairwise(chain)):
            if typeface.style == "beads":
                rows += [(bead, bead, typeface.pen, False, False) for bead in (start, stop)]
                continue
            radius = _half_width(stop - start, (piece + 0.5) / (last + 1), typeface)
            rows.append((start, stop, radius, square and piece == 0, square and piece == last))
        if typeface.serif and not closed:
            others = chains[:index] + chains[index + 1 :]
            for end, inner in ((chain[0], chain[1]), (chain[-1], chain[-2])):
                for start, stop in _serif(end, inner, _free(end, others), typeface.serif):
                    rows.append((start, stop, typeface.serif_pen, square, square))
    points = np.array([row[:2] for row in rows])
    points -= (points.min(axis=(0, 1)) + points.max(axis=(0, 1))) / 2
    starts, stops = np.round(points, 6).astype(np.float32).transpose(1, 0, 2)
    radii = np.array([row[2] for row in rows], dtype=np.float32)
    return starts, stops, radii, np.array([row[3:] for row in rows], dtype=np.bool_)


def _free(end: Point, others: list[Point]) -> bool:
    """Whether a stroke's end touches no other stroke."""
    for chain in others:
        points = chain.astype(np.float32)
        none = np.zeros((len(points) - 1, 2), dtype=np.bool_)
        x, y = end.astype(np.float32).reshape(2, 1, 1)
        if _distance(x, y, points[:-1], points[1:], np.float32(0), none).min() < 0.05:
            return False
    return True


def _half_width(way: Point, at: float, typeface: Typeface) -> float:
    """Of a piece that runs along `way`, `at` of the stroke's length: a broad pen, and its lift."""
    turn = np.arctan2(way[1], way[0]) - np.deg2rad(typeface.nib)
    radius = typeface.pen * np.hypot(np.sin(turn), typeface.contrast * np.cos(turn))
    lift = typeface.ends + (1 - typeface.ends) * np.sin(np.pi * at)
    return max(0.016, round(float(radius * lift), 6))


def _serif(end: Point, inner: Point, free: bool, half: float) -> list[tuple[Point, Point]]:
    """The serif of one stroke end: across a stem at top or bottom, inwards at a free arm."""
    across, down = np.abs(end - inner)
    if down > across and (end[1] < 0.03 or end[1] > 0.97):
        aside = np.array([half, 0])
        return [(end - aside, end + aside)]
    if across > 1.5 * down and free:
        inwards = half * (1.0 if end[1] < 0.3 else -1.0 if end[1] > 0.7 else 0.5)
        return [(end, end + np.array([0, inwards]))]
    return []


def _chains(character: str, typeface: Typeface) -> list[Point]:
    """The middle lines of the strokes as the typeface bends them.

    Lines are cut short only where something changes along them: a lifted pen, a wobble, beads.
    """
    form = next((form for form in typeface.forms if form.split()[0] == character), character)
    uneven = typeface.ends != 1 or typeface.wobble != 0 or typeface.style == "beads"
    chains = []
    for stroke in GLYPHS[form].split("|"):
        corners = [point for token in stroke.split() for point in _points(token, typeface)]
        chain = [corners[0]]
        for (x0, y0), (x1, y1) in pairwise(corners):
            cuts = round(np.hypot(x1 - x0, y1 - y0) / _PIECE) if uneven else 1
            steps = [cut / max(1, cuts) for cut in range(1, max(1, cuts) + 1)]
            chain += [(x0 + (x1 - x0) * step, y0 + (y1 - y0) * step) for step in steps]
        x, y = np.array(chain).T
        y = np.maximum(y, 0) ** typeface.waist
        phase = 0.7 * ord(character)
        x = x + typeface.wobble * np.sin(9 * y + 4 * x + phase)
        y = y + typeface.wobble * np.sin(7 * x + 5 * y + 2 * phase)
        chains.append(np.stack([typeface.width * x + typeface.slant * (0.5 - y), y], axis=1))
    return chains


def _points(token: str, typeface: Typeface) -> list[tuple[float, float]]:
    """A point, or an arc as the corners of its facets."""
    numbers = [float(number) for number in token.split(",")]
    if len(numbers) == 2:
        return [(numbers[0], numbers[1])]
    x, y, rx, ry, start, stop = numbers
    step = 90 / typeface.facets
    low, high = sorted((start, stop))
    between = np.arange(np.floor(low / step) + 1, np.ceil(high / step)) * step
    angles = np.deg2rad([start, *(between if start < stop else between[::-1]), stop])
    power = 2 / typeface.curve
    cos, sin = np.cos(angles), np.sin(angles)
    xs = x + rx * np.sign(cos) * np.abs(cos) ** power
    ys = y + ry * np.sign(sin) * np.abs(sin) ** power
    return list(zip(xs.tolist(), ys.tolist(), strict=True))
