"""zoo report: one page of a run that a browser opens, with its photos in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import __version__
from zoo.cli.console import Screen, print_json, put, talk
from zoo.cli.options import argument, options, output, shared

if TYPE_CHECKING:
    from zoo.finetune.inputs import Inputs
    from zoo.report.run_page import Extras
    from zoo.run import Run

NAME = "report.html"
LATER = "`zoo report {run}` draws beside each photo where the network looks (Grad-CAM)."


@dataclass(frozen=True)
class Flags:
    run: Path = argument("A finished run folder.")
    output: Path | None = output("File to write. Default: RUN/report.html.")
    trust_changed: bool = shared("trust_changed")
    json: bool = shared("json")


@options
def command(flags: Flags) -> None:
    """Write a page of a run: how good it is, what goes wrong, what to do next, how it was made.

    One HTML file with the photos in it, for light, dark and paper; nothing is fetched. A number of
    the table of who is taken for whom opens its photos. Example: zoo report runs/a -o a.html
    """
    from zoo.predict import writers
    from zoo.report.run_page import write
    from zoo.run import Run

    writers.check(flags.output, (".html", ".htm"))
    run = Run.open(flags.run, trusts=flags.trust_changed).finished()
    place = flags.output or run.path(NAME)
    with Screen() as screen:
        write(place, run, _all(run, flags, screen))
    print_json({"report": str(place), "bytes": place.stat().st_size}) if flags.json else put(place)


def _all(run: Run, flags: Flags, screen: Screen) -> Extras:
    """Return all that a page may have."""
    from zoo.cli import report_parts
    from zoo.errors import ZooError

    extras, missing = _plain(run), list[str]()
    if run.record.get("task") == "reconstruct":
        return replace(extras, rebuilt=report_parts.rebuilt_by(run, flags.trust_changed, screen))
    try:
        extras = replace(extras, mapped=report_parts.features_of_run(run, screen))
    except ZooError as error:
        missing.append(f"There is no map of features: {error.what}.")
    try:
        looks, why = report_parts.looks_of(run, screen)
        extras = replace(extras, looks=looks, looks_why=why)
    except ZooError as error:
        missing.append(f"Where the network looks is not drawn: {error.what}.")
    return replace(extras, missing=missing)


def at_the_end(inputs: Inputs) -> None:
    """Write the page of a run that is complete, without what takes long.

    Whatever keeps it from being written, the run stands: that is said, and no error.
    """
    from zoo.cli import report_parts
    from zoo.report.run_page import AT_THE_END, write

    run = inputs.run
    place = run.path(NAME)
    try:
        inputs.watch.progress("writing the page", 0, None)
        extras = _plain(run)
        missing = [LATER.format(run=extras.said)] if run.record["task"] != "reconstruct" else [
            f"`zoo report {extras.said}` draws pictures beside what is given back."]  # fmt: skip
        mapped = report_parts.features_of_job(inputs)
        write(place, run, replace(extras, mapped=mapped, most=AT_THE_END, missing=missing))
    except Exception as error:
        why = getattr(error, "what", "") or f"{type(error).__name__}: {error}"
        talk(f"no report: {why}; the run is complete, and `zoo report {run.folder}` tries again")
    else:
        talk(f"report: {place}")


def _plain(run: Run) -> Extras:
    """Return what comes from the run's own files."""
    import shlex

    from zoo.cli.report_parts import command_of
    from zoo.report.run_page import Extras

    recipe = run.path("recipe.toml").read_text(encoding="utf-8", errors="replace")
    said = shlex.quote(str(run.folder))
    return Extras(__version__, command=command_of(run), recipe=recipe, said=said)
