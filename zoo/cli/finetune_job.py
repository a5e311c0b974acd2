"""A fine-tune on the screen: made ready, carried out, and what came of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli import flags, layout, report
from zoo.cli.console import Screen, print_json, put, talk
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.finetune.describe import Line
if TYPE_CHECKING:
    from zoo.train.distributed import Ranks

if TYPE_CHECKING:
    from zoo.finetune.job import Job
    from zoo.finetune.prepare import Prepared
    from zoo.recipe import Recipe
    from zoo.run import Run
    from zoo.train.distributed import Ranks


def prepared_of(settings: Recipe, screen: Screen, ranks: Ranks, way: flags.Way) -> Prepared:
    """Return the plan, on photos or on the features of a job."""
    from zoo.scale.plan import is_job

    if is_job(settings.data):
        from zoo.scale import head

        who = head.Together(ranks, way.ray)
        return head.prepare(settings, partial(screen.progress, "shards"), screen.bytes, who)
    if way.ray is not None:
        raise UsageError(
            f"--ray with photos: {settings.data} is no job of features",
            "`zoo plan PHOTOS -o JOB --what features`, `zoo work JOB --ray …`, then this on JOB",
        )
    from zoo.finetune.prepare import prepare

    return prepare(settings, screen.bytes, begin=not way.dry_run)


def show_team(ranks: Ranks) -> None:
    if not ranks.single:
        talk(f"processes  {ranks.world}, of torchrun: each takes its share of every batch")


def carry_out(job: Job, screen: Screen, way: flags.Way) -> None:
    """Carry a job out, show what it tells, and print what came of it."""
    from zoo.cli.finetune_report import Story
    from zoo.finetune.job import run

    screen.show = Story(job.plan, job.inputs.run).show
    if job.ranks.main and not way.no_report:
        report.get_ready()
    if run(job):
        if not way.no_report:
            report.at_the_end(job.inputs)
        show_result(job.inputs.run, way.json)


def show_result(run: Run, json: bool) -> None:
    if json:
        print_json({"run": str(run.folder), **run.record})
    else:
        put(run.folder)
    sys.stdout.flush()


def continue_run(folder: Path, named: Sequence[str], way: flags.Way) -> None:
    """Finish a run. named: settings that were given too, for which UsageError is raised."""
    from zoo.run import Run

    named = [*named, *(n for n in ("output", "recipe", "dry_run", "sheet") if getattr(way, n))]
    if named:
        raise UsageError(
            f"--resume takes every setting from the run, but {', '.join(named)} was given too",
            f"`{Run.open(folder).resume}` alone",
        )
    from zoo.train.distributed import torchrun

    with Screen() as screen, torchrun() as ranks:
        screen.quiet = not ranks.main
        go_on(folder, ranks, screen, way)


def go_on(folder: Path, ranks: Ranks, screen: Screen, way: flags.Way) -> None:
    """Finish a run, or say that it is finished."""
    from zoo.run import Run

    run = Run.open(folder)
    if run.record["status"] == "failed":
        run.finished()  # says why it cannot go on
    if run.record["status"] == "finished":
        if ranks.main:
            talk(f"{folder} is finished already; nothing to do")
            run.tidy()
            show_result(run, way.json)
        return
    with run.held() if ranks.main else nullcontext():
        from zoo.finetune import begin

        with ranks.main_first():
            prepared = prepared_of(begin.recipe_of(run), screen, ranks, way)
        with prepared:
            if ranks.main:
                talk(f"resuming {folder}")
                show_team(ranks)
            carry_out(begin.resume(prepared, run, screen, ranks), screen, way)


_WHAT, _REASON = 11, 45  # columns of the first word, and the fewest that a reason has beside it


def show_lines(told: Sequence[Line]) -> None:
    """Print lines of a plan, the reasons below each other; on a narrow screen after a dot."""
    width = layout.width_of(sys.stderr)
    widest = max(len(line.value) for line in told if len(line.value) < 50)
    beside = _WHAT + widest + 2  # where a reason begins
    narrow = width is not None and width - beside < _REASON
    for line in told:
        value = line.value if narrow else f"{line.value:<{widest}}"
        between = "" if not line.reason else " · " if narrow else "  "
        text = f"{line.what:<{_WHAT}}{value}{between}{line.reason}".rstrip()
        under = _WHAT if narrow or len(line.value) > widest else beside
        talk("\n".join(layout.wrapped(text, width, " " * under)))
