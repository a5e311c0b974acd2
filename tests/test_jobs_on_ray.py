"""A job on a cluster of Ray's: two nodes on this machine, which are killed, and so is all else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit import ROOT, Here, sha256
from kit.jobs import kept, planned, worker
from kit.raylets import HEAD, OTHER, PATIENCE, Cluster, cluster, driver, killed
from safetensors.numpy import load_file

from zoo.scale import head, parts

ray = pytest.mark.ray
pytest.importorskip("obstore", reason="needs the extra scale")
pytest.importorskip("pyarrow", reason="needs the extra scale")


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    pytest.importorskip("ray", reason="needs the extra ray")
    with cluster() as ours:
        ours.start(OTHER)
        yield ours


@ray
def test_kills_of_workers_a_node_and_the_driver_lose_nothing(
    nodes: Cluster, tmp_path: Path
) -> None:
    ids = [f"slow{number:06}" for number in range(20_000)]
    planned(tmp_path / "job", ids, 100)
    kinds = ["worker"] * 4 + ["driver"] + ["worker"] * 3 + ["node"] + ["worker"] * 3
    assert killed(nodes, tmp_path / "job", kinds, 12) == {"worker": 10, "driver": 1, "node": 1}
    assert kept(tmp_path / "job", ids) == (0, 0, 0)


@ray
def test_a_photo_that_ends_workers_gets_an_error(nodes: Cluster, tmp_path: Path) -> None:
    keys = [f"id{number:06}" for number in range(40)]
    planned(tmp_path / "job", [*keys, "poison"], 10)
    one = driver(nodes, tmp_path / "job")
    _, said = one.communicate(timeout=2 * PATIENCE)
    assert one.returncode == 0, said
    shards = worker(tmp_path / "job").shards
    *rows, bad = parts.merged(shards)
    assert [row["path"] for row in rows] == keys
    assert {row["status"] for row in rows} == {"ok"}
    assert (bad["path"], bad["status"]) == ("poison", "error")


@ray
def test_ray_makes_the_same_parts(
    here: Here, nodes: Cluster, run: Path, photos: Path, tmp_path: Path
) -> None:
    for name in ("one", "ray"):
        words = ["-o", tmp_path / name, "--model", run, "--per-shard", "5"]
        assert here("plan", photos, *words).code == 0
    assert here("work", tmp_path / "one").code == 0
    words = [sys.executable, "-m", "zoo", "work", str(tmp_path / "ray"), "--ray", nodes.address]
    done = subprocess.run(
        words, env=nodes.environment, cwd=ROOT, capture_output=True, text=True, timeout=2 * PATIENCE
    )
    assert done.returncode == 0, done.stderr
    assert "8 shards done, 36 rows" in done.stderr
    for each in (tmp_path / "one" / "parts").iterdir():
        assert sha256(each) == sha256(tmp_path / "ray" / "parts" / each.name)


TOGETHER = """
import sys
from zoo.cli import main
from zoo.scale import head
head.IN_MEMORY = 0
sys.exit(main(sys.argv[1:]))
"""


@ray
def test_nodes_solve_a_head_together(
    here: Here, nodes: Cluster, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bits as by one process; the nodes' copies of the features are gone at the end."""
    model = ["lenet", "--weights", "none"]
    words = [photos, "-o", tmp_path / "job", "--model", *model, "--what", "features"]
    assert here("plan", *words, "--per-shard", 7).code == 0
    assert here("work", tmp_path / "job").code == 0
    plain = [*model, tmp_path / "job", "--cut", "act4", "--views", "1", "--no-report"]
    monkeypatch.setattr(head, "IN_MEMORY", 0)
    assert here("finetune", *plain, "-o", tmp_path / "one").code == 0
    (tmp_path / "together.py").write_text(TOGETHER)
    words = [tmp_path / "together.py", "finetune", *plain, "-o", tmp_path / "ray"]
    done = subprocess.run(
        [sys.executable, *map(str, words), "--ray", nodes.address],
        env=nodes.environment, cwd=ROOT, capture_output=True, text=True, timeout=2 * PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "ray"))
    assert all(one[name].tobytes() == other[name].tobytes() for name in one)
    assert not list(nodes.place.rglob("solving/*"))


def test_photos_are_no_job_for_a_cluster(here: Here, photos: Path, tmp_path: Path) -> None:
    answer = here("finetune", "lenet", photos, "--weights", "none", "--ray", "127.0.0.2:1")
    assert answer.code == 2
    assert "is no job of features" in answer.err


@ray
def test_a_wrong_token_is_told(nodes: Cluster, tmp_path: Path) -> None:
    planned(tmp_path / "job", ["a"], 1)
    words = [sys.executable, "-m", "zoo", "work", str(tmp_path / "job"), "--ray", nodes.address]
    environment = {**nodes.environment, "RAY_AUTH_TOKEN": "0" * 48}
    done = subprocess.run(
        words, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 1
    assert "no cluster of Ray's answers at 127.0.0.2" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("10.0.0.5:6379", "without token authentication"),
        ("head.example.com:6379", "without token authentication"),
        ("auto", "it is HOST:PORT"),
        ("ray://127.0.0.2:10001", "it is HOST:PORT"),
        (f"{HEAD}:", "it is HOST:PORT"),
    ],
)
def test_an_address_without_a_token_is_refused(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, said: str
) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    planned(tmp_path / "job", ["a"], 1)
    answer = here("work", tmp_path / "job", "--ray", address)
    assert answer.code == 2
    assert said in answer.err
