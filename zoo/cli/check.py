"""zoo check: what is wrong with some photos, before a network learns it."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from zoo.cli.console import Screen, out, print_json, talk
from zoo.cli.layout import cells_of, width_of, wrapped
from zoo.cli.options import NETWORK, argument, flag, force, options, output, setting, shared
from zoo.errors import UsageError
from zoo.settings.setting import DATA
from zoo.text import count, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zoo.check.records import Checked, Example, Finding

WIDE, SHOWN = 110, 5  # columns of the text at most; examples of a finding in it
COLUMNS = ("severity", "check", "path", "other", "said")


@dataclass(frozen=True)
class Flags:
    data: str = argument(
        "Photos as `zoo finetune` takes them (folder, manifest, IDX, Parquet), or without labels."
    )
    model: str | None = flag(
        "Network whose features tell wrong labels: a run, or a model of `zoo list`. Default: the "
        "one whose features of these photos are kept, if there is one.",
        NETWORK,
    )
    weights: str | None = shared("weights")
    device: str = setting("device")
    against: str | None = flag(
        "Folder, or run: test whether the photos are like those in it, with a p-value.", DATA
    )
    group: str | None = flag(
        r"Pattern in a path whose first (…) is a group that no split may tear apart, as "
        r"'patient(\d+)'. Default: a manifest's column group.",
        DATA,
    )
    strict: bool = flag("Exit with 2 where something serious was found.", default=False)
    html: Path | None = flag("Page to write, with small pictures of what was found.")
    output: Path | None = output("CSV to write all findings to, a row each.")
    force: bool = force()
    csv_safe: bool = shared("csv_safe")
    json: bool = shared("json")


@options
def command(flags: Flags) -> None:
    """Look for what is wrong with photos: broken files, duplicates, leaks, wrong labels, drift.

    Nothing is changed. Wrong labels and overlapping classes are told by a linear head on the
    features of a network, cross-validated; where none is named, those of the last fine-tune, rank
    or embed of these photos are used, and without any the other checks are done.
    """
    from zoo.check.job import Asked, run
    from zoo.predict import writers

    writers.check(flags.output, (".csv",))
    writers.check_safe(flags.csv_safe, flags.output)
    writers.check(flags.html, (".html",), "--html")
    for place in (flags.html, flags.output):
        if place is not None and place.resolve().is_relative_to(Path(flags.data).resolve()):
            what = f"{place} lies in the photos, beside which nothing is written"
            raise UsageError(what, "give a place outside of them")
    asked = Asked(flags.data, flags.model, flags.weights, flags.device, flags.against, flags.group)
    with Screen() as screen:
        found = run(asked, screen)
    if flags.output is not None:
        _write(flags.output, found, flags.csv_safe)
    if flags.html is not None:
        from zoo.report import check_page

        check_page.write(flags.html, found.to_dict(), _command(flags))
        talk(f"page in {flags.html}")
    if flags.json:
        print_json(found.to_dict())
    else:
        _show(found)
    if flags.strict and found.counts()["serious"]:
        raise typer.Exit(2)


def _show(found: Checked) -> None:
    """Print the findings, the serious ones first."""
    last = ""
    for each in found.findings:
        if each.severity != last:
            out(each.severity.upper(), each.severity)
            last = each.severity
        for line in _lines(each):
            out(line)
    if found.unchecked:
        out("NOT CHECKED")
        for text in found.unchecked:
            out("\n".join(wrapped(f"  {text}", _wide(), "    ")))
    parts = ", ".join(f"{name} {many:,}" for name, many in found.parts.items() if name)
    classes = f", {count(len(found.classes), 'class', 'classes')}" if found.classes else ""
    by = f"; labels by {found.network}" if found.network else ""
    talk(f"{count(found.photos, 'photo')}{classes}{f' ({parts})' if parts else ''}{by}")
    counts = found.counts()
    talk(
        f"{count(counts['serious'], 'serious finding')}, {count(counts['warning'], 'warning')}, "
        f"{count(counts['note'], 'note')}"
    )


def _lines(found: Finding) -> Iterator[str]:
    """Yield a finding in lines; paths are never broken."""
    yield from wrapped(f"  {one_line(found.what)}", _wide(), "    ")
    for example in found.examples[:SHOWN]:
        yield from _example(example)
    if len(found.examples) > SHOWN:
        yield f"      … and {len(found.examples) - SHOWN:,} more: --html, -o or --json has them"
    yield from wrapped(f"    -> {found.advice}", _wide(), "       ")


def _example(example: Example) -> Iterator[str]:
    """Yield one line, or several where it is wider than the screen."""
    paths, said = [one_line(path) for path in example.paths], one_line(example.said)
    line = "  ".join(filter(None, [" = ".join(paths), said]))
    if cells_of(line) + 6 <= _wide():
        yield f"      {line}"
        return
    for number, path in enumerate(paths):
        yield f"      {'= ' if number else ''}{_shortened(path)}"
    indent = " " * (8 if paths else 6)
    yield from wrapped(indent + said, _wide(), indent) if said else ()


def _wide() -> int:
    """Return how many columns a line has, where the screen has fewer than WIDE."""
    return min(WIDE, width_of(sys.stdout) or 79)


def _shortened(text: str) -> str:
    """Return a text with its middle left out where it is wider than a line."""
    room = _wide() - 8
    return text if len(text) <= room else f"{text[: room // 3]}…{text[-(room - room // 3 - 1) :]}"


def _write(path: Path, found: Checked, safe: bool) -> None:
    from zoo.disk import atomic
    from zoo.text import csv_line

    with atomic(path) as file:
        file.write(csv_line(COLUMNS).encode())
        for each in found.findings:
            for example in each.examples or (None,):
                paths = [*(example.paths if example else ()), "", ""][:2]
                said = (example.said if example else "") or each.what
                row = [each.severity, each.check, *paths, said]
                file.write(csv_line(row, safe=safe).encode())


def _command(flags: Flags) -> str:
    """Return the command that makes the page again."""
    words = ["zoo", "check", flags.data]
    for name in ("model", "weights", "against", "group"):
        if (value := getattr(flags, name)) is not None:
            words += [f"--{name}", value]
    return shlex.join(words)
