"""What a run says of its val photos, read from val.csv, and which of them a page shows first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo.data.samples import labels_in
from zoo.errors import RunError
from zoo.metrics import Array, Report, report
from zoo.run import Run

LISTED = 24  # photos that a cell opens at most
CLASSES = 20  # of a matrix: with more, those that are taken for each other most
_RESTORE = "restore the file, or train anew: features are kept"
OPENED = 2_000  # photos that all cells open together


@dataclass(frozen=True, slots=True)
class Answer:
    """A photo: its path in the data, its labels, those that the run gave it, how sure it was.

    Of classes there is one of each. probability: of the least sure of the labels that were given.
    """

    path: str
    label: tuple[str, ...]
    predicted: tuple[str, ...]
    probability: float
    right: bool


def read(run: Run, part: str = "val") -> list[Answer]:
    """Return the rows of val.csv or test.csv; nothing of a run that has no such table."""
    if not run.path(f"{part}.csv").is_file():
        return []
    several = run.record.get("task") == "multilabel"
    known, found = {*run.record["classes"]}, []
    for row in run.rows(f"{part}.csv", ("path", "label", "predicted", "probability", "correct")):
        label = tuple(labels_in(row["label"])) if several else (row["label"],)
        predicted = tuple(labels_in(row["predicted"])) if several else (row["predicted"],)
        if wrong := {*label, *predicted} - known:
            said = f"{run.path(f'{part}.csv')} names {min(wrong)!r}, which is no class of the run"
            raise RunError(said, _RESTORE)
        right = row["correct"] == "1"
        found.append(Answer(row["path"], label, predicted, _least(run, row), right))
    return found


def _least(run: Run, row: dict[str, str]) -> float:
    """Return the least of the probabilities of a row; 0 where no label was given."""
    try:
        return min((float(value) for value in row["probability"].split("|") if value), default=0.0)
    except ValueError:
        said = f"{run.path('val.csv')} says {row['probability']!r} for a probability"
        raise RunError(said, _RESTORE) from None


def measured(run: Run) -> Report | None:
    """Return what a run gets right on its test photos, else on its val photos, by its own tables.

    None where photos have several labels, or none.
    """
    if run.record.get("task", "classify") != "classify":
        return None
    number = {name: k for k, name in enumerate(run.record["classes"])}
    answers = read(run, "test") or read(run)
    pairs = [(number[one.predicted[0]], number[one.label[0]]) for one in answers]
    if not pairs:
        return None
    predicted, labels = np.array(pairs).T
    return report(predicted, labels, tuple(number))


@dataclass(frozen=True, slots=True)
class Chosen:
    """Numbers of answers: mistakes and hits, the surest first; what was least certain."""

    mistakes: tuple[int, ...]
    uncertain: tuple[int, ...]
    correct: tuple[int, ...]

    @property
    def all(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys((*self.mistakes, *self.uncertain, *self.correct)))


def chosen(answers: Sequence[Answer], most: int) -> Chosen:
    """Return which photos a page shows: so many mistakes at most, half of that of others.

    Correct ones come from all classes in turn.
    """
    order = sorted(range(len(answers)), key=lambda k: -answers[k].probability)
    mistakes = [k for k in order if not answers[k].right][:most]
    others = max(1, most // 2)
    rest = [k for k in reversed(order) if k not in set(mistakes)]
    by_class: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for k in order:
        if answers[k].right:
            by_class[answers[k].label].append(k)
    turns = max(map(len, by_class.values()), default=0)
    correct = [
        each[n] for n in range(min(turns, others)) for each in by_class.values() if n < len(each)
    ]
    return Chosen(tuple(mistakes), tuple(rest[:others]), tuple(correct[:others]))


# Who is taken for whom.


@dataclass(frozen=True, slots=True)
class Cell:
    """Photos of one class that were given another, or the same: how many, and some of them."""

    count: int
    share: float
    answers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """classes: names, in rows (true) and columns (predicted). of: how many classes there are."""

    classes: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]
    of: int
    covered: int  # mistakes that are in it
    mistakes: int


def matrix(answers: Sequence[Answer], classes: Sequence[str]) -> Matrix:
    """Return who is taken for whom; of many classes, those that are confused most."""
    number = {name: k for k, name in enumerate(classes)}
    pairs: dict[tuple[int, int], list[int]] = defaultdict(list)
    for k, answer in enumerate(answers):
        pairs[number[answer.label[0]], number[answer.predicted[0]]].append(k)
    shown = _confused(pairs, len(classes))
    totals: dict[int, int] = defaultdict(int)
    for (true, _), there in pairs.items():
        totals[true] += len(there)
    each = max(2, min(LISTED, OPENED // max(1, len(shown))))
    rows = tuple(
        tuple(_cell(answers, pairs.get((true, said), []), totals[true], each) for said in shown)
        for true in shown
    )
    wrong = {pair: len(there) for pair, there in pairs.items() if pair[0] != pair[1]}
    inside = sum(n for (true, said), n in wrong.items() if {true, said} <= set(shown))
    names = tuple(classes[k] for k in shown)
    return Matrix(names, rows, len(classes), inside, sum(wrong.values()))


def _confused(pairs: dict[tuple[int, int], list[int]], classes: int) -> list[int]:
    """Return the numbers of the classes to show, pair by pair from the commonest mistake on."""
    if classes <= CLASSES:
        return list(range(classes))
    wrong = sorted(
        ((len(k), pair) for pair, k in pairs.items() if pair[0] != pair[1]), reverse=True
    )
    found: list[int] = []
    for _, pair in wrong:
        fresh = [k for k in pair if k not in found]
        if len(found) + len(fresh) <= CLASSES:
            found += fresh
    return sorted(found)


def _cell(answers: Sequence[Answer], there: Sequence[int], total: int, most: int) -> Cell:
    surest = sorted(there, key=lambda k: -answers[k].probability)[:most]
    return Cell(len(there), len(there) / total if total else 0.0, tuple(surest))


def confidence(answers: Sequence[Answer]) -> tuple[Array, Array]:
    """Return the probability of each answer, and whether it is right."""
    return (
        np.array([answer.probability for answer in answers]),
        np.array([answer.right for answer in answers]),
    )


def by_label(answers: Sequence[Answer], name: str) -> tuple[list[int], list[int]]:
    """Return the photos whose label a run has missed, and those that were given it wrongly."""
    missed = [k for k, a in enumerate(answers) if name in a.label and name not in a.predicted]
    wrongly = [k for k, a in enumerate(answers) if name in a.predicted and name not in a.label]
    return missed, wrongly
