"""Cross-validation of a linear head over stored features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.errors import DataError
from zoo.head.folds import Photos
from zoo.head.penalty import FEW, Search, choose
from zoo.head.rows import Rows
from zoo.head.softmax_regression import Poll, Problem, Targets, log_probabilities, minimise
from zoo.head.threads import same_threads
from zoo.metrics import Array

TESTING = 1e-6  # tolerance of the loss
# SciPy's stdtrit(n, 0.975) for n from 1: to import it takes as long as a head of some photos.
STUDENTS = (
    12.706204736174694,
    4.302652729749462,
    3.1824463052837078,
    2.7764451051977934,
    2.5705818356363146,
    2.4469118511449786,
    2.364624251592784,
    2.306004135204166,
    2.262157162798205,
)


@dataclass(frozen=True, slots=True)
class CrossValidated:
    """What heads answer for photos that they were not trained on.

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
        """Return half of the 95 % interval of the mean, by Student's t over the folds."""
        count = len(self.accuracies)
        error = float(np.std(self.accuracies, ddof=1)) / np.sqrt(count)
        return float(_student(count - 1) * error)


def _student(freedom: int) -> float:
    """Return how many standard errors half of the 95 % interval has."""
    if 1 <= freedom <= len(STUDENTS):
        return STUDENTS[freedom - 1]
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975))


def cross_validated(
    features: Array, targets: Targets, search: Search, poll: Poll | None = None
) -> CrossValidated:
    """Measure heads on photos held out, fold by fold. features: N x D.

    The penalty is chosen inside each training part (nested) up to 2,000 rows. With more, one
    penalty is chosen by the log-loss on the same folds: choosing among so few by so many photos
    flatters by less than the interval shows. Features are standardised over all rows, labels
    unseen. Raises DataError where no class has two photos.
    """
    with same_threads():
        problem = Problem(Rows(features), targets, poll)
        photos = Photos.of(targets.groups, targets.labels)
        everyone = np.ones(len(features), bool)
        held = photos.held_out(everyone, search.seed, search.folds)
        if not len(held):
            raise DataError(
                "no class has two photos, so there is none to test on",
                "add photos to the classes",
            )
        nested = search.penalty is not None or len(features) <= FEW
        if nested:
            choices = [choose(problem, search, ~out) for out in held]
        else:
            choices = [choose(problem, search, everyone)] * len(held)
        predictions, accuracies = np.full(len(features), -1), []
        for out, choice in zip(held, choices, strict=True):
            weights = targets.sample_weight(~out[None])
            head = minimise(problem, weights, choice.penalty, choice.head, TESTING)
            tested = out & photos.plain
            values = problem.rows.values[tested]
            answers = log_probabilities(values, head.weight[0], head.bias[0]).argmax(axis=1)
            predictions[tested] = answers
            accuracies.append(float((answers == targets.labels[tested]).mean()))
    penalties = tuple(choice.penalty for choice in choices)
    return CrossValidated(tuple(accuracies), penalties, predictions, nested)


def out_of_fold(
    features: Array, targets: Targets, search: Search, poll: Poll | None = None
) -> Array:
    """Return N x K probabilities, each row's by a head that was fitted without its photo.

    One penalty for all folds, see `penalty.choose`, which `search` must not give. NaN for further
    views of a photo, and for the photo of a class that has only one.
    """
    probabilities = np.full((len(features), targets.classes), np.nan)
    with same_threads():
        problem = Problem(Rows(features), targets, poll)
        choice = choose(problem, search, np.ones(len(features), bool))
        if told := choice.held_out():
            probabilities[told.rows] = told.probabilities
    return probabilities
