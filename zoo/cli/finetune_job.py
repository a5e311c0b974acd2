"""A fine-tune on the screen: made ready, carried out, and what came of it."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from zoo.cli import flags, report
from zoo.cli.console import Screen, print_json, put, talk
from zoo.errors import UsageError

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
