"""How often a network is right on labelled photos, and a committee of several of them.

A committee's answer is the mean of its members' probabilities (Ciresan, Meier, Schmidhuber 2012,
arXiv:1202.2745, section 2); classes are matched by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from zoo.errors import DataError
from zoo.metrics import Array, Report, report
from zoo.predict.inputs import Input
from zoo.predict.predictor import Predictor


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One report for each member, and the committee's where there are several.

    errors: unreadable photos with their reasons; they are in no report.
    """

    members: tuple[Report, ...]
    committee: Report | None
    photos: int
    errors: tuple[tuple[str, str], ...]


def evaluate(
    members: Sequence[Predictor],
    photos: Sequence[tuple[str, str]],
    progress: Callable[[int, int], None],
) -> Evaluation:
    """photos: path and class of each. Raises DataError for a class that the members do not know."""
    classes = members[0].classes
    for member in members:
        check_classes(member.classes, classes, {label for _, label in photos})
    inputs = [Input(path, path) for path, _ in photos]
    errors: dict[str, str] = {}
    tables = []
    total = len(members) * len(photos)
    for number, member in enumerate(members):
        table = np.full((len(photos), len(classes)), np.nan)
        column = {name: at for at, name in enumerate(classes)}
        for at, row in enumerate(member.rows(inputs, len(classes))):
            if row.status == "error":
                errors[row.path] = row.error
            else:
                table[at, [column[name] for name in row.labels]] = row.probabilities
            progress(number * len(photos) + at + 1, total)
        tables.append(table)
    readable = ~np.isnan(np.sum(tables, axis=(0, 2)))
    if not readable.any():
        reason = next(iter(errors.values()), "there is none")
        raise DataError(f"no photo can be read ({reason})", "check the files")
    labels = np.array([classes.index(label) for _, label in photos])[readable]

    def score(table: Array) -> Report:
        return report(table[readable].argmax(axis=1), labels, classes)

    committee = score(np.mean(tables, axis=0)) if len(tables) > 1 else None
    reports = tuple(score(table) for table in tables)
    return Evaluation(reports, committee, int(readable.sum()), tuple(sorted(errors.items())))


def check_classes(ours: tuple[str, ...], first: tuple[str, ...], labels: set[str]) -> None:
    if set(ours) != set(first):
        raise DataError(
            f"members know different classes: {differing(ours, first)}",
            "a committee's members must be trained on the same classes",
        )
    unknown = sorted(labels - set(ours))
    if unknown:
        raise DataError(
            f"the photos have classes that the network does not know: {', '.join(unknown[:5])}",
            f"it knows: {', '.join(ours[:10])}",
        )


def differing(ours: tuple[str, ...], theirs: tuple[str, ...]) -> str:
    return ", ".join(sorted(set(ours) ^ set(theirs))[:5])
