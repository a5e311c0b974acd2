"""A frozen fine-tune of ResNet-50: zoo, beside a bare forward pass and the usual PyTorch loop."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

from benchmarks import photos
from benchmarks.measure import (
    Job,
    arguments,
    machine,
    median,
    numbers,
    python,
    run,
    save,
    show,
    summary,
    verdict,
    warn_about_byte_code,
    zoo,
)

MODEL = "resnet50"
COLD_BAR, TUTORIAL_BAR = 1.3, 10
OUR_OWN = ("ZOO_MALLOC", "ZOO_WEIGHTS")  # settings of the caller that would change the outcome

IMPORT, FIRST, SECOND = "import torch", "bare forward, 1st pass", "bare forward, 2nd pass"
COLD, WARM, LOOP = "zoo finetune, cold", "zoo finetune, again", "tutorial loop"
Times = dict[str, list[float]]
WALL, CPU = 0, 1


def main() -> None:
    flags = parse()
    warn_about_byte_code()
    facts = machine()
    with tempfile.TemporaryDirectory(prefix="zoo-benchmark-") as name:
        folder = Path(name)
        counts = {"train": flags.train, "val": flags.val, "classes": flags.classes}
        size = photos.make(folder / "photos", **counts)
        say(f"{flags.train} + {flags.val} photos, median {size / 1000:.0f} kB; compiling byte code")
        warm_up(folder, flags)
        times: tuple[Times, Times] = {}, {}
        phases: list[dict[str, float]] = []
        for number in range(flags.repeat):
            say(f"repetition {number + 1} of {flags.repeat}")
            phases.append(one_round(folder, flags, number, times))
        extrapolated = tutorial(folder, flags, times[WALL])
    report(flags, facts, size, times, phases, extrapolated)


def parse() -> Namespace:
    parser = arguments(__doc__)
    parser.add_argument("--train", type=int, default=320, help="photos to train on (320)")
    parser.add_argument("--val", type=int, default=64, help="photos to validate on (64)")
    parser.add_argument("--classes", type=int, default=10, help="(10)")
    parser.add_argument("--epochs", type=int, default=10, help="(10)")
    parser.add_argument(
        "--tutorial-epochs",
        type=int,
        metavar="E",
        help="run the tutorial loop for 1 and for E epochs only, and extrapolate; 0: leave it out",
    )
    parser.add_argument("--tutorial-repeat", type=int, default=1, metavar="N", help="(1)")
    flags = parser.parse_args()
    if flags.tutorial_epochs == 1:
        parser.error("--tutorial-epochs 1: a line needs two points, give 2 or more")
    return flags


def warm_up(folder: Path, flags: Namespace) -> None:
    """Every program once on a few photos, so that all byte code is there. Not counted."""
    few = folder / "few"
    photos.make(few, train=10, val=5, classes=5)
    run(finetune(few, folder / "few-run", 1), env={"ZOO_CACHE": str(folder / "few-cache")})
    if flags.tutorial_epochs != 0:
        run(python("-m", "benchmarks.tutorial_loop", few, "1"))


def finetune(data: Path, output: Path, epochs: int) -> list[str]:
    settings = ("--freeze", "--weights", "none", "--device", "cpu", "--epochs", str(epochs))
    return zoo("finetune", MODEL, data, *settings, "-o", output)


def one_round(
    folder: Path, flags: Namespace, number: int, times: tuple[Times, Times]
) -> dict[str, float]:
    """Import, bare pass, cold run, warm run, one after the other; returns the cold run's phases."""
    data, total = folder / "photos", flags.train + flags.val

    def keep(name: str, wall: float, cpu: float) -> None:
        times[WALL].setdefault(name, []).append(wall)
        times[CPU].setdefault(name, []).append(cpu)
        say(f"  {name}: {wall:.2f} s, {cpu:.2f} s of CPU")

    imported = run(python("-c", "import torch"))
    keep(IMPORT, imported.wall, imported.cpu)
    bare = json.loads(
        run(python("-m", "benchmarks.bare", "photos", MODEL, data), unset=OUR_OWN).out
    )
    assert bare["photos"] == total
    keep(FIRST, **bare["passes"][0])
    keep(SECOND, **bare["passes"][1])
    env = {"ZOO_CACHE": str(folder / f"cache{number}")}
    cold = run(finetune(data, folder / f"cold{number}", flags.epochs), env=env, unset=OUR_OWN)
    keep(COLD, cold.wall, cold.cpu)
    warm = run(finetune(data, folder / f"warm{number}", flags.epochs), env=env, unset=OUR_OWN)
    keep(WARM, warm.wall, warm.cpu)
    assert features(cold)[:2] == (total, 0), "the cold run did not compute every photo"
    assert features(warm)[:2] == (0, total), "the second run computed features again"
    same = [(folder / f"{kind}{number}" / "model.safetensors") for kind in ("cold", "warm")]
    assert same[0].read_bytes() == same[1].read_bytes(), "the second run made another model"
    record = json.loads((folder / f"cold{number}" / "run.json").read_text())
    return {
        "features": features(cold)[2],
        "head, best epoch, save": record["seconds"] - features(cold)[2],
        "start, imports, network, plan": cold.wall - record["seconds"],
    }


def features(job: Job) -> tuple[int, int, float]:
    """What the run said of its features: computed, from the cache, seconds."""
    lines = [line for line in job.err.splitlines() if line.startswith("features ")]
    line = lines[-1]  # the plan has one as well, before it
    computed = re.search(r"([\d,]+) computed", line)
    cached = re.search(r"([\d,]+) from the cache", line)
    seconds = re.search(r"in ([\d.]+) s$", line)
    assert seconds, line
    assert computed or "none to compute" in line, line
    count = [int(found[1].replace(",", "")) if found else 0 for found in (computed, cached)]
    return count[0], count[1], float(seconds[1])


def tutorial(folder: Path, flags: Namespace, times: Times) -> dict[str, Any]:
    """The whole loop; or, where asked for, a line through two shorter ones."""
    if flags.tutorial_epochs == 0:
        return {}
    command = [*python("-m", "benchmarks.tutorial_loop"), str(folder / "photos")]
    points = [1, flags.tutorial_epochs] if flags.tutorial_epochs else [flags.epochs]
    walls: dict[int, list[float]] = {epochs: [] for epochs in points}
    for _ in range(flags.tutorial_repeat):
        for epochs in points:
            say(f"tutorial loop, {epochs} epochs")
            walls[epochs].append(run([*command, str(epochs)]).wall)
    if not flags.tutorial_epochs:
        times[LOOP] = walls[flags.epochs]
        return {}
    low, high = (median(walls[epochs]) for epochs in points)
    slope = (high - low) / (points[1] - points[0])
    seconds = low + slope * (flags.epochs - 1)
    measured = {f"{epochs} epochs": summary(values) for epochs, values in walls.items()}
    return {"seconds": seconds, "epochs": flags.epochs, "measured": measured}


def report(
    flags: Namespace,
    facts: dict[str, Any],
    size: int,
    times: tuple[Times, Times],
    phases: list[dict[str, float]],
    extrapolated: dict[str, Any],
) -> None:
    wall, cpu = times
    cold = median(wall[COLD])
    loop = median(wall[LOOP]) if LOOP in wall else extrapolated.get("seconds")
    show_times(flags, wall, cpu, extrapolated)
    parts = {name: median([phase[name] for phase in phases]) for name in phases[0]}
    show(
        [[name, f"{s:.2f}", f"{s / cold:.0%}"] for name, s in parts.items()], ["cold run", "s", ""]
    )
    print()
    ratios, cpu_ratios = over_bare(wall), over_bare(cpu)
    name = "(cold - import torch) / bare forward"
    bars = [
        verdict(f"{name}, wall", median(ratios), COLD_BAR, at_most=True),
        verdict(f"{name}, CPU", median(cpu_ratios), COLD_BAR, at_most=True),
        verdict("photos computed by the second run", 0, 0, at_most=True),  # asserted in one_round
    ]
    if loop:
        label = "tutorial loop (extrapolated) / cold" if extrapolated else "tutorial loop / cold"
        bars.append(verdict(label, loop / cold, TUTORIAL_BAR, at_most=False))
    result = {
        "settings": {**vars(flags), "model": MODEL, "median_photo_bytes": size},
        "bars": bars,
        "wall_seconds": {name: summary(values) for name, values in wall.items()},
        "cpu_seconds": {name: summary(values) for name, values in cpu.items()},
        "tutorial_loop_extrapolated": extrapolated or None,
        "cold_phases_seconds": {k: summary([phase[k] for phase in phases]) for k in parts},
        "cold_less_import_over_bare": {"wall": summary(ratios), "cpu": summary(cpu_ratios)},
    }
    save("frozen", facts, result)


def show_times(flags: Namespace, wall: Times, cpu: Times, extrapolated: dict[str, Any]) -> None:
    cold = median(wall[COLD])
    rows = []
    for name, values in wall.items():
        work = f"{median(cpu[name]):.2f}" if name in cpu else "-"
        rows.append([name, *numbers(values), f"{median(values) / cold:.3f}", work])
    if extrapolated:
        name, loop = f"{LOOP}: EXTRAPOLATED to {flags.epochs} epochs", extrapolated["seconds"]
        rows.append([name, "-", f"{loop:.2f}", "-", "-", f"{loop / cold:.3f}", "-"])
    first = "whole process, wall s (bare: forward only)"
    show(rows, [first, "min", "median", "max", "n", "x cold", "CPU s"])
    print()


def over_bare(times: Times) -> list[float]:
    """Each repetition against its own bare passes, the quicker one, made a moment before."""
    rounds = zip(times[COLD], times[IMPORT], times[FIRST], times[SECOND], strict=True)
    return [(cold - imported) / min(first, second) for cold, imported, first, second in rounds]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
