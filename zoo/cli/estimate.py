"""zoo estimate: what a job takes, measured on some of its photos."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

from zoo.cli.console import Screen, print_json, print_table, talk
from zoo.cli.options import argument, flag, options, setting, shared
from zoo.cli.tally import errors_among
from zoo.text import count, duration, size

if TYPE_CHECKING:
    from zoo.scale.estimate import Estimate


@dataclass(frozen=True)
class Flags:
    job: str = argument("The folder of a job, or s3://BUCKET/PREFIX, as `zoo plan` has made it.")
    workers: int = flag("Machines like this one that share the job.", default=1, min=1)
    photos: int | None = flag("How many photos. Default: those of the plan.", min=1)
    device: str = setting("device")
    json: bool = shared("json")


@options
def command(flags: Flags) -> None:
    """Say how long a job will take, on how many machines, and what holds it up.

    200 of its photos are read, decoded and answered here, and nothing is written; the network is
    opened as `zoo work` does. An example: `zoo estimate JOB --workers 16 --photos 10000000`.
    """
    from zoo.scale import estimate, plan
    from zoo.scale.answers import open_answers

    shards = plan.opened(flags.job)
    settings = shards.plan.settings
    with Screen() as screen:
        photos = estimate.sample(shards)
        opener = partial(open_answers, settings, flags.device)
        told = partial(screen.progress, "measuring photos")
        measured = estimate.measure(opener, photos, settings.views, told)
    far = estimate.is_far(photos)
    found = estimate.estimate(shards.plan, measured, flags.workers, flags.photos, far)
    if flags.json:
        print_json(asdict(found))
    else:
        _show(found)


def _show(found: Estimate) -> None:
    one = found.measured
    rows = [
        ("time", _long(found.seconds), f"the last of {count(found.workers, 'worker')} ends"),
        ("node-hours", _hours(found.node_hours), "of machines like this one"),
        ("CPU-hours", _hours(found.cpu_hours), f"{count(one.cores, 'core')} a machine"),
        ("read", size(found.read), f"{size(one.read)} a photo"),
        ("written", size(found.written), f"{size(one.written)} a photo"),
        ("bound by", found.binds, "what takes longest of the three below"),
        ("reading", duration(one.reading), f"a photo, {count(one.threads, 'thread')} at once"),
        ("decode", duration(one.decoding), f"a photo, CPU, {count(one.cores, 'core')}"),
        ("forward", duration(one.forward), f"a photo, {one.engine}"),
        ("all of it", duration(one.cpu), f"a photo, CPU; {duration(one.seconds)} by the clock"),
    ]
    print_table(rows, ("what", "amount", "of what"), " r")
    bad = errors_among(one.errors)
    talk(f"{count(found.photos, 'photo')}; measured on {count(one.photos, 'photo')} of the plan "
         f"here{bad}, {duration(one.opening)} to open the network")  # fmt: skip
    if one.seconds * one.cores > 1.5 * one.cpu and found.binds in ("decode", "forward"):
        talk("the clock ran ahead of the CPU: this machine has other work, or the network waits")
    if found.idle:
        talk(f"{count(found.idle, 'worker')} would have no shard: plan with a smaller --per-shard")


def _hours(hours: float) -> str:
    """Return 4.51, 1,234 or below 0.01: never a power of ten."""
    if hours < 0.01:
        return "below 0.01"
    return f"{hours:,.3g}" if hours < 100 else f"{hours:,.0f}"


def _long(seconds: float) -> str:
    """Return 4.51 s, 12 min or 3.4 h."""
    if seconds < 120:
        return duration(seconds)
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
