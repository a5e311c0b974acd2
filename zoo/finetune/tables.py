"""The tables of a finished run: what each photo and each class got, and what confidence says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

import numpy as np

from zoo.data.index import DatasetIndex
from zoo.data.samples import SEPARATOR, Sample
from zoo.finetune.events import Finished
from zoo.head.conformal import likelier
from zoo.head.suspicious import Suspicious
from zoo.head.temperature import answers
from zoo.metrics import (
    THRESHOLD,
    Array,
    LabelReport,
    Report,
    risk_coverage,
    sigmoid,
    softmax,
    stated,
)  # fmt: skip
from zoo.run import Run, write_csv
from zoo.train.records import Scores

ANSWERS = ("path", "label", "predicted", "probability", "correct")
LIKELIER = "likelier"  # the sum of the probabilities of the classes before the true one
Row = dict[str, str | int | float | None]


def write_answers(run: Run, index: DatasetIndex, part: str, outputs: Array) -> None:
    """Write val.csv or test.csv: what the network says of each photo, in the order of the index.

    outputs: N x K, with the temperature in them. probability: of each predicted label.
    """
    rows = _labels if index.multilabel else _classes
    header = ANSWERS if index.multilabel else (*ANSWERS, LIKELIER)
    write_csv(run.path(f"{part}.csv"), header, rows(index, part, outputs))


def _classes(index: DatasetIndex, part: str, outputs: Array) -> Iterator[Sequence[object]]:
    samples, classes = index.of(part), index.classes
    labels = np.array([sample.label for sample in samples])
    sums = likelier(softmax(outputs), labels)
    told = zip(samples, outputs.argmax(axis=1), *answers(outputs, labels), sums, strict=True)
    for sample, guess, probability, right, before in told:
        words = (sample.path, classes[sample.label], classes[guess], f"{probability:.6g}")
        yield *words, int(right), float(before)


def _labels(index: DatasetIndex, part: str, outputs: Array) -> Iterator[Sequence[object]]:
    for sample, values in zip(index.of(part), sigmoid(outputs), strict=True):
        told = [k for k, value in enumerate(values.tolist()) if value >= THRESHOLD]
        names = SEPARATOR.join(index.classes[k] for k in told)
        shares = SEPARATOR.join(f"{values[k]:.6g}" for k in told)
        yield sample.path, index.named(sample), names, shares, int(set(told) == set(sample.labels))


def write_risk_coverage(run: Run, probability: Array, correct: Array) -> None:
    """Write risk_coverage.csv: what share of the val photos reaches each threshold, and errs.

    Thresholds, as `likelier`, with all their digits: rounded up, the photo itself is below its own,
    and sure networks differ in the tenth digit.
    """
    found = zip(*risk_coverage(probability, correct), strict=True)
    rows = (
        (float(threshold), f"{kept / len(correct):.6g}", f"{risk:.6g}", int(kept))
        for threshold, kept, risk in found
    )
    write_csv(run.path("risk_coverage.csv"), ("threshold", "coverage", "risk", "kept"), rows)


def write_suspicious(
    run: Run, classes: Sequence[str], samples: Sequence[Sample], held: Array, found: Suspicious
) -> None:
    """Write suspicious.csv: the training photos whose label is probably wrong, the worst first.

    held: N x K, what heads say of each that were found without it. probability: of `suggested`.
    """
    header = ("path", "label", "suggested", "probability", "score")
    rows = (
        (samples[row].path, classes[samples[row].label], classes[other],
         f"{held[row, other]:.6g}", f"{found.scores[row]:.6g}")
        for row in found.order[: found.flagged]
        for other in (found.proposed[row],)
    )  # fmt: skip
    write_csv(run.path("suspicious.csv"), header, rows)


def write_results(run: Run, done: Finished) -> None:
    """Write what the val photos say: run.json's `results`, classes.csv and confusion.csv."""
    results, report = measured(done.scores), done.scores.report
    if report:  # who is taken for whom
        names = [score.name for score in report.classes]
        table = ([name, *row] for name, row in zip(names, report.confusion, strict=True))
        write_csv(run.path("confusion.csv"), ("true \\ predicted", *names), table)
    if found := report or done.scores.labels:
        del results["classes"]
        rows = _class_table(found)
        header = ["class", *list(rows[0])[1:]]
        write_csv(run.path("classes.csv"), header, (row.values() for row in rows))
        run.record.update(classes_table=rows)
    if done.calibration:
        run.record.update(calibration=asdict(done.calibration))
    if done.baseline:
        results |= {"pca_components": done.baseline.components, "pca_mse": done.baseline.mse}
    run.record.update(results=results)


def measured(scores: Scores) -> dict[str, object]:
    """Return the numbers that run.json has of scores, those of each class among them."""
    found = scores.report or scores.labels
    if found is None:
        return {"mse": scores.mse, "mae": scores.mae}
    names = ("accuracy", "macro_f1") if scores.report else ("map", "macro_f1", "exact")
    return {name: getattr(found, name) for name in names} | {"classes": _class_table(found)}


def _class_table(found: Report | LabelReport) -> list[Row]:
    """Return a record for each class; of one without a photo nothing was measured: None."""
    return [stated(score) for score in found.classes]
