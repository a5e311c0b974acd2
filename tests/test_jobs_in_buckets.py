"""Jobs whose photos and parts are in a bucket, on a server that is late, fails and forgets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kit import Here, csv_rows
from kit.bucket import serving
from kit.jobs import planned, worker

from zoo.scale import parts, store

pytest.importorskip("obstore", reason="needs the extra scale")
pytest.importorskip("pyarrow", reason="needs the extra scale")
pytest.importorskip("moto", reason="needs a server that speaks S3: pip install 'moto[s3,server]'")
pytestmark = pytest.mark.slow


@pytest.fixture(params=[0.0, 0.15])
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with serving(request.param) as (environment, seen):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            monkeypatch.delenv(name)
        store._opened.cache_clear()
        yield "s3://photos"
        store._opened.cache_clear()
        assert (len(seen) > 3) == bool(request.param), seen


def test_of_two_that_write_one_object_one_is_told_that_it_has(bucket: str) -> None:
    """But where its reply was lost: then none of them is, and it is there all the same."""
    one = store.Store(f"{bucket}/job")
    with ThreadPoolExecutor(4) as pool:
        for number in range(20):
            name = f"parts/{number}"
            won = pool.map(lambda who, name=name: one.create(name, b"%d" % who), range(4))
            assert sum(won) <= 1
            assert one.read(name) in (b"0", b"1", b"2", b"3")


def test_a_job_in_a_bucket_has_every_row_once(bucket: str) -> None:
    ids = [f"id{number:05}" for number in range(3000)]
    shards = planned(f"{bucket}/job", ids, 50)

    def work(number: int) -> int:
        one = worker(f"{bucket}/job")
        mine = range(number * 30 % 60, 60)  # each begins elsewhere, and two do the same
        return sum(1 for each in one.work(mine, lambda done, total: None) if each.rows)

    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(work, (0, 1, 2))) >= 60
    found = parts.verify(shards, lambda done, total: None)
    found.check(bucket)
    assert [row["path"] for row in parts.merged(shards)] == ids


def test_photos_and_tars_in_a_bucket_are_those_of_the_folder(
    here: Here, run: Path, photos: Path, bucket: str, tmp_path: Path
) -> None:
    import tarfile

    there = store.Store(f"{bucket}/set")
    for place in sorted(photos.rglob("*.png")):
        there.create(place.relative_to(photos).as_posix(), place.read_bytes())
    there.create("labels.csv", b"path,label\n")
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        archive.add(photos / "disc" / "00.png", "a.png")
    there.create("t.tar", (tmp_path / "t.tar").read_bytes())
    words = ["plan", f"{bucket}/set", "-o", f"{bucket}/job", "--model", run]
    assert here(*words).code == 0
    assert here("work", f"{bucket}/job").code == 0
    assert here("verify", f"{bucket}/job").code == 0
    assert here("merge", f"{bucket}/job", "-o", tmp_path / "there.csv").code == 0
    assert here("predict", run, photos, "-o", tmp_path / "here.csv").code == 0
    rows, plain = csv_rows(tmp_path / "there.csv"), csv_rows(tmp_path / "here.csv")
    assert rows[:36] == plain
    assert rows[36] == plain[0] | {"path": "t.tar/a.png"}
    assert here("plan", f"{bucket}/none", "-o", tmp_path / "j", "--model", run).code == 2
