"""zoo finetune: freeze, retrain the head, write a run folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli import auto, flags, layout, report
from zoo.cli.console import Screen, print_json, put, talk
from zoo.cli.names import with_full_name
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.finetune.describe import Line
    from zoo.finetune.job import Job
    from zoo.finetune.prepare import Prepared
    from zoo.recipe import Recipe
    from zoo.run import Run
    from zoo.train.distributed import Ranks

WHAT, REASON = 11, 45  # columns of a plan's first word, and the fewest that a reason has beside it


@flags.settings("finetune", auto.Flags)
def command(
    output: flags.RunFolder = None,
    recipe: flags.RecipeFile = None,
    resume: flags.Resume = None,
    dry_run: flags.DryRun = False,
    sheet: flags.Sheet = None,
    no_report: flags.NoReport = False,
    ray: flags.Ray = None,
    json: flags.Json = False,
    **given: object,
) -> None:
    """Retrain a network's head on your photos; everything goes into a run folder.

    Prints the plan with the reason of every choice, then trains. The path of the run is all that
    goes to stdout. Ctrl-C leaves a run that --resume finishes. With the model auto several networks
    are tried on the training photos first, as `zoo rank` does it, and the best is taken.
    """
    from zoo import recipe as recipes

    chosen = flags.given(given)
    way = flags.Way(output, dry_run, sheet, json, not no_report, ray)
    if resume is None:
        wanted = auto.taken_from(chosen)
        begin(recipes.make(chosen, recipe), way, wanted)
    else:
        own = {"output": output, "recipe": recipe, "dry_run": dry_run or None, "sheet": sheet}
        continue_run(resume, [*chosen, *flags.given(own)], way)


def begin(settings: Recipe, way: flags.Way, wanted: auto.Flags = auto.NOTHING) -> None:
    """Plan, print the plan, and carry it out in a new run folder. wanted: where auto chooses."""
    from zoo.finetune.place import place_of
    from zoo.train.distributed import torchrun

    output, settings = way.output, with_full_name(settings)
    if way.sheet:
        from zoo.predict.writers import check

        check(way.sheet, (".png",), "--sheet")
    with Screen() as screen, torchrun() as ranks:
        about: dict[str, object] = {}
        if settings.model == auto.NAME:
            if output is not None and output.exists():
                place_of(settings.model, settings.data, output)  # it is refused
            picked = auto.pick(settings, wanted, way.dry_run, screen, ranks)
            if picked is None:
                return
            settings, about["choice"] = picked
        else:
            auto.refuse(settings.model, wanted)
        from zoo.finetune import begin, checks
        from zoo.finetune.describe import lines

        screen.quiet = not ranks.main
        folder, again = (
            place_of(settings.model, settings.data, output) if ranks.main else (Path(), False)
        )
        folder, again = ranks.all_gather([os.fspath(folder), again])[0]
        if again:
            _go_on(Path(folder), ranks, screen, way)
            return
        screen.doing("looking at photos and network")
        with ranks.main_first():
            prepared = _prepared(settings, screen, ranks, way)
        prepared.about |= about
        with prepared:
            checks.check_team(settings, ranks)
            if ranks.main:
                show_lines(lines(prepared.plan))
                _show_team(ranks)
                if way.sheet:
                    from zoo.cli.finetune_report import draw_fed

                    draw_fed(prepared.plan, way.sheet)
            if not way.dry_run:
                carry_out(begin.start(prepared, Path(folder), screen, ranks), screen, way)
            elif ranks.main:
                what = "nothing but the sheet" if way.sheet else "nothing"
                talk(f"dry run: nothing was computed, {what} was written")


def _prepared(settings: Recipe, screen: Screen, ranks: Ranks, way: flags.Way) -> Prepared:
    """Return the plan, on photos or on the features of a job."""
    from zoo.scale import head

    if head.is_job(settings.data):
        who = head.Together(ranks, way.ray)
        return head.prepare(settings, partial(screen.progress, "shards"), screen.bytes, who)
    if way.ray is not None:
        raise UsageError(
            f"--ray with photos: {settings.data} is no job of features",
            "`zoo plan PHOTOS -o JOB --what features`, `zoo work JOB --ray …`, then this on JOB",
        )
    from zoo.finetune.prepare import prepare

    return prepare(settings, screen.bytes, begin=not way.dry_run)


def _show_team(ranks: Ranks) -> None:
    if not ranks.single:
        talk(f"processes  {ranks.world}, of torchrun: each takes its share of every batch")


def continue_run(folder: Path, named: Sequence[str], way: flags.Way) -> None:
    """Finish a run. named: what was given besides; raises UsageError for that."""
    from zoo.run import Run

    if named:
        raise UsageError(
            f"--resume takes every setting from the run, but {', '.join(named)} was given too",
            f"`{Run.open(folder).resume}` alone",
        )
    from zoo.train.distributed import torchrun

    with Screen() as screen, torchrun() as ranks:
        screen.quiet = not ranks.main
        _go_on(folder, ranks, screen, way)


def _go_on(folder: Path, ranks: Ranks, screen: Screen, way: flags.Way) -> None:
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
            prepared = _prepared(begin.recipe_of(run), screen, ranks, way)
        with prepared:
            if ranks.main:
                talk(f"resuming {folder}")
                _show_team(ranks)
            carry_out(begin.resume(prepared, run, screen, ranks), screen, way)


def carry_out(job: Job, screen: Screen, way: flags.Way) -> None:
    """Carry a job out, show what it tells, and print what came of it."""
    from zoo.cli.finetune_report import Story
    from zoo.finetune.job import run

    screen.show = Story(job.plan, job.inputs.run).show
    if run(job):
        if way.report:
            report.at_the_end(job.inputs)
        show_result(job.inputs.run, way.json)


def show_lines(told: Sequence[Line]) -> None:
    """Print lines of a plan, the reasons below each other; on a narrow screen after a dot."""
    width = layout.width_of(sys.stderr)
    widest = max(len(line.value) for line in told if len(line.value) < 50)
    beside = WHAT + widest + 2  # where a reason begins
    narrow = width is not None and width - beside < REASON
    for line in told:
        value = line.value if narrow else f"{line.value:<{widest}}"
        between = "" if not line.reason else " · " if narrow else "  "
        text = f"{line.what:<{WHAT}}{value}{between}{line.reason}".rstrip()
        under = WHAT if narrow or len(line.value) > widest else beside
        talk("\n".join(layout.wrapped(text, width, " " * under)))


def show_result(run: Run, json: bool) -> None:
    if json:
        print_json({"run": str(run.folder), **run.record})
    else:
        put(run.folder)
    sys.stdout.flush()
