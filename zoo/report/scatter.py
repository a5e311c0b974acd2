"""Points in a plane by class or by error, as a PNG; no display is needed.

Each class has a colour and a marker of its own. The colours are those of Okabe, Ito 2008, "Color
Universal Design", which people with any kind of colour vision tell apart; the markers do without.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.report.figure import figure_in, legend
from zoo.report.projection import Projection

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#000000")
MARKERS = "os^DvPX*<>phd"  # 13, so that no two of 104 classes have the same of both
NAMED = len(COLOURS) * len(MARKERS)  # classes with a line in the legend
REST, NONE, WRONG, EDGE = "#bbbbbb", "#4477aa", "#d55e00", "#333333"
HEIGHT, WIDTH, COLUMN = 7.0, 9.0, 1.4  # inches; of each further column of the legend
LINES = 38  # of a column


@dataclass(frozen=True, slots=True)
class Group:
    """Points that look the same, and their line in the legend; no name: not known."""

    name: str
    colour: str
    marker: str
    rows: list[int]


def draw(
    path: Path,
    projection: Projection,
    classes: Sequence[str],
    title: str,
    wrong: Sequence[bool | None] = (),
    by: str = "class",
) -> None:
    """Draw the points. Replaces the file, whole or not at all.

    classes: of each, empty if not known. wrong: whether the network takes it for another class,
    None where that is not known; these are ringed. by: class, or error, which shows them alone.
    """
    groups = by_error(wrong) if by == "error" else grouped(classes)
    ringed = [row for row, bad in enumerate(wrong) if bad] if by == "class" else []
    size = 40 if len(classes) < 200 else 22 if len(classes) < 2000 else 10
    columns = -(-(len(groups) + bool(ringed)) // LINES)
    edge = EDGE if len(classes) < 1000 else "none"
    with figure_in(path, (WIDTH + COLUMN * (columns - 1), HEIGHT)) as figure:
        axes = figure.add_subplot()
        for group in groups:
            points = projection.points[group.rows]
            axes.scatter(points[:, 0], points[:, 1], s=size, marker=group.marker, alpha=0.85,
                         linewidths=0.4, edgecolors=edge, facecolors=group.colour)  # fmt: skip
        if ringed:
            points = projection.points[ringed]
            axes.scatter(points[:, 0], points[:, 1], s=4 * size, marker="o", facecolors="none",
                         edgecolors="black", linewidths=1.2)  # fmt: skip
        axes.set_title(title, parse_math=False)
        axes.set_xlabel(projection.axes[0])
        axes.set_ylabel(projection.axes[1])
        if projection.explained is None:
            axes.set_xticks([])
            axes.set_yticks([])
        if len(groups) > 1 or groups[0].name or ringed:
            _legend(axes, groups, len(ringed), columns)


def grouped(classes: Sequence[str]) -> list[Group]:
    """Return each class in string order; before them what is not known, or is beyond NAMED."""
    counts = Counter(name for name in classes if name)
    frequent = sorted(name for name, _ in counts.most_common(NAMED))
    rows: dict[str, list[int]] = {name: [] for name in ("", *frequent)}
    others: list[int] = []
    for row, name in enumerate(classes):
        rows.get(name, others).append(row)
    groups = []
    if others:
        groups.append(Group(f"{len(counts) - len(frequent)} other classes", REST, "o", others))
    if rows[""]:
        groups.append(Group("", NONE if not frequent else REST, "o", rows[""]))
    looks = zip(frequent, cycle(COLOURS), cycle(MARKERS))
    return groups + [Group(name, colour, marker, rows[name]) for name, colour, marker in looks]


def by_error(wrong: Sequence[bool | None]) -> list[Group]:
    """Return what is right, wrong and not known, those that are wrong on top."""
    looks = ((None, "class not known", REST, "o"), (False, "right", COLOURS[4], "o"),
             (True, "taken for another", WRONG, "X"))  # fmt: skip
    found = [(name, colour, marker, [row for row, bad in enumerate(wrong) if bad is said])
             for said, name, colour, marker in looks]  # fmt: skip
    return [Group(f"{name}: {len(rows):,}", colour, marker, rows)
            for name, colour, marker, rows in found if rows]  # fmt: skip


def _legend(axes: Axes, groups: Sequence[Group], ringed: int, columns: int) -> None:
    from matplotlib.lines import Line2D

    handles: list[Line2D] = [
        Line2D([], [], color=group.colour, marker=group.marker, linestyle="", markeredgecolor=EDGE)
        for group in groups
    ]
    names = [(group.name or "not known")[: 40 if columns == 1 else 16] for group in groups]
    if ringed:
        handles.append(Line2D([], [], color="none", marker="o", markersize=11, linestyle="",
                              markeredgecolor="black", markeredgewidth=1.2))  # fmt: skip
        names.append(f"taken for another: {ringed:,}")
    legend(axes, handles, names, "center left", (1.0, 0.5), columns)
