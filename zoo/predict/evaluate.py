"""How often a network is right on labelled photos, and a committee of several of them.

A committee's answer is the mean of its members' probabilities (Ciresan, Meier, Schmidhuber 2012,
arXiv:1202.2745, section 2); classes are matched by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.names import matching
from zoo.data.samples import SEPARATOR, Photos, labels_in
from zoo.errors import DataError, UsageError
from zoo.metrics import (
    Array,
    ClassScore,
    LabelReport,
    LabelScore,
    Report,
    calibration_error,
    label_report,
    report,
    stated,
)
from zoo.predict.inputs import Input
from zoo.predict.rows import Predictor
from zoo.text import listed
from zoo.watch import Counted


@dataclass(frozen=True, slots=True)
class Answers:
    """The class number that each photo was given, its probability, and whether it is right.

    probabilities: N x K; labels: the true class of each photo.
    """

    predicted: Array
    probability: Array
    correct: Array
    probabilities: Array
    labels: Array

    @property
    def ece(self) -> float:
        return calibration_error(self.probability, self.correct)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One report for each member, and the committee's where there are several.

    errors: unreadable photos with their reasons; they are in no report. answers: of each member,
    and of the committee behind them. paths: of the photos that these are of. plain: of members
    that ask several views, what the plain one alone says.
    """

    members: tuple[Report, ...]
    committee: Report | None
    photos: int
    errors: tuple[tuple[str, str], ...]
    answers: tuple[Answers, ...]
    paths: tuple[str, ...]
    plain: tuple[Report, ...] = ()


@dataclass(frozen=True, slots=True)
class LabelEvaluation:
    """An Evaluation of networks that tell several labels a photo."""

    members: tuple[LabelReport, ...]
    committee: LabelReport | None
    photos: int
    errors: tuple[tuple[str, str], ...]
    plain: tuple[LabelReport, ...] = ()


@dataclass(frozen=True, slots=True)
class Measured:
    """One network, or the committee of all, on the photos: a row of `zoo evaluate`.

    accuracy, ece, wrong and confusion are of networks that tell one class a photo, map, exact and
    threshold of those that tell several labels; the others are None. classes: a score of each.
    """

    network: str
    photos: int
    accuracy: float | None = None
    macro_f1: float | None = None
    ece: float | None = None
    wrong: int | None = None
    map: float | None = None
    exact: float | None = None
    threshold: float | None = None
    classes: tuple[ClassScore | LabelScore, ...] = ()
    confusion: tuple[tuple[int, ...], ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what was measured, ready for JSON: a number that there is none of is None."""
        found = {name: value for name, value in asdict(self).items() if value is not None}
        return found | {"classes": [stated(score) for score in self.classes]}


def rows(names: Sequence[str], found: Evaluation | LabelEvaluation) -> list[Measured]:
    """Return a row for each member, by its name, and one for their committee."""
    names = [*names, f"committee of {len(names)}"]
    if isinstance(found, LabelEvaluation):
        labels = [*found.members, *filter(None, [found.committee])]
        return [
            Measured(
                name, found.photos, map=one.map, macro_f1=one.macro_f1, exact=one.exact,
                threshold=one.threshold, classes=one.classes,
            )
            for name, one in zip(names, labels, strict=False)
        ]  # fmt: skip
    reports = [*found.members, *filter(None, [found.committee])]
    return [
        Measured(
            name, found.photos, one.accuracy, one.macro_f1, answers.ece,
            int((~answers.correct).sum()), classes=one.classes, confusion=one.confusion,
        )
        for name, one, answers in zip(names, reports, found.answers, strict=False)
    ]  # fmt: skip


def measured(
    members: Sequence[Predictor], photos: Photos, progress: Counted
) -> Evaluation | LabelEvaluation:
    """Measure members on photos (path, what they show), by what the members tell of a photo."""
    several = any(member.threshold is not None for member in members)
    measure = _evaluate_several if several else evaluate
    return measure(members, photos, progress)


def evaluate(members: Sequence[Predictor], photos: Photos, progress: Counted) -> Evaluation:
    """Measure members on photos (path, class). Raises DataError for a class they do not know."""
    classes = members[0].classes
    known = _known_classes(members, {label for _, label in photos})
    tables, plain, readable, errors = _ask(members, photos, progress)
    labels = np.array([classes.index(known[label]) for _, label in photos])[readable]
    answers = tuple(_answers_of(table[readable], labels) for table in tables)
    reports = tuple(report(each.predicted, labels, classes) for each in answers)
    return Evaluation(
        reports[: len(members)],
        reports[-1] if len(members) > 1 else None,
        int(readable.sum()),
        errors,
        answers,
        tuple(path for (path, _), well in zip(photos, readable, strict=True) if well),
        tuple(report(table[readable].argmax(axis=1), labels, classes) for table in plain),
    )


def _evaluate_several(
    members: Sequence[Predictor], photos: Photos, progress: Counted
) -> LabelEvaluation:
    """Measure members on photos (path, labels in one cell). Raises UsageError for another kind.

    A committee has its first member's threshold.
    """
    classes, threshold = members[0].classes, members[0].threshold
    if threshold is None or any(member.threshold is None for member in members):
        raise UsageError(
            "some of the networks tell one class a photo, others several labels",
            "measure them apart",
        )
    labels = [labels_in(cell) for _, cell in photos]
    known = _known_classes(members, {name for cell in labels for name in cell})
    tables, plain, readable, errors = _ask(members, photos, progress)
    marked = [{known[name] for name in cell} for cell in labels]
    truth = np.array([[name in cell for name in classes] for cell in marked])[readable]
    reports = tuple(label_report(table[readable], truth, classes, threshold) for table in tables)
    committee = reports[-1] if len(members) > 1 else None
    single = tuple(label_report(table[readable], truth, classes, threshold) for table in plain)
    return LabelEvaluation(reports[: len(members)], committee, int(readable.sum()), errors, single)


def _ask(
    members: Sequence[Predictor], photos: Photos, progress: Counted
) -> tuple[list[Array], list[Array], Array, tuple[tuple[str, str], ...]]:
    """Return N x K probabilities of members, then of the committee; what is readable; errors.

    Second those by the plain view alone, of members that ask several.
    """
    classes = members[0].classes
    inputs = [Input(path, path) for path, _ in photos]
    errors: dict[str, str] = {}
    tables, single = [], []
    total = len(members) * len(photos)
    for number, member in enumerate(members):
        table, plain = (np.full((len(photos), len(classes)), np.nan) for _ in range(2))
        same = matching(member.classes, classes)
        column = {name: classes.index(kind) for name, kind in same.items()}
        for at, row in enumerate(member.rows(inputs, len(classes))):
            if row.status == "error":
                errors[row.path] = row.error
            else:
                table[at, [column[name] for name in row.labels]] = row.probabilities
                if row.plain is not None:
                    plain[at, [column[name] for name in member.classes]] = row.plain
            progress(number * len(photos) + at + 1, total)
        tables.append(table)
        if member.views > 1:
            single.append(plain)
    readable = ~np.isnan(np.sum(tables, axis=(0, 2)))
    if not readable.any():
        reason = next(iter(errors.values()), "there is none")
        where = f"looked in {Path(inputs[0].file).parent}" if inputs else "none is asked for"
        raise DataError(
            f"no photo can be read ({reason}; {where})", "give others with --data FOLDER"
        )
    if len(tables) > 1:
        tables.append(np.mean(tables, axis=0))
    return tables, single, readable, tuple(sorted(errors.items()))


def _answers_of(table: Array, labels: Array) -> Answers:
    predicted = table.argmax(axis=1)
    return Answers(predicted, table.max(axis=1), predicted == labels, table, labels)


def _known_classes(members: Sequence[Predictor], labels: set[str]) -> dict[str, str]:
    """Return the first member's class that each label is, by `names.plain`. Raises DataError."""
    first = members[0].classes
    for member in members[1:]:
        same = matching(member.classes, first)
        if len(set(same.values())) != len(first) or len(same) != len(member.classes):
            raise DataError(
                f"members know different classes: {_differing(member.classes, first)}",
                "a committee's members must be trained on the same classes",
            )
    known = matching(labels, first)
    unknown = sorted(labels - known.keys())
    if any(SEPARATOR in label for label in unknown):
        raise DataError(
            f"the photos have several labels, as {unknown[0]}, the network tells one class a photo",
            "measure it on photos with one class each: `zoo evaluate RUN --data PHOTOS`",
        )
    if unknown:
        raise DataError(
            f"the photos have classes that the network does not know: {listed(unknown, 5)}",
            f"it knows: {listed(first, 10)}",
        )
    return known


def _differing(ours: tuple[str, ...], theirs: tuple[str, ...]) -> str:
    return listed(sorted(set(ours) ^ set(theirs)), 5)
