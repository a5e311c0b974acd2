"""Photos of a folder to label next: unsure ones, that differ."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from zoo.errors import DataError
from zoo.head import diversity
from zoo.predict.embed import Wanted, open_embedder
from zoo.predict.policy import Unknown
from zoo.predict.predictor import Opening, open_predictor
from zoo.predict.rows import Prediction, Predictor

LEAST, TIMES = 1000, 10  # photos that are chosen from: at least so many, and so many for each


@dataclass(frozen=True, slots=True)
class Pick:
    """A photo to be labelled, what it is taken for, and why it was chosen."""

    path: str
    file: str
    predicted: str
    probability: float
    why: str


def opened(name: str, how: Opening) -> Predictor:
    """Return what gives class scores with the features before them; of any run of classes."""
    ours = open_predictor(name, replace(how, features=True))
    if ours.features:
        return ours
    embedder = open_embedder(name, Wanted(guesses=True), how)  # by torch, whatever the head is
    return replace(ours, engine=embedder.engine, load=embedder.load, features=True)


def picks(rows: Iterable[Prediction], count: int, unknown: Unknown | None) -> list[Pick]:
    """Return up to so many photos: unsure ones, that differ. rows: with all classes and features.

    They are chosen from the LEAST or more that are least sure, so memory stays constant. Raises
    DataError where no photo can be read.
    """
    most = max(LEAST, TIMES * count)
    pool: list[tuple[float, int, Prediction]] = []
    for number, row in enumerate(rows):
        if row.status != "ok":
            continue
        item = (-_margin(row), -number, row)
        if len(pool) < most:
            heapq.heappush(pool, item)
        else:
            heapq.heappushpop(pool, item)
    if not pool:
        raise DataError("no photo can be read, or all are known", "give a folder of new photos")
    some = [row for _, _, row in sorted(pool, key=lambda item: -item[1])]
    names = sorted(some[0].labels)
    order = {name: number for number, name in enumerate(names)}
    table = np.zeros((len(some), len(names)))
    for number, row in enumerate(some):
        table[number, [order[name] for name in row.labels]] = row.probabilities
    features = np.stack([row.features for row in some if row.features is not None])
    return [_pick(some[at], unknown) for at in diversity.chosen(features, table, count)]


def _margin(row: Prediction) -> float:
    """Return by how much the first class is likelier than the second."""
    first, *rest = row.probabilities[:2]
    return first - sum(rest)


def _pick(row: Prediction, unknown: Unknown | None) -> Pick:
    pairs = list(zip(row.labels, row.probabilities, strict=True))[:2]
    why = " or ".join(f"{name} {chance:.2f}" for name, chance in pairs)
    if unknown is not None and (away := unknown.of(row.features)) > unknown.limit:
        why += f"; like no training photo: {away:.3g} away, {unknown.limit:.3g} is usual at most"
    return Pick(row.path, row.file, row.labels[0], row.probabilities[0], why)
