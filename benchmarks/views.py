"""What views of each photo are worth, and what they cost: the table behind the default.

    python -m benchmarks.views FOLDER [default|deeper]

FOLDER has data/{hymenoptera,clothing10} and the two weights files. For each network two cuts: the
default one, whose head is solved for, and one that trains the last stages for 12 epochs. Accuracy
and log-loss on the val photos, of the default cut the mean of three seeds (which draw other views)
and over five folds of all photos. Cost: views computed, and the seconds of training.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy import MODELS, SETS
from benchmarks.measure import RESULTS, machine, run, save, zoo

DEEPER = {"timm/mobilenetv2_100": "blocks.5", "torchvision/squeezenet1_1": "features.9"}
COUNTS = {"default": (1, 2, 4), "deeper": (1, 4, 8)}
SEEDS = {"default": 3, "deeper": 1}


def tuned(words: list[str], folder: Path, cache: Path) -> dict[str, Any]:
    """The record of a finished run, with what its epochs took."""
    env = {"ZOO_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    run(zoo("finetune", *words, "-o", folder), env=env)
    record: dict[str, Any] = json.loads((folder / "run.json").read_text())
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    record["epochs"] = [json.loads(line) for line in lines]
    return record


def measured(shared: Path, model: str, data: str, cut: str, views: int, cache: Path) -> Any:
    """A row of the table."""
    deeper = cut != "default"
    seeds = SEEDS["deeper" if deeper else "default"]
    words = [model, str(shared / "data" / data), "--views", str(views), "--no-calibrate"]
    words += ["--weights", str(shared / "weights" / MODELS[model])]
    words += ["--cut", cut, "--epochs", "12", "--best", "last"] if deeper else []
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(seeds):
            folds = [] if deeper or seed else ["--folds", "5"]
            place = Path(scratch) / str(seed)
            found.append(tuned([*words, *folds, "--seed", str(seed)], place, cache))
    last = [record["epochs"][-1] for record in found]
    folds = found[0]["evidence"].get("folds", {})
    data_of = found[0]["data"]
    return {
        "model": model,
        "photos": data,
        "cut": cut,
        "views": views,
        "computed": views * data_of["train"] + data_of["val"],
        "accuracy": float(np.mean([record["results"]["accuracy"] for record in found])),
        "loss": float(np.mean([epoch["val_loss"] for epoch in last])),
        "folds": folds.get("mean"),
        "train_s": float(np.mean([sum(e["seconds"] for e in r["epochs"]) for r in found])),
    }


def main() -> None:
    shared, parts = Path(sys.argv[1]).absolute(), sys.argv[2:] or list(COUNTS)
    there = RESULTS / "views.json"
    before = json.loads(there.read_text())["rows"] if there.exists() else []
    rows = {key(row): row for row in before}
    with tempfile.TemporaryDirectory() as empty:
        cache = os.environ.get("ZOO_CACHE", empty)  # no pass is timed: kept features are as good
        for model, data, part in itertools.product(MODELS, SETS, parts):
            cut = "default" if part == "default" else DEEPER[model]
            for views in COUNTS[part]:
                row = measured(shared, model, data, cut, views, Path(cache))
                rows[key(row)] = row
                print(row, flush=True)
    kept = [rows[place] for place in sorted(rows)]
    save("views", machine(), {"seeds": SEEDS, "rows": kept})


def key(row: dict[str, Any]) -> tuple[str, str, bool, int]:
    return row["model"], row["photos"], row["cut"] != "default", row["views"]


if __name__ == "__main__":
    main()
