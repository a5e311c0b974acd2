"""Several labels a photo: where training begins, and what a run writes down.

The probabilities are of yes and no.

sigmoid(s) is the softmax of the two scores 0 and s, so N photos with K classes are N x K answers
of two classes each to `calibrate`: one temperature divides all scores. A photo's answers are in
one fold, since they are not independent. No probability crosses the threshold of 0.5 by it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from zoo.data.index import DatasetIndex
from zoo.data.samples import SEPARATOR
from zoo.head.temperature import FEWEST, Calibration, fit, folds_of
from zoo.metrics import THRESHOLD, Array, calibration_error, sigmoid
from zoo.run import Run, write_csv


def confidence(
    run: Run, index: DatasetIndex, scores: Array, seed: int, why_not: str = ""
) -> Calibration:
    """Fits the temperature, and writes val.csv with it.

    scores: of the val samples, N x K, before the sigmoid and before the temperature is folded into
    the head. why_not: a reason to leave it at 1. ECE, NLL and AURC are of the N x K answers.
    """
    truth = np.array(index.targets("val"))
    photos, classes = truth.shape
    if photos < FEWEST and not why_not:
        why_not = f"{photos} val photos are too few: it takes {FEWEST}"
    pairs = np.stack([np.zeros_like(scores), scores], axis=-1).reshape(-1, 2)
    folds = np.repeat(folds_of(np.zeros(photos, np.int64), seed), classes)
    found = fit(pairs, truth.reshape(-1).astype(np.int64), seed, why_not, folds)
    write_answers(run.path("val.csv"), index, "val", sigmoid(scores / found.temperature))
    return replace(found, photos=photos)


def calibration_error_of(probabilities: Array, truth: Array) -> float:
    """Return the calibration error of N x K answers of yes or no; truth: N x K of 0 and 1."""
    yes = probabilities >= THRESHOLD
    sure = np.where(yes, probabilities, 1 - probabilities)
    return calibration_error(sure.reshape(-1), (yes == (truth > 0)).reshape(-1))


def write_answers(path: Path, index: DatasetIndex, part: str, probabilities: Array) -> None:
    """val.csv or test.csv: what the network says of each photo, in the order of the index.

    probability: of each predicted label. correct: all labels are.
    """
    rows = []
    for sample, values in zip(index.of(part), probabilities, strict=True):
        told = [k for k, value in enumerate(values.tolist()) if value >= THRESHOLD]
        names = SEPARATOR.join(index.classes[k] for k in told)
        shares = SEPARATOR.join(f"{values[k]:.6g}" for k in told)
        correct = int(set(told) == set(sample.labels))
        rows.append((sample.path, index.named(sample), names, shares, correct))
    write_csv(path, ("path", "label", "predicted", "probability", "correct"), rows)
