"""`zoo rank` over ten backbones on clothing10: what it takes beyond the forward passes.

    python -m benchmarks.rank [--shared FOLDER]

Three of the ten have real weights, which the shared folder holds; the others' are random, which is
as good for time and means nothing for accuracy. Once with no features kept, once with all.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.accuracy import ALL
from benchmarks.measure import (
    arguments,
    machine,
    run,
    save,
    shared,
    show,
    verdict,
    warn_about_byte_code,
    zoo,
)

BAR = 2.0  # seconds a backbone beyond its forward pass
RANDOM = (
    "alexnet", "googlenet", "resnet18", "resnet34", "resnet50", "torchvision/mobilenet_v3_small",
    "torchvision/shufflenet_v2_x1_0",
)  # fmt: skip


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--shared", type=Path, default=shared(), help="has data/ and weights/")
    flags = parser.parse_args()
    warn_about_byte_code()
    facts = machine()
    models = [f"{name}={flags.shared / 'weights' / file}" for name, file in ALL.items()]
    models += [f"{name}=none" for name in RANDOM]
    with tempfile.TemporaryDirectory(prefix="zoo-benchmark-") as cache:
        cold = ranked(flags.shared, models, cache)
        warm = [ranked(flags.shared, models, cache) for _ in range(flags.repeat)]
    rows = [line(row, warm) for row in cold["models"]]
    header = ("model", "weights", "accuracy", "forward s", "solve s", "the rest s", "again s")
    show(rows, header)
    beyond = [row["seconds"] - row["forward_seconds"] for row in cold["models"]]
    print(f"the whole command: {cold['wall']:.1f} s; again "
          f"{statistics.median(each['wall'] for each in warm):.1f} s")  # fmt: skip
    bars = [
        verdict("beyond the forward pass, mean s", statistics.mean(beyond), BAR, at_most=True),
        verdict(
            "solving, most s", max(r["solve_seconds"] for r in cold["models"]), BAR, at_most=True
        ),
    ]
    save("rank", facts, {"cold": cold, "warm_wall": [one["wall"] for one in warm], "bars": bars})


def ranked(folder: Path, models: list[str], cache: str) -> dict[str, Any]:
    words = ["rank", folder / "data" / "clothing10", "--models", ",".join(models), "--json"]
    job = run(zoo(*words), env={"ZOO_CACHE": cache, "ZOO_OFFLINE": "1"}, unset=["ZOO_WEIGHTS"])
    found: dict[str, Any] = json.loads(job.out)
    failed = [row["error"] for row in found["models"] if row["error"]]
    if failed:
        raise SystemExit("\n".join(failed))
    for row in found["models"]:
        row["model"] = row["model"].partition("=")[0]
    return {**found, "data": Path(found["data"]).name, "wall": job.wall}


def line(row: dict[str, Any], warm: list[dict[str, Any]]) -> list[str]:
    again = [other["seconds"] for each in warm for other in each["models"]
             if other["model"] == row["model"]]  # fmt: skip
    real = row["model"] in ALL
    return [
        row["model"],
        "real" if real else "random",
        f"{100 * row['accuracy']:.1f} %" if real else "-",
        f"{row['forward_seconds']:.2f}",
        f"{row['solve_seconds']:.2f}",
        f"{row['seconds'] - row['forward_seconds'] - row['solve_seconds']:.2f}",
        f"{statistics.median(again):.2f}",
    ]


if __name__ == "__main__":
    main()
