"""What a finished fine-tune writes down beside its weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import weights
from zoo.data.index import DatasetIndex, Sample
from zoo.data.views import plain_view
from zoo.engine.choose import choose
from zoo.engine.compiled import made_of
from zoo.engine.pipeline import forward
from zoo.errors import ImageError
from zoo.finetune.calibrate import Calibration, answers, fit
from zoo.finetune.prefix import Part, prefix
from zoo.metrics import THRESHOLD, Array, Report, risk_coverage, sigmoid
from zoo.run import Run, write_csv
from zoo.subject import spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.finetune.plan import Plan

PHOTOS = 256


def write_tables(run: Run, report: Report) -> None:
    """confusion.csv and classes.csv."""
    names = [score.name for score in report.classes]
    table = ([name, *row] for name, row in zip(names, report.confusion, strict=True))
    write_csv(run.path("confusion.csv"), ("true \\ predicted", *names), table)
    rows = ([c.name, c.photos, c.precision, c.recall, c.f1] for c in report.classes)
    write_csv(run.path("classes.csv"), ("class", "photos", "precision", "recall", "f1"), rows)


def confidence(
    run: Run, samples: Sequence[Sample], scores: Array, seed: int, why_not: str = ""
) -> Calibration:
    """Fits the temperature and writes val.csv and risk_coverage.csv, both with it.

    scores: of the val samples, N x K, before softmax and before the temperature is folded into
    the head. why_not: a reason to leave it at 1.
    """
    labels = np.array([sample.label for sample in samples])
    calibration = fit(scores, labels, seed, why_not)
    scores = scores / calibration.temperature
    write_val(run, samples, scores, run.record["classes"])
    write_risk_coverage(run, *answers(scores, labels))
    return calibration


def write_val(run: Run, samples: Sequence[Sample], scores: Array, classes: Sequence[str]) -> None:
    """val.csv: what the network says of each val photo, in the order of the index."""
    labels = np.array([sample.label for sample in samples])
    found = zip(samples, scores.argmax(axis=1), *answers(scores, labels), strict=True)
    rows = (
        (s.path, classes[s.label], classes[guess], f"{probability:.6g}", int(right))
        for s, guess, probability, right in found
    )
    write_csv(run.path("val.csv"), ("path", "label", "predicted", "probability", "correct"), rows)


def write_risk_coverage(run: Run, probability: Array, correct: Array) -> None:
    """risk_coverage.csv: for each threshold what share of the val photos reaches it, and errs."""
    found = zip(*risk_coverage(probability, correct), strict=True)
    rows = (
        (f"{threshold:.9g}", f"{kept / len(correct):.6g}", f"{risk:.6g}", int(kept))
        for threshold, kept, risk in found
    )
    write_csv(run.path("risk_coverage.csv"), ("threshold", "coverage", "risk", "kept"), rows)


def agreement_with_fp32(plan: Plan, index: DatasetIndex, run: Run) -> float:
    """Share of validation photos that get the same answer in fp32 and in the plan's precision.

    Both run the whole network that the run has saved, on the engine that `predict` will choose.
    """
    val = spread(index.of("val"), PHOTOS)  # the index is sorted by class
    paths = [index.root / sample.path for sample in val]
    several = plan.recipe.task == "multilabel"

    def answer(scores: Array) -> Any:
        return (sigmoid(scores) >= THRESHOLD).tolist() if several else scores.argmax()

    digest = weights.hash_of(run.path("model.safetensors"))
    made = made_of(plan.start.row, plan.start.variant, plan.recipe.head)
    where = (plan.recipe.model, made, f"file {digest}", None, plan.preprocess)
    kind, _ = choose("auto", plan.device.name, plan.device.precision)
    answers = []
    for precision in ("fp32", plan.device.precision):
        device = replace(plan.device, precision=precision)
        engine = prefix(Part(*where, plan.chain), kind, device).engine
        rows = forward(paths, lambda path: plain_view(path, plan.preprocess), engine)
        answers.append([None if isinstance(row, ImageError) else answer(row) for _, row in rows])
    return float(np.mean([ours == theirs for ours, theirs in zip(*answers, strict=True)]))
