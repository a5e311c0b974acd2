"""Killed or stopped at any moment and resumed, a run ends with the same bits.

Real processes and signals; forked from one that has imported torch (warm.py).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tomli_w
from kit import sha256, until
from kit.warm import Warm

from zoo import weights
from zoo.run import Run
from zoo.train import checkpoint

SCRATCH = {"weights": "none", "optimizer": "adamw", "batch_size": 8}
MLP = {"model": "mlp", "variant": {"norm": "batch", "dropout": 0.3}, "lr": 0.003}
KINDS = {
    # Dropout, BatchNorm that is trained, a running mean of the weights, pixels moved anew.
    "pixels": {**MLP, "freeze": False, "epochs": 6, "distort": "elastic", "ema": 0.9, "clip": 1.0},
    # BatchNorm on both sides of the cut, views with mirror images from the cache, even classes.
    "frozen": {**MLP, "cut": "act1", "epochs": 4, "views": 3, "balance": "sampler"},
    # Three phases: kept features, other kept features, everything.
    "unfrozen": {"model": "lenet", "cut": "act3", "unfreeze": "conv2@3,all@5", "epochs": 6},
    # The optimum of the head, then down to the first stage.
    "head-then-all": {**MLP, "schedule": "head-then-all", "cut": "act3", "unfreeze": "fc2",
                      "epochs": 6, "optimizer": "auto"},
}  # fmt: skip
BORDERS = {"unfrozen": (3, 5), "head-then-all": (2,)}  # epochs with which a phase begins


class Whole(NamedTuple):
    """A run that nobody disturbed. borders: seconds until its later phases."""

    sha256: str
    seconds: float
    borders: tuple[float, ...]


@pytest.fixture(scope="module")
def words(photos: Path, tmp_path_factory) -> Callable[[str], list[object]]:
    """The command for a kind of run, but for its folder."""
    folder = tmp_path_factory.mktemp("recipes")

    def command(kind: str, **more: object) -> list[object]:
        settings = {**SCRATCH, "data": str(photos), **KINDS[kind], **more}
        path = folder / f"{len(os.listdir(folder))}.toml"
        path.write_text(tomli_w.dumps(settings))
        return ["finetune", "--recipe", path]

    return command


@pytest.fixture(scope="module")
def whole(warm, words, tmp_path_factory) -> Callable[..., Whole]:
    """Timed, it is made twice: the first time computes features."""
    known: dict[tuple[str, bool], Whole] = {}

    def run(kind: str, timed: bool = False) -> Whole:
        if (kind, timed) not in known:
            folder, expected = tmp_path_factory.mktemp(kind), timed and run(kind).sha256
            seconds = warm.seconds(*words(kind), "-o", folder / "run", talk=folder / "talk.txt")
            assert expected in (False, sha256(folder / "run")), "same seed, same bits"
            lines = Run.open(folder / "run").metrics()
            later = [sum(line["seconds"] for line in lines if line["epoch"] >= epoch)
                     for epoch in BORDERS.get(kind, ())]  # fmt: skip
            known[kind, timed] = Whole(
                sha256(folder / "run"), seconds, tuple(seconds - rest for rest in later)
            )
        return known[kind, timed]

    return run


def kill(warm: Warm, words: list[object], run: Path, moment: float, cache: Path) -> bool:
    """Starts a run and kills it; whether it was still at work.

    moment: after so many seconds; or, an int, at which of the things that it does in its folder.
    """
    how = {"talk": run.with_suffix(".txt"), "environment": {"ZOO_CACHE": str(cache)}}
    if isinstance(moment, int):
        pid = warm.start(*words, "-o", run, **how, falls=(str(run), moment))
    else:
        pid = warm.start(*words, "-o", run, **how)
        time.sleep(moment)
        os.kill(pid, signal.SIGKILL)
    return warm.wait(pid) == -signal.SIGKILL


def finish(warm: Warm, words: list[object], run: Path, cache: Path) -> str:
    """Resumes a run, or begins it again where nothing was begun; what was said."""
    again = ["finetune", "--resume", run] if run.exists() else [*words, "-o", run]
    talk = run.with_suffix(".txt")
    talk.write_text("")
    code = warm.run(*again, talk=talk, environment={"ZOO_CACHE": str(cache)})
    assert code == 0, talk.read_text()
    return talk.read_text()


def kill_at(moments: list[tuple[str, float]], warm: Warm, words, whole, folder: Path) -> None:
    """Each kind of run killed at each of its moments, and resumed."""
    in_flight, told = 0, 0
    for number, (kind, moment) in enumerate(moments):
        run, cache = folder / f"{number}", folder / f"cache{number % 3}"
        killed = kill(warm, words(kind), run, moment, cache)
        in_flight += killed
        said = finish(warm, words(kind), run, cache)
        told += "was killed, perhaps for want of memory" in said
        assert sha256(run) == whole(kind).sha256, (kind, moment)
        assert "going on from the one before" not in said, "a checkpoint that cannot be read"
        assert "starting over" not in said, "a checkpoint that cannot be read"
        epochs = [line["epoch"] for line in Run.open(run).metrics()]
        assert epochs == list(range(1, len(epochs) + 1))
        litter = [name for name in os.listdir(run) if name.startswith((".", "checkpoint", "lock"))]
        assert litter == []
    assert in_flight > len(moments) / 2
    assert told > len(moments) / 4


def moments(seed: int, count: int, whole: Callable[[str], Whole]) -> list[tuple[str, float]]:
    """Half of them anywhere in a run, half of them around the beginning of a later phase."""
    random = np.random.default_rng(seed)
    chosen = []
    for number in range(count):
        kind = list(KINDS)[number % len(KINDS)]
        one = whole(kind, timed=True)
        if one.borders:
            near = one.borders[number // len(KINDS) % len(one.borders)]
            chosen.append((kind, max(0.0, near + random.uniform(-0.15, 0.15))))
        else:
            chosen.append((kind, random.uniform(0, one.seconds)))
    return chosen


# In the second checkpoint of the first epoch, the first of the second one, and a later phase.
EVENTS = [("pixels", 45), ("frozen", 80), ("unfrozen", 160)]


@pytest.mark.parametrize("count", [3, pytest.param(70, marks=pytest.mark.slow)])
def test_killed_at_random_moments_a_resumed_run_has_the_same_bits(
    tmp_path, warm, words, whole, count
):
    chosen = EVENTS if count == 3 else moments(17, count, whole)
    kill_at(chosen, warm, words, whole, tmp_path)


@pytest.mark.slow
def test_killed_again_and_again_a_run_comes_to_the_same_end(tmp_path, warm, words, whole):
    """Each process does a few things more in its folder than the one before."""
    kind, run, talk, starts = "unfrozen", tmp_path / "run", tmp_path / "talk.txt", 0
    again: list[object] = [*words(kind), "-o", run]
    while starts < 30:
        starts += 1
        code = warm.run(*again, talk=talk, falls=(str(run), 35 + 5 * starts))
        assert code in (0, -signal.SIGKILL), talk.read_text()
        if code == 0:
            break
        if run.exists():
            again = ["finetune", "--resume", run]
    assert starts > 2
    assert sha256(run) == whole(kind).sha256


def stop_at(
    number: signal.Signals, after: float, warm: Warm, words: list[object], run: Path
) -> None:
    """A signal in the middle: it ends, and every step until then is saved."""
    talk = run.with_suffix(".txt")
    for _ in range(9):
        pid = warm.start(*words, "-o", run, talk=talk, often=False)
        until((run / "metrics.jsonl").exists)
        time.sleep(after)
        os.kill(pid, number)
        if code := warm.wait(pid):
            break
        shutil.rmtree(run)  # the signal came too late
        after /= 2
    assert code == 128 + number, talk.read_text()
    if "features computed so far are kept" in talk.read_text():  # of a phase that was to begin
        epoch, step = str(int(Run.open(run).metrics()[-1]["epoch"]) + 1), "0"
    else:
        epoch, step = re.findall(
            r"interrupted; epoch (\d+), step (\d+) of 4 is saved", talk.read_text()
        )[0]
    tensors = weights.read(run / "checkpoint.safetensors", finite=False)
    progress = checkpoint._state_in(tensors)
    assert (progress.epoch, progress.step) == (int(epoch), int(step))
    assert not (run / "lock").exists()


def stop_often(count: int, warm: Warm, words, whole, folder: Path) -> None:
    random = np.random.default_rng(20 + count)
    for number in range(count):
        kind = ("pixels", "unfrozen")[number % 2]
        which = (signal.SIGTERM, signal.SIGINT)[(number + number // 2) % 2]
        run = folder / f"{number}"
        stop_at(which, random.uniform(0, 0.1), warm, words(kind), run)
        talk = run.with_suffix(".txt")
        assert warm.run("finetune", "--resume", run, talk=talk) == 0, talk.read_text()
        assert sha256(run) == whole(kind).sha256


def test_stopped_by_a_signal_a_run_is_saved_and_ends_with_the_same_bits(
    tmp_path, warm, words, whole
):
    stop_often(2, warm, words, whole, tmp_path)


@pytest.mark.slow
def test_stopped_by_20_signals_a_run_ends_with_the_same_bits(tmp_path, warm, words, whole):
    stop_often(20, warm, words, whole, tmp_path)


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once_and_the_checkpoint_is_whole(tmp_path, warm, photos):
    """Steps of seconds: a network for large photos."""
    run, talk = tmp_path / "run", tmp_path / "talk.txt"
    flags = [
        "--weights",
        "none",
        "--no-freeze",
        "--batch-size",
        "10",
        "--epochs",
        "9",
        "--size",
        "128",
    ]
    pid = warm.start("finetune", "googlenet", photos, *flags, "-o", run, talk=talk)
    until((run / "checkpoint.safetensors").exists)
    time.sleep(0.1)
    os.kill(pid, signal.SIGINT)
    time.sleep(0.1)
    os.kill(pid, signal.SIGINT)
    code = warm.wait(pid)
    assert code == 130, talk.read_text()
    assert checkpoint._damage(run / "checkpoint.safetensors") is None
    assert [name for name in os.listdir(run) if name.startswith((".", "lock"))] == []
    assert Run.open(run).record["status"] == "started"


@pytest.mark.parametrize("kind", ["pixels", pytest.param("unfrozen", marks=pytest.mark.slow)])
def test_the_number_of_threads_that_decode_changes_no_bit(tmp_path, warm, words, whole, kind):
    for workers in (1, 4):  # 2 are the default
        run = tmp_path / f"{workers}"
        more = {"workers": workers}
        warm.seconds(*words(kind, **more), "-o", run, talk=tmp_path / "talk.txt")
        assert sha256(run) == whole(kind).sha256


def test_another_seed_has_other_bits(tmp_path, warm, words, whole):
    warm.seconds(*words("pixels", seed=1), "-o", tmp_path / "run", talk=tmp_path / "talk.txt")
    assert sha256(tmp_path / "run") != whole("pixels").sha256
