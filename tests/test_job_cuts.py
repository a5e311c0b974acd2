"""More than a head, trained on the features of a job: as on the folder, and by several processes.

The processes of a team read parts of their own: each row once an epoch, the same bits again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from kit import ROOT, Here, csv_rows, settings, sha256
from kit.jobs import made_features
from safetensors.numpy import load_file

from zoo import device
from zoo.errors import UsageError
from zoo.head.stored import Stored
from zoo.run import Run
from zoo.scale import copied, head
from zoo.train import batches
from zoo.train.distributed import Ranks
from zoo.train.division import Division

pytest.importorskip("obstore", reason="needs the extra scale")
pytest.importorskip("pyarrow", reason="needs the extra scale")
MODEL = ("lenet", "--weights", "none")
STEPS = ("--epochs", "3", "--batch-size", "8", "--lr", "0.003")
CUT = (*MODEL, "--cut", "pool1", "--views", "1", "--no-report", *STEPS)


def planned(here: Here, photos: Path, place: Path, *more: object) -> Path:
    words = ["--model", *MODEL, "--what", "features", "--stage", "pool1", "--flat", *more]
    assert here("plan", photos, "-o", place, *words).code == 0
    assert here("work", place).code == 0
    return place


def test_a_deeper_cut_over_a_job_is_that_over_the_folder(
    here: Here, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To rounding; the same bits from memory and from a file, which does not stay in the cache."""
    job = planned(here, photos, tmp_path / "job", "--per-shard", 7)
    assert here("finetune", *CUT, photos, "-o", tmp_path / "folder").code == 0
    answer = here("finetune", *CUT, job, "-o", tmp_path / "memory")
    assert answer.code == 0
    assert "a job has features of one view" in answer.err
    assert "computed the features of the job; what is trained runs in torch" in answer.err
    monkeypatch.setattr(head, "IN_MEMORY", 0)
    answer = here("finetune", *CUT, job, "-o", tmp_path / "file")
    assert answer.code == 0
    assert "each step reads them anew" in answer.err
    assert sha256(tmp_path / "memory") == sha256(tmp_path / "file")
    folder, memory = (load_file(tmp_path / n / "model.safetensors") for n in ("folder", "memory"))
    for name, array in folder.items():
        assert np.allclose(array, memory[name], rtol=0, atol=1e-4 * np.abs(array).max()), name
    assert here("predict", tmp_path / "file", photos).code == 0
    assert not list((tmp_path / "cache" / "solving").glob("*"))


def test_what_a_job_has_not_is_refused(here: Here, photos: Path, tmp_path: Path) -> None:
    job = planned(here, photos, tmp_path / "job")
    refused = {
        ("--cut", "pool2"): "--stage pool2 --flat",
        ("--no-freeze",): "--no-freeze with a job",
        ("--cut", "pool1", "--distort", "affine"): "--distort",
        ("--cut", "pool1", "--augment", "rand"): "--augment",
        ("--cut", "pool1", "--ray", "127.0.0.1:1"): "torchrun",
        ("--cut", "pool1", "--schedule", "head-then-all"): "--schedule with a job",
    }
    for words, reason in refused.items():
        answer = here("finetune", *MODEL, job, *words, "-o", tmp_path / "run")
        assert (answer.code, reason in answer.err) == (2, True), answer.err
        assert answer.err.count("hint: ") == 1
        assert not (tmp_path / "run").exists()


# Several processes.


def test_what_several_processes_do_not_do_is_refused(
    here: Here, photos: Path, tmp_path: Path
) -> None:
    job = planned(here, photos, tmp_path / "job", "--per-shard", 7)
    refused = {"start 6 at most": (7, {}), "--balance weights": (2, {"balance": "sampler"})}
    for hint, (world, more) in refused.items():
        asked = settings("lenet", job, weights="none", cut="pool1", **more)
        with pytest.raises(UsageError) as error:
            head.prepare(asked, lambda done, total: None, None, head.Together(Ranks(0, world)))
        assert hint in error.value.hint
    assert not list((tmp_path / "cache" / "solving").glob("*"))


@pytest.mark.parametrize(("counts", "world"), [((7, 7, 7, 7, 1), 2), ((50, 3, 9), 3), ((5, 4), 2)])
def test_each_row_is_taken_once_in_an_epoch(counts: tuple[int, ...], world: int) -> None:
    part = np.repeat(np.arange(len(counts)), counts)
    several = [Division(part, rank, world) for rank in range(world)]
    for epoch, many in ((1, 4), (2, 4), (2, 1)):
        steps = [each.steps(0, epoch, many) for each in several]
        for at in range(many):
            whole = [step[at][0].tolist() for step in steps]
            assert whole == whole[:1] * world  # all know of all rows of a step
            assert sorted(whole[0]) == sorted(np.concatenate([step[at][1] for step in steps]))
        taken = np.concatenate([rows for rows, _ in steps[0]])
        assert sorted(taken) == list(range(len(part)))
        for rank, each in enumerate(several):
            own = np.concatenate([mine for _, mine in steps[rank]])
            assert set(part[own] % world) == {rank}
            assert np.array_equal(each.own[each.places(own)], own)
            sizes = {len(mine) for _, mine in steps[rank]}
            assert max(sizes) - min(sizes) <= 1
            assert min(sizes) >= each.fewest(many)


def test_the_order_is_of_seed_epoch_and_part() -> None:
    """Other parts beside a part do not change its own order; an epoch has another."""
    part = np.repeat([0, 1, 2, 3], 50)

    def first(division: Division, seed: int, epoch: int) -> list[int]:
        rows = np.concatenate([rows for rows, _ in division.steps(seed, epoch, 5)])
        return rows[part[rows] == 0].tolist()

    once = first(Division(part, 0, 2), 0, 1)
    assert once == first(Division(part[:100], 0, 2), 0, 1)
    assert once != first(Division(part, 0, 2), 0, 2)
    assert once != first(Division(part, 0, 2), 1, 1)
    # Parts of a list that is sorted by class are mixed in every step.
    rows, own = Division(part, 1, 2).steps(0, 1, 5)[0]
    assert set(part[rows]) == {0, 1, 2, 3}
    assert set(part[own]) == {1, 3}


def test_rows_of_a_file_go_to_a_device_with_room_block_by_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0).standard_normal((50, 12)).astype(np.float32)
    random.tofile(tmp_path / "rows")
    monkeypatch.setattr(batches, "EVAL_BYTES", 12 * 4 * 7)
    rows = copied.Copied(Stored(tmp_path / "rows", (50, 12)), (3, 2, 2))
    labels, place = np.zeros(50, int), device.choose("cpu", None)
    source = batches.FeatureBatches(rows, labels, rows, labels, place)
    source.division = Division(np.arange(100) // 10, 1, 2)  # 50 of 100 rows are here
    for source.room in (0, 1 << 20):
        (found,) = source.train(1, [np.array([13, 95, 11])])
        assert np.array_equal(found.numpy().reshape(3, 12), random[[3, 45, 1]])
    assert source.there


SCRIPT = """
import math, os, signal, sys, threading, time
from pathlib import Path
from zoo.cli import main
from zoo.scale import head
from zoo.train import checkpoint

head.IN_MEMORY = 0
checkpoint.SECONDS, checkpoint.SHARE = 0.0, math.inf  # a checkpoint at each step
log, rank = Path(sys.argv[2]) / "metrics.jsonl", os.environ.get("RANK")

def die():
    while not (log.exists() and log.read_text().count("\\n") >= 3):
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[1] == "dies" and rank == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    threading.Thread(target=die, daemon=True).start()
sys.exit(main([*sys.argv[3:], "-o", sys.argv[2]]))
"""


def launched(how: str, world: int, run: Path, *words: object) -> subprocess.CompletedProcess[str]:
    script = run.parent / "script.py"
    script.write_text(SCRIPT)
    team = ["-m", "torch.distributed.run", "--standalone", "--max-restarts", 2, "--nproc-per-node"]
    command = [sys.executable, *team, world, script, how, run, *words]
    return subprocess.run(
        list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=600,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.slow
def test_processes_of_torchrun_read_parts_of_their_own(
    here: Here, photos: Path, tmp_path: Path
) -> None:
    """Close to one process; the same bits again, also where one of them is killed on the way."""
    job = planned(here, photos, tmp_path / "job", "--per-shard", 7)
    words = ["finetune", *CUT, job, "--epochs", 24]
    for name, how, world in (("one", "lives", 1), ("two", "lives", 2), ("killed", "dies", 2)):
        done = launched(how, world, tmp_path / name, *words)
        assert done.returncode == 0, done.stderr
        assert ("resuming" in done.stderr) == (how == "dies")
    one, two = (Run.open(tmp_path / name) for name in ("one", "two"))
    assert sha256(tmp_path / "two") == sha256(tmp_path / "killed")
    assert csv_rows(one.path("index.csv")) == csv_rows(two.path("index.csv"))
    assert two.record["processes"] == 2
    losses = [run.metrics()[-1]["val_loss"] for run in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=0.2)
    assert not list((tmp_path / "cache" / "solving").glob("*"))
    two.update(status="started")
    answer = here("finetune", "--resume", two.folder)
    assert answer.code != 0
    assert "2 processes began" in answer.err
    assert "torchrun --nproc-per-node 2" in answer.err


MEASURED = """
import resource, sys
from zoo.cli import main
from zoo.scale import head
head.IN_MEMORY = 1 << 20
code = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """20,000 rows of 4.7 kB take the memory of 2,000, less than a fifth of what they are."""
    peaks = []
    for rows in (2_000, 20_000):
        job = made_features(tmp_path / f"job{rows}", "pool1", rows)
        words = ["finetune", *CUT, job, "-o", tmp_path / f"run{rows}", "--epochs", "1"]
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, *map(str, words)], cwd=ROOT, capture_output=True,
            text=True, timeout=600, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        peaks.append(1024 * int(done.stdout.split()[-1]))
    assert peaks[1] - peaks[0] < 18_000 * 6 * 14 * 14 * 4 / 5, peaks
