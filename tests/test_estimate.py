"""zoo estimate: what it measures, what follows from that, and that nothing is written."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from kit import Here, sha256

from zoo.scale import estimate, plan, store
from zoo.scale.estimate import Measured
from zoo.scale.plan import Plan, Settings

pytest.importorskip("obstore", reason="needs the extra scale")
pytest.importorskip("pyarrow", reason="needs the extra scale")
ONE = Measured(
    photos=200, errors=0, engine="e", cores=4, threads=4, reading=0.004, decoding=0.008,
    forward=0.012, cpu=0.02, seconds=0.005, opening=2.0, read=1000.0, written=10.0,
)  # fmt: skip
PLAN = Plan("0" * 16, Settings("predict", "m", "0" * 64, {}), 10_000, 100, ())


@pytest.mark.parametrize(
    ("workers", "photos", "seconds", "idle"),
    [
        (1, None, 52.0, 0),
        (10, None, 7.0, 0),
        (64, None, 3.0, 0),  # of 100 shards of 100 photos some do two, and end last
        (200, None, 2.5, 100),
        (10, 1_000_000, 502.0, 0),
        (10, 50, 2.25, 9),
        (3, 1, 2.005, 2),
    ],
)
def test_who_has_most_shards_ends_last(
    workers: int, photos: int | None, seconds: float, idle: int
) -> None:
    found = estimate.estimate(PLAN, ONE, workers, photos)
    assert found.seconds == pytest.approx(seconds)
    assert found.idle == idle
    many = photos or 10_000
    assert found.node_hours == pytest.approx((many * 0.005 + (workers - idle) * 2) / 3600)
    assert (found.read, found.written) == (many * 1000, many * 10)


@pytest.mark.parametrize(
    ("changes", "far", "binds"),
    [
        ({}, False, "forward"),
        ({"decoding": 0.013}, True, "decode"),
        ({"reading": 0.02}, False, "reading"),
        ({"reading": 0.02}, True, "network"),
        ({"threads": 8, "forward": 0.003}, False, "forward"),  # of a GPU, by the clock
    ],
)
def test_what_takes_longest_binds(changes: dict[str, float], far: bool, binds: str) -> None:
    assert estimate.estimate(PLAN, replace(ONE, **changes), 1, far=far).binds == binds


@pytest.mark.parametrize("what", ["predict", "features"])
def test_a_job_is_measured_and_left_as_it_was(
    here: Here, run: Path, photos: Path, tmp_path: Path, what: str
) -> None:
    root, job = shutil.copytree(photos, tmp_path / "photos"), tmp_path / "job"
    (root / "disc" / "cut.png").write_bytes((root / "disc" / "03.png").read_bytes()[:300])
    words = ["--model", run, "--per-shard", "5", "--what", what]
    assert here("plan", root, "-o", job, *words).code == 0
    before = sorted((str(path), sha256(path)) for path in job.rglob("*.*"))
    answer = here("estimate", job, "--workers", "2", "--photos", "3700", "--json")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    measured = told["measured"]
    assert (told["photos"], measured["photos"], measured["errors"]) == (3700, 37, 1)
    sizes = sum(path.stat().st_size for path in root.rglob("*.png")) - 300
    assert measured["read"] == pytest.approx(sizes / 37)
    assert 0 < measured["decoding"] + measured["forward"] < 4 * measured["cpu"]
    assert told["cpu_hours"] == pytest.approx(3700 * measured["cpu"] / 3600)
    shown = here("estimate", job, "--workers", "99")
    assert [line.split()[0] for line in shown.out.splitlines()][1:3] == ["time", "node-hours"]
    assert "91 workers would have no shard" in shown.err
    assert "37 photos of the plan here, 1 of them an error" in shown.err
    assert sorted((str(path), sha256(path)) for path in job.rglob("*.*")) == before


def test_a_job_whose_photos_are_gone_cannot_be_measured(
    here: Here, run: Path, photos: Path, tmp_path: Path
) -> None:
    root, job = shutil.copytree(photos, tmp_path / "photos"), tmp_path / "job"
    assert here("plan", root, "-o", job, "--model", run).code == 0
    shutil.rmtree(root)
    answer = here("estimate", job)
    assert answer.code == 2
    assert "none can be read: cannot be read: No such file" in answer.err


def test_the_sample_is_from_all_over_the_plan(tmp_path: Path) -> None:
    from kit.jobs import planned

    shards = planned(tmp_path / "job", [f"id{n:06}" for n in range(5000)], 10)
    found = [photo.key for photo in estimate.sample(shards)]
    assert len(found) == len(set(found)) == 200
    assert found == sorted(found)
    assert found[0] < "id000010" < "id004900" < found[-1]
    assert plan.read(store.Store(str(tmp_path / "job"))).shards == 500
