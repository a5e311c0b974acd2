"""Numbers from predictions and labels."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class ClassScore:
    """Precision, recall and F1 of one class, NaN where there is no photo of it.

    photos: how many there are of it.
    """

    name: str
    photos: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class Report:
    """What a network gets right on labelled photos; confusion[true][predicted] counts photos."""

    accuracy: float
    macro_f1: float
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"classes": [stated(score) for score in self.classes]}


def confusion(predicted: Array, labels: Array, classes: int) -> Array:
    """Return K x K counts, true class by row."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def report(predicted: Array, labels: Array, names: tuple[str, ...]) -> Report:
    """Score class numbers N, predicted and true. Classes without a photo are not in macro-F1."""
    table = confusion(predicted, labels, len(names))
    hits, photos, answers = table.diagonal(), table.sum(axis=1), table.sum(axis=0)
    recall = hits / np.maximum(photos, 1)
    precision = hits / np.maximum(answers, 1)
    f1 = 2 * hits / np.maximum(photos + answers, 1)
    present = photos > 0
    precision[~present] = recall[~present] = f1[~present] = np.nan
    return Report(
        accuracy=float(hits.sum() / max(1, len(labels))),
        macro_f1=float(f1[present].mean()) if present.any() else 0.0,
        classes=tuple(
            ClassScore(name, int(photos[k]), float(precision[k]), float(recall[k]), float(f1[k]))
            for k, name in enumerate(names)
        ),
        confusion=tuple(tuple(int(cell) for cell in row) for row in table),
    )


# Several labels a photo, or none.

# Of the pictures, where a network computes otherwise than in fp32: so many must be answered alike.
ENOUGH = 0.98
THRESHOLD = 0.5  # a class whose probability reaches it is a label of the photo


@dataclass(frozen=True, slots=True)
class LabelScore:
    """A ClassScore with the average precision."""

    name: str
    photos: int
    ap: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class LabelReport:
    """What a network gets right on photos with several labels or none.

    map: the mean of the classes' average precisions, of those that have a photo; macro_f1 of the
    same classes, at the threshold. exact: share of photos whose labels are all right.
    """

    map: float
    macro_f1: float
    exact: float
    threshold: float
    classes: tuple[LabelScore, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"classes": [stated(score) for score in self.classes]}


def label_report(
    probabilities: Array, truth: Array, names: tuple[str, ...], threshold: float = THRESHOLD
) -> LabelReport:
    """Score probabilities N x K against a truth N x K of 0 and 1."""
    answers, right = probabilities >= threshold, truth > 0
    hits, photos, given = (answers & right).sum(axis=0), right.sum(axis=0), answers.sum(axis=0)
    precision, recall = hits / np.maximum(given, 1), hits / np.maximum(photos, 1)
    f1 = 2 * hits / np.maximum(photos + given, 1)
    columns = zip(probabilities.T, right.T, strict=True)
    ap = np.array([average_precision(*column) for column in columns])
    present = photos > 0
    precision[~present] = recall[~present] = f1[~present] = np.nan
    return LabelReport(
        map=float(ap[present].mean()) if present.any() else 0.0,
        macro_f1=float(f1[present].mean()) if present.any() else 0.0,
        exact=float((answers == right).all(axis=1).mean()),
        threshold=threshold,
        classes=tuple(
            LabelScore(name, int(photos[k]), *(float(v[k]) for v in (ap, precision, recall, f1)))
            for k, name in enumerate(names)
        ),
    )


def stated(score: ClassScore | LabelScore) -> dict[str, Any]:
    """Return the record of a class for a file; a number that there is none of is None."""
    return {key: None if value != value else value for key, value in asdict(score).items()}  # NaN


def average_precision(scores: Array, right: Array) -> float:
    """Sum precision times the recall that each threshold adds; NaN without a hit.

    Not interpolated, as scikit-learn's: photos of equal score come in together.
    """
    if not right.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.cumsum(right[order])[last]
    return float((np.diff(hits, prepend=0) * hits / (last + 1)).sum() / hits[-1])


def sigmoid(scores: Array) -> Array:
    """Return probabilities of class scores one by one, in double precision."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * scores.astype(np.float64))))


def softmax(scores: Array) -> Array:
    """Return probabilities of class scores along the last axis, in double precision."""
    exponents = np.exp(scores.astype(np.float64) - scores.max(axis=-1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=-1, keepdims=True))


# Can probabilities be believed? `probability` is that of the answer, `correct` whether it is right.

BINS = 15


def reliability(probability: Array, correct: Array) -> tuple[Array, Array, Array]:
    """Return (photos, mean probability, accuracy) of BINS of equal width; NaN if empty."""
    place = np.clip(np.ceil(probability * BINS).astype(int) - 1, 0, BINS - 1)
    photos = np.bincount(place, minlength=BINS)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(place, weights=probability, minlength=BINS) / photos
        accuracy = np.bincount(place, weights=correct, minlength=BINS) / photos
    return photos, mean, accuracy


def calibration_error(probability: Array, correct: Array) -> float:
    """Return the ECE: how far probability and accuracy are apart, weighted by the photos of a bin.

    Naeini, Cooper, Hauskrecht 2015, "Obtaining Well Calibrated Probabilities Using Bayesian
    Binning", AAAI.
    """
    photos, mean, accuracy = reliability(probability, correct)
    full = photos > 0
    return float((np.abs(mean - accuracy)[full] * photos[full]).sum() / max(1, photos.sum()))


def risk_coverage(probability: Array, correct: Array) -> tuple[Array, Array, Array]:
    """Return (threshold, photos kept, share of errors among them), from few photos to all.

    The thresholds are the probabilities there are; kept are the photos that reach them.
    El-Yaniv, Wiener 2010, "On the Foundations of Noise-free Selective Classification", JMLR 11.
    """
    order = np.argsort(-probability, kind="stable")
    errors = np.cumsum(~correct[order].astype(bool))
    last = np.flatnonzero(np.append(np.diff(probability[order]) != 0, True))[: len(order)]
    return probability[order][last], last + 1, errors[last] / (last + 1)


def aurc(probability: Array, correct: Array) -> float:
    """Return the area under the risk-coverage curve: the mean risk over 1, 2, … N photos kept.

    Photos of equal probability are taken in random order, on average. Geifman, Uziel, El-Yaniv
    2019, "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers", arXiv:1805.08206.
    """
    _, kept, risk = risk_coverage(probability, correct)
    numbers = np.arange(1, len(probability) + 1)
    errors = np.interp(numbers, np.append(0, kept), np.append(0, risk * kept))
    return float((errors / numbers).mean()) if len(numbers) else 0.0


def auroc(below: Array, above: Array) -> float:
    """Return how often a number of the second kind exceeds one of the first; equal ones half.

    The area under the ROC curve, by ranks. Mann, Whitney 1947, Annals of Mathematical Statistics.
    """
    order = np.sort(below)
    less, most = (np.searchsorted(order, above, side) for side in ("left", "right"))
    return float((less + most).mean() / 2 / max(1, len(below)))


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of so many hits of a count, 0 to 1 where that is 0.

    Wilson 1927, Journal of the American Statistical Association 22; it holds for few photos too.
    """
    if not count:
        return 0.0, 1.0
    z, share = 1.959964, hits / count
    middle = share + z**2 / (2 * count)
    half = z * float(np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2))
    low, high = (middle - half) / (1 + z**2 / count), (middle + half) / (1 + z**2 / count)
    return max(0.0, low), min(1.0, high)


# Is one network better than another?


def mcnemar(only_first: int, only_second: int) -> float:
    """Return p of McNemar's exact test, from the photos that only one of two networks has right.

    Two-sided, binomial. McNemar 1947, Psychometrika 12; Dietterich 1998, "Approximate Statistical
    Tests for Comparing Supervised Classification Learning Algorithms", Neural Computation 10.
    """
    from scipy.stats import binomtest

    count = only_first + only_second
    return float(binomtest(only_first, count).pvalue) if count else 1.0


def holm(values: list[float]) -> list[float]:
    """Return p values of several tests, each adjusted for there being so many (Holm 1979)."""
    adjusted = [0.0] * len(values)
    least = 0.0
    for rank, at in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        least = max(least, min(1.0, (len(values) - rank) * values[at]))
        adjusted[at] = least
    return adjusted
