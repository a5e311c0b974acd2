"""Every family of timm, its smallest member: planned, passed once, solved, exported, or why not.

    python -m benchmarks.families PHOTOS [--results FILE] [--minutes 30]

PHOTOS is a folder of few photos, CLASS/*.jpg; the weights are random. What is done is kept in FILE,
a JSON record a line, so that another call goes on, smallest networks first. Writes
docs/families.md. Networks of more than 150 million parameters are left out, and of more than 15
million no file is exported: that would show nothing new and take hours.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch

from zoo.catalog import libraries

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "families.md"
RESULTS = Path(__file__).parent / "results" / "families.jsonl"
LARGE, EXPORTED = 150e6, 15e6  # parameters
LIMIT = 900  # seconds of CPU time of a command
NEEDED = (
    "zoo.cli",
    "timm",
    "torchvision",
    "scipy.optimize",
    "onnx",
    "onnxruntime",
)  # imported once, not in every child
COLUMNS = ("family", "smallest member", "parameters", "planned", "pass", "head solved",
           "bytes a view", "exported", "why not")  # fmt: skip


def smallest() -> dict[str, tuple[str, int]]:
    """Return the member with the fewest parameters of each family that has weights."""
    rows = [row for row in libraries.read() if row.name.startswith("timm/")]
    counted = {row.family for row in rows if row.params}
    found: dict[str, tuple[str, int]] = {}
    for row in rows:
        name = row.name.partition(".")[0]
        count = row.params or (row.family not in counted and _count(name))
        if 0 < count < found.get(row.family, ("", sys.maxsize))[1]:
            found[row.family] = (name, count)
    return found


@cache
def _count(name: str) -> int:
    """Return the parameters of a network that the catalogue has not counted."""
    import timm

    plain = name.partition("/")[2]
    try:
        with torch.device("meta"):
            model = timm.create_model(plain, pretrained=False)
    except Exception:  # one that computes with its tensors
        model = timm.create_model(plain, pretrained=False)
    return sum(parameter.numel() for parameter in model.parameters())


def failed(scratch: str, *words: object) -> str:
    """Return why a command failed, or nothing. It runs in a fork, whose imports are made."""
    said = Path(scratch) / "said"
    child = multiprocessing.get_context("fork").Process(target=_command, args=(said, words))
    child.start()
    child.join()
    if child.exitcode == 0:
        return ""
    lines = said.read_text(errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("error")]
    if not errors and child.exitcode is not None and child.exitcode < 0:
        return f"ended by signal {-child.exitcode} ({LIMIT} s of CPU time, or the memory)"
    return (errors or lines or ["no words"])[-1].removeprefix("error: ")


def _command(said: Path, words: tuple[object, ...]) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT))
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(file, stream)
    from zoo.cli import main

    sys.exit(main(list(map(str, words))))


def tried(name: str, parameters: int, photos: Path) -> dict[str, Any]:
    """Return what works of a network."""
    row: dict[str, Any] = {"model": name, "parameters": parameters}
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        start = ("finetune", row["model"], photos, "--weights", "none", "--views", "1", "-o", run)
        row["why"] = failed(scratch, *start, "--engine", "torch")
        with suppress(OSError, ValueError):
            record = json.loads((run / "run.json").read_text())
            row |= {"planned": True, "cut": record["cut"]}
        if row["why"]:
            return row
        phase, data = record["phases"][0], record["data"]
        row |= {"pass": True, "solved": phase["solver"] == "lbfgs"}
        row["bytes"] = record["feature_bytes"] // (data["train"] + data["val"])
        if parameters <= EXPORTED:
            row["why"] = failed(scratch, "export", "onnx", run, "-o", Path(scratch) / "run.onnx")
            row["exported"] = not row["why"]
    return row


def page(rows: list[dict[str, Any]], members: dict[str, tuple[str, int]]) -> str:
    """Return the table in Markdown."""
    large = sum(parameters > LARGE for _, parameters in members.values())
    counts = Counter(what for row in rows for what in ("planned", "solved") if row.get(what))
    tried_out = [row for row in rows if "exported" in row]
    files = sum(row["exported"] for row in tried_out)
    lines = [
        "# Families of timm",
        "",
        "The smallest member of each family, with random weights, on a few photos: is it planned,",
        "does one pass give features, is the head the last layer alone, so that it is solved,",
        "and does its ONNX file agree with the run.",
        "Made by `python -m benchmarks.families PHOTOS`.",
        "",
        f"{len(rows)} of {len(members)} families tried with timm {libraries.made_from()['timm']} "
        f"({large} have no member of at most {LARGE / 1e6:.0f} million parameters): "
        f"{counts['planned']} planned, {counts['solved']} solved; "
        f"{files} of {len(tried_out)} files exported.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---|---|---:|---|---|---|---:|---|---|",
    ]
    done = {True: "yes", False: "no", None: "not tried"}
    for row in sorted(rows, key=lambda row: str(row["family"])):
        cells = (
            row["family"],
            row["model"],
            f"{row['parameters'] / 1e6:.1f} M",
            done[row.get("planned", False)],
            done[row.get("pass", False)],
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
    torch.set_num_threads(1)  # a pool of threads does not come along into a fork
    ends, members = time.monotonic() + 60 * flags.minutes, smallest()
    text = flags.results.read_text() if flags.results.exists() else ""
    rows = [json.loads(line) for line in text.splitlines()]
    known = {row["family"] for row in rows}
    for module in NEEDED:
        importlib.import_module(module)
    for family, (name, parameters) in sorted(members.items(), key=lambda item: item[1][1]):
        if family in known or parameters > LARGE or time.monotonic() > ends:
            continue
        row = {"family": family, **tried(name, parameters, flags.photos.absolute())}
        print(json.dumps(row), flush=True)
        rows.append(row)
        with flags.results.open("a") as file:
            file.write(json.dumps(row) + "\n")
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(rows, members))


if __name__ == "__main__":
    main()
