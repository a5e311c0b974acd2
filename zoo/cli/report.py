"""zoo report: one page of a run that a browser opens, with its photos in it."""

from __future__ import annotations

import shlex
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli.console import Screen, print_json, put, talk
from zoo.cli.options import argument, force, options, output, shared
from zoo.extras import told

if TYPE_CHECKING:
    from zoo.finetune.inputs import Inputs

NAME = "report.html"
LATER = "`zoo report {run}` draws beside each photo where the network looks (Grad-CAM)."


@dataclass(frozen=True)
class Flags:
    run: Path = argument("A finished run folder.")
    output: Path | None = output("File to write. Default: RUN/report.html.")
    force: bool = force()
    trust_changed: bool = shared("trust_changed")
    json: bool = shared("json")


@options
def command(flags: Flags) -> None:
    """Write a page of a run: how good it is, what goes wrong, what to do next, how it was made.

    One HTML file with the photos in it, for light, dark and paper; nothing is fetched. A number of
    the table of who is taken for whom opens its photos. Example: zoo report runs/a -o a.html
    """
    from zoo.api import page
    from zoo.predict import writers
    from zoo.run import Run

    writers.check(flags.output, (".html", ".htm"))
    run = Run.open(flags.run, trusts=flags.trust_changed).finished()
    place = flags.output or run.path(NAME)
    with Screen() as screen:
        page.written(place, run, flags.trust_changed, screen)
    print_json({"report": str(place), "bytes": place.stat().st_size}) if flags.json else put(place)


def get_ready() -> None:
    """Import in a thread what `at_the_end` needs, beside what waits for disk and arithmetic."""

    def ready() -> None:
        with suppress(Exception):  # told where the page is written
            from zoo.api import page  # noqa: F401
            from zoo.report.page import template
            from zoo.report.run_page import TEMPLATE

            template(TEMPLATE)

    threading.Thread(target=ready, name="zoo-page").start()


def at_the_end(inputs: Inputs) -> None:
    """Write the page of a run that is complete, without what takes long.

    Whatever keeps it from being written, the run stands: that is said, and no error.
    """
    from zoo.api import page
    from zoo.report.run_page import AT_THE_END, write

    run = inputs.run
    place = run.path(NAME)
    try:
        inputs.watch.progress("writing the page", 0, None)
        extras = page.plain(run)
        missing = [LATER.format(run=extras.said)] if run.record["task"] != "reconstruct" else [
            f"`zoo report {extras.said}` draws pictures beside what is given back."]  # fmt: skip
        mapped = page.features_of_job(inputs)
        write(place, run, replace(extras, mapped=mapped, most=AT_THE_END, missing=missing))
    except Exception as error:
        if isinstance(error, ModuleNotFoundError):
            error = told(error, "the page") or error
        said = shlex.quote(str(run.folder))
        why = getattr(error, "what", "") or f"{type(error).__name__}: {error}"
        talk(f"no report: {why}; the run is complete, and `zoo report {said}` tries again")
    else:
        talk(f"report: {place}")
