"""What the val and the test photos say of a network: the temperature of its head, its scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from zoo.data.index import DatasetIndex
from zoo.finetune import tables
from zoo.finetune.events import Tested
from zoo.finetune.fit import Fitted
from zoo.finetune.inputs import Inputs
from zoo.head.temperature import FEWEST, Calibration, answers, fit, folds_of
from zoo.metrics import THRESHOLD, Array, calibration_error, sigmoid
from zoo.models.head import obstacle
from zoo.run import Run
from zoo.train.records import Scores


def calibrate(inputs: Inputs, fitted: Fitted) -> Calibration | None:
    """Fit the temperature on the val photos and write down what they get with it.

    None where there are no probabilities. It stays 1 where the recipe says so, and where dividing
    the head's last layer would not divide the scores.
    """
    plan, outputs, loop = inputs.plan, fitted.scores.outputs, fitted.loop
    if outputs is None:
        return None
    why_not = "" if plan.recipe.calibrate else "--no-calibrate"
    if loop and not why_not:
        why_not = obstacle(loop.model, plan.facts.head, next(iter(loop.batches.val()))[:2])
    return confidence(inputs.run, inputs.index, outputs, plan.recipe.seed, why_not)


def confidence(
    run: Run, index: DatasetIndex, outputs: Array, seed: int, why_not: str = ""
) -> Calibration:
    """Return the temperature of outputs N x K; write val.csv and risk_coverage.csv with it.

    why_not: a reason to leave it at 1. Several labels a photo are N x K answers of yes or no:
    sigmoid(s) is the softmax of the scores 0 and s, so one temperature divides them all, and no
    probability crosses 0.5 by it. A photo's answers are in one fold, since they are not
    independent. ECE, NLL and AURC are of the N x K answers then, and there is no risk_coverage.csv.
    """
    if index.multilabel:
        truth = np.array(index.targets("val"))
        photos, classes = truth.shape
        if photos < FEWEST and not why_not:
            why_not = f"{photos} val photos are too few: it takes {FEWEST}"
        pairs = np.stack([np.zeros_like(outputs), outputs], axis=-1).reshape(-1, 2)
        folds = np.repeat(folds_of(np.zeros(photos, np.int64), seed), classes)
        found = fit(pairs, truth.reshape(-1).astype(np.int64), seed, why_not, folds)
        found = replace(found, photos=photos)
    else:
        labels = np.array(index.labels("val"))
        found = fit(outputs, labels, seed, why_not)
        tables.write_risk_coverage(run, *answers(outputs / found.temperature, labels))
    tables.write_answers(run, index, "val", outputs / found.temperature)
    return found


def test(run: Run, index: DatasetIndex, scores: Scores, calibration: Calibration | None) -> Tested:
    """Write test.csv and run.json's `test`: what the test photos say of the finished network."""
    photos, ece = len(index.of("test")), None
    if scores.outputs is not None:
        outputs = scores.outputs / (calibration.temperature if calibration else 1.0)
        tables.write_answers(run, index, "test", outputs)
        truth = np.array(index.targets("test"))
        if index.multilabel:
            probabilities = sigmoid(outputs)
            yes = probabilities >= THRESHOLD
            sure = np.where(yes, probabilities, 1 - probabilities)
            ece = calibration_error(sure.reshape(-1), (yes == (truth > 0)).reshape(-1))
        else:
            ece = calibration_error(*answers(outputs, truth))
    about = {"photos": photos} | tables.measured(scores) | ({} if ece is None else {"ece": ece})
    run.record.update(test=about)
    return Tested(scores, photos, ece)
