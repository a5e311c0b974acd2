"""Every family of timm, its smallest member: planned, passed once, solved, exported, or why not.

    python -m benchmarks.families PHOTOS [--results FILE] [--minutes 30]

PHOTOS is a folder of few photos, CLASS/*.jpg; the weights are random. What is done is kept in FILE,
a JSON record a line, so that another call goes on. Writes docs/families.md. Networks of more than
60 million parameters are left out, and of more than 15 million no file is exported: that would show
nothing new and take hours.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import timm
import torch

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "families.md"
RESULTS = Path(__file__).parent / "results" / "families.jsonl"
LARGE, EXPORTED = 60e6, 15e6  # parameters
LIMIT = 900  # seconds of a command


def smallest() -> dict[str, tuple[str, int]]:
    """Return the member with the fewest parameters of each family that has weights."""
    found: dict[str, tuple[str, int]] = {}
    for name in sorted({name.partition(".")[0] for name in timm.list_models(pretrained=True)}):
        family = timm.models.model_entrypoint(name).__module__.rpartition(".")[2]
        try:
            with torch.device("meta"):
                model = timm.create_model(name, pretrained=False)
        except Exception:  # one that computes with its tensors
            model = timm.create_model(name, pretrained=False)
        count = sum(parameter.numel() for parameter in model.parameters())
        if count < found.get(family, ("", sys.maxsize))[1]:
            found[family] = (name, count)
    return found


def said(*words: object) -> tuple[str, str]:
    """Return why a command failed, or nothing, and what it printed."""
    command = [sys.executable, "-m", "zoo", *map(str, words)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, cwd=ROOT)
    except subprocess.TimeoutExpired:
        return f"took more than {LIMIT} s", ""
    if done.returncode == 0:
        return "", done.stdout
    errors = [line for line in done.stderr.splitlines() if line.startswith("error")]
    return (errors or done.stderr.splitlines() or ["no words"])[-1].removeprefix("error: "), ""


def tried(name: str, parameters: int, photos: Path) -> dict[str, Any]:
    """Return what works of a network."""
    row: dict[str, Any] = {"model": f"timm/{name}", "parameters": parameters}
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        start = ("finetune", row["model"], photos, "--weights", "none", "--views", "1")
        row["why"], _ = said(*start, "--engine", "torch", "-o", run)
        if row["why"]:
            return row
        record = json.loads((run / "run.json").read_text())
        first, data = record["phases"][0], record["data"]
        row |= {"cut": record["cut"], "solved": first["solver"] == "lbfgs"}
        row["bytes"] = record["feature_bytes"] // (data["train"] + data["val"])
        if parameters <= EXPORTED:
            row["why"], _ = said("export", "onnx", run, "-o", Path(scratch) / "run.onnx")
            row["exported"] = not row["why"]
    return row


def page(rows: list[dict[str, Any]], families: int) -> str:
    """Return the table in Markdown."""
    planned = [row for row in rows if row.get("solved")]
    lines = [
        "# Families of timm",
        "",
        "The smallest member of each family, with random weights: is the head the last layer,",
        "so that it is solved, how many bytes are kept of a view, and does the ONNX file agree",
        "with the run. Made by `python -m benchmarks.families PHOTOS`.",
        "",
        f"{len(rows)} of {families} families tried, {len(planned)} planned and solved.",
        "",
        "| family | model | parameters | cut | solved | bytes a view | exported | why not |",
        "|---|---|---:|---|---|---:|---|---|",
    ]
    for row in sorted(rows, key=lambda row: str(row["family"])):
        done = {True: "yes", False: "no", None: "not tried"}
        cells = (
            row["family"],
            row["model"],
            f"{row['parameters'] / 1e6:.1f} M",
            row.get("cut", "-"),
            done[row.get("solved", False)],
            f"{row['bytes']:,}" if "bytes" in row else "-",
            done[row.get("exported")],
            row["why"].replace("|", "/")[:160],
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--minutes", type=float, default=30)
    flags = parser.parse_args()
    ends, members = time.monotonic() + 60 * flags.minutes, smallest()
    text = flags.results.read_text() if flags.results.exists() else ""
    rows = [json.loads(line) for line in text.splitlines()]
    known = {row["family"] for row in rows}
    for family, (name, parameters) in sorted(members.items(), key=lambda item: item[1][1]):
        if family in known or parameters > LARGE or time.monotonic() > ends:
            continue
        row = {"family": family, **tried(name, parameters, flags.photos.absolute())}
        print(json.dumps(row), flush=True)
        rows.append(row)
        with flags.results.open("a") as file:
            file.write(json.dumps(row) + "\n")
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(rows, len(members)))


if __name__ == "__main__":
    main()
