"""The page of a ranking: backbones by accuracy and time, with what the table says of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.report.page import write_page
from zoo.report.svg import Axis, Chart
from zoo.text import percent

NAMED = 12  # points of the chart that are named, the most accurate first


@dataclass(frozen=True, slots=True)
class Point:
    """A network: milliseconds a photo, accuracy with half its interval, and whether it is best.

    best: no other is at least as accurate and faster.
    """

    name: str
    ms: float
    accuracy: float
    interval: float
    best: bool


Table = tuple[Sequence[str], Sequence[Sequence[str]]]  # header and rows
Found = tuple[Sequence[Point], Table, Sequence[tuple[str, str]]]  # points, table, (name, error)


def write(path: Path, data: str, found: Found, about: Sequence[str], version: str) -> None:
    """Write the page of a ranking on photos of this name. Raises WriteError."""
    points, (header, rows), failed = found
    write_page(
        path,
        "rank.html.j2",
        version=version,
        title=f"Backbones for {data}",
        about=[line for line in about if line],
        charts=[_chart(points)] if len(points) > 1 else [],
        header=header,
        rows=rows,
        failed=failed,
    )


def _chart(points: Sequence[Point]) -> str:
    bounds = [p.accuracy + sign * p.interval for p in points for sign in (-1, 1)]
    best = max(points, key=lambda p: p.accuracy)
    chart = Chart(
        Axis.around("milliseconds a photo", [p.ms for p in points], log=True),
        Axis.around("accuracy with its 95 % interval", bounds, unit="%"),
        "Accuracy and time",
        f"{best.name} is the most accurate, {percent(best.accuracy)}. The best trade-offs are "
        f"{', '.join(p.name for p in points if p.best)}.",
    )
    for p in points:
        chart.bar(p.ms, p.accuracy - p.interval, p.accuracy + p.interval, "line")
    trade = sorted((p.ms, p.accuracy) for p in points if p.best)
    if len(trade) > 1:
        chart.line(trade, "soft", dash="4 4")
    named = sorted(points, key=lambda p: (-p.best, -p.accuracy))[:NAMED]
    for p in points:
        tip = f"{p.name}: {percent(p.accuracy)}, {p.ms:.1f} ms"
        chart.dot((p.ms, p.accuracy), "c1" if p.best else "c0", 5, tip)
        if p in named:
            right = chart.x.share(p.ms) > 0.6
            chart.note((p.ms, p.accuracy), p.name, "end" if right else "start")
    return chart.svg()
