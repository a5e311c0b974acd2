"""Whether training on behind the head is worth it: frozen against `--schedule head-then-all`.

    python -m benchmarks.deeper FOLDER [SEEDS]

FOLDER has data/clothing10 and the weights of mobilenetv2_100. Both by default, with `--best last`:
no epoch is chosen on the val photos that the accuracy is of. Mean and 95 % interval over the seeds
(5), which draw other views, another order and another head.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t

from benchmarks.accuracy import MODELS
from benchmarks.measure import machine
from benchmarks.views import run

RESULTS = Path(__file__).parent / "results" / "deeper.json"
MODEL, DATA = "timm/mobilenetv2_100", "clothing10"
WAYS = {"frozen": [], "head-then-all": ["--schedule", "head-then-all", "--best", "last"]}


def main() -> None:
    shared, seeds = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5
    words = [MODEL, str(shared / "data" / DATA), "--weights"]
    words += [str(shared / "weights" / MODELS[MODEL]), "--no-calibrate"]
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for way, flags in WAYS.items():
            found = [
                run([*words, *flags, "--seed", str(seed)], Path(scratch) / f"{way}-{seed}",
                    Path(scratch) / "cache")
                for seed in range(seeds)
            ]  # fmt: skip
            values = [record["results"]["accuracy"] for record in found]
            half = float(t.ppf(0.975, seeds - 1) * np.std(values, ddof=1) / np.sqrt(seeds))
            rows[way] = {
                "accuracies": values,
                "mean": float(np.mean(values)),
                "half": half,
                "cpu_s": float(np.mean([record["cpu_seconds"] for record in found])),
            }
            mean = rows[way]["mean"]
            print(f"{way}: {100 * mean:.1f} % ± {100 * half:.1f}, each {values}", flush=True)
    frozen, deeper = rows["frozen"], rows["head-then-all"]
    apart = deeper["mean"] - deeper["half"] > frozen["mean"] + frozen["half"]
    print("met" if apart else "MISSED", "head-then-all beats the frozen head outside the intervals")
    results = {"machine": machine(), "seeds": seeds, "model": MODEL, "photos": DATA, "rows": rows}
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
