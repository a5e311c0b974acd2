"""Features of val photos as points in a plane, in a page: which photos the network finds alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from zoo.metrics import Array
from zoo.report.answers import Answer
from zoo.report.projection import FEWEST, project
from zoo.report.svg import COLOURS

POINTS = 500
WIDTH, HEIGHT, MARGIN = 720, 460, 14


@dataclass(frozen=True, slots=True)
class Mapped:
    """Features N x D, of the photos with these paths in the data. about: what they are."""

    paths: Sequence[str]
    rows: Array
    about: str = "what the head sees"


def drawn(mapped: Mapped, answers: Sequence[Answer]) -> dict[str, Any] | None:
    """Return the map of at most POINTS photos, with its legend; None where they are too few."""
    number = {answer.path: k for k, answer in enumerate(answers)}
    there = [(row, number[path]) for row, path in enumerate(mapped.paths) if path in number]
    if len(there) < FEWEST:
        return None
    places = np.linspace(0, len(there) - 1, min(len(there), POINTS)).astype(int)
    some = [there[place] for place in places]
    found = project(mapped.rows[[row for row, _ in some]])
    numbers = [k for _, k in some]
    names = [", ".join(answers[k].label) for k in numbers]
    colours = _colours(names)
    points = _placed(found.points)
    shapes = [
        _point(point, answers[k], k, colours.get(name, "soft"))
        for point, k, name in zip(points, numbers, names, strict=True)
    ]
    legend = [*((name, colour) for name, colour in colours.items())]
    if rest := len(set(names) - colours.keys()):
        legend.append((f"{rest} other classes", "soft"))
    share = sum(found.explained or (0.0,))
    return {"shapes": "".join(shapes), "numbers": numbers, "legend": legend, "share": share,
            "points": len(some), "of": len(there), "about": mapped.about,
            "width": WIDTH, "height": HEIGHT}  # fmt: skip


def _colours(names: Sequence[str]) -> dict[str, str]:
    """Return the commonest classes' colours, in string order."""
    frequent = sorted(name for name, _ in Counter(names).most_common(COLOURS))
    return {name: f"c{k}" for k, name in enumerate(frequent)}


def _placed(points: Array) -> list[tuple[float, float]]:
    """Return the points within the drawing; a few far ones do not shrink all others."""
    rising, few = np.sort(points, axis=0), len(points) // 200  # np.percentile imports numpy.ma
    low, high = rising[few], rising[-1 - few]
    shares = ((points - low) / np.where(high > low, high - low, 1.0)).clip(0, 1)
    room = np.array([WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN])
    return [(float(x), float(y)) for x, y in MARGIN + shares * room]


def _point(point: tuple[float, float], answer: Answer, k: int, colour: str) -> str:
    """Return a dot, or a cross where the run is wrong; its colour is that of its label."""
    x, y = point
    label = escape(", ".join(answer.label) or "no label")
    about = f'data-photo="{k}" data-x="{x:.1f}" data-y="{y:.1f}"'
    if answer.right:
        return (f'<circle {about} cx="{x:.1f}" cy="{y:.1f}" r="5" fill="var(--{colour})" '
                f'aria-label="{label}"/>')  # fmt: skip
    told = escape(", ".join(answer.predicted) or "no label")
    arms = f"M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10"
    return (f'<path {about} d="{arms}" stroke="var(--{colour})" stroke-width="3" '
            f'aria-label="{label}, taken for {told}"/>')  # fmt: skip
