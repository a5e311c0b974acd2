"""One training in several processes, which torchrun starts, and starts again.

Two gloo processes on the CPU. Most of them are forked from one that has imported torch (warm.py)
and find in their environment what torchrun puts there; where torchrun itself is meant, it is.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from kit import ROOT, sha256
from kit.warm import Warm
from safetensors.numpy import load_file
from torch.distributed import TCPStore

from zoo.run import Run

Words = list[object]
SCRATCH = {"weights": "none", "model": "lenet", "lr": 0.003}
KINDS = {
    # 29 rows in steps of 7: every step and its share are of another size than the one before.
    "head": {**SCRATCH, "optimizer": "adamw", "epochs": 4, "batch_size": 7, "balance": "weights",
             "label_smoothing": 0.1},
    "optimum": {**SCRATCH},
    "deeper": {**SCRATCH, "cut": "pool2", "optimizer": "sgd", "momentum": 0.9, "epochs": 4,
               "batch_size": 8, "accumulate": 2, "clip": 1.0, "ema": 0.9, "views": 2},
    # Photos through the frozen part in each epoch; features on one scale.
    "prefix": {**SCRATCH, "optimizer": "adamw", "epochs": 3, "batch_size": 8,
               "cache_budget": "0B"},
    # The optimum of the head, then down to the first stage, from the pixels.
    "phases": {**SCRATCH, "schedule": "head-then-all", "unfreeze": "all", "epochs": 4,
               "batch_size": 8},
    # Norms that are trained, dropout and mixed rows: not equal to one process, but to themselves.
    "mlp": {"weights": "none", "model": "mlp", "variant": {"norm": "batch", "dropout": 0.3},
            "mixup": 0.2, "freeze": False, "epochs": 3, "batch_size": 7, "distort": "affine"},
}  # fmt: skip


@pytest.fixture(scope="module")
def words(photos: Path, tmp_path_factory) -> Callable[..., Words]:
    """The command for a kind of run, but for its folder."""
    folder = tmp_path_factory.mktemp("recipes")

    def command(kind: str, **more: object) -> Words:
        path = folder / f"{len(os.listdir(folder))}.toml"
        path.write_text(tomli_w.dumps({"data": str(photos), **KINDS[kind], **more}))
        return ["finetune", "--recipe", path]

    return command


class Pair:
    """Two processes of one training. talk: of each, in a file. other: what the second one has
    in its environment in another way."""

    def __init__(
        self, warm: Warm, words: Words, folder: Path, other: dict[str, str] | None = None
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.warm = warm
        number = len(os.listdir(folder))
        # Of the one that has started them, as torchrun's: it outlives them.
        self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self.talk = [folder / f"{number}-{rank}.txt" for rank in range(2)]
        self.pids = [
            warm.start(
                *words,
                talk=self.talk[rank],
                often=False,
                environment={
                    "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
                    "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": str(self.store.port), "TORCHELASTIC_USE_AGENT_STORE": "True",
                    "TORCHELASTIC_RUN_ID": str(folder), "ZOO_CACHE": str(folder / "cache"),
                    **((other or {}) if rank else {}),
                },
            )
            for rank in range(2)
        ]  # fmt: skip

    def wait(self) -> list[int]:
        return [self.warm.wait(pid) for pid in self.pids]

    def said(self) -> list[str]:
        return [path.read_text() for path in self.talk]


def two(warm: Warm, words: Words, folder: Path, name: str = "two") -> Path:
    """The run of two processes that must succeed; the second one has nothing to say."""
    pair = Pair(warm, [*words, "-o", folder / name], folder)
    assert pair.wait() == [0, 0], pair.said()
    assert "processes  2" in pair.said()[0]
    assert pair.said()[1] == ""
    return folder / name


def furthest(one: Path, other: Path) -> float:
    first, second = (load_file(run / "model.safetensors") for run in (one, other))
    assert first.keys() == second.keys()
    return max(float(np.abs(first[name] - second[name]).max()) for name in first)


def keys(cache: Path) -> list[bytes]:
    """Of the rows that were ever computed."""
    files = cache.glob("features/*/*.keys.npy")
    return [bytes(key) for file in files for key in np.load(file, allow_pickle=False)]


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "kind",
    [
        "deeper",
        *(pytest.param(kind, marks=SLOW) for kind in ("head", "optimum", "prefix", "phases")),
    ],
)  # fmt: skip
def test_two_processes_end_with_the_weights_of_one(tmp_path, warm, words, kind):
    one, talk = tmp_path / "one", tmp_path / "one.txt"
    assert warm.run(*words(kind), "-o", one, talk=talk, often=False) == 0, talk.read_text()
    run = two(warm, words(kind), tmp_path / "pair")
    assert furthest(one, run) < 1e-5
    # Rank 0 alone has written: each epoch once, and nothing is left over.
    lines = [Run.open(folder).metrics() for folder in (one, run)]
    assert [line["epoch"] for line in lines[1]] == [line["epoch"] for line in lines[0]]
    for ours, theirs in zip(*lines, strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], abs=1e-4)
        assert ours["accuracy"] == theirs["accuracy"]
    assert sorted(os.listdir(run)) == sorted(os.listdir(one))
    assert Run.open(run).record["processes"] == 2


@pytest.mark.slow
def test_features_are_computed_once_in_total_and_by_both(tmp_path, warm, words, photos):
    two(warm, words("deeper"), tmp_path)
    found = keys(tmp_path / "cache")
    count = json.loads((tmp_path / "two" / "run.json").read_text())["data"]
    assert len(found) == len(set(found)) == 2 * count["train"] + count["val"]
    assert len(list(tmp_path.glob("cache/features/*/*.keys.npy"))) == 2
    two(warm, words("deeper"), tmp_path, "again")
    assert len(keys(tmp_path / "cache")) == len(found)
    assert sha256(tmp_path / "again") == sha256(tmp_path / "two")


@pytest.mark.slow
def test_what_is_random_in_a_step_is_the_same_again(tmp_path, warm, words):
    first, second = (sha256(two(warm, words("mlp"), tmp_path / name)) for name in "ab")
    assert first == second


@pytest.mark.parametrize("kind", ["head", pytest.param("mlp", marks=SLOW)])
def test_a_photo_that_cannot_be_read_is_left_out_by_all(tmp_path, warm, words, photos, kind):
    data = shutil.copytree(photos, tmp_path / "photos")
    for name in ("disc/00.png", "square/03.png", "square/04.png"):
        (data / name).write_bytes(b"no photo")
    run = two(warm, words(kind, data=str(data)), tmp_path, kind)
    assert (run / "skipped.csv").read_text().count("png") == 3


def test_a_signal_to_one_process_stops_all_after_the_same_step(tmp_path, warm, words):
    whole = two(warm, words("deeper", epochs=12), tmp_path, "whole")
    run = tmp_path / "run"
    pair = Pair(warm, [*words("deeper", epochs=12), "-o", run], tmp_path)
    wait_for(run / "metrics.jsonl", 2)
    os.kill(pair.pids[1], signal.SIGTERM)
    assert pair.wait() == [143, 143], pair.said()
    assert re.search(r"interrupted; epoch \d+, step \d of \d is saved", pair.said()[0])
    assert pair.said()[1] == ""
    assert not (run / "lock").exists()
    pair = Pair(warm, ["finetune", "--resume", run], tmp_path)
    assert pair.wait() == [0, 0], pair.said()
    assert sha256(run) == sha256(whole)


@pytest.mark.slow
def test_a_limit_in_minutes_ends_all_after_the_same_step(tmp_path, warm, words):
    run = two(warm, words("deeper", epochs=100_000, minutes=0.005), tmp_path)
    assert Run.open(run).record["status"] == "finished"
    assert 1 <= len(Run.open(run).metrics()) < 100_000


@pytest.mark.parametrize(
    ("cache", "reason"),
    [
        ("file", "cannot"),
        pytest.param("folder", "has not got what the other processes have computed", marks=SLOW),
    ],
)
def test_a_failure_of_one_process_is_said_by_it_and_ends_all(tmp_path, warm, words, cache, reason):
    """The second one has a cache that cannot be written, or one of its own."""
    (tmp_path / "file").write_text("")
    other = {"ZOO_CACHE": str(tmp_path / cache)}
    pair = Pair(warm, [*words("head"), "-o", tmp_path / "run"], tmp_path / "pair", other)
    assert pair.wait() == [4, 4], pair.said()
    who = "".join(pair.said())
    assert reason in who
    assert not (tmp_path / "run" / "lock").exists()
    if cache == "file":
        assert "error: " not in pair.said()[0]
        assert pair.said()[1].count("error: ") == 1


@pytest.mark.slow
def test_a_loss_that_is_not_finite_in_one_process_is_one_step_left_out_by_all(
    tmp_path, warm, words
):
    """Diverging is the same as in one process: exit 6, said once."""
    sick = words(
        "deeper", lr=100, momentum=0.99, clip=1e30, ema=0.0, epochs=80, schedule="constant"
    )
    talk = tmp_path / "one.txt"
    assert warm.run(*sick, "-o", tmp_path / "one", talk=talk, often=False) == 6, talk.read_text()
    pair = Pair(warm, [*sick, "-o", tmp_path / "two"], tmp_path / "pair")
    assert pair.wait() == [6, 6], pair.said()
    assert "attempts at a lower rate" in pair.said()[0]
    assert pair.said()[1] == ""


REFUSED = {
    "usage": (["finetune", "lenet", "--epoch", "3"], "no such option"),
    "recipe": (["finetune", "lenet", "PHOTOS", "--lr", "-1"], "lr = -1"),
    "photos": (["finetune", "lenet", "nowhere", "--weights", "none"], "nowhere"),
    "seeds": (["finetune", "lenet", "PHOTOS", "--weights", "none", "--seeds", "3"],
              "--seeds 3 under torchrun"),
    "command": (["lr", "lenet", "PHOTOS"], "`zoo lr` under torchrun"),
}  # fmt: skip


@pytest.mark.parametrize(
    "what", [w if w in ("recipe", "seeds") else pytest.param(w, marks=SLOW) for w in REFUSED]
)
def test_a_refused_command_ends_all_with_its_exit_code_and_is_refused_once(
    tmp_path, warm, photos, what
):
    command, reason = REFUSED[what]
    command = [photos if word == "PHOTOS" else word for word in command]
    pair = Pair(warm, [*command, "-o", tmp_path / "run"], tmp_path)
    assert pair.wait() == [2, 2], pair.said()
    first, second = pair.said()
    assert reason in first
    assert first.count("error: ") == first.count("hint: ") == 1
    assert second == ""
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_there_is_refused_once_and_not_touched(tmp_path, warm, words):
    (tmp_path / "run").mkdir()
    pair = Pair(warm, [*words("head"), "-o", tmp_path / "run"], tmp_path)
    assert pair.wait() == [2, 2], pair.said()
    assert "exists already" in pair.said()[0]
    assert pair.said()[1] == ""
    assert os.listdir(tmp_path / "run") == []


# torchrun itself.

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
OFTEN = """
import math, sys
from zoo.cli import main
from zoo.train import checkpoint
checkpoint.SECONDS, checkpoint.SHARE = 0.0, math.inf  # a checkpoint at each step
sys.exit(main(sys.argv[1:]))
"""


def torchrun(words: Words, folder: Path, *flags: str) -> subprocess.Popen[str]:
    script = folder / "often.py"
    script.write_text(OFTEN)
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(
        [*LAUNCH, *flags, script, *map(str, words)],
        env={**os.environ, "PYTHONPATH": path, "ZOO_CACHE": str(folder / "cache")},
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def wait_for(path: Path, lines: int) -> None:
    """For so many lines in a file."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        if path.exists() and path.read_text().count("\n") >= lines:
            return
        time.sleep(0.005)


def workers(parent: int) -> Iterator[tuple[int, str]]:
    """Pid and rank of the processes that a torchrun has started."""
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        environment = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
        if rank := re.search(r"\0RANK=(\d+)\0", environment):
            yield int(pid), rank[1]


def killed(words: Words, run: Path, folder: Path, rank: str, epochs: list[int], *flags: str) -> str:
    """What a torchrun says one of whose processes is killed in these epochs; it must succeed."""
    process = torchrun(words, folder, *flags)
    try:
        for epoch in epochs:
            wait_for(run / "metrics.jsonl", epoch)
            assert process.poll() is None, process.communicate()[0]
            (pid,) = (pid for pid, its in workers(process.pid) if its == rank)
            os.kill(pid, signal.SIGKILL)
        said, _ = process.communicate(timeout=100)
        assert process.returncode == 0, said
        return said
    finally:
        process.terminate()  # its processes too, where it has not ended
        process.communicate()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes in /proc")
def test_killed_in_the_middle_torchrun_ends_with_the_same_bits(tmp_path, warm, words):
    command = words("deeper", epochs=24)
    whole = two(warm, command, tmp_path, "whole")
    run, flags = tmp_path / "run", ("--standalone", "--max-restarts", "3")
    said = killed([*command, "-o", run], run, tmp_path, "1", [3], *flags)
    assert "another process of this training has died" in said
    assert f"resuming {run}" in said
    assert sha256(run) == sha256(whole)
    assert [line["epoch"] for line in Run.open(run).metrics()] == list(range(1, 25))
    assert not any(name.startswith((".", "lock")) for name in os.listdir(run))


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_killed_again_and_again_with_a_rendezvous_that_has_no_name(tmp_path, warm, words, rank):
    """The lock of a first process that was killed is taken over, the folder found again."""
    command = words("deeper", epochs=150)
    whole = two(warm, command, tmp_path, "whole")
    run = tmp_path / "runs" / "lenet-photos"
    killed(command, run, tmp_path, rank, [3, 40, 80], "--max-restarts", "9")
    assert sha256(run) == sha256(whole)
    assert os.listdir(run.parent) == [run.name]


@pytest.mark.slow
def test_a_torchrun_that_is_told_to_stop_leaves_a_run_that_another_finishes(tmp_path, warm, words):
    command = words("deeper", epochs=60)
    whole, run = two(warm, command, tmp_path, "whole"), tmp_path / "run"
    process = torchrun([*command, "-o", run], tmp_path, "--standalone")
    wait_for(run / "metrics.jsonl", 3)
    process.terminate()
    said, _ = process.communicate(timeout=100)
    assert re.search(r"interrupted; epoch \d+, step \d of \d is saved", said)
    assert not (run / "lock").exists()
    process = torchrun(["finetune", "--resume", run], tmp_path, "--standalone")
    said, _ = process.communicate(timeout=100)
    assert process.returncode == 0, said
    assert sha256(run) == sha256(whole)


@pytest.mark.slow
def test_another_torchrun_does_not_go_on_with_a_run(tmp_path, warm, words):
    run = two(warm, words("head"), tmp_path)
    before = sha256(run)
    process = torchrun([*words("head"), "-o", run], tmp_path, "--standalone")
    said, _ = process.communicate(timeout=100)
    assert process.returncode != 0
    assert "exists already" in said
    assert "exitcode  : 2" in said
    assert sha256(run) == before
