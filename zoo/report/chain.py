"""A network as a drawing: a box for each stage in rows, and where the cut falls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zoo.report.drawing import Drawing, fitting

ACROSS = 6  # boxes in a row at most
WIDE, HIGH, GAP, BETWEEN = 138, 78, 26, 44  # pixels of a box, between boxes, between rows
EDGE, TOP = 34, 84


@dataclass(frozen=True, slots=True)
class Stage:
    """A box: what is written in it. state: frozen, trained, or nothing to say."""

    name: str
    lines: tuple[str, ...]
    state: str = ""


def chain(title: str, about: str, stages: Sequence[Stage], cut: int | None) -> Drawing:
    """Return the drawing. cut: number of the last frozen stage, None where there is no cut."""
    rows = -(-len(stages) // ACROSS)
    across = max(4, -(-len(stages) // rows))
    width = 2 * EDGE + across * (WIDE + GAP) - GAP
    drawing = Drawing(width, TOP + rows * (HIGH + BETWEEN) + 18, title)
    drawing.words((EDGE, 28), fitting(title, 17, width - 2 * EDGE, bold=True), 17, bold=True)
    drawing.words((EDGE, 52), fitting(about, 11.5, width - 2 * EDGE), 11.5, "soft")
    for number, stage in enumerate(stages):
        x, y = _place(number, across)
        if number:
            _arrow(drawing, number, across)
        fill = {"frozen": "cold", "trained": "warm"}.get(stage.state, "box")
        drawing.box((x, y, WIDE, HIGH), fill, "line")
        drawing.words((x + 10, y + 15), fitting(stage.name, 13, WIDE - 16, True), 13, bold=True)
        for at, line in enumerate(stage.lines):
            place = (x + 10, y + 33 + 15 * at)
            drawing.words(place, fitting(line, 10.5, WIDE - 16), 10.5, "soft")
    if cut is not None:
        _cut(drawing, cut, across)
    _legend(drawing, {stage.state for stage in stages} - {""})
    return drawing


def _place(number: int, across: int) -> tuple[float, float]:
    row, column = divmod(number, across)
    return EDGE + column * (WIDE + GAP), TOP + row * (HIGH + BETWEEN)


def _arrow(drawing: Drawing, number: int, across: int) -> None:
    """Draw the way into a stage from the one before it, which may be in the row above."""
    x, y = _place(number, across)
    middle = y + HIGH / 2
    if number % across:
        drawing.line((x - GAP, middle), (x, middle), "soft")
    else:
        last, above = _place(number - 1, across)
        corner, start, under = last + WIDE, above + HIGH / 2, y - BETWEEN / 2
        side, left = corner + GAP / 2, x - GAP / 2
        way = [(corner, start), (side, start), (side, under), (left, under), (left, middle)]
        for one, other in zip(way, [*way[1:], (x, middle)], strict=True):
            drawing.line(one, other, "soft")
    for slope in (-4, 4):
        drawing.line((x - 6, middle + slope), (x, middle), "soft")


def _cut(drawing: Drawing, number: int, across: int) -> None:
    """Draw a bar behind the last frozen stage."""
    x, y = _place(number, across)
    side = x + WIDE + (4 if number % across == across - 1 else GAP / 2)
    drawing.box((side - 1.5, y - 8, 3, HIGH + 16), "mark")
    drawing.words((side, y - 15), "cut", 11, "mark", "middle", bold=True)


def _legend(drawing: Drawing, states: set[str]) -> None:
    x, y = float(EDGE), drawing.height - 24
    for state, fill in (("frozen", "cold"), ("trained", "warm")):
        if state in states:
            drawing.box((x, y - 6, 12, 12), fill, "line")
            drawing.words((x + 18, y), state, 11, "soft")
            x += 90
