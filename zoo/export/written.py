"""What a run wrote down of its val photos, as what an exported file is compared with.

val.csv has of each photo what it was taken for, and how probable that was: so no network need
answer again.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from zoo.data.samples import SEPARATOR
from zoo.errors import RunError
from zoo.export import basis
from zoo.export.basis import About, Recalled, Reference
from zoo.run import Run

SATURATED = 0.9999  # a probability above says little about the score behind it


def recalled(run: Run, photos: Sequence[Path], about: About, most: int) -> Recalled | None:
    """Return up to so many of the photos with what the run wrote down of them.

    None where it did not write, of too few, in another precision, or what says little.
    """
    rows, places = _written(run), {name: k for k, name in enumerate(about.classes)}
    known = [path for path in photos if path in rows and places.keys() >= set(rows[path][0])]
    if run.record["precision"] != "fp32" or len(known) < basis.FEWEST:
        return None
    pictures = basis.readable(known, about.preprocess, most)
    told = np.zeros((len(pictures), len(places)), bool)
    probabilities = np.full(told.shape, np.nan)
    for number, (path, _) in enumerate(pictures):
        for label, share in zip(*rows[path], strict=True):
            told[number, places[label]] = True
            probabilities[number, places[label]] = share
    if not (probabilities < SATURATED).any():
        return None
    return Recalled(pictures, Reference(told, probabilities, "val.csv"))


def _written(run: Run) -> dict[Path, tuple[list[str], list[float]]]:
    """Return what val.csv says of each photo: its labels with their probabilities."""
    root = Path(run.record["data"]["root"])
    several = run.record.get("threshold") is not None
    rows: dict[Path, tuple[list[str], list[float]]] = {}
    with suppress(RunError, ValueError):
        for row in run.rows("val.csv", ("path", "predicted", "probability")):
            names, shares = row["predicted"], row["probability"]
            labels = (names.split(SEPARATOR) if names else []) if several else [names]
            each = (shares.split(SEPARATOR) if shares else []) if several else [shares]
            if len(labels) == len(each):
                rows[root / row["path"]] = labels, [float(share) for share in each]
    return rows
