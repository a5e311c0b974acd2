"""Training of more than a head: zoo beside timm's loop with the best settings known, in turns.

    python -m benchmarks.training --envs ENVS [--repeat 3] [--only JOB ...]
    python -m benchmarks.training --envs ENVS --device cuda --train 3200 --val 320

With --only the results are training-some.json, beside those of all jobs.

ENVS is the folder that `python -m benchmarks.speed setup` made; timm runs in an environment of its
own (peers/timm_training.py). Both have the same photos, batches of 32, AdamW, random crops with
mirror images and a little colour, channels last, memory that is kept, the same precision, and
validate after each epoch. Weights are random: speeds are real, accuracies mean nothing.
"""

from __future__ import annotations

import json
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import photos
from benchmarks.measure import (
    Job,
    arguments,
    machine,
    median,
    numbers,
    run,
    save,
    show,
    summary,
    verdict,
    zoo,
)
from zoo.engine.select import bf16

PEER = Path(__file__).parent / "peers" / "timm_training.py"
# What zoo sets for itself (zoo/device.py), for the peer.
KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
        "MALLOC_TOP_PAD_": str(64 << 20), "MALLOC_ARENA_MAX": "1"}  # fmt: skip
OUR_OWN = ("ZOO_MALLOC", "ZOO_WEIGHTS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
VIEW_EACH = 5  # epochs of the longer run: as many views where nothing is kept, as timm's crops
Numbers = dict[str, dict[str, list[float]]]


@dataclass(frozen=True, slots=True)
class Pair:
    """A training by both. ours, theirs: flags."""

    name: str
    model: str
    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    on_gpu: bool = False


WHOLE = ("--no-freeze",)
PART = ("--freeze", "--cut", "layer3")
ANEW = ("--views", str(VIEW_EACH), "--cache-budget", "0B")
BF16 = ("--precision", "bf16")
PAIRS = (
    Pair("ResNet-50, all of it, fp32", "resnet50", WHOLE, (), on_gpu=True),
    Pair("ResNet-50, all of it, bf16", "resnet50", (*WHOLE, *BF16), BF16, on_gpu=True),
    Pair("ResNet-50 behind layer3, kept, fp32", "resnet50", PART, PART[1:]),
    Pair("ResNet-50 behind layer3, anew, fp32", "resnet50", (*PART, *ANEW), PART[1:]),
    Pair("ResNet-50 behind layer3, kept, bf16", "resnet50", (*PART, *BF16), (*PART[1:], *BF16)),
    Pair("MobileNetV2, all of it, fp32", "timm/mobilenetv2_100", WHOLE, ()),
)


def main() -> None:
    flags = parse()
    facts = machine()
    chosen = [pair for pair in PAIRS if flags.device == "cpu" or pair.on_gpu]
    if flags.device == "cpu" and not bf16():
        say("this processor has no bf16: what is trained in it is left out")
        chosen = [pair for pair in chosen if BF16[1] not in pair.ours]
    chosen = [pair for pair in chosen if not flags.only or pair.name in flags.only]
    found: dict[str, Numbers] = {pair.name: {} for pair in chosen}
    with tempfile.TemporaryDirectory(prefix="zoo-benchmark-") as scratch:
        folder = Path(scratch)
        photos.make(folder / "photos", train=flags.train, val=flags.val)
        photos.make(folder / "few", train=20, val=10)
        for name in {pair.model: pair for pair in chosen}:
            say(f"{name}: once on a few photos, not counted")
            warm = Pair("", name, WHOLE, ())
            list(measured(folder / "few", folder, warm, 1, flags))
        for number in range(flags.repeat):
            for pair in chosen:
                for epochs in dict.fromkeys((1, flags.epochs)):
                    for who, row in measured(folder / "photos", folder, pair, epochs, flags):
                        say(f"round {number + 1}: {pair.name}, {epochs}, {who}: {row}")
                        keep(found[pair.name], who, epochs, row)
    report(flags, facts, found)


def parse() -> Namespace:
    parser = arguments(__doc__)

    parser.add_argument("--envs", type=Path, required=True, help="folder with timm's environment")
    parser.add_argument("--train", type=int, default=96, help="photos, a multiple of 32 (96)")
    parser.add_argument("--val", type=int, default=32, help="(32)")
    parser.add_argument("--epochs", type=int, default=5, help="of the longer run (5)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")
    parser.add_argument("--only", nargs="+", metavar="JOB", help="names as they are printed")
    flags = parser.parse_args()
    if flags.epochs < 2:
        parser.error(f"--epochs {flags.epochs}: the first epoch is left out, give 2 or more")
    flags.envs = flags.envs.resolve()
    return flags


# A training by each.


def measured(
    data: Path, folder: Path, pair: Pair, epochs: int, flags: Namespace
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Who, and what it took: seconds of the process and of its epochs."""
    where = ("--device", flags.device)
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        out, env = Path(fresh) / "run", {"ZOO_CACHE": str(Path(fresh) / "cache")}
        words = ("finetune", pair.model, data, *pair.ours, "--weights", "none", "--epochs",
                 str(epochs), "--best", "last", "--solver", "adamw", "--force",
                 *where, "-o", out)  # fmt: skip
        job = run(zoo(*words), env=env, unset=OUR_OWN)
        lines = (out / "metrics.jsonl").read_text().splitlines()
        yield "zoo", row_of(job, [json.loads(line)["seconds"] for line in lines])
    python = flags.envs / "timm" / "bin" / "python"
    command = [python, PEER, pair.model.removeprefix("timm/"), data, str(epochs)]
    job = run([*command, *pair.theirs, *where], env=KEPT, unset=OUR_OWN)
    yield "timm", row_of(job, json.loads(job.out.splitlines()[-1])["epochs"])


def row_of(job: Job, epochs: list[float]) -> dict[str, Any]:
    return {"wall": round(job.wall, 2), "cpu": round(job.cpu, 2), "epochs": epochs}


def keep(found: Numbers, who: str, epochs: int, row: dict[str, Any]) -> None:
    """Under the name of each figure: one of `zoo` and one of `timm` for each round."""
    figures = {f"E={epochs}, wall s": row["wall"], f"E={epochs}, CPU s": row["cpu"]}
    if epochs > 1:  # the first epoch makes and tunes what the others use
        figures["s an epoch"] = median(row["epochs"][1:])
    for name, value in figures.items():
        found.setdefault(name, {}).setdefault(who, []).append(value)


# What came of it.


def report(flags: Namespace, facts: dict[str, Any], found: dict[str, Numbers]) -> None:
    rows, bars = [], []
    kept: dict[str, Any] = {}
    for name, figures in found.items():
        for figure, values in figures.items():
            pairs = zip(values["timm"], values["zoo"], strict=True)
            ratios = [theirs / ours for theirs, ours in pairs]
            middle = [f"{median(values[who]):.2f}" for who in ("zoo", "timm")]
            rows.append([f"{name}: {figure}", *middle, *numbers(ratios)])
            each = {who: summary(values[who]) for who in ("zoo", "timm")}
            kept.setdefault(name, {})[figure] = {**each, "timm / zoo": summary(ratios)}
            if figure == "s an epoch":
                speed = {who: round(flags.train / median(values[who]), 2) for who in values}
                kept[name]["photos/s, validation included"] = speed
    show(rows, ["", "zoo", "timm", "timm / zoo: min", "median", "max", "n"])
    print()
    for name, figures in kept.items():
        for figure in (f"E={flags.epochs}, wall s", "E=1, wall s", "s an epoch"):
            ratio = figures[figure]["timm / zoo"]["median"]
            bars.append(verdict(f"timm / zoo, {name}, {figure}", ratio, 1.0, at_most=False))
    if flags.device == "cpu":
        print("not measured on a GPU")
    settings = {key: value for key, value in vars(flags).items() if key != "envs"}
    settings["peer_environment"] = KEPT
    result = {"settings": settings, "bars": bars, "jobs": kept}
    some = "-some" if flags.only else ""  # beside the whole table, maybe of another machine
    save(f"training{some}" if flags.device == "cpu" else f"training_gpu{some}", facts, result)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
