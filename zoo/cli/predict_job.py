"""zoo predict of many pictures: a plan, its shards one after the other, all of it verified."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import extras
from zoo.cli import verify
from zoo.cli.console import Screen, talk
from zoo.errors import UsageError
from zoo.text import count

if TYPE_CHECKING:
    from zoo.predict.inputs import Inputs
    from zoo.predict.rows import Predictor
    from zoo.scale.parts import Cells
    from zoo.scale.plan import Settings, Shards

MANY = 20_000  # pictures, from which it is a job without being asked for


def place_of(job: str | None, output: Path | None, many: int | None, sorts: bool) -> str | None:
    """Return the folder of the job that this is, or None where it is none. Raises UsageError.

    job: the one that is asked for. many: pictures, where that is known.
    """
    from zoo.scale import store

    if job is not None:
        if sorts:
            raise UsageError("--job with --sort-into", "leave one out: a job makes no folders")
        store.check_installed()
        return job
    if sorts or output is None or many is None or many <= MANY:
        return None
    if not extras.has("obstore", "pyarrow"):
        talk(
            f"{count(many, 'picture')}: what is killed begins anew; a job, which goes on, takes "
            f"`{extras.install('scale')}`"
        )
        return None
    return str(output.with_name(output.name + ".job"))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where the job is, whether it is kept when all is written, and what is made of its rows."""

    place: str
    keep: bool
    output: Path | None
    csv_safe: bool


def done(
    wanted: Wanted,
    settings: Settings,
    device: str,
    found: Inputs,
    ours: Predictor,
    screen: Screen,
) -> Shards:
    """Do what is not done yet, and return the shards: all parts are there, and verified."""
    from zoo.scale import answers, parts, plan, sources, store, work

    place = wanted.place
    folder = store.Store(place, make=True)
    known = answers.identified(settings, ours.preprocess)
    photos = screen.counting("pictures to plan for", sources.planned(found), found.total)
    shards = plan.Shards(folder, plan.make(folder, known, photos))
    total = shards.plan.shards
    talk(f"job {place}: plan {shards.plan.plan_id}, {count(total, 'shard')}")
    opener = partial(answers.open_answers, known, device)
    worker = work.Worker(shards, opener, answers.of_predictor(known, ours))
    before = 0

    def progress(rows: int, _: int | None) -> None:
        screen.progress("pictures", before + rows, shards.plan.photos)

    for receipt in worker.work(range(total), progress):
        before += shards.expected(receipt.shard)[0]
    verified = parts.verify(shards, partial(screen.progress, "parts"))
    verified.check(place)
    verify.show(verified, total)
    return shards


def write(wanted: Wanted, shards: Shards, counting: Callable[..., Iterator[Cells]]) -> None:
    """Write the rows of all parts as one file. counting: goes through them."""
    from zoo.disk import remove
    from zoo.predict import writers
    from zoo.scale import answers, parts

    form = answers.form_of(shards.plan.settings, wanted.csv_safe)
    rows = counting(parts.merged(shards), shards.plan.photos)
    writers.write_rows(rows, wanted.output, sys.stdout, form)
    if not wanted.keep:
        remove(Path(wanted.place))
