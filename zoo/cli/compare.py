"""zoo compare: runs side by side, and whether one is better than another or was lucky."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli.console import Screen, out, print_json, print_table, prose, talk
from zoo.cli.options import argument, flag, force, options, shared
from zoo.text import count, percent

if TYPE_CHECKING:
    from zoo.predict.compare import Compared, Comparison, Pair

Record = dict[str, Any]  # as --json has it


@dataclass(frozen=True)
class Flags:
    runs: list[str] = argument("Two run folders or more.")
    html: Path | None = flag("Page of the photos that one run has right and another wrong.")
    force: bool = force()
    trust_changed: bool = shared("trust_changed")
    json: bool = shared("json")


@options
def command(flags: Flags) -> None:
    """Compare runs: the settings in which they differ, their scores, and a test for each pair.

    The test is McNemar's, exact and paired, on the photos that are in the val part of both; with
    more than two runs its p is adjusted by Holm's method. Below 0.05 is called evidence.
    """
    from zoo.predict.compare import compare
    from zoo.predict.writers import check

    check(flags.html, (".html", ".htm"), "--html")
    with Screen() as screen:
        progress = partial(screen.progress, "pictures")
        found = compare(flags.runs, progress, trusts=flags.trust_changed)
    if flags.html is not None:
        _write(flags.html, found)
    if flags.json:
        runs_told = [_record(run, found.differing) for run in found.runs]
        pairs = [{**asdict(pair), "better": pair.better or None} for pair in found.pairs]
        print_json({"runs": runs_told, "pairs": pairs})
    else:
        _show(found)


def _write(place: Path, found: Comparison) -> None:
    """Write the page of a comparison."""
    from zoo import __version__
    from zoo.predict.compare import apart
    from zoo.report.compare_page import PairOfRuns, Photo, write

    by_name = {run.name: run for run in found.runs}
    many, pairs = len(found.pairs) > 1, []
    for pair in found.pairs:
        photos = [
            Photo(Path(one.path), one.label, one.first_right, one.said, one.sure)
            for one in apart(by_name[pair.first], by_name[pair.second])
        ]
        counts = (pair.both, pair.only_first, pair.only_second, pair.neither)
        pairs.append(
            PairOfRuns(pair.first, pair.second, _verdict(pair, many), pair.better, counts, photos)
        )
    rows = [_cells(_record(run, found.differing)) for run in found.runs]
    write(place, (_header(found), rows), pairs, __version__)
    talk(f"the photos on which they differ are in {place}")


def _header(found: Comparison) -> tuple[str, ...]:
    names = ("run", "model", "cut", *found.differing)
    return (*names, "val photos", "accuracy", "macro-F1", "seconds")


def _record(run: Compared, differing: tuple[str, ...]) -> Record:
    about, scores = run.record, run.record.get("results", {})
    return {
        "run": run.name,
        "model": about["model"],
        "cut": about.get("cut"),
        "settings": {name: run.settings.get(name) for name in differing},
        "val_photos": len(run.answers),
        "accuracy": scores.get("accuracy"),
        "macro_f1": scores.get("macro_f1"),
        "seconds": about.get("seconds"),
    }


def _show(found: Comparison) -> None:
    header = _header(found)
    rows = [_cells(_record(run, found.differing)) for run in found.runs]
    print_table(rows, header, right=" " * (len(header) - 4) + "rrrr")
    out()
    for pair in found.pairs:
        prose(_verdict(pair, many=len(found.pairs) > 1), "best" if pair.better else "")
    if any(pair.left_out for pair in found.pairs):
        talk("accuracies are on each run's own val photos, which are not the same ones")


def _cells(record: Record) -> tuple[str, ...]:
    return (
        record["run"],
        record["model"],
        record["cut"] or "-",
        *(_short(name, value) for name, value in record["settings"].items()),
        f"{record['val_photos']:,}",
        percent(record["accuracy"]),
        percent(record["macro_f1"]),
        "-" if record["seconds"] is None else f"{record['seconds']:.1f}",
    )


def _short(name: str, value: object) -> str:
    """Return a setting as a column has it: of a file or folder its name."""
    if value is None:
        return "-"
    return Path(str(value)).name if name in ("weights", "data") else str(value)


def _verdict(pair: Pair, many: bool) -> str:
    """Return what the test says, in words."""
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
