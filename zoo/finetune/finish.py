"""The end of a fine-tune: what is measured once more and written down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from zoo import weights
from zoo.finetune import checkpoint, multilabel
from zoo.finetune.calibrate import Calibration, obstacle
from zoo.finetune.calibrate import fold as fold_temperature
from zoo.finetune.events import Event, Finished, Note
from zoo.finetune.evidence import record, repeat
from zoo.finetune.reconstruction import Baseline, baseline, code_width
from zoo.finetune.results import (
    confidence,
    measured,
    write_class_table,
    write_confusion,
)
from zoo.finetune.sources import PhotoSource
from zoo.metrics import Array

if TYPE_CHECKING:
    from zoo.finetune.job import Job
    from zoo.finetune.loop import Loop


def conclude(job: Job, done: Finished, skipped: int = 0) -> Iterator[Event]:
    """Writes the results; then the repetitions, and the end."""
    write(job, done)
    job.run.update(
        model_sha256=weights.hash_of(job.run.path("model.safetensors")),
        best_epoch=done.best_epoch,
        skipped_steps=skipped,
        agreement_with_fp32=done.agreement,
    )
    found = []
    for item in repeat(job, job.initial):
        if isinstance(item, str):
            yield Note(item)
        else:
            found.append(item)
    seconds, cpu_seconds = job.spent()
    job.run.update(
        status="finished",
        seconds=round(seconds, 3),
        cpu_seconds=round(cpu_seconds, 3),
        evidence=record(found),
    )
    checkpoint.remove(job.saver.path)
    yield replace(done, seconds=seconds, evidence=tuple(found))


def write(job: Job, done: Finished) -> None:
    """Writes what the val photos say."""
    results = measured(done.scores)
    if done.scores.report:
        write_confusion(job.run, done.scores.report)
    if (table := results.pop("classes", None)) is not None:
        write_class_table(job.run, table)
        job.run.update(classes_table=table)
    if done.calibration:
        job.run.update(calibration=asdict(done.calibration))
    if done.baseline:
        results |= {"pca_components": done.baseline.components, "pca_mse": done.baseline.mse}
    job.run.update(results=results)


def calibrated(job: Job, loop: Loop, scores: Array) -> Calibration:
    """The temperature, in the head from here on; writes down what the val photos got."""
    why_not = "" if job.recipe.calibrate else "--no-calibrate"
    if not why_not:
        some = next(iter(loop.source.val()))[:2]
        why_not = obstacle(loop.model, job.plan.head, some)
    if job.recipe.task == "multilabel":
        calibration = multilabel.confidence(job.run, job.index, scores, job.recipe.seed, why_not)
    else:
        val = job.index.of("val")
        calibration = confidence(job.run, val, scores, job.recipe.seed, why_not)
    fold_temperature(loop.model, job.plan.head, calibration.temperature)
    return calibration


def pca(job: Job, source: Any) -> Baseline | None:
    """What principal components do with a code as long as the network's."""
    assert isinstance(source, PhotoSource)
    width = code_width(job.plan.chain, job.plan.start.spec)
    return baseline(source.pixels_of("train"), source.pixels_of("val"), width)
