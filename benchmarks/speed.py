"""The table of bars: zoo beside timm, Hugging Face, fastai, ultralytics and the usual loops.

    python -m benchmarks.speed setup ENVS                 environments, photos; takes minutes
    python -m benchmarks.speed finetune --envs ENVS       a part: finetune, predict or phone
    python -m benchmarks.speed export | engines | startup | training --envs ENVS
    python -m benchmarks.speed all --envs ENVS            every part, the table, docs/speed.md
    python -m benchmarks.speed all --envs ENVS --quick    beside the peers, with few photos
    python -m benchmarks.speed all --envs ENVS --ours     zoo and its limits alone, all photos
    python -m benchmarks.speed table                      print what the results have, and plot it

Every job is a process of its own, timed from outside. A round runs each job of all parts once
before the next round, three by default, so that a stop leaves whole rounds. Rows go into
results/speed.json one by one, and what is there is not run again (--fresh: forget a part's rows
first). --quick has fewer photos, epochs and peers, and results/speed-quick.json; --ours has what
the ceilings are told of, and results/speed-ours.json: a quarter of an hour each where nothing else
runs. --minutes N begins no job after that; the same command goes on.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import photos, speed_jobs
from benchmarks.measure import (
    ROOT,
    arguments,
    environments,
    machine,
    python,
    run,
    warn_about_byte_code,
    write,
)
from benchmarks.speed_jobs import IMPORTS, MODEL, OUR_OWN, PACKAGES, PARTS, Place, Task
from benchmarks.speed_table import plot, table
from benchmarks.startup import WEIGHTS

RESULTS = Path(__file__).parent / "results" / "speed.json"
OTHERS = ("export", "engines", "startup", "training")  # programs with results of their own
IN_STEPS = ("zoo fp32, in steps", "zoo bf16, in steps")
LARGE = tuple(f"{who} {kind}, large" for who in ("zoo", "bare") for kind in ("fp32", "bf16"))
QUICK = {
    "train": 64, "val": 32, "large": (100, 20), "phone": 12, "epochs": 2, "seconds": 1.5,
    "results": RESULTS.with_name("speed-quick.json"),
    "without": ["hf", "fastai", "ultralytics", "tutorial loop, one epoch", *IN_STEPS, *LARGE],
}  # fmt: skip
OURS = {
    "results": RESULTS.with_name("speed-ours.json"), "seconds": 2.0,
    "without": [*speed_jobs.TRAINERS, "tutorial loop", "naive loop", *IN_STEPS, *LARGE],
}  # fmt: skip
Row = dict[str, Any]


def main() -> None:
    flags = parse()
    warn_about_byte_code()
    place = Place(
        flags.envs.resolve(), (flags.train, flags.val), tuple(flags.large), flags.phone,
        flags.epochs, flags.seconds,
    )  # fmt: skip
    if flags.part == "setup":
        setup(place)
        return
    parts = everything(flags) if flags.part == "all" else [flags.part]
    carry_out([part for part in parts if part in PARTS], place, flags)
    for part in parts:
        if part in OTHERS:
            other(part, flags)
    found = read(flags.results)
    found["bars"] = table(found, flags.results.parent)
    write(flags.results, found)
    plot(found, flags.results.with_suffix(".png"))
    if flags.part == "all":
        subprocess.run(python("-m", "benchmarks.readme"), cwd=ROOT, check=True)


def everything(flags: Namespace) -> list[str]:
    return [*PARTS] if flags.quick or flags.ours else [*PARTS, *OTHERS]


def parse() -> Namespace:
    parser: ArgumentParser = arguments(__doc__)
    parser.add_argument("part", choices=("setup", *PARTS, *OTHERS, "all", "table"))
    parser.add_argument("folder", nargs="?", type=Path, help="setup: where environments go")
    parser.add_argument("--envs", type=Path, help="the folder that setup made")
    parser.add_argument("--results", type=Path, default=RESULTS, help="(results/speed.json)")
    parser.add_argument("--fresh", action="store_true", help="measure again what is there")
    parser.add_argument("--train", type=int, default=320, help="photos to train on (320)")
    parser.add_argument("--val", type=int, default=64, help="photos to validate on (64)")
    parser.add_argument("--large", type=int, nargs=2, default=(1000, 200), metavar="N")
    parser.add_argument("--phone", type=int, default=100, help="photos of 4000 x 3000 (100)")
    parser.add_argument("--epochs", type=int, default=10, help="(10)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of a bare engine's round (4)")
    parser.add_argument("--minutes", type=float, help="begin no job after so many")
    parser.add_argument(
        "--without", nargs="+", default=[], metavar="WHO", help="leave out jobs that begin so"
    )
    fewer = parser.add_mutually_exclusive_group()
    fewer.add_argument("--quick", action="store_true", help="beside peers, few photos: 15 minutes")
    fewer.add_argument("--ours", action="store_true", help="zoo and its limits alone: 15 minutes")
    flags = parser.parse_args()
    if flags.quick or flags.ours:
        parser.set_defaults(**(QUICK if flags.quick else OURS))
        flags = parser.parse_args()
    flags.envs = flags.envs or flags.folder
    if flags.envs is None:
        if flags.part != "table":
            parser.error(f"{flags.part} needs --envs, the folder that `setup` made")
        flags.envs = Path()
    return flags


def setup(place: Place) -> None:
    environments(place.envs, PACKAGES)
    make_photos(place)


def make_photos(place: Place) -> None:
    """Those that are not there yet."""
    for size in (place.small, place.large, FEW):
        if not place.photos(size).exists():
            say(f"drawing {size[0]} + {size[1]} photos")
            unfinished = place.work / "unfinished"
            speed_jobs.empty(unfinished)
            # Of the warm-up others than those to be measured: features of photos are kept.
            photos.make(unfinished, train=size[0], val=size[1], seed=int(size == FEW))
            unfinished.rename(place.photos(size))
    if not place.weights.exists():
        run(python("-c", WEIGHTS, MODEL, place.weights))
    if not place.phones.exists():
        say(f"drawing {place.phone} photos of a phone")
        unfinished = place.work / "unfinished"
        speed_jobs.empty(unfinished)
        photos.make_phones(unfinished, place.phone)
        unfinished.rename(place.phones)


FEW = (20, 10)


def ready(place: Place, without: tuple[str, ...]) -> None:
    """All programs once, on other photos; not counted: byte code, converted networks, disk."""
    make_photos(place)
    for name, code in IMPORTS.items():
        if name.startswith(without):
            continue
        say(f"warming up {name}")
        run([place.python(name), "-c", code], env=speed_jobs.surroundings(place))
    run(python("-c", "import torchvision"))


def ready_to_tune(place: Place) -> None:
    for precision in speed_jobs.precisions():
        say(f"warming up zoo {precision}")
        out = place.work / "run-few"
        speed_jobs.empty(out)
        env = {"ZOO_CACHE": str(place.work / f"base-{precision}"), "ZOO_OFFLINE": "1"}
        command = speed_jobs.zoo_finetune(place, place.photos(FEW), out, precision)
        run(command, env=env, unset=OUR_OWN)
        bare_env = {"ZOO_CACHE": str(place.work / "base-bare")}
        task = speed_jobs.bare(place, "", precision, ("photos", MODEL, place.photos(FEW)))
        run(task.command, env=bare_env, unset=OUR_OWN)


def ready_to_predict(place: Place) -> None:
    """A run to predict with, and its network converted for each precision."""
    say("making a run to predict with")
    speed_jobs.empty(place.work / "run-predict")
    env = {"ZOO_CACHE": str(place.work / "base-predict"), "ZOO_OFFLINE": "1"}
    photos = place.photos(FEW)
    command = speed_jobs.zoo_finetune(place, photos, place.work / "run-predict", "fp32")
    run(command, env=env, unset=OUR_OWN)
    for precision in (*speed_jobs.precisions(), "int8"):
        say(f"warming up zoo {precision}")
        out = place.work / "few.csv"
        out.unlink(missing_ok=True)
        try:
            run(speed_jobs.zoo_predict(place, photos / "train", precision, out), env=env,
                unset=OUR_OWN)  # fmt: skip
        except SystemExit as error:
            if not isinstance(error.code, str):
                raise  # asked to stop
            say(error.code)  # its jobs will fail as well, and the others go on


READY = {"finetune": ready_to_tune, "predict": ready_to_predict, "phone": ready_to_predict}


def carry_out(parts: list[str], place: Place, flags: Namespace) -> None:
    """Every job of the parts in rounds; what the results have already is not run."""
    done = begun(parts, place, flags)
    until = time.perf_counter() + 60 * (flags.minutes or float("inf"))
    prepared: set[object] = set()
    for number in range(flags.repeat):
        for part in parts:
            for task in PARTS[part](place):
                left_out = task.who.startswith(tuple(flags.without))
                if left_out or (part, task.who, number) in done:
                    continue
                if not prepared:
                    ready(place, tuple(flags.without))
                if READY[part] not in prepared:
                    READY[part](place)
                    prepared.add(READY[part])
                if time.perf_counter() > until:
                    say(f"{flags.minutes:g} minutes are over; the same command goes on")
                    return
                measured(part, number, task, flags.results)


def begun(parts: list[str], place: Place, flags: Namespace) -> set[tuple[str, str, int]]:
    """Open the results; return what they have: the part, who, and the round."""
    found = read(flags.results)
    if flags.fresh:
        found["rows"] = [row for row in found["rows"] if row["part"] not in parts]
    if found["rows"]:
        here = {**place.settings, "cpu": machine()["cpu"]}
        there = {**found.get("settings", {}), "cpu": found["machine"].get("cpu")}
        if parts and there != here:
            raise SystemExit(
                f"{flags.results} was measured with {there}, not {here}\n"
                "give --results another file, or remove this one"
            )
    else:
        found["machine"] = machine()
    if parts:
        found |= {"settings": place.settings, "left_out": flags.without}
        write(flags.results, found)
    return {(row["part"], row["who"], row["round"]) for row in found["rows"]}


def measured(part: str, number: int, task: Task, results: Path) -> None:
    """Run a job and keep its row; one that fails is named, and the others go on."""
    try:
        row = speed_jobs.measured(task)
    except (SystemExit, AssertionError) as error:
        if isinstance(error, SystemExit) and not isinstance(error.code, str):
            raise  # asked to stop
        say(f"{part}, round {number + 1}: {task.who} FAILED: {error}")
        return
    say(f"{part}, round {number + 1}: {task.who}: {row['wall']:.2f} s, {row['cpu']:.1f} of CPU")
    add(results, {"part": part, "who": task.who, "round": number, **row})


def other(part: str, flags: Namespace) -> None:
    """A benchmark with results of its own, whose bars the table takes over."""
    if find_spec(f"benchmarks.{part}") is None:
        say(f"there is no benchmarks.{part}")
        return
    words = ["--envs", str(flags.envs)] if part == "training" else []
    command = python("-m", f"benchmarks.{part}", *words)
    done = subprocess.run(command, cwd=ROOT, check=False)
    if done.returncode:
        say(f"benchmarks.{part} exited with {done.returncode}; its bars are those of before")


def read(path: Path) -> dict[str, Any]:
    empty: dict[str, Any] = {"machine": {}, "rows": []}
    return {**empty, **json.loads(path.read_text())} if path.exists() else empty


def add(path: Path, row: Row) -> None:
    found = read(path)
    found["machine"] = machine()
    found["rows"].append(row)
    write(path, found)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
