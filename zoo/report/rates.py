"""The curve of a learning-rate range test as a PNG; no display is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from zoo.report.figure import figure_in

INCHES = (8.0, 5.0)
RAW, SMOOTH, MARKS = "#cccccc", "#4477aa", ("#228833", "#ee6677", "#ccbb44")


def draw(
    path: Path,
    rates: Sequence[float],
    losses: Sequence[float],
    smooth: Sequence[float],
    marks: Mapping[str, float],
    title: str,
) -> None:
    """Draw the loss of each step over its rate; marks: rates by name. Replaces the file whole."""
    with figure_in(path, INCHES) as figure:
        axes = figure.add_subplot(xscale="log", xlabel="learning rate", ylabel="loss of the batch")
        axes.plot(rates, losses, color=RAW, linewidth=1, label="each step")
        axes.plot(rates, smooth, color=SMOOTH, linewidth=2, label="smoothed")
        for (name, rate), colour in zip(marks.items(), MARKS, strict=False):
            axes.axvline(rate, color=colour, linestyle="--", label=f"{name} {rate:.1e}")
        # The last steps of a curve that diverged would flatten all the others.
        top = 1.1 * max(smooth[: max(1, len(smooth) // 2)])
        axes.set_ylim(min(0.0, *smooth), top)
        axes.set_title(title, parse_math=False)
        axes.legend(loc="upper left" if smooth[0] < 0.5 * top else "lower left")
