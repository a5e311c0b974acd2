"""A job in a new run folder, or the same job again in the folder of an unfinished run."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from zoo import recipe as recipes
from zoo.data.index import DatasetIndex
from zoo.disk import replacing, writing
from zoo.errors import RunError
from zoo.features.digests import digest_of
from zoo.finetune.choices import COMPUTED
from zoo.finetune.describe import record
from zoo.finetune.job import Job
from zoo.finetune.plan import Plan
from zoo.finetune.prepare import Prepared
from zoo.recipe import Recipe
from zoo.run import Run, Seen, launch
from zoo.text import count
from zoo.train.distributed import SINGLE, Ranks
from zoo.watch import Watch


def start(prepared: Prepared, folder: Path, watch: Watch, ranks: Ranks = SINGLE) -> Job:
    """Return the job in a new run folder. Raises RunError where it exists."""
    plan = prepared.plan
    prepared.settle()
    if not ranks.main:
        return Job(prepared, Seen(folder, record(plan)), watch, ranks)
    of_team = {"processes": ranks.world, "launch": launch()} if launch() else {}
    with Run.creating(folder, {**record(plan), **prepared.about, **of_team}) as run:
        with replacing(run.path("recipe.toml")) as file, writing(file):
            resumable(plan).save(file)
        run.save_index(plan.index)
    return Job(prepared, run, watch, ranks)


def resumable(plan: Plan) -> Recipe:
    """Return the recipe with paths that hold in any working directory."""
    paths: dict[str, Any] = {"data": str(plan.index.source.absolute())}
    if plan.index.source != Path(plan.recipe.data):  # a data set by its name
        paths = {}
    if plan.facts.origin["tag"] in ("file", "run"):
        paths["weights"] = plan.facts.origin["file"]
    if plan.recipe.teacher:
        paths["teacher"] = os.path.abspath(plan.recipe.teacher)
    if plan.solver != COMPUTED:
        paths["optimizer"] = plan.solver
    return replace(plan.recipe, **paths)


def recipe_of(run: Run) -> Recipe:
    """Return the recipe of an unfinished run; as many features are kept as when it began."""
    recipe = recipes.make({}, run.path("recipe.toml"))
    room = run.record.get("feature_bytes")
    return recipe if room is None else replace(recipe, cache_budget=f"{room}B")


def resume(prepared: Prepared, run: Run, watch: Watch, ranks: Ranks = SINGLE) -> Job:
    """Return the same job in its folder. Raises RunError where photos or weights have changed."""
    plan = prepared.plan
    before: dict[str, Any] = run.begun().record
    if before["data"]["fingerprint"] != plan.index.fingerprint:
        raise RunError(
            f"the photos in {plan.index.root} have changed since {run.folder} began"
            f"{difference(plan.index, run)}",
            "put back what was there, or start a new run: cached features make it quick",
        )
    if before["weights_sha256"] != plan.facts.weights_sha256:
        raise RunError(
            f"the weights that {run.folder} started from have changed",
            "put back the file that it started from, or start a new run",
        )
    if before.get("teacher") != prepared.about.get("teacher"):
        raise RunError(f"the teacher of {run.folder} has changed", "start a new run")
    _check_team(prepared, before, run, ranks)
    prepared.settle()
    job = Job(prepared, run if ranks.main else Seen(run.folder, before), watch, ranks)
    job.inputs.before = run.contents()
    return job


def _check_team(prepared: Prepared, before: dict[str, Any], run: Run, ranks: Ranks) -> None:
    """Raise RunError where the rows of a job are divided among other processes than before.

    In the epoch that is resumed some would be taken twice, and some never.
    """
    began, plan = before.get("processes", 1), prepared.plan
    if prepared.source is None or plan.solved_only or began == ranks.world:
        return
    team = f"torchrun --nproc-per-node {began} --no-python " if began > 1 else ""
    raise RunError(
        f"{count(began, 'process', 'processes')} began {run.folder}, each with its parts of "
        f"{plan.recipe.data}, and here {ranks.world} would go on",
        f"`{team}{run.resume}`, or start a new run",
    )


def difference(index: DatasetIndex, run: Run) -> str:
    """Return which photo is not as the run has it, in words; or nothing where none can be told."""
    there = {row["path"]: row for row in run.index()}
    now = {sample.path: sample for sample in index.samples}
    left_out, unreadable = dict(index.skipped), run.left_out()
    for path in there.keys() - now.keys():
        return f": {path} is {left_out.get(path, 'not among them any more')}"
    for path, sample in now.items():
        row = there.get(path)
        if row is None and path not in unreadable:
            return f": {path} is new"
        if row and row["split"] != sample.split:
            return f": {path} was in {row['split']} and is in {sample.split}"
        if row and row["label"] != index.named(sample):
            return f": {path} was '{row['label']}' and is '{index.named(sample)}'"
    for path, digest in run.contents().items():
        if digest_of(index.root / path) != digest:
            return f": {path} has other content"
    return ""
