"""What a finished fine-tune writes down beside its weights."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import weights
from zoo.data.index import DatasetIndex, Sample
from zoo.data.views import plain_view
from zoo.engine.choose import choose
from zoo.engine.compiled import made_of
from zoo.engine.pipeline import forward
from zoo.errors import ImageError
from zoo.finetune import multilabel
from zoo.finetune.calibrate import Calibration, answers, fit
from zoo.finetune.events import Tested
from zoo.finetune.prefix import Part, prefix
from zoo.finetune.tasks import Scores
from zoo.metrics import (
    THRESHOLD,
    Array,
    LabelReport,
    Report,
    calibration_error,
    risk_coverage,
    sigmoid,
)
from zoo.run import Run, write_csv
from zoo.subject import spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.finetune.plan import Plan

PHOTOS = 256


def write_confusion(run: Run, report: Report) -> None:
    """Writes confusion.csv: who is taken for whom."""
    names = [score.name for score in report.classes]
    table = ([name, *row] for name, row in zip(names, report.confusion, strict=True))
    write_csv(run.path("confusion.csv"), ("true \\ predicted", *names), table)


def write_class_table(run: Run, table: list[dict[str, Any]]) -> None:
    """classes.csv; what was not measured is empty."""
    header = ["class", *list(table[0])[1:]]
    write_csv(run.path("classes.csv"), header, (row.values() for row in table))


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
    write_answers(run.path("val.csv"), samples, scores, run.record["classes"])
    write_risk_coverage(run, *answers(scores, labels))
    return calibration


def write_test(
    run: Run, index: DatasetIndex, scores: Scores, calibration: Calibration | None
) -> Tested:
    """Writes test.csv and run.json's `test`: what the test photos say of the finished network.

    scores: with outputs from before the temperature is folded into the head.
    """
    samples, ece = index.of("test"), None
    results: dict[str, Any] = {"photos": len(samples)}
    if scores.outputs is not None:
        outputs = scores.outputs / (calibration.temperature if calibration else 1.0)
        if index.multilabel:
            probabilities = sigmoid(outputs)
            truth = np.array(index.targets("test"))
            multilabel.write_answers(run.path("test.csv"), index, "test", probabilities)
            ece = multilabel.calibration_error_of(probabilities, truth)
        else:
            labels = np.array([sample.label for sample in samples])
            write_answers(run.path("test.csv"), samples, outputs, index.classes)
            ece = calibration_error(*answers(outputs, labels))
    run.update(test=results | measured(scores) | ({} if ece is None else {"ece": ece}))
    return Tested(scores, len(samples), ece)


def measured(scores: Scores) -> dict[str, Any]:
    """Return the numbers that run.json has of scores, those of each class among them."""
    found = scores.report or scores.labels
    if found is None:
        return {"mse": scores.mse, "mae": scores.mae}
    names = ("accuracy", "macro_f1") if scores.report else ("map", "macro_f1", "exact")
    return {name: getattr(found, name) for name in names} | {"classes": class_table(found)}


def class_table(found: Report | LabelReport) -> list[dict[str, Any]]:
    """Return a record for each class; of one without a photo nothing was measured: None."""
    return [
        {
            key: value if score.photos or key in ("name", "photos") else None
            for key, value in asdict(score).items()
        }
        for score in found.classes
    ]


def write_answers(
    path: Path, samples: Sequence[Sample], scores: Array, classes: Sequence[str]
) -> None:
    """val.csv or test.csv: what the network says of each photo, in the order of the index."""
    labels = np.array([sample.label for sample in samples])
    found = zip(samples, scores.argmax(axis=1), *answers(scores, labels), strict=True)
    rows = (
        (s.path, classes[s.label], classes[guess], f"{probability:.6g}", int(right))
        for s, guess, probability, right in found
    )
    write_csv(path, ("path", "label", "predicted", "probability", "correct"), rows)


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
