"""What a run knows of its doubt: unknown pictures found, and sets that hold the true class.

    python -m benchmarks.doubt FOLDER

FOLDER has data/{hymenoptera,clothing10} and the two weights files. Each network is fine-tuned on
one set (frozen, the head solved); all photos of the other one are unknown to it. The rate that is
kept, and what sets hold: on each half of the val photos by the other half, 20 times. Beside it the
same by the largest probability.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy import MODELS, SETS
from benchmarks.measure import machine, run, save, zoo
from zoo.head.conformal import HALVES, by_halves, likelier
from zoo.metrics import Array, auroc
from zoo.predict import policy
from zoo.predict.inputs import Input, find
from zoo.predict.policy import Unknown
from zoo.predict.predictor import Opening, open_predictor
from zoo.predict.rows import Prediction
from zoo.run import Run

RATE, COVERAGES = 0.05, (0.8, 0.9, 0.95)


def measured(folder: Path, model: str, data: str, other: Path) -> dict[str, Any]:
    """Return a row of the table, of a finished run."""
    ended = Run.open(folder)
    ours = open_predictor(str(folder), Opening(features=True))
    unknown = policy.unknown(ended, RATE)
    pairs = ended.labelled("val")
    known = rows_of(ours, unknown, [str(path) for path, _ in pairs])
    far = rows_of(ours, unknown, [item.file for item in find(str(other), sys.stdin).each])
    away, beyond = ([row.distance for row in rows] for rows in (known, far))
    sure, unsure = (np.array([row.probabilities[0] for row in rows]) for rows in (known, far))
    table = np.array([
        [dict(zip(row.labels, row.probabilities, strict=True))[name] for name in ours.classes]
        for row in known
    ])  # fmt: skip
    labels = np.array([ours.classes.index(label) for _, label in pairs])
    falling, scores = -np.sort(-table, axis=1), likelier(table, labels)
    sets = {str(each): by_halves(falling, scores, each) for each in COVERAGES}
    return {
        "model": model,
        "photos": data,
        "val": len(known),
        "others": len(far),
        "accuracy": ended.record["results"]["accuracy"],
        "auroc": auroc(np.array(away), np.array(beyond)),
        "found": float((np.array(beyond) > unknown.limit).mean()),
        "rate": kept_rate(unknown),
        "auroc_probability": auroc(-sure, -unsure),
        "found_probability": float((unsure < np.quantile(sure, RATE)).mean()),
        "sets": {name: [each.coverage, each.size] for name, each in sets.items() if each},
    }


def rows_of(ours: Any, unknown: Unknown, files: list[str]) -> list[Prediction]:
    """Return the answers for files, with distances."""
    found = []
    for row in ours.rows((Input(file, file) for file in files), len(ours.classes)):
        if row.status == "ok":
            found.append(replace(row, distance=unknown.of(row.features), features=None))
    return found


def kept_rate(unknown: Unknown) -> float:
    """Return the share of known photos called unknown, on halves by the limit of the other half."""
    values: Array = unknown.distance.known
    rates = []
    for turn in range(HALVES):
        order = np.random.default_rng(turn).permutation(len(values))
        ours, theirs = values[order[: len(order) // 2]], values[order[len(order) // 2 :]]
        limit = replace(unknown.distance, known=np.sort(ours)).limit(RATE)
        rates.append((theirs > limit).mean())
    return float(np.mean(rates))


def main() -> None:
    shared, rows = Path(sys.argv[1]).absolute(), []
    with tempfile.TemporaryDirectory() as scratch:
        for model, data in itertools.product(MODELS, SETS):
            folder = Path(scratch) / f"{model.replace('/', '-')}-{data}"
            words = ("finetune", model, shared / "data" / data, "-o", folder)
            run(zoo(*words, "--weights", shared / "weights" / MODELS[model]))
            (other,) = set(SETS) - {data}
            rows.append(measured(folder, model, data, shared / "data" / other))
            print(rows[-1], flush=True)
    save("doubt", machine(), {"rate": RATE, "rows": rows})


if __name__ == "__main__":
    main()
