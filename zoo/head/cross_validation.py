"""Cross-validation of a linear head over kept features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.errors import DataError
from zoo.head.folds import Photos
from zoo.head.softmax_regression import Heads, Poll, Rows, Task, minimise
from zoo.head.solver import FEW, TESTING, Choice, answers, choose, one_thread, shares
from zoo.metrics import Array


@dataclass(frozen=True, slots=True)
class CrossValidated:
    """What heads make of photos that they were not trained on.

    accuracies, penalties: one for each fold. predictions: N, -1 for rows never tested: further
    views of a photo, and the photo of a class that has only one. nested: whether each fold chose
    its penalty without the photos that it is tested on.
    """

    accuracies: tuple[float, ...]
    penalties: tuple[float, ...]
    predictions: Array
    nested: bool

    @property
    def accuracy(self) -> float:
        return float(np.mean(self.accuracies))

    @property
    def interval(self) -> float:
        """Half of the 95 % interval of the mean, by Student's t over the folds."""
        from scipy.special import stdtrit

        count = len(self.accuracies)
        error = float(np.std(self.accuracies, ddof=1)) / np.sqrt(count)
        return float(stdtrit(count - 1, 0.975) * error)


def cross_validated(
    features: Array,
    labels: Array,
    classes: int,
    *,
    seed: int,
    folds: int = 5,
    groups: Array | None = None,
    class_weights: Array | None = None,
    label_smoothing: float = 0.0,
    penalty: float | None = None,
    poll: Poll | None = None,
) -> CrossValidated:
    """Accuracy on photos held out, fold by fold; arguments as of `solve`.

    The penalty is chosen inside each training part (nested) up to 2,000 rows. With more, one
    penalty is chosen by the log-loss on the same folds: choosing among so few by so many photos
    flatters by less than the interval shows. Features are standardised over all rows, labels
    unseen. Raises DataError where no class has two photos.
    """
    with one_thread():
        rows = Rows(features)
        task = Task.of(np.asarray(labels), classes, class_weights, label_smoothing)
        photos = Photos.of(groups, task.labels)
        everyone = np.ones(len(task.labels), bool)
        held = photos.held_out(everyone, seed, folds)
        if not len(held):
            raise DataError(
                "no class has two photos, so there is none to test on",
                "add photos to the classes",
            )
        nested = len(task.labels) <= FEW
        if penalty is not None:
            asked = Choice(penalty, "as asked for", Heads.zero(1, classes, rows.columns))
            choices = [asked] * len(held)
        elif nested:
            choices = [choose(rows, task, ~out, photos, seed, folds, poll) for out in held]
        else:
            choices = [choose(rows, task, everyone, photos, seed, folds, poll)] * len(held)
        found = [
            minimise(
                rows,
                task,
                shares(task, ~out[None]),
                choice.penalty,
                choice.head,
                tolerance=TESTING,
                poll=poll,
            )
            for out, choice in zip(held, choices, strict=True)
        ]
        predictions, accuracies = np.full(len(task.labels), -1), []
        for out, head in zip(held & photos.plain, found, strict=True):
            predictions[out] = answers(rows, head, 0, out).argmax(axis=0)
            accuracies.append(float((predictions[out] == task.labels[out]).mean()))
    penalties = tuple(choice.penalty for choice in choices)
    chosen = nested or penalty is not None
    return CrossValidated(tuple(accuracies), penalties, predictions, chosen)
