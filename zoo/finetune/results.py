"""What a finished fine-tune writes down beside its weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from zoo.data.index import DatasetIndex
from zoo.data.views import plain_view
from zoo.engine.pipeline import forward
from zoo.engine.torch import TorchEngine
from zoo.errors import ImageError
from zoo.metrics import Report
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


def agreement_with_fp32(plan: Plan, index: DatasetIndex) -> float:
    """Share of validation photos that get the same class in fp32 and in the plan's precision.

    Both run the whole network, as `predict` will.
    """
    paths = [index.root / sample.path for sample in index.of("val")[:PHOTOS]]
    answers = []
    for precision in ("fp32", plan.device.precision):
        device = replace(plan.device, precision=precision)
        engine = TorchEngine(plan.chain, plan.preprocess, device)
        rows = forward(paths, lambda path: plain_view(path, plan.preprocess), engine)
        answers.append([None if isinstance(row, ImageError) else row.argmax() for _, row in rows])
    return float(np.mean([ours == theirs for ours, theirs in zip(*answers, strict=True)]))
