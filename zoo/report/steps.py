"""The lecture's page: one picture on its way through a small network, from the top to the scores.

A band for each stage. Numbers stand in the cells where they fit; colours are blue below 0, white at
0 and red above, with the same range in a stage as in the one before where it learns nothing: what
ReLU takes away is seen to go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from zoo.data.preprocess import Pixels, Values
from zoo.report.drawing import Drawing, fitting

WIDTH, LEFT, TOP, GAP = 1060, 200, 56, 10  # pixels of the page; LEFT of the words beside a band
AREA = WIDTH - LEFT - 20
CELL, SMALLEST = 29, 8.5  # pixels of a cell with its number, and of the number's letters
LARGEST, BAND = 8, 200  # pixels of a cell without, and about of a band of them
NUMBERED = 28  # cells of a row of numbers
STRIP = 16  # pixels of a row of colours
CLASSES = 12
_ENDS = np.array([[33, 102, 172], [250, 250, 250], [178, 24, 43]], np.float32)


class Step(Protocol):
    """What is drawn of a stage; see zoo.explain.steps."""

    @property
    def stage(self) -> str: ...
    @property
    def said(self) -> str: ...
    @property
    def values(self) -> Values: ...
    @property
    def kernels(self) -> Values | None: ...
    @property
    def biases(self) -> Values | None: ...
    @property
    def learned(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """The classes with their scores and probabilities, K each; products, biases: see Votes.

    An autoencoder has no names.
    """

    names: Sequence[str]
    probabilities: Values
    products: Values | None = None
    biases: Values | None = None


@dataclass(slots=True)
class _Band:
    """Maps to be drawn in a row: C x H x W. under: a line below each."""

    name: str
    lines: list[str]
    maps: Values
    limit: float
    grey: bool = False
    under: list[str] = field(default_factory=list)


def page(picture: Values, steps: Sequence[Step], answer: Answer, title: str) -> Drawing:
    """Return the page. picture: C x S x S as the network gets it."""
    bands = _bands(picture, steps, scored=bool(answer.names))
    drawing = Drawing(WIDTH, 0, title)
    drawing.words((20, 26), fitting(title, 16, WIDTH - 40, bold=True), 16, bold=True)
    y, pitches = float(TOP), _pitches(bands)
    for band, pitch in zip(bands, pitches, strict=True):
        y = _draw_band(drawing, band, pitch, y) + 2 * GAP
    if answer.names:
        y = _draw_answer(drawing, answer, steps[-1], y)
    drawing.height = round(y + GAP)
    return drawing


def _bands(picture: Values, steps: Sequence[Step], scored: bool) -> list[_Band]:
    shown = picture if len(picture) != 3 else picture.mean(0, keepdims=True)
    side = f"{picture.shape[1]} x {picture.shape[2]}"
    bands = [_Band("picture", [f"{side} pixels", "as the network gets it"], shown, 0, grey=True)]
    limit = 0.0
    for number, step in enumerate(steps):
        last = number == len(steps) - 1
        if last and scored:
            break
        highest = float(np.abs(step.values).max(initial=0))
        limit = highest if step.learned or highest > limit else limit
        if step.kernels is not None:
            size = float(np.abs(step.kernels).max())
            under = [] if step.biases is None else [f"bias {number_of(b)}" for b in step.biases]
            lines = [step.said, _range(size)]
            bands.append(_Band(f"{step.stage}: filters", lines, step.kernels, size, under=under))
        if step.said == "the same, in a row" and step.values.size > NUMBERED:
            continue
        shape = " x ".join(str(length) for length in step.values.shape)
        what = "a map of each filter" if step.kernels is not None else step.said
        bands.append(_Band(step.stage, [what, shape, _range(limit)], step.values, limit))
    return bands


def _range(limit: float) -> str:
    return f"colours: −{number_of(limit)} to {number_of(limit)}"


def number_of(value: float) -> str:
    """Return a number as it stands in a cell: at most three digits and a real minus."""
    size = abs(value)
    if value == round(value) and size < 1000:
        return f"{value:.0f}".replace("-", "−").replace("−0", "0")
    text = f"{size:.2f}" if size < 9.995 else f"{size:.1f}" if size < 99.95 else f"{size:.0f}"
    return f"−{text}" if value < 0 and float(text) else text


# How large.


def _cell(band: _Band) -> int:
    """Return the pixels of a cell, CELL where the numbers fit."""
    if band.maps.ndim == 1:
        return CELL if len(band.maps) <= NUMBERED else max(4, min(9, AREA // len(band.maps)))
    many, high, wide = band.maps.shape
    if many * (wide * CELL + GAP) <= AREA and high <= 12:
        return CELL
    for cell in range(LARGEST, 1, -1):
        across = (AREA + GAP) // (wide * cell + GAP)
        if across and -(-many // across) * (high * cell + GAP) <= BAND:
            return cell
    return 1


def _pitches(bands: list[_Band]) -> list[float]:
    """Return from map to map how far, the same in bands of as many maps that lie in one row."""
    widest: dict[int, float] = {}
    for band in bands:
        if band.maps.ndim == 3:
            many, _, wide = band.maps.shape
            pitch = wide * _cell(band) + GAP
            pitch = max(pitch, 58) if band.under and many * 58 <= AREA else pitch
            if many * pitch <= AREA + GAP:
                widest[many] = max(widest.get(many, 0), pitch)
    found = []
    for band in bands:
        own = band.maps.shape[-1] * _cell(band) + GAP
        many = len(band.maps)
        fits = band.maps.ndim == 3 and own <= widest.get(many, 0)
        found.append(widest[many] if fits else own)
    return found


# What is drawn.


def _draw_band(drawing: Drawing, band: _Band, pitch: float, y: float) -> float:
    """Draw a band from this height on; return where it ends."""
    drawing.line((20, y - GAP), (WIDTH - 20, y - GAP), "line")
    drawing.words((20, y + 8), fitting(band.name, 13, LEFT - 30, bold=True), 13, bold=True)
    for number, line in enumerate(band.lines):
        drawing.words((20, y + 26 + 15 * number), fitting(line, 10.5, LEFT - 30), 10.5, "soft")
    cell, least = _cell(band), y + 15 + 15 * len(band.lines)
    if band.maps.ndim == 1:
        return max(least, _draw_row(drawing, band, cell, y))
    many, high, wide = band.maps.shape
    across = max(1, int((AREA + GAP) // pitch))
    row = high * cell + GAP + (14 if band.under else 0)
    for number, values in enumerate(band.maps):
        x = LEFT + number % across * pitch + (pitch - GAP - wide * cell) / 2
        top = y + number // across * row
        _draw_map(drawing, (x, top), values, cell, band)
        if band.under:
            place = (x + wide * cell / 2, top + high * cell + 9)
            if pitch >= 50:
                drawing.words(place, band.under[number], 9, "soft", "middle")
    end: float = y + -(-many // across) * row - GAP
    return max(least, end)


def _draw_row(drawing: Drawing, band: _Band, cell: int, y: float) -> float:
    """Draw numbers that have no places, in lines as wide as the page."""
    values = band.maps
    across = AREA // cell
    tall = max(1, STRIP // cell) if len(values) <= 2 * across else 1
    for start in range(0, len(values), across):
        some = values[start : start + across]
        if cell == CELL:
            _draw_map(drawing, (LEFT, y), some[None], cell, band)
        else:
            strip = colours(some[None], band.limit).repeat(tall, axis=0)
            drawing.box((LEFT - 0.5, y - 0.5, len(some) * cell + 1, tall * cell + 1), "#999999")
            drawing.bitmap((LEFT, y), cell, strip)
        y += cell if cell == CELL else tall * cell
    return y


def _draw_map(
    drawing: Drawing, place: tuple[float, float], values: Values, cell: int, band: _Band
) -> None:
    high, wide = values.shape
    shades = grey(values) if band.grey else colours(values, band.limit)
    edge = (place[0] - 0.5, place[1] - 0.5, wide * cell + 1, high * cell + 1)
    if cell < CELL:
        drawing.box(edge, "#999999")
        drawing.bitmap(place, cell, shades)
        return
    for row in range(high):
        for column in range(wide):
            x, y = place[0] + column * cell, place[1] + row * cell
            shade = shades[row, column]
            drawing.box((x, y, cell, cell), "#{:02x}{:02x}{:02x}".format(*shade), "#999999")
            ink = "#ffffff" if shade @ np.array([0.3, 0.59, 0.11]) < 120 else "#1a1a1a"
            text = number_of(float(values[row, column]))
            drawing.words((x + cell / 2, y + cell / 2), text, SMALLEST, ink, "middle")


def colours(values: Values, limit: float) -> Pixels:
    """Return H x W x 3: blue below 0, white at 0, red above."""
    share = np.clip(values / limit if limit else values * 0, -1, 1)[..., None]
    ends = np.where(share < 0, _ENDS[0], _ENDS[2])
    mixed = _ENDS[1] + (ends - _ENDS[1]) * np.abs(share)
    return np.asarray(mixed.round(), np.uint8)


def grey(values: Values) -> Pixels:
    """Return H x W x 3, black at the lowest of the values and white at the highest."""
    low, high = float(values.min()), float(values.max())
    share = (values - low) / (high - low or 1.0)
    return np.repeat((255 * share).round().astype(np.uint8)[..., None], 3, -1)


def _draw_answer(drawing: Drawing, answer: Answer, step: Step, y: float) -> float:
    """Draw a line for each class: its votes where they fit, score and probability."""
    scores, products = step.values, answer.products
    drawing.line((20, y - GAP), (WIDTH - 20, y - GAP), "line")
    name = fitting(f"{step.stage}: scores", 13, LEFT - 30, bold=True)
    drawing.words((20, y + 8), name, 13, bold=True)
    voted = products is not None and products.shape[1] * CELL + 350 <= AREA
    lines = [step.said] + ["a vote is weight x input;", "their sum is the score"] * voted
    for number, line in enumerate(lines):
        drawing.words((20, y + 26 + 15 * number), line, 10.5, "soft")
    order = range(len(scores))
    if len(scores) > CLASSES:
        order = sorted(np.argsort(-scores)[:CLASSES].tolist())  # type: ignore[assignment]
    best, least = int(scores.argmax()), y + 15 + 15 * len(lines)
    row_height = CELL + 4 if voted else 23
    limit = float(np.abs(products).max()) if products is not None else 0.0
    for number in order:
        x, middle, bold = float(LEFT), y + row_height / 2 - 2, number == best
        label = fitting(answer.names[number], 12, 84, bold)
        drawing.words((x, middle), label, 12, "mark" if bold else "ink", bold=bold)
        x += 92
        if voted and products is not None and answer.biases is not None:
            row = products[number][None]
            _draw_map(drawing, (x, y), row, CELL, _Band("", [], row[None], limit))
            x += row.shape[1] * CELL + 6
            bias = answer.biases[number]
            said = f"{'−' if bias < 0 else '+'} {number_of(abs(float(bias)))} ="
            drawing.words((x + 50, middle), said, 10.5, "soft", "end")
            x += 56
        drawing.words((x + 36, middle), number_of(float(scores[number])), 12, "ink", "end", bold)
        _draw_bar(drawing, (x + 48, middle), float(answer.probabilities[number]), bold)
        y += row_height
    return max(y, least)


def _draw_bar(drawing: Drawing, place: tuple[float, float], share: float, bold: bool) -> None:
    (x, middle), wide, high = place, 80, 13
    drawing.box((x, middle - high / 2, wide, high), "box", "line")
    drawing.box((x, middle - high / 2, wide * share, high), "mark" if bold else "soft")
    drawing.words((x + wide + 58, middle), f"{100 * share:.1f} %", 10.5, "ink", "end", bold)
