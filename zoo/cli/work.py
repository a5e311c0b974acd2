"""zoo work: shards of a job to parts."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from zoo.cli.console import Screen, talk
from zoo.cli.options import argument, flag, options, setting
from zoo.cli.tally import errors_among
from zoo.text import count

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zoo.scale.work import Receipt


@dataclass(frozen=True)
class Flags:
    job: str = argument("The folder of a job, or s3://BUCKET/PREFIX, as `zoo plan` has made it.")
    shard: str | None = flag(
        "Shards I, I+N, I+2N, … of the plan: process I of N, counted from 0, as 3/16. Default: "
        "$RANK/$WORLD_SIZE where torchrun sets them, else 0/1, all of them."
    )
    ray: str | None = flag(
        "Do them on the Ray cluster whose head is at HOST:PORT, with a worker on each node or GPU. "
        "Run it on a node; it needs the extra ray, and token authentication. Default: here."
    )
    device: str = setting("device")


@options
def command(flags: Flags) -> None:
    """Do the shards of a job that are not done yet; run it as often, and as many, as you like.

    A part appears when it is whole, so nothing is lost or there twice, however processes end. An
    example: `zoo work JOB --shard 0/2` beside `zoo work JOB --shard 1/2`.
    """
    from zoo.scale import store
    from zoo.scale.work import opened, share

    store.check_installed()
    with Screen() as screen:
        worker = opened(flags.job, flags.device)
        rank, world = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
        mine = share(worker.shards.plan.shards, flags.shard or f"{rank}/{world}")
        if flags.ray is None:
            receipts = worker.work(mine, partial(screen.progress, "photos of a shard"))
        else:
            from zoo.scale import launch

            make = partial(opened, worker.shards.store.place, flags.device)
            told = partial(screen.progress, "shards")
            receipts = launch.work(flags.ray, make, mine, told, flags.device)
        _show(receipts, flags.job)


def _show(receipts: Iterable[Receipt], job: str) -> None:
    """Say what was done, once it is."""
    done, there, rows, errors = 0, 0, 0, 0
    for receipt in receipts:
        there += not receipt.rows or receipt.quicker
        done += bool(receipt.rows) and not receipt.quicker
        rows, errors = rows + receipt.rows, errors + receipt.errors
    more = f"; {count(there, 'shard was', 'shards were')} done already" if there else ""
    talk(f"{count(done, 'shard')} done, {count(rows, 'row')}{errors_among(errors)}{more}")
    talk(f"`zoo verify {shlex.quote(str(job))}` says whether all is there")
