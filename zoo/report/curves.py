"""Can the probabilities be believed, and what does it cost to answer less often? Both as a PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from zoo.metrics import BINS, Array, aurc, calibration_error, reliability, risk_coverage
from zoo.report.figure import figure_in, legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INCHES = (11.0, 5.0)
COLOURS = 10


@dataclass(frozen=True, slots=True)
class Line:
    """One network: the probability of each answer, and whether it is right."""

    name: str
    probability: Array
    correct: Array


def draw(path: Path, lines: Sequence[Line], title: str) -> None:
    """Draw the reliability diagram and the risk-coverage curve. Replaces the file as a whole.

    Guo et al. 2017, arXiv:1706.04599, figure 1; Geifman, El-Yaniv 2017, arXiv:1705.08500, figure 1.
    """
    with figure_in(path, INCHES) as figure:
        left, right = figure.subplots(1, 2)
        _draw_reliability(left, lines)
        _draw_risk(right, lines)
        figure.suptitle(title, parse_math=False)


def _draw_reliability(axes: Axes, lines: Sequence[Line]) -> None:
    """Draw a dot for each bin that has photos, the larger the more."""
    axes.plot([0, 1], [0, 1], color="#999999", linestyle="--", linewidth=1)
    entries = []
    for number, line in enumerate(lines):
        photos, mean, accuracy = reliability(line.probability, line.correct)
        full, colour = photos > 0, f"C{number % COLOURS}"
        axes.plot(mean[full], accuracy[full], color=colour, linewidth=1)
        area = 10 + 190 * photos[full] / photos.max()
        axes.scatter(mean[full], accuracy[full], s=area, color=colour, alpha=0.7, linewidths=0)
        ece = calibration_error(line.probability, line.correct)
        entries.append((f"{line.name}: ECE {100 * ece:.1f} %", colour))
    axes.set(xlim=(0, 1), ylim=(0, 1.02), title=f"Reliability, {BINS} bins")
    axes.set(xlabel="probability of the answer", ylabel="share of right answers")
    _legend(axes, entries, "lower right")


def _draw_risk(axes: Axes, lines: Sequence[Line]) -> None:
    """Draw a step for each threshold, from the surest photo to all."""
    entries = []
    for number, line in enumerate(lines):
        _, kept, risk = risk_coverage(line.probability, line.correct)
        colour = f"C{number % COLOURS}"
        axes.step(100 * kept / len(line.correct), 100 * risk, where="post", color=colour)
        area = aurc(line.probability, line.correct)
        entries.append((f"{line.name}: area {area:.3f}", colour))
    highest = max(float(np.max(risk_coverage(x.probability, x.correct)[2])) for x in lines)
    axes.set(xlim=(0, 100), ylim=(0, 105 * highest or 1), title="Risk and coverage")
    axes.set(xlabel="photos answered, the surest first (%)", ylabel="wrong among them (%)")
    _legend(axes, entries, "upper left")


def _legend(
    axes: Axes, entries: Sequence[tuple[str, str]], place: Literal["lower right", "upper left"]
) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colour) for _, colour in entries]
    legend(axes, handles, [name[-60:] for name, _ in entries], place)
