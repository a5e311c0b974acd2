"""Answers that are too uncertain to be given, and what the run knows of such a threshold."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from zoo.errors import UsageError
from zoo.predict.predictor import Prediction
from zoo.text import TEXT


@dataclass(frozen=True, slots=True)
class Kept:
    """The share of a run's val photos that reaches a threshold, and the share of errors in it."""

    coverage: float
    risk: float


def check(below: float | None) -> None:
    """Raise UsageError for what is no probability, before anything is computed."""
    if below is not None and not 0 < below <= 1:
        raise UsageError(
            f"--reject-below {below:g}: a probability is above 0 and at most 1",
            "give one, as --reject-below 0.8",
        )


def check_several(model: str, below: float | None) -> None:
    """Raise UsageError for a multi-label network, whose answer has no one probability."""
    if below is not None:
        raise UsageError(
            f"--reject-below {below:g}: {model} tells several labels a picture, each with a "
            "probability of its own",
            "leave it out; the column probability has them all",
        )


def rejecting(rows: Iterable[Prediction], below: float) -> Iterator[Prediction]:
    """Yield the same rows; those whose first probability is below get the status `rejected`."""
    for row in rows:
        rejected = row.status == "ok" and row.probabilities[0] < below
        yield replace(row, status="rejected") if rejected else row


def kept(folder: Path, below: float) -> Kept | None:
    """Return what risk_coverage.csv of a run says of this threshold; nothing where there is none to
    read.

    Its thresholds fall, so that the last one that is not below P is of the photos kept at P.
    """
    path = folder / "risk_coverage.csv"
    if not path.is_file():
        return None
    found = Kept(0.0, 0.0)
    try:
        with open(path, newline="", **TEXT) as file:
            for row in csv.DictReader(file):
                if float(row["threshold"]) < below:
                    break
                found = Kept(float(row["coverage"]), float(row["risk"]))
    except (KeyError, TypeError, ValueError, csv.Error):
        return None
    return found
