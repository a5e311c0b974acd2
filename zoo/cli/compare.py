"""zoo compare: runs side by side, and whether one is better than another or was lucky."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.console import Screen, out, print_json, table, talk
from zoo.cli.flags import TrustChanged
from zoo.text import count, percent

if TYPE_CHECKING:
    from zoo.predict.compare import Compared, Comparison, Pair


def command(
    runs: Annotated[list[str], typer.Argument(help="Two run folders or more.")],
    trust_changed: TrustChanged = False,
    json: Annotated[bool, typer.Option("--json", help="Everything as JSON on stdout.")] = False,
) -> None:
    """Runs side by side with the settings in which they differ, and a test for each pair.

    The test is McNemar's, exact and paired, on the photos that are in the val part of both; with
    more than two runs its p is adjusted by Holm's method. Below 0.05 is called evidence.
    """
    from zoo.predict.compare import compare

    with Screen() as screen:
        found = compare(
            runs,
            lambda done, total: screen.progress("pictures", done, total),
            trusts=trust_changed,
        )
    if json:
        print_json(
            {
                "runs": [record(run, found.differing) for run in found.runs],
                "pairs": [{**asdict(pair), "better": pair.better or None} for pair in found.pairs],
            }
        )
        return
    show(found)


def record(run: Compared, differing: tuple[str, ...]) -> dict[str, Any]:
    about = run.record
    return {
        "run": run.name,
        "model": about["model"],
        "cut": about.get("cut"),
        "settings": {name: run.settings.get(name) for name in differing},
        "val_photos": len(run.answers),
        "accuracy": about.get("results", {}).get("accuracy"),
        "macro_f1": about.get("results", {}).get("macro_f1"),
        "seconds": about.get("seconds"),
    }


def show(found: Comparison) -> None:
    rows = []
    for run in found.runs:
        about = record(run, found.differing)
        rows.append(
            (
                run.name,
                about["model"],
                about["cut"] or "-",
                *(short(name, value) for name, value in about["settings"].items()),
                f"{about['val_photos']:,}",
                percent(about["accuracy"]),
                percent(about["macro_f1"]),
                "-" if about["seconds"] is None else f"{about['seconds']:.1f}",
            )
        )
    names = ("run", "model", "cut", *found.differing)
    header = (*names, "val photos", "accuracy", "macro-F1", "seconds")
    for line in table(rows, header, right=" " * len(names) + "rrrr"):
        out(line)
    out()
    for pair in found.pairs:
        out(verdict(pair, many=len(found.pairs) > 1))
    if any(pair.left_out for pair in found.pairs):
        talk("accuracies are on each run's own val photos, which are not the same ones")


def short(name: str, value: Any) -> str:
    """A setting in a column: of a file or folder its name."""
    if value is None:
        return "-"
    return Path(value).name if name in ("weights", "data") else str(value)


def verdict(pair: Pair, many: bool) -> str:
    """What the test says, in words."""
    first, second = pair.first, pair.second
    p = f"p = {pair.p_alone:.2g}" + (f", {pair.p:.2g} by Holm's method" if many else "")
    result = "no evidence of a difference"
    if pair.better:
        result = f"evidence that {pair.better} is better"
    left = ""
    if pair.left_out:
        them = "it" if pair.left_out == 1 else "them"
        photos = count(pair.left_out, "photo")
        left = f" ({photos} left out, since the other was trained on {them})"
    return (
        f"of {count(pair.photos, 'photo')}{left} {first} is right on {pair.only_first:,} where "
        f"{second} is wrong, {second} on {pair.only_second:,}: {p}: {result}"
    )
