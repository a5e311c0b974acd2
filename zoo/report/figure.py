"""Figures of matplotlib as PNG files; no display is needed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from zoo.disk import replacing, writing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

DOTS = 120  # an inch


@contextmanager
def figure_in(path: Path, inches: tuple[float, float]) -> Iterator[Figure]:
    """Yield a figure that is written at the end. Replaces the file, whole or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=inches, dpi=DOTS, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    yield figure
    with replacing(path) as temporary, writing(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that the font has not
        with open(temporary, "wb") as file:
            canvas.print_png(file)  # type: ignore[no-untyped-call]


def legend(
    axes: Axes,
    lines: Sequence[Line2D],
    names: Sequence[str],
    place: Literal["lower right", "upper left", "center left"],
    beside: tuple[float, float] | None = None,
    columns: int = 1,
) -> None:
    """Write names as they are: `_` and `$`, which matplotlib takes for its own, included.

    columns: in small letters where there are several, or more lines than the figure is high.
    """
    numbers = [str(number) for number in range(len(lines))]
    small = 7 if columns > 1 or len(lines) > 24 else None
    drawn = axes.legend(
        lines, numbers, loc=place, bbox_to_anchor=beside, ncols=columns, fontsize=small
    )
    for text, name in zip(drawn.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(name.encode("utf-8", "replace").decode())
