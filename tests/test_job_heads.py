"""Heads on the features of a job: the same from a file as from memory, however it is cut."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from kit import ROOT, Here, csv_rows, settings
from safetensors.numpy import load_file

from zoo.errors import TrainingError
from zoo.finetune.prepare import now
from zoo.head import rows, solver, stored
from zoo.head.layers import Linear
from zoo.head.penalty import Search
from zoo.head.scores import measured
from zoo.head.softmax_regression import Targets
from zoo.head.stored import Stored
from zoo.head.team import share
from zoo.head.threads import pieces
from zoo.scale import head
from zoo.scale.team import Share

pytest.importorskip("obstore", reason="needs the extra scale")
pytest.importorskip("pyarrow", reason="needs the extra scale")
MODEL = ("lenet", "--weights", "none")


def kept(place: Path, count: int = 900, columns: int = 40) -> tuple[Stored, np.ndarray]:
    """Return features in a file, of unequal scale, and labels of 4 classes that overlap."""
    random = np.random.default_rng(0)
    labels = np.arange(count) % 4
    whole = random.standard_normal((count, columns)) + random.standard_normal((4, columns))[labels]
    whole = np.maximum(whole * random.uniform(0.1, 9, columns) + 1, 0).astype(np.float32)
    whole.tofile(place)
    return Stored(place, whole.shape), labels


def test_a_file_is_read_as_an_array_is(tmp_path: Path) -> None:
    features, _ = kept(tmp_path / "rows")
    whole = np.fromfile(features.path, np.float32).reshape(features.shape)
    assert np.array_equal(features[:], whole)
    assert np.array_equal(features[17:801], whole[17:801])
    assert np.array_equal(features[np.array([5, 3, 899, 3])], whole[[5, 3, 899, 3]])


@pytest.mark.parametrize("penalty", [0.01, None])
def test_the_optimum_of_a_file_is_that_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, penalty: float | None
) -> None:
    monkeypatch.setattr(stored, "READ", 40 * 70)  # several reads for each piece
    features, labels = kept(tmp_path / "rows", 3000)
    found = [
        solver.solve(each, Targets(labels, 4), Search(0, penalty=penalty))
        for each in (features, features[:])
    ]
    assert found[0].penalty == found[1].penalty
    heads = [Linear(each.weight, each.bias) for each in found]
    losses = [measured(features, labels, each)[0] for each in heads]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert np.allclose(found[0].weight, found[1].weight, rtol=1e-2, atol=1e-3)


PRINT = """
import hashlib, sys
from pathlib import Path
import numpy as np
import zoo.head.threads as own
own.cores = lambda: int(sys.argv[1])
from zoo.head import rows, solver, stored
stored.READ, rows.DOUBLE = 40 * 70, 0  # several reads for each piece, in float32
place = Path(sys.argv[2])
features = stored.Stored(place, (3000, 40))
targets = solver.Targets(np.arange(3000) % 4, 4)
found = solver.solve(features, targets, solver.Search(0))
print(hashlib.sha256(found.weight.tobytes() + found.bias.tobytes()).hexdigest())
"""


@pytest.mark.slow
def test_the_same_file_gives_the_same_bits_on_any_number_of_threads(tmp_path: Path) -> None:
    kept(tmp_path / "rows", 3000)
    words = [[sys.executable, "-c", PRINT, str(n), str(tmp_path / "rows")] for n in (1, 2)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = {subprocess.check_output(each, cwd=ROOT, env=environment) for each in words}
    assert len(said) == 1


class InOne:
    """A team whose other processes are in this one."""

    def __init__(self, features: Stored, labels: np.ndarray, world: int) -> None:
        self.world, self.asked = world, Counter[str]()
        self.others = [Share(features, labels, rank, world) for rank in range(1, world)]

    def ask(self, what: str, *given: np.ndarray) -> Iterator[np.ndarray]:
        found = [other.answer(what, given) for other in self.others]
        self.asked[what] += sum(map(len, found))
        return chain.from_iterable(found)


@pytest.mark.parametrize(("world", "double"), [(3, rows.DOUBLE), (2, 0)])
def test_several_processes_find_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: int, double: int
) -> None:
    monkeypatch.setattr(stored, "READ", 40 * 70)
    monkeypatch.setattr(rows, "DOUBLE", double)
    features, labels = kept(tmp_path / "rows", 3000)
    costs = Targets(labels, 4, None, np.array([1.0, 2.0, 0.5, 1.0]), 0.1)
    team = InOne(features, labels, world)
    one, several = (
        solver.solve(each, costs, Search(0, penalty=0.01))
        for each in (features, replace(features, team=team))
    )
    assert one.weight.tobytes() == several.weight.tobytes()
    assert one.bias.tobytes() == several.bias.tobytes()
    assert one.iterations == several.iterations
    assert min(team.asked[what] for what in ("total", "squares", "loss")) > 0


@pytest.mark.parametrize("world", [1, 2, 7, 40])
@pytest.mark.parametrize("count", [1, 2, 300, 3001])
def test_each_piece_is_the_work_of_one_process(count: int, world: int) -> None:
    parts = pieces(count)
    assert [one for rank in range(world) for one in share(parts, count, rank, world)] == parts


def test_features_that_are_no_numbers_are_told(tmp_path: Path) -> None:
    features, labels = kept(tmp_path / "rows")
    whole = features[:]
    whole[500, 3] = np.inf
    whole.tofile(features.path)
    with pytest.raises(TrainingError, match="not finite"):
        solver.solve(features, Targets(labels, 4), Search(0))


# Jobs.


def planned(here: Here, photos: Path, place: Path, *more: object) -> Path:
    words = ["--model", *MODEL, "--what", "features"]
    assert here("plan", photos, "-o", place, *words, *more).code == 0
    assert here("work", place).code == 0
    return place


def tensors(run: Path) -> dict[str, bytes]:
    return {name: each.tobytes() for name, each in load_file(run / "model.safetensors").items()}


def test_a_run_on_a_job_is_a_run_however_its_features_are_cut(
    here: Here, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same classes and val photos as on the folder, and the same bits of any parts."""
    jobs = [planned(here, photos, tmp_path / f"job{n}", "--per-shard", n) for n in (36, 7)]
    plain = ["--cut", "act4", "--views", "1", "--penalty", "0.01", "--no-report"]
    assert here("finetune", *MODEL, photos, "-o", tmp_path / "folder", *plain).code == 0
    assert here("finetune", *MODEL, jobs[0], "-o", tmp_path / "memory", *plain).code == 0
    monkeypatch.setattr(head, "IN_MEMORY", 0)
    for number, job in enumerate(jobs):
        answer = here("finetune", *MODEL, job, "-o", tmp_path / f"run{number}", *plain)
        assert answer.code == 0
        assert "each step reads them anew" in answer.err
    assert tensors(tmp_path / "run0") == tensors(tmp_path / "run1")
    told = [
        {
            (row["path"], row["label"], row["split"])
            for row in csv_rows(tmp_path / run / "index.csv")
        }
        for run in ("folder", "memory", "run0")
    ]
    assert told[0] == told[1] == told[2]
    weights = [load_file(tmp_path / run / "model.safetensors") for run in ("memory", "run0")]
    for name, array in weights[0].items():
        apart = np.linalg.norm(array - weights[1][name])
        assert apart <= 1e-3 * np.linalg.norm(array), name
    assert here("predict", tmp_path / "run0", photos).code == 0
    assert not list((tmp_path / "cache" / "solving").glob("*"))


def test_the_seconds_of_a_run_on_a_job_begin_before_its_parts_are_read(
    here: Here, photos: Path, tmp_path: Path
) -> None:
    job, read = planned(here, photos, tmp_path / "job"), list[tuple[float, float]]()
    asked = settings("lenet", job, weights="none", cut="act4")
    with head.prepare(asked, lambda done, total: read.append(now())) as prepared:
        assert prepared.began < read[0]


def test_features_that_the_head_does_not_take_are_refused(
    here: Here, photos: Path, tmp_path: Path
) -> None:
    words = ["--model", *MODEL, "--what", "features"]
    assert here("plan", photos, "-o", tmp_path / "job", *words).code == 0
    answer = here("finetune", *MODEL, tmp_path / "job", "-o", tmp_path / "run")
    assert answer.code == 8  # no part is there
    assert "missing" in answer.err
    assert here("work", tmp_path / "job").code == 0
    answer = here("finetune", *MODEL, tmp_path / "job", "-o", tmp_path / "run")
    assert answer.code == 2
    assert "--stage pool2 --flat" in answer.err
    answer = here("finetune", *MODEL, tmp_path / "job", "--views", "3")
    assert answer.code == 2
    assert "--views with a job" in answer.err


TOGETHER = """
import sys
from zoo.cli import main
from zoo.scale import head
head.IN_MEMORY = 0
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_processes_of_torchrun_solve_one_head_together(
    here: Here, photos: Path, tmp_path: Path
) -> None:
    """The same bits as by one; nothing of it is left in the cache folder."""
    job = planned(here, photos, tmp_path / "job", "--per-shard", 7)
    script = tmp_path / "together.py"
    script.write_text(TOGETHER)
    plain = ["--cut", "act4", "--views", "1", "--no-report"]
    words = [script, "finetune", *MODEL, job, *plain, "-o"]
    for world in (1, 3):
        team = ["-m", "torch.distributed.run", "--nproc-per-node", world]
        command = [sys.executable, *team, *words, tmp_path / f"run{world}"]
        done = subprocess.run(
            list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=600,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "each step reads them anew" in done.stderr
    assert tensors(tmp_path / "run1") == tensors(tmp_path / "run3")
    assert not list((tmp_path / "cache" / "solving").glob("*"))
    assert csv_rows(tmp_path / "run1" / "index.csv") == csv_rows(tmp_path / "run3" / "index.csv")
