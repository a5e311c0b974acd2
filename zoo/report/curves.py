"""Can the probabilities be believed, and what does it cost to answer less often? Both as a PNG."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.disk import replacing, writing
from zoo.metrics import BINS, Array, aurc, calibration_error, reliability, risk_coverage

INCHES, DOTS = (11.0, 5.0), 120
COLOURS = 10


@dataclass(frozen=True, slots=True)
class Line:
    """One network: the probability of each answer, and whether it is right."""

    name: str
    probability: Array
    correct: Array


def draw(path: Path, lines: Sequence[Line], title: str) -> None:
    """The reliability diagram and the risk-coverage curve. Replaces the file, whole or not at all.

    Guo et al. 2017, arXiv:1706.04599, figure 1; Geifman, El-Yaniv 2017, arXiv:1705.08500, figure 1.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=INCHES, dpi=DOTS, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    draw_reliability(left, lines)
    draw_risk(right, lines)
    figure.suptitle(title, parse_math=False)
    with replacing(path) as temporary, writing(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that the font has not
        with open(temporary, "wb") as file:
            canvas.print_png(file)  # type: ignore[no-untyped-call]


def draw_reliability(axes: Any, lines: Sequence[Line]) -> None:
    """A dot for each bin that has photos, the larger the more; on the diagonal is as it says."""
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
    legend(axes, entries, "lower right")


def draw_risk(axes: Any, lines: Sequence[Line]) -> None:
    """A step for each threshold, from the surest photo to all."""
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
    legend(axes, entries, "upper left")


def legend(axes: Any, entries: Sequence[tuple[str, str]], place: str) -> None:
    """Names as they are: `_` and `$`, which matplotlib takes for its own, included."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colour) for _, colour in entries]
    made = axes.legend(handles, [str(number) for number in range(len(entries))], loc=place)
    for text, (name, _) in zip(made.get_texts(), entries, strict=True):
        text.set_parse_math(False)
        text.set_text(name.encode("utf-8", "replace").decode()[-60:])
