"""zoo plan: the photos of a job in shards, for any number of `zoo work`."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from zoo.cli.console import Screen, talk
from zoo.cli.names import full_name
from zoo.cli.options import NETWORK, argument, flag, options, output, setting, shared
from zoo.errors import UsageError
from zoo.text import count

if TYPE_CHECKING:
    from zoo.scale.plan import Settings

FEATURES = "Features"


@dataclass(frozen=True)
class Flags:
    sources: list[str] = argument(
        "Folders, pictures, 'globs', lists.txt with a path a line, - (stdin), FILE.tar, "
        "s3://BUCKET/PREFIX (gs://, az://), or http(s) addresses; one or several."
    )
    output: str | None = output("Folder of the job, or s3://BUCKET/PREFIX. It is made.")
    model: str | None = flag("A run folder, a model of `zoo list`, or an .onnx file.", NETWORK)
    what: Literal["predict", "features"] = flag(
        "What is computed of each photo: predict, as `zoo predict` does, or features, as `zoo "
        "embed` does.",
        default="predict",
    )
    weights: str | None = shared("weights")
    trust_changed: bool = shared("trust_changed")
    precision: Literal["fp32", "bf16", "int8"] | None = shared("precision")
    engine: Literal["auto", "torch", "openvino", "onnxruntime"] = shared("engine")
    device: str = setting("device")
    tta: int = shared("tta")
    top: int = flag("Classes in a row, the likeliest first.", default=1, min=1)
    stage: str | None = flag("Stage whose output is written, as in `zoo embed`.", FEATURES)
    flat: bool = flag("Write all of an output of C x H x W, not its mean.", FEATURES, False)
    half: bool = flag("Write float16, not float32.", FEATURES, False)
    per_shard: int = flag("Photos of a shard at most; a tar is one.", default=1000, min=1, max=5000)


@options
def command(flags: Flags) -> None:
    """Read a source once and write down which photos a job has, in shards.

    `zoo work JOB` does them, in as many processes as you like, `zoo verify JOB` says whether all is
    there, `zoo merge JOB -o FILE` makes one file of it. An example: `zoo plan PHOTOS -o JOB --model
    RUN`. The same words over the same photos are the same plan; a folder holds one.
    """
    from zoo.scale import answers, plan, sources, store

    if flags.output is None or flags.model is None:
        missing = "--model" if flags.output else "-o"
        raise UsageError(f"zoo plan without {missing}", "zoo plan PHOTOS -o JOB --model RUN")
    with Screen() as screen:
        store.check_installed()
        place = store.Store(flags.output, make=True)
        settings = answers.completed(_settings(flags), flags.device, screen.bytes)
        photos = sources.photos(flags.sources, sys.stdin)
        found = plan.make(place, settings, screen.counting("photos", photos), flags.per_shard)
    talk(
        f"{flags.output}: plan {found.plan_id}, {count(found.photos, 'photo')} in "
        f"{count(found.shards, 'shard')}; `zoo work {shlex.quote(str(flags.output))}` does them"
    )


def _settings(flags: Flags) -> Settings:
    """Raises UsageError for what belongs to the other kind of job."""
    from zoo.scale.plan import Settings

    features = flags.what == "features"
    for name, given in (("stage", flags.stage), ("flat", flags.flat), ("half", flags.half)):
        if given and not features:
            raise UsageError(f"--{name} with --what predict", "give --what features as well")
    if features and (flags.tta > 1 or flags.top > 1):
        name = "--tta" if flags.tta > 1 else "--top"
        raise UsageError(f"{name} with --what features", "leave it out: features have no classes")
    assert flags.model is not None
    return Settings(
        flags.what, full_name(flags.model), "", {}, weights=flags.weights,
        trusts=flags.trust_changed, engine=flags.engine, precision=flags.precision,
        views=flags.tta, top=flags.top, stage=flags.stage, flat=flags.flat, half=flags.half,
    )  # fmt: skip
