"""zoo verify: whether every part of a job is there, and what the plan says."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from zoo.cli.console import Screen, out, talk
from zoo.cli.options import argument, options
from zoo.cli.tally import errors_among
from zoo.text import count

if TYPE_CHECKING:
    from zoo.scale.parts import Verified


@dataclass(frozen=True)
class Flags:
    job: str = argument("The folder of a job, or s3://BUCKET/PREFIX, as `zoo plan` has made it.")


@options
def command(flags: Flags) -> None:
    """Compare all parts of a job with its plan: how many rows, of which photos, and unharmed.

    The exit code is 8 where one is missing or damaged; stdout lists them, one a line.
    """
    from zoo.scale import parts, plan

    shards = plan.opened(flags.job)
    with Screen() as screen:
        found = parts.verify(shards, partial(screen.progress, "parts"))
    for shard, why in found.wrong:
        out(f"{parts.name_of(shard)}  {why}")
    found.check(flags.job)
    show(found, shards.plan.shards)


def show(found: Verified, shards: int) -> None:
    """Say that all is there, and by which engines."""
    by = ", ".join(f"{engine} ({many:,})" for engine, many in sorted(found.engines.items()))
    engines = f"; WARNING: by several engines: {by}" if len(found.engines) > 1 else ""
    talk(
        f"complete: {count(shards, 'part')}, {count(found.rows, 'row')}"
        f"{errors_among(found.errors)}{engines}"
    )
