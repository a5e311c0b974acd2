"""Charts as inline SVG: a few shapes on two axes, in the page's own colours.

Colours are CSS variables of the page (`--c0` … `--c9`, `--ink`, `--line`), so a chart is as light
or dark as its page. matplotlib's SVG would be ten times as large, and as slow to import as a whole
fine-tune takes. A chart has a title and a sentence for who does not see it; texts are escaped.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 20, 44, 42  # margins of the axes
COLOURS = 10
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Axis:
    """What an axis measures, from low to high. unit: `%` writes shares as percentages."""

    label: str
    low: float
    high: float
    unit: str = ""
    log: bool = False

    @classmethod
    def around(cls, label: str, values: Sequence[float], **more: bool | str) -> Axis:
        """Return the axis that holds these values, with a little room on both sides."""
        finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
        low, high = min(finite), max(finite)
        if more.get("log"):
            return cls(label, low / 1.3, high * 1.3, log=True)
        room = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
        below = 0.0 if low >= 0 and low - room < 0 else low - room
        return cls(label, below, high + room, unit=str(more.get("unit", "")))

    def share(self, value: float) -> float:
        """Return where a value lies between the ends, 0 to 1; outside it is at an end."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, low))
        return min(1.0, max(0.0, (value - low) / ((high - low) or 1.0)))

    def ticks(self) -> list[tuple[float, str]]:
        """Return about five round values with their texts."""
        if self.log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            powers = [10.0**k for k in range(first, last + 1)]
            values = [value for value in powers if self.low <= value <= self.high]
            if len(values) < 3:
                finer = (power * k for power in powers for k in (1, 2, 5))
                values = [value for value in finer if self.low <= value <= self.high]
            if len(values) < 2:
                values = [self.low * (self.high / self.low) ** (k / 4) for k in (1, 2, 3)]
            return [(value, f"{value:.2g}") for value in values]
        step = _round_step((self.high - self.low) / 5)
        first = math.ceil(self.low / step - 1e-9)
        values = [k * step for k in range(first, math.floor(self.high / step + 1e-9) + 1)]
        return [(value, self._written(value, step)) for value in values]

    def _written(self, value: float, step: float) -> str:
        if self.unit == "%":
            digits = max(0, -math.floor(math.log10(step * 100) + 1e-9))
            return f"{100 * value:.{digits}f} %"
        return f"{value:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


def _round_step(rough: float) -> float:
    """Return the least of 1, 2, 5 times a power of ten that is no smaller."""
    power = 10.0 ** math.floor(math.log10(rough or 1.0))
    return next(power * k for k in (1, 2, 5, 10) if power * k >= rough * (1 - 1e-9))


class Chart:
    """Collects shapes on two axes; `svg` returns the drawing."""

    def __init__(self, x: Axis, y: Axis, title: str, described: str) -> None:
        """described: what the chart shows in a sentence, for who does not see it."""
        self.x, self.y, self.title, self.described = x, y, title, described
        self.shapes: list[str] = []
        self.names: list[tuple[str, str]] = []

    def at(self, point: Point) -> Point:
        """Return the place of a point in the drawing."""
        across = LEFT + self.x.share(point[0]) * (WIDTH - LEFT - RIGHT)
        return across, HEIGHT - BOTTOM - self.y.share(point[1]) * (HEIGHT - TOP - BOTTOM)

    def line(self, points: Sequence[Point], colour: str, name: str = "", dash: str = "") -> None:
        """Draw a line through the points that are numbers."""
        there = [self.at(point) for point in points if all(map(math.isfinite, point))]
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in there)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.shapes.append(f'<polyline points="{places}" stroke="var(--{colour})"{dashed}/>')
        if name:
            self.names.append((name, colour))

    def steps(self, points: Sequence[Point], colour: str) -> None:
        """Draw a line that stays at a height until the next point."""
        corners = [points[0]]
        for before, after in itertools.pairwise(points):
            corners += [(after[0], before[1]), after]
        self.line(corners, colour)

    def dot(self, point: Point, colour: str, radius: float = 4.0, tip: str = "") -> None:
        """Draw a dot. tip: what a pointer over it says."""
        x, y = self.at(point)
        title = f"<title>{escape(tip)}</title>" if tip else ""
        self.shapes.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="var(--{colour})">'
            f"{title}</circle>"
        )

    def bar(self, x: float, low: float, high: float, colour: str) -> None:
        """Draw an upright line, as an interval."""
        self.line([(x, low), (x, high)], colour)

    def note(self, point: Point, text: str, anchor: str = "middle", lift: float = 9) -> None:
        """Write a text beside a point."""
        x, y = self.at(point)
        self.shapes.append(
            f'<text class="note" x="{x:.1f}" y="{y - lift:.1f}" text-anchor="{anchor}">'
            f"{escape(text)}</text>"
        )

    def svg(self) -> str:
        """Return the drawing as an element for a page."""
        return (
            f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="{escape(f"{self.title}. {self.described}")}">'
            f"{self._axes()}<g fill='none' stroke-width='2'>{''.join(self.shapes)}</g>"
            f"{self._heading()}</svg>"
        )

    def _heading(self) -> str:
        """Return the title, and the names of lines in their colours."""
        parts = [f'<text class="title" x="0" y="15">{escape(self.title)}</text>']
        right = float(WIDTH - RIGHT)
        for name, colour in reversed(self.names):
            wide = 6.4 * len(name)
            parts.append(
                f'<text x="{right:.0f}" y="15" text-anchor="end">{escape(name)}</text>'
                f'<rect x="{right - wide - 14:.0f}" y="6" width="10" height="10" rx="2" '
                f'fill="var(--{colour})"/>'
            )
            right -= wide + 26
        return "".join(parts)

    def _axes(self) -> str:
        low, high = HEIGHT - BOTTOM, TOP
        parts = []
        for value, text in self.y.ticks():
            y = self.at((self.x.low, value))[1]
            parts.append(
                f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
                f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
            )
        for value, text in self.x.ticks():
            x = self.at((value, self.y.low))[0]
            parts.append(
                f'<path class="grid" d="M{x:.1f} {low}v5"/>'
                f'<text class="tick" x="{x:.1f}" y="{low + 18}" text-anchor="middle">{text}</text>'
            )
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(f'<path class="axis" d="M{LEFT} {high}V{low}H{WIDTH - RIGHT}"/>')
        parts.append(
            f'<text x="{middle:.0f}" y="{HEIGHT - 5}" text-anchor="middle">'
            f"{escape(self.x.label)}</text>"
        )
        parts.append(f'<text class="tick" x="0" y="{high - 12}">{escape(self.y.label)}</text>')
        return "".join(parts)


def strip(value: float, low: float, high: float) -> str:
    """Return a small drawing of a share with its interval, for a row of a table that says both."""
    x, left, right = (4 + 112 * share for share in (value, low, high))
    return (
        '<svg class="strip" viewBox="0 0 120 16" aria-hidden="true">'
        f'<path class="grid" d="M4 8H116"/><path d="M{left:.1f} 8H{right:.1f}" '
        f'stroke="var(--c0)" stroke-width="3" opacity=".55"/>'
        f'<circle cx="{x:.1f}" cy="8" r="4" fill="var(--c0)"/></svg>'
    )
