"""What a finished fine-tune writes down beside its weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from zoo.data.index import DatasetIndex
from zoo.engine.pipeline import forward
from zoo.engine.torch import TorchEngine
from zoo.finetune.scan import plain_view
from zoo.metrics import Array, Report
from zoo.run import Run, write_csv

if TYPE_CHECKING:
    from zoo.finetune.plan import Plan

PHOTOS = 256


def write_tables(run: Run, report: Report) -> None:
    """confusion.csv and classes.csv."""
    names = [score.name for score in report.classes]
    table = ([name, *row] for name, row in zip(names, report.confusion, strict=True))
    write_csv(run.path("confusion.csv"), ("true \\ predicted", *names), table)
    rows = ([c.name, c.photos, c.precision, c.recall, c.f1] for c in report.classes)
    write_csv(run.path("classes.csv"), ("class", "photos", "precision", "recall", "f1"), rows)


def agreement_with_fp32(plan: Plan, index: DatasetIndex, scores: Array) -> float:
    """Share of validation photos that fp32 gives the same class as the precision chosen.

    scores: what the trained head said to the features in that precision, N x K.
    """
    samples = index.of("val")[:PHOTOS]
    device = replace(plan.device, precision="fp32")
    exact = TorchEngine(plan.chain, plan.preprocess, device)
    paths = [index.root / sample.path for sample in samples]
    rows = forward(paths, lambda path: plain_view(path, plan.preprocess), exact)
    answers = np.array([np.argmax(row) for _, row in rows if not isinstance(row, Exception)])
    return float((answers == scores[: len(samples)].argmax(axis=1)).mean())
