"""Several labels a photo: where training begins, and what a run writes down.

The probabilities are of yes and no.

sigmoid(s) is the softmax of the two scores 0 and s, so N photos with K classes are N x K answers
of two classes each to `calibrate`: one temperature divides all scores. A photo's answers are in
one fold, since they are not independent. No probability crosses the threshold of 0.5 by it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from zoo.data.index import DatasetIndex
from zoo.data.samples import SEPARATOR
from zoo.finetune.calibrate import FEWEST, Calibration, fit, folds_of, last_layer
from zoo.metrics import THRESHOLD, Array, LabelReport, sigmoid
from zoo.run import Run, write_csv

if TYPE_CHECKING:
    from torch import nn


def begin(chain: nn.Module, head: str, index: DatasetIndex, weights: object) -> None:
    """The last layer's bias gives each class its share of the training photos from the start.

    Labels are rare; from one half on, most of a short training would go into learning that (Lin et
    al. 2017, "Focal Loss for Dense Object Detection", arXiv:1708.02002, section 3.3). weights: of
    the classes in the loss, with which one half is where it begins.
    """
    import torch

    bias = getattr(last_layer(chain, head), "bias", None)
    if bias is None or weights is not None:
        return
    counts, photos = np.array(index.counts("train")), len(index.of("train"))
    odds = (counts + 0.5) / (photos - counts + 0.5)  # of a label that all photos have, too
    with torch.no_grad():
        bias.copy_(torch.from_numpy(np.log(odds)))


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
    write_val(run, index, sigmoid(scores / found.temperature))
    return replace(found, photos=photos)


def write_val(run: Run, index: DatasetIndex, probabilities: Array) -> None:
    """val.csv: what the network says of each val photo, in the order of the index.

    probability: of each predicted label. correct: all labels are.
    """
    rows = []
    for sample, values in zip(index.of("val"), probabilities, strict=True):
        told = [k for k, value in enumerate(values.tolist()) if value >= THRESHOLD]
        names = SEPARATOR.join(index.classes[k] for k in told)
        shares = SEPARATOR.join(f"{values[k]:.6g}" for k in told)
        correct = int(set(told) == set(sample.labels))
        rows.append((sample.path, index.named(sample), names, shares, correct))
    write_csv(run.path("val.csv"), ("path", "label", "predicted", "probability", "correct"), rows)


def write_table(run: Run, report: LabelReport) -> None:
    """classes.csv; the average precision of a class without a val photo is empty."""
    rows = (
        (c.name, c.photos, c.ap if c.photos else "", c.precision, c.recall, c.f1)
        for c in report.classes
    )
    header = ("class", "photos", "ap", "precision", "recall", "f1")
    write_csv(run.path("classes.csv"), header, rows)
