"""Numbers from predictions and labels."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class ClassScore:
    """Precision, recall and F1 of one class; `photos` is how many there are of it."""

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
        return asdict(self)


def confusion(predicted: Array, labels: Array, classes: int) -> Array:
    """K x K counts, true class by row."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def report(predicted: Array, labels: Array, names: tuple[str, ...]) -> Report:
    """predicted, labels: N class numbers. Classes without a photo are left out of macro-F1."""
    table = confusion(predicted, labels, len(names))
    hits, photos, answers = table.diagonal(), table.sum(axis=1), table.sum(axis=0)
    recall = hits / np.maximum(photos, 1)
    precision = hits / np.maximum(answers, 1)
    f1 = 2 * hits / np.maximum(photos + answers, 1)
    present = photos > 0
    return Report(
        accuracy=float(hits.sum() / max(1, len(labels))),
        macro_f1=float(f1[present].mean()) if present.any() else 0.0,
        classes=tuple(
            ClassScore(name, int(photos[k]), float(precision[k]), float(recall[k]), float(f1[k]))
            for k, name in enumerate(names)
        ),
        confusion=tuple(tuple(int(cell) for cell in row) for row in table),
    )


def softmax(scores: Array) -> Array:
    """Probabilities of class scores along the last axis, in double precision."""
    exponents = np.exp(scores.astype(np.float64) - scores.max(axis=-1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=-1, keepdims=True))
