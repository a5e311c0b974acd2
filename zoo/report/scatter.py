"""Points in a plane, coloured by class, as a PNG; no display is needed."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoo.disk import replacing, writing
from zoo.report.projection import Projection

NAMED = 20  # classes with a colour and a line in the legend
INCHES, DOTS = (9.0, 7.0), 120
REST, NONE = "#bbbbbb", "#4477aa"


def draw(path: Path, projection: Projection, classes: Sequence[str], title: str) -> None:
    """classes: of each point; an empty one is not known. Replaces the file, whole or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=INCHES, dpi=DOTS, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    groups = grouped(classes)
    size = 36 if len(classes) < 200 else 12 if len(classes) < 2000 else 6
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
        legend(axes, [(name or "not known", colour) for name, colour, _ in groups])
    with replacing(path) as temporary, writing(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that the font has not
        with open(temporary, "wb") as file:
            canvas.print_png(file)  # type: ignore[no-untyped-call]


def grouped(classes: Sequence[str]) -> list[tuple[str, str, list[int]]]:
    """(name, colour, rows) of each class in string order, what is beyond NAMED together, first."""
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


def legend(axes: Any, entries: Sequence[tuple[str, str]]) -> None:
    """Names as they are: `_` and `$`, which matplotlib takes for its own, included."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colour, marker="o", linestyle="") for _, colour in entries]
    numbers = [str(number) for number in range(len(entries))]
    made = axes.legend(handles, numbers, loc="center left", bbox_to_anchor=(1.0, 0.5))
    for text, (name, _) in zip(made.get_texts(), entries, strict=True):
        text.set_parse_math(False)
        text.set_text(name.encode("utf-8", "replace").decode()[:40])
