"""zoo runs: the runs below a folder, newest first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli.console import print_json, print_table, talk
from zoo.cli.options import argument, flag, options, shared
from zoo.errors import RunError, UsageError
from zoo.text import count, percent, show_name

if TYPE_CHECKING:
    from zoo.run import Run

SCORES = ("accuracy", "map", "loss")  # the first that a run has is shown


@dataclass(frozen=True)
class Flags:
    folder: str = argument("Where to look.", ".")
    depth: int = flag("Folders below it that are looked into.", default=3, min=0)
    json: bool = shared("json")


@options
def command(flags: Flags) -> None:
    """List the runs below a folder, newest first: network, photos, score, state and date."""
    folder = Path(flags.folder)
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder", "give the folder that your runs are in")
    found = sorted(_below(folder, flags.depth), key=lambda one: one[1], reverse=True)
    records = [_record(run, when) for run, when in found]
    if flags.json:
        print_json(records)
        return
    if records:
        header = ("run", "network", "photos", "classes", "score", "date")
        dropped = ("classes", "photos", "date")
        print_table([_cells(one) for one in records], header, "   r", dropped)
    unfinished = [one["run"] for one in records if one["status"] != "finished"]
    talk(
        f"{count(len(records), 'run')} below {show_name(str(folder))}"
        + (f", {len(unfinished)} of them unfinished: --resume goes on" if unfinished else "")
        + ("" if records else ": `zoo finetune MODEL PHOTOS` makes one")
    )


def _below(folder: Path, depth: int) -> Iterator[tuple[Run, float]]:
    """Yield the runs of a folder and of those in it, with the time of their last change."""
    from zoo.run import Run

    record = folder / "run.json"
    if record.is_file():
        try:
            yield Run.open(folder), record.stat().st_mtime
        except (RunError, OSError) as error:
            talk(f"left out: {error}")
        return
    if depth:
        try:
            inside = [one.path for one in os.scandir(folder) if _may_hold(one)]
        except OSError as error:
            talk(f"left out: {folder}: {error.strerror}")
            return
        for path in sorted(inside):
            yield from _below(Path(path), depth - 1)


def _may_hold(one: os.DirEntry[str]) -> bool:
    return one.is_dir(follow_symlinks=False) and not one.name.startswith(".")


def _record(run: Run, when: float) -> dict[str, object]:
    about, results = run.record, run.record.get("results") or {}
    name = next((name for name in SCORES if results.get(name) is not None), None)
    data = about.get("data") or {}
    return {
        "run": str(run.folder),
        "model": about.get("model"),
        "data": data.get("name"),
        "photos": data.get("train"),
        "classes": len(about.get("classes") or []),
        "score": name,
        "value": results.get(name),
        "status": about.get("status"),
        "date": datetime.fromtimestamp(when).astimezone().isoformat(timespec="minutes"),
    }


def _cells(one: dict[str, object]) -> tuple[str, ...]:
    value, status = one["value"], str(one["status"])
    score = status
    if isinstance(value, float):
        score = f"{value:.4g}" if one["score"] == "loss" else percent(value)
        score += f" {one['score']}" if status == "finished" else f", {status}"
    return (
        show_name(str(one["run"])),
        str(one["model"]),
        show_name(Path(str(one["data"] or "-")).name),
        str(one["classes"] or "-"),
        score,
        str(one["date"])[:16].replace("T", " "),
    )
