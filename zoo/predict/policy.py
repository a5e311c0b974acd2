"""What is made of a network's answers: too uncertain to be given, like no training photo, or a set.

What a run knows of its val photos (risk_coverage.csv, val.csv, distance.safetensors) says where the
limits are; zoo.head.conformal and zoo.head.distance say what they promise for new photos.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path

import numpy as np

from zoo import catalog, weights
from zoo.errors import DataError, RunError, UsageError
from zoo.head import conformal, distance
from zoo.head.distance import Distance
from zoo.metrics import Array
from zoo.network_ref import distance_of_run
from zoo.predict.rows import Prediction
from zoo.records import EDITED
from zoo.run import Run
from zoo.text import TEXT, percent

RATE = 0.05  # of pictures of known classes that are called unknown
AGAIN = "fine-tune anew, its features are kept: `zoo finetune MODEL PHOTOS`"


@dataclass(frozen=True, slots=True)
class Unknown:
    """A distance from the training photos, and from which one on a photo is unknown.

    distance: None where an exported file gives it, in the place of features.
    """

    distance: Distance | None
    limit: float

    def of(self, features: Array | None) -> float:
        """Return the distance of one photo."""
        assert features is not None
        if self.distance is None:
            return float(features[0])
        return float(self.distance.of(features[None])[0])


@dataclass(frozen=True, slots=True)
class Policy:
    """What is asked for. below: a probability. limit: of the sets. top: classes in a row."""

    top: int = 1
    below: float = 0.0
    limit: float | None = None
    unknown: Unknown | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of the columns that it adds."""
        asked = {"set": self.limit is not None, "distance": self.unknown is not None}
        return tuple(name for name, there in asked.items() if there)

    def applied(self, rows: Iterable[Prediction]) -> Iterator[Prediction]:
        """Yield the same rows with what is made of them.

        They have the probabilities of all classes where sets are asked for, and features where
        unknown ones are.
        """
        for row in rows:
            if row.status == "ok":
                row = self._answered(row)
            top = slice(self.top)
            labels, chances = row.labels[top], row.probabilities[top]
            yield replace(row, labels=labels, probabilities=chances, features=None)

    def _answered(self, row: Prediction) -> Prediction:
        if self.unknown is not None:
            row = replace(row, distance=self.unknown.of(row.features))
            if row.distance is not None and row.distance > self.unknown.limit:
                return replace(row, status="unknown")
        if self.limit is not None:
            size = int((conformal.before_each(np.array(row.probabilities)) <= self.limit).sum())
            row = replace(row, told=row.labels[:size])
        return replace(row, status="rejected") if row.probabilities[0] < self.below else row


@dataclass(frozen=True, slots=True)
class Doubt:
    """What is asked for of answers that are uncertain; shares are of 1, None is not asked for.

    below: a probability, below which an answer is rejected. most: of errors among what is kept.
    coverage: of sets that hold the true class. unknown: pictures like no training photo are told;
    rate: of known ones that may be called so, RATE unless given.
    """

    below: float | None = None
    most: float | None = None
    coverage: float | None = None
    unknown: bool = False
    rate: float | None = None

    def must_fit(self) -> None:
        """Raises UsageError for what does not go together, and for no probability."""
        check(self.below)
        if self.below is not None and self.most is not None:
            raise UsageError(
                "--max-error with --reject-below", "both are a threshold: leave one of them out"
            )


def made(model: str, doubt: Doubt, top: int = 1) -> tuple[Policy, conformal.Threshold | None]:
    """Return what becomes of answers, and of `most` the threshold that the val photos promise.

    Raises what the run lacks for it: UsageError, DataError.
    """
    below, limit, away, chosen = doubt.below or 0.0, None, None, None
    if doubt.most is not None:
        chosen = max_error(run_of(model, f"--max-error {doubt.most:g}"), doubt.most)
        below = chosen.probability
    if doubt.coverage is not None:
        limit = sets(run_of(model, f"--coverage {doubt.coverage:g}"), doubt.coverage)
    if doubt.unknown and catalog.is_exported(model) and Path(model).is_file():
        away = unknown_of_file(model, doubt.rate)
    elif doubt.unknown:
        away = unknown(run_of(model, "--unknown"), RATE if doubt.rate is None else doubt.rate)
    return Policy(top, below, limit, away), chosen


# Checked before anything is computed.


def check(below: float | None) -> None:
    """Raise UsageError for what is no probability."""
    if below is not None and not 0 < below <= 1:
        raise UsageError(
            f"--reject-below {below:g}: a probability is above 0 and at most 1",
            "give one, as --reject-below 0.8",
        )


def check_several(model: str, flag: str) -> None:
    """Raise UsageError for a multi-label network, whose answer has no one probability.

    flag: what was given, with its value; nothing is fine.
    """
    if flag:
        raise UsageError(
            f"{flag}: {model} tells several labels a picture, each with a probability of its own",
            "leave it out; the column probability has them all",
        )


def share(flag: str, text: str | None) -> float | None:
    """Return 5%, 5 % or 0.05 as a number. Raises UsageError for what is no share of 1."""
    if text is None:
        return None
    number = text.strip().removesuffix("%")
    try:
        value = float(number) / (100 if number != text.strip() else 1)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        percent, share = ("95%", "0.95") if flag == "--coverage" else ("5%", "0.05")
        raise UsageError(
            f"{flag} {text}: that is no share between 0 and 1",
            f"give one as {flag} {percent} or {flag} {share}",
        )
    return value


# What the run's val photos say.


@dataclass(frozen=True, slots=True)
class Kept:
    """The share of a run's val photos that reaches a threshold, and the share of errors in it."""

    coverage: float
    risk: float


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


def run_of(model: str, flag: str) -> Run:
    """Return the run that a promise is of. Raises UsageError where its val photos say nothing.

    flag: what was given, with its value.
    """
    if not catalog.is_run(model):
        raise UsageError(
            f"{flag}: {model} is no run, and nothing is known of its val photos",
            "give the run folder, as `zoo predict RUN FOLDER`",
        )
    run = Run.open(Path(model)).finished()
    check_several(model, flag if run.record.get("threshold") is not None else "")
    own = run.record.get("model_sha256")
    if own is not None and weights.hash_of(run.path("model.safetensors")) != own:
        raise UsageError(
            f"{flag}: the network of {model} was changed after training, and what is known of its "
            "val photos is of another",
            "restore model.safetensors, or leave the flag out",
        )
    return run


def max_error(run: Run, most: float) -> conformal.Threshold:
    """Return the threshold that keeps most, where errors are at most this share of what is kept.

    Raises DataError where the val photos promise that of none.
    """
    names = ("threshold", "risk", "kept")
    curve = _numbers(run, "risk_coverage.csv", names)
    tried = conformal.thresholds(curve[:, 0], curve[:, 2], np.rint(curve[:, 1] * curve[:, 2]))
    good = [each for each in tried if each.bound <= most]
    if not good:
        best = min(tried, key=lambda each: each.bound)
        photos = int(curve[-1, 2])
        raise DataError(
            f"--max-error {100 * most:g}%: {photos:,} val photos promise that of no threshold; the "
            f"least is {percent(best.bound)}, above {best.probability:.4g} ({best.errors} of "
            f"{best.kept} wrong)",
            f"give --max-error {np.ceil(100 * best.bound):g}% or more, or more val photos: of the "
            f"surest, about {conformal.fewest(most):,} have to be right and none wrong",
        )
    return max(good, key=lambda each: each.kept)


def sets(run: Run, coverage: float) -> float:
    """Return the limit of prediction sets that hold the true class as often as this.

    Raises DataError where there are too few val photos.
    """
    found = _numbers(run, "val.csv", ("likelier",))[:, 0]
    limit = conformal.limit(found, coverage)
    if not isfinite(limit):
        most = int(1000 * len(found) / (len(found) + 1)) / 1000
        raise DataError(
            f"--coverage {coverage:g}: {run.folder} has {len(found):,} val photos, and it takes "
            f"{conformal.needed(coverage):,} to promise that",
            f"give --coverage {most:g} or less, or more val photos: `zoo finetune … "
            "--val-fraction 0.4`",
        )
    return limit


def unknown(run: Run, rate: float) -> Unknown:
    """Return what tells unknown photos of a run. rate: of known ones that it takes for such.

    Raises UsageError where the run has none, RunError, DataError for too few val photos.
    """
    found = distance_of_run(run)
    limit = found.limit(rate)
    if not isfinite(limit):
        count = len(found.known)
        raise DataError(
            f"--unknown-rate {100 * rate:g}%: {run.folder} has {count:,} val photos, and it takes "
            f"{distance.needed(rate):,} to say what so few of them exceed",
            f"give --unknown-rate {np.ceil(100 / (count + 1)):g}% or more, or more val photos",
        )
    return Unknown(found, limit)


def unknown_of_file(path: str, rate: float | None) -> Unknown:
    """Return what tells unknown photos of an exported file. Raises UsageError, WeightsError.

    rate: must not be given, as the file has one limit.
    """
    from zoo.engine.open_file import open_exported

    limit = open_exported(Path(path)).distance_limit
    if limit is None:
        raise UsageError(
            f"--unknown: {path} does not tell how far photos are from those of its training",
            "export it anew, as `zoo export onnx RUN --unknown`",
        )
    if rate is not None:
        raise UsageError(
            f"--unknown-rate {100 * rate:g}%: {path} has one limit, of {percent(RATE)}",
            "leave it out, or give the run",
        )
    return Unknown(None, limit)


def _numbers(run: Run, table: str, names: tuple[str, ...]) -> Array:
    """Return columns of a table of the run, N x names. Raises RunError where they are not there."""
    if not run.path(table).exists():
        raise RunError(f"{run.folder} has no {table}", AGAIN)
    try:
        found = [[float(row[name]) for name in names] for row in run.rows(table, names)]
    except ValueError as error:
        raise RunError(f"{run.path(table)}: {error}", EDITED) from None
    except RunError as error:
        error.hint = AGAIN
        raise
    if not found or not np.isfinite(found).all():
        raise RunError(f"{run.path(table)} has no numbers", EDITED)
    return np.array(found)
