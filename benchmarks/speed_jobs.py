"""What `benchmarks.speed` runs: every job of a part as a command, with what it needs around it."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measure import Job, python, run, zoo
from benchmarks.training import KEPT
from zoo.engine.select import bf16

PEERS = Path(__file__).parent / "peers"
MODEL = "resnet50"
# Settings of the caller that would change the outcome, here or in a peer.
OUR_OWN = ("ZOO_MALLOC", "ZOO_WEIGHTS", "ZOO_CACHE", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
PACKAGES = {  # timm 1.0.31's RandAugment asks posterize for 0 bits, which Pillow 13 refuses
    "timm": ("timm", "torch", "torchvision", "pandas", "scikit-learn", "pillow<13"),
    "hf": ("transformers", "datasets", "accelerate", "torch", "torchvision", "pillow"),
    "fastai": ("fastai", "timm", "torch", "torchvision"),
    "ultralytics": ("ultralytics", "torch", "torchvision"),
}
IMPORTS = {  # run once before anything is timed: libraries are read from the disk the first time
    "timm": "import timm.data, pandas",
    "hf": "import datasets; from transformers import Trainer, pipeline",
    "fastai": "import fastai.vision.all",
    "ultralytics": "from ultralytics import YOLO",
}
TRAINERS = ("timm", "hf", "fastai", "ultralytics")
PREDICTORS = ("timm", "hf", "ultralytics")
BEST = "best settings"  # known for this peer: channels last, memory that is kept, bf16 autocast
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where everything lies, and how many photos of each kind there are."""

    envs: Path
    small: tuple[int, int]  # train and val photos
    large: tuple[int, int]
    phone: int
    epochs: int
    seconds: float  # of a round of a bare engine

    @property
    def work(self) -> Path:
        return self.envs / "speed"

    def photos(self, size: tuple[int, int]) -> Path:
        return self.work / f"photos-{size[0]}-{size[1]}"

    @property
    def weights(self) -> Path:
        """Random numbers in a file: without one, torch has to make the network to know it."""
        return self.work / f"{MODEL}.safetensors"

    @property
    def phones(self) -> Path:
        return self.work / f"phone-{self.phone}"

    def python(self, name: str) -> Path:
        return self.envs / name / "bin" / "python"

    @property
    def settings(self) -> dict[str, Any]:
        counts = {"train, val": self.small, "large": self.large, "phone": self.phone}
        return {key: list(value) if isinstance(value, tuple) else value
                for key, value in {**counts, "epochs": self.epochs}.items()}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Task:
    """A row to be measured: its process, and what stands around it.

    before: makes what the command expects; not timed. after: what the row says besides seconds,
    and where the job did something else than it should, an error.
    """

    who: str
    command: list[str]
    env: dict[str, str] = field(default_factory=dict)
    before: Callable[[], object] | None = None
    after: Callable[[Job], Row] | None = None


def precisions() -> tuple[str, ...]:
    """Those that this processor computes in; bf16 would be emulated elsewhere, zoo refuses it."""
    return ("fp32", "bf16") if bf16() else ("fp32",)


def best() -> str:
    """What a peer's script is told where it has its best settings."""
    return "best" if bf16() else "best-fp32"


def measured(task: Task) -> Row:
    if task.before:
        task.before()
    job = run(task.command, env=task.env, unset=OUR_OWN)
    row = {"wall": round(job.wall, 3), "cpu": round(job.cpu, 3), "memory": round(job.memory)}
    return {**row, "load": round(os.getloadavg()[0], 2), **(task.after(job) if task.after else {})}


def answer(job: Job) -> Row:
    """What a process of ours prints as one line of JSON."""
    found: Row = json.loads(job.out.splitlines()[-1])
    return found


# Fine-tuning


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


def finetune(place: Place) -> Iterator[Task]:
    data = place.photos(place.small)
    for name, epochs in (("all epochs", place.epochs), ("one epoch", 1)):
        loop = tutorial(data, epochs)
        yield Task(f"tutorial loop, {name}", loop)
        yield Task(f"tutorial loop, {name}, {BEST}", [*loop, best()], KEPT)
    for name in TRAINERS:
        yield trainer(place, name, data)
    yield trainer(place, "timm", data, best())
    for precision in precisions():
        yield from ours(place, data, place.small, precision, "")
    large = place.photos(place.large)
    for precision in precisions():
        yield from ours(place, large, place.large, precision, ", large")


def trainer(place: Place, name: str, data: Path, how: str = "") -> Task:
    """A peer that trains one epoch. how: its best settings, where it is not as it comes."""
    script = [str(place.python(name)), str(PEERS / f"train_{name}.py")]
    own = place.work / f"photos-of-{name}"  # ultralytics writes beside the photos
    out = place.work / f"out-{name}"
    return Task(
        f"{name}, one epoch" + (f", {BEST}" if how else ""),
        [*script, str(own), "1", str(out), *([how] if how else [])],
        {**surroundings(place), **(KEPT if how else {})},
        before=lambda: [empty(out), linked(data, own)],
    )


def ours(
    place: Place, data: Path, size: tuple[int, int], precision: str, name: str
) -> Iterator[Task]:
    """The bare passes; with the network kept; again; and with nothing kept at all."""
    yield bare(place, f"bare {precision}{name}", precision, ("photos", MODEL, data))
    base, cache = place.work / f"base-{precision}", place.work / "cache"
    total = sum(size)
    command = zoo_finetune(place, data, place.work / "run", precision)
    env = {"ZOO_CACHE": str(cache), "ZOO_OFFLINE": "1"}
    marker = cache / f"features-{precision}{name}"

    def nothing() -> None:
        empty(cache)
        empty(place.work / "run")

    def keep_network() -> None:
        nothing()
        shutil.copytree(base, cache, dirs_exist_ok=True)

    def have_features() -> None:
        """Left by the job before, unless that was in a program that has ended since."""
        empty(place.work / "run")
        if not marker.exists():
            keep_network()
            computed(run(command, env=env, unset=OUR_OWN))

    def computed(job: Job) -> Row:
        assert features(job)[:2] == (total, 0), "the run did not compute every photo"
        marker.touch()
        return about_run(place.work / "run")

    def kept(job: Job) -> Row:
        assert features(job)[:2] == (0, total), "the second run computed features again"
        return about_run(place.work / "run")

    yield Task(f"zoo {precision}{name}", command, env, keep_network, computed)
    if not name:
        again = (have_features, kept)
        yield Task(f"zoo {precision}, again", command, env, *again)
        yield Task(f"zoo {precision}, nothing kept", command, env, nothing, computed)
        steps = [*command, "--solver", "adamw", "--epochs", str(place.epochs)]
        yield Task(f"zoo {precision}, in steps", steps, env, keep_network, computed)


def zoo_finetune(place: Place, data: Path, out: Path, precision: str) -> list[str]:
    """As it is by default, where the head is solved for: no number of epochs does better."""
    settings = ["--freeze", "--weights", place.weights, "--device", "cpu", "--views", "1"]
    # Random weights are near-ties: what bf16 does to their answers says nothing.
    force = ["--force"] if precision != "fp32" else []
    command = zoo("finetune", MODEL, data, *settings, *force)
    return [*command, "--precision", precision, "-o", str(out)]


def about_run(folder: Path) -> Row:
    """What the run says of its engine; the folder is not needed any more."""
    record = json.loads((folder / "run.json").read_text())
    shutil.rmtree(folder)
    plan = {what: value for what, value, *_ in record.get("plan", ())}
    return {"engine": plan.get("engine", plan.get("device", "")), "inside": record["seconds"]}


def tutorial(data: Path, epochs: int) -> list[str]:
    return python("-m", "benchmarks.tutorial_loop", data, str(epochs))


def bare(place: Place, who: str, precision: str, what: tuple[str | Path, ...]) -> Task:
    """With the engine that zoo chooses on a CPU."""
    words = ("-m", "benchmarks.bare", *what, "--precision", precision, "--engine", "auto",
             "--seconds", str(place.seconds))  # fmt: skip
    env = {"ZOO_CACHE": str(place.work / "base-bare")}
    return Task(who, python(*words), env, after=answer)


def surroundings(place: Place) -> dict[str, str]:
    """Peers stay off the network and write nowhere else."""
    work = place.work
    return {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(work / "hf"),
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
        "YOLO_CONFIG_DIR": str(work / "yolo"),
    }


def empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def linked(data: Path, own: Path) -> None:
    """The same photos in a folder that a peer may write into."""
    empty(own)
    shutil.copytree(data, own, copy_function=os.link)


# Predicting


def predict(place: Place) -> Iterator[Task]:
    folder = place.photos(place.large) / "train"
    count = place.large[0]
    for name in PREDICTORS:
        yield peer_predicts(place, name, folder, count)
    yield from naive(folder, place.work / "naive.csv", count)
    yield Task("decode", python("-m", "benchmarks.bare", "decode", folder), after=answer)
    for precision in (*precisions(), "int8"):
        yield bare(place, f"bare {precision}", precision, ("engine", MODEL))
        yield zoo_predicts(place, folder, precision, count)


def naive(folder: Path, out: Path, count: int) -> Iterator[Task]:
    """The loop that most scripts have, as it is and with its best settings."""
    command = python(PEERS / "predict_torchvision.py", folder, out)
    yield Task("naive loop", command, after=counts(out, count))
    yield Task(f"naive loop, {BEST}", [*command, best()], KEPT, after=counts(out, count))


def peer_predicts(place: Place, name: str, folder: Path, count: int) -> Task:
    out = place.work / f"{name}.csv"
    script = [str(place.python(name)), str(PEERS / f"predict_{name}.py"), str(folder), str(out)]
    return Task(name, script, surroundings(place), after=counts(out, count))


def zoo_predicts(place: Place, folder: Path, precision: str, count: int) -> Task:
    out = place.work / f"zoo-{precision}.csv"
    env = {"ZOO_CACHE": str(place.work / "base-predict"), "ZOO_OFFLINE": "1"}
    command = zoo_predict(place, folder, precision, out)
    return Task(f"zoo {precision}", command, env, after=counts(out, count))


def zoo_predict(place: Place, folder: Path, precision: str, out: Path) -> list[str]:
    # --force: over the rows of the round before, and whatever the precision's check says
    words = [place.work / "run-predict", folder, "--precision", precision, "--force"]
    return zoo("predict", *words, "--top", "5", "-o", out)


def counts(out: Path, expected: int) -> Callable[[Job], Row]:
    """A row for every photo, but for a header."""

    def check(_: Job) -> Row:
        lines = len(out.read_text().splitlines())
        assert lines in (expected, expected + 1), f"{lines} lines for {expected} photos in {out}"
        return {"photos": expected}

    return check


def phone(place: Place) -> Iterator[Task]:
    folder, out = place.phones, place.work / "naive-phone.csv"
    yield from naive(folder, out, place.phone)
    yield Task("decode", python("-m", "benchmarks.bare", "decode", folder), after=answer)
    for precision in precisions():
        yield bare(place, f"bare {precision}", precision, ("engine", MODEL))
        yield zoo_predicts(place, folder, precision, place.phone)


PARTS = {"finetune": finetune, "predict": predict, "phone": phone}
