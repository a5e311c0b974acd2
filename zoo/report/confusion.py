"""Who is taken for whom, as a picture: a row for each class, and a column for each answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zoo.report.figure import figure_in

_MOST, _NUMBERS = 60, 24  # classes that are drawn at all, and with a number in each cell


def draw(path: Path, classes: Sequence[str], counts: Sequence[Sequence[int]]) -> None:
    """Write the picture of a matrix, true classes downwards; the first classes where many."""
    names, rows = classes[:_MOST], [row[:_MOST] for row in counts[:_MOST]]
    shares = [[cell / max(1, sum(row)) for cell in row] for row in rows]
    side = 2.5 + 0.32 * len(names)
    with figure_in(path, (side, side)) as figure:
        axes = figure.add_subplot()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set_xlabel("answer")
        axes.set_ylabel("class")
        axes.set_xticks(range(len(names)))
        axes.set_yticks(range(len(names)))
        for labels in (axes.set_xticklabels(names, rotation=90), axes.set_yticklabels(names)):
            for label in labels:
                label.set_parse_math(False)
        for down, row in enumerate(rows if len(names) <= _NUMBERS else ()):
            for across, cell in enumerate(row):
                colour = "white" if shares[down][across] > 0.5 else "black"
                if cell:
                    axes.text(across, down, str(cell), ha="center", va="center", color=colour)
