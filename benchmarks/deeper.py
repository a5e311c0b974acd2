"""Whether training on behind the head is worth it: frozen against `--schedule head-then-all`.

    python -m benchmarks.deeper FOLDER [SEEDS]

FOLDER has data/clothing10 and the weights of mobilenetv2_100. `--best last`: no epoch is chosen on
the val photos that the accuracy is of. Mean and 95 % interval over the seeds (5), which draw other
views and another order. A training for each processor runs at once, each on one thread.
"""

from __future__ import annotations

import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t

from benchmarks.accuracy import MODELS
from benchmarks.measure import machine, save
from benchmarks.views import tuned
from zoo.machine import cores

MODEL, DATA = "timm/mobilenetv2_100", "clothing10"
SMOOTH = ["--label-smoothing", "0.1"]
WAYS = {
    "frozen": [],
    "frozen, label smoothing": SMOOTH,
    "head-then-all": ["--schedule", "head-then-all", "--best", "last", "--epochs", "20", *SMOOTH],
}


def main() -> None:
    shared, seeds = Path(sys.argv[1]).absolute(), int(sys.argv[2]) if len(sys.argv) > 2 else 5
    words = [MODEL, str(shared / "data" / DATA), "--weights"]
    words += [str(shared / "weights" / MODELS[MODEL]), "--no-calibrate"]
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(cores()) as pool:

        def one(job: tuple[str, int]) -> dict[str, Any]:
            way, seed = job
            folder = Path(scratch) / f"{way.replace(' ', '-')}-{seed}"
            return tuned([*words, *WAYS[way], "--seed", str(seed)], folder, Path(scratch) / "cache")

        for way in WAYS:
            rows[way] = summed(list(pool.map(one, [(way, seed) for seed in range(seeds)])))
            shown = f"{100 * rows[way]['mean']:.1f} % ± {100 * rows[way]['half']:.1f}"
            print(f"{way}: {shown}, each {rows[way]['accuracies']}", flush=True)
    deeper = rows["head-then-all"]
    bars = [better(deeper, rows[way], way) for way in WAYS if way != "head-then-all"]
    facts = {"seeds": seeds, "model": MODEL, "photos": DATA}
    save("deeper", machine(), {**facts, "rows": rows, "bars": bars})


def summed(found: list[dict[str, Any]]) -> dict[str, Any]:
    values = [record["results"]["accuracy"] for record in found]
    return {
        "accuracies": values,
        "mean": float(np.mean(values)),
        "half": half(values),
        "cpu_s": float(np.mean([record["cpu_seconds"] for record in found])),
    }


def half(values: list[float]) -> float:
    """Of the 95 % interval of the mean, by Student's t."""
    count = len(values)
    return float(t.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count))


def better(deeper: dict[str, Any], frozen: dict[str, Any], way: str) -> dict[str, Any]:
    """Whether the gain is above zero by more than its interval, seed by seed."""
    gains = [a - b for a, b in zip(deeper["accuracies"], frozen["accuracies"], strict=True)]
    gain, sure = float(np.mean(gains)), half(gains)
    apart = deeper["mean"] - deeper["half"] > frozen["mean"] + frozen["half"]
    beyond = deeper["mean"] > frozen["mean"] + frozen["half"]
    met = beyond and gain > sure
    print(
        f"{'met   ' if met else 'MISSED'}  head-then-all beats {way} by {100 * gain:.1f} points, "
        f"± {100 * sure:.1f} seed by seed; its mean is {'above' if beyond else 'within'} the "
        f"interval of {way}; the two intervals are {'apart' if apart else 'not apart'}"
    )
    return {"beside": way, "gain": gain, "half": sure, "beyond": beyond, "apart": apart, "met": met}


if __name__ == "__main__":
    main()
