"""The recipes' results, from run folders: benchmarks/results/recipes.json and README's table.

python -m benchmarks.recipes train RUNS [NAME …]   trains recipes/*.toml that RUNS lacks, in turn
python -m benchmarks.recipes collect RUNS          reads RUNS/NAME and RUNS/NAME-seedN

A run counts for a recipe only where its settings are the recipe's. Runs of several seeds are also
measured together, as a committee (`zoo evaluate RUN RUN…`).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from benchmarks.measure import cpu_model
from zoo.machine import cores
from zoo.run import Run

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "recipes.json"
SEED = re.compile(r"(?P<name>.+)-seed(?P<seed>\d+)")
PLACES = ("data", "weights")  # a run has them as paths that hold everywhere


def recipes() -> dict[str, dict[str, Any]]:
    files = sorted((ROOT / "recipes").glob("*.toml"))
    return {file.stem: tomllib.loads(file.read_text()) for file in files}


def train(runs: Path, names: list[str]) -> None:
    """`zoo train --recipe` for each recipe that trains from scratch and has no run yet."""
    for name, settings in recipes().items():
        scratch = "data" in settings and "freeze" not in settings
        if scratch and (not names or name in names) and not (runs / name).exists():
            words = ["train", "--recipe", f"recipes/{name}.toml", "-o", str(runs / name)]
            subprocess.run([sys.executable, "-m", "zoo", *words], cwd=ROOT, check=True)


def row(name: str, settings: dict[str, Any], run: Run) -> dict[str, Any]:
    """One line of the table. Raises ValueError where the run is not of this recipe."""
    used = tomllib.loads(run.path("recipe.toml").read_text())
    other = [key for key in settings if key not in PLACES and used.get(key) != settings[key]]
    if other:
        raise ValueError(f"{run.folder} is not a run of {name}: {', '.join(other)} differ")
    results = run.record["results"]
    metric = "accuracy" if "accuracy" in results else "mse"
    how = "zoo train" if "data" in settings else f"zoo finetune {used['model']} PHOTOS"
    return {
        "recipe": name,
        "model": used["model"],
        "data": f"{Path(used['data']).name} ({run.record['data']['val']:,})",
        "metric": metric,
        "value": results[metric],
        "pca_mse": results.get("pca_mse"),
        "epochs": used.get("epochs", 30),
        "minutes": round(run.record["seconds"] / 60, 2),
        "cpu_minutes": round(run.record["cpu_seconds"] / 60, 2),
        "command": f"{how} --recipe recipes/{name}.toml",
        "settings": settings,
    }


def collect(runs: Path) -> dict[str, Any]:
    rows = []
    for name, settings in recipes().items():
        seeds = sorted(path for path in runs.glob(f"{name}-seed*") if SEED.fullmatch(path.name))
        single = runs / name if (runs / name).exists() else seeds[0] if seeds else None
        if single is None or Run.open(single).record["status"] != "finished":
            print(f"{name}: no finished run in {runs}", file=sys.stderr)
            continue
        seeds = [seed for seed in seeds if Run.open(seed).record["status"] == "finished"]
        rows.append(row(name, settings, Run.open(single).finished()))
        if len(seeds) > 1:
            rows.append(committee(name, settings, seeds, rows[-1]))
    return {"machine": f"{cores()} cores, {cpu_model()}", "rows": rows}


def committee(
    name: str, settings: dict[str, Any], folders: list[Path], single: dict[str, Any]
) -> dict[str, Any]:
    members = []
    for folder in folders:
        match = SEED.fullmatch(folder.name)
        assert match
        members.append(row(name, settings | {"seed": int(match["seed"])}, Run.open(folder)))
    answer = subprocess.run(
        [sys.executable, "-m", "zoo", "evaluate", *map(str, folders), "--json"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    found = json.loads(answer.stdout)["results"][-1]
    return single | {
        "recipe": f"{name} committee of {len(folders)}",
        "value": found["accuracy"],
        "members": [member["value"] for member in members],
        "minutes": round(sum(member["minutes"] for member in members), 2),
        "cpu_minutes": round(sum(member["cpu_minutes"] for member in members), 2),
        "command": "zoo evaluate RUN RUN…",
    }


def main() -> int:
    if len(sys.argv) < 3 or sys.argv[1] not in ("train", "collect"):
        print(__doc__, file=sys.stderr)
        return 2
    runs = Path(sys.argv[2])
    if sys.argv[1] == "train":
        train(runs, sys.argv[3:])
    else:
        RESULTS.write_text(json.dumps(collect(runs), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
