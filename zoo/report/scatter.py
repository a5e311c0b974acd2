"""Points in a plane, coloured by class, as a PNG; no display is needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.report.figure import figure_in, legend
from zoo.report.projection import Projection

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMED = 20  # classes with a colour and a line in the legend
INCHES = (9.0, 7.0)
REST, NONE = "#bbbbbb", "#4477aa"


def draw(path: Path, projection: Projection, classes: Sequence[str], title: str) -> None:
    """Draw the points. classes: of each, empty if not known. Replaces the file, whole or not at
    all.
    """
    groups = grouped(classes)
    size = 36 if len(classes) < 200 else 12 if len(classes) < 2000 else 6
    with figure_in(path, INCHES) as figure:
        axes = figure.add_subplot()
        for _, colour, rows in groups:
            points = projection.points[rows]
            axes.scatter(points[:, 0], points[:, 1], s=size, color=colour, alpha=0.8, linewidths=0)
        axes.set_title(title, parse_math=False)
        axes.set_xlabel(projection.axes[0])
        axes.set_ylabel(projection.axes[1])
        if projection.explained is None:
            axes.set_xticks([])
            axes.set_yticks([])
        if len(groups) > 1 or groups[0][0]:
            _legend(axes, groups)


def grouped(classes: Sequence[str]) -> list[tuple[str, str, list[int]]]:
    """Return (name, colour, rows) of each class in string order, what is beyond NAMED together,
    first.
    """
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    counts = Counter(name for name in classes if name)
    frequent = sorted(name for name, _ in counts.most_common(NAMED))
    palette = colormaps["tab10" if len(frequent) <= 10 else "tab20"]
    rows: dict[str, list[int]] = {name: [] for name in ("", *frequent)}
    others: list[int] = []
    for row, name in enumerate(classes):
        rows.get(name, others).append(row)
    groups = [(f"{len(counts) - len(frequent)} other classes", REST, others)] if others else []
    if rows[""]:
        groups.append(("", NONE if not frequent else REST, rows[""]))
    colours = (to_hex(palette(number)) for number in range(len(frequent)))
    groups += [(name, colour, rows[name]) for name, colour in zip(frequent, colours, strict=True)]
    return groups


def _legend(axes: Axes, groups: Sequence[tuple[str, str, list[int]]]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colour, marker="o", linestyle="") for _, colour, _ in groups]
    names = [(name or "not known")[:40] for name, _, _ in groups]
    legend(axes, handles, names, "center left", (1.0, 0.5))
