"""Which patches of a folder excite a unit most: what a filter is a filter for.

Zeiler, Fergus 2014, arXiv:1311.2901, figure 2; of each photo the one place where the unit answers
most.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from zoo.data.preprocess import Pixels, Values
from zoo.engine.pipeline import batched
from zoo.explain.filters import feature_maps
from zoo.explain.places import tap
from zoo.explain.receptive import field_of
from zoo.network import Network

SMALLEST, LARGEST = 24, 0.5  # of a patch: pixels, and share of the picture's side
BATCH = 16


@dataclass(frozen=True, slots=True)
class Match:
    """A patch of a photo by its file, with the unit's answer; left, upper: where it begins."""

    answer: float
    file: str
    left: int
    upper: int


@dataclass(frozen=True, slots=True)
class Matches:
    """The best patches of each unit, the best first. side: of a patch. seen: of the field."""

    best: dict[int, list[Match]]
    side: int
    seen: tuple[int, int]


def matches(
    net: Network, stage: str, unit: int | None, photos: Iterable[tuple[str, Pixels]], count: int
) -> Matches:
    """Return the `count` patches that excite a unit most.

    unit: None is the `count` units whose answers differ most between photos. photos: files with
    what the network sees of them, read once; memory is constant. Raises UnknownStage.
    """
    found, about = field_of(net, stage), net.preprocess
    tapped = tap(net, stage)
    side = _patch(max(found.size), min(about.height, about.width))
    best: dict[int, list[Match]] = {}
    tops: list[Values] = []
    for some in batched(photos, BATCH):
        values = feature_maps(net, stage, np.stack([pixels for _, pixels in some])).values
        flat = values.reshape(*values.shape[:2], -1)  # N C places
        tops.append(flat.max(2))
        places = flat.argmax(2)
        for one in range(flat.shape[1]) if unit is None else [unit]:
            kept = best.setdefault(one, [])
            for (file, _), answer, place in zip(
                some, tops[-1][:, one], places[:, one], strict=True
            ):
                row, column = divmod(int(place), tapped.grid.width)
                left, upper = (
                    _start(tapped.across, column, side, about.width),
                    _start(tapped.down, row, side, about.height),
                )
                kept.append(Match(float(answer), file, left, upper))
            kept.sort(key=lambda match: -match.answer)
            del kept[count:]
    chosen = [unit] if unit is not None else _liveliest(tops, count)
    return Matches({one: best.get(one, []) for one in chosen}, side, found.size)


def _liveliest(tops: list[Values], count: int) -> list[int]:
    """Return the units whose answers differ most between photos, in their own scale."""
    if not tops:
        return []
    values = np.concatenate(tops)  # N C
    spread = values.std(0) / np.maximum(np.abs(values).mean(0), 1e-30)
    alive = values.max(0) > 0.2 * values.max(0).max()
    order = np.argsort(-np.where(alive, spread, -1), kind="stable")
    return [int(unit) for unit in order[:count]]


def _patch(field: int, side: int) -> int:
    """Return the side of a patch: the field's, or at most half of the picture."""
    return max(min(SMALLEST, side), min(field, round(LARGEST * side)))


def _start(axis: tuple[float, float], place: int, patch: int, side: int) -> int:
    """Return where a patch begins that has the middle of a place in its middle, or the edge."""
    step, start = axis
    return int(min(max(0, round(start + step * place + 0.5 - patch / 2)), side - patch))
