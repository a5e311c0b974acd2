"""zoo cache and zoo doctor: what is kept, what may go, and what is never touched."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kit import Answer

from zoo import cache, doctor

Here = Callable[..., Answer]
KEYS = [f"{number:032x}" for number in range(9)]
DAY = 86_400.0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of four entries, 1 to 4 kB, used 1 to 4 days ago, and things that are not ours."""
    place = tmp_path / "cache"
    monkeypatch.setenv("ZOO_CACHE", str(place))
    for days, kind in enumerate(("features", "engines", "known", "data"), start=1):
        name = {"known": f"{KEYS[0]}.json", "data": "mnist"}.get(kind, KEYS[0])
        path = place / kind / name
        path = path if path.suffix else path / "about.json"
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(1000 * days))
        os.utime(path, (time.time() - days * DAY,) * 2)
    for mine in ("features/notes", "data/mine.csv", "weights/my.safetensors", "photos/a.jpg"):
        (place / mine).parent.mkdir(exist_ok=True)
        (place / mine).write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("mine")
    (place / "features" / KEYS[1]).symlink_to(tmp_path / "elsewhere")
    return place


def files(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}


OTHERS = {"features/notes", "data/mine.csv", "weights/my.safetensors", "photos/a.jpg"}


def test_what_there_is_by_kind_and_by_last_use(here: Here, folder: Path) -> None:
    assert [(one.kind, one.bytes) for one in cache.entries()] == [
        ("data", 4000), ("known", 3000), ("engines", 2000), ("features", 1000)]  # fmt: skip
    answer = here("cache")
    assert [line.split()[0] for line in answer.out.splitlines()[1:]] == [
        "features", "engines", "known", "data"]  # fmt: skip
    assert f"10 kB in {folder}" in answer.err
    assert json.loads(here("cache", "--kind", "engines", "--json").out)["bytes"] == 2000
    assert KEYS[0] in here("cache", "--list").out


@pytest.mark.parametrize(
    ("words", "gone"),
    [
        (["--older", "3d"], {"known"}),  # a data set takes a download, and stays
        (["--older", "36h"], {"known", "engines"}),
        (["--older", "1w"], set()),
        (["--budget", "8kB"], {"known"}),
        (["--budget", "0.1kB"], {"known", "engines", "features"}),
        (["--kind", "data", "--older", "3d"], {"data"}),
        (["--kind", "features,known", "--budget", "1kB"], {"known"}),
    ],
)
def test_prune_takes_what_was_not_used_for_longest(
    here: Here, folder: Path, words: list[str], gone: set[str]
) -> None:
    before = files(folder)
    answer = here("cache", "--prune", *words)
    assert answer.code == 0
    assert {name.partition("/")[0] for name in before - files(folder)} == gone
    assert files(folder) >= OTHERS


def test_what_was_used_within_the_hour_stays(here: Here, folder: Path) -> None:
    os.utime(folder / "known" / f"{KEYS[0]}.json")
    assert "1 entry of the last hour left" in here("cache", "--prune", "--budget", "0.1kB").err
    assert (folder / "known" / f"{KEYS[0]}.json").exists()


def test_a_compiled_network_in_use_stays(here: Here, folder: Path) -> None:
    from zoo.engine import store

    lease = store.lock(folder / "engines" / KEYS[0])
    assert lease is not None
    assert "1 entry is in use and left" in here("cache", "--clear", "--force").err
    store.unlock(lease)
    assert (folder / "engines" / KEYS[0]).exists()


def test_clear_asks_and_leaves_what_is_not_ours(here: Here, folder: Path) -> None:
    before = files(folder)
    assert here("cache", "--clear").code == 2  # nobody can answer
    assert files(folder) == before
    assert "4 entries removed, 10 kB free" in here("cache", "--clear", "--force").err
    assert files(folder) == OTHERS
    assert (folder.parent / "elsewhere" / "file").exists()
    assert (folder / "features" / KEYS[1]).is_symlink()


def test_doctor_says_what_is_slow_and_what_to_do(
    here: Here, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = {line.name: line for line in doctor.examine()}
    assert {"zoo", "python", "torch", "cores", "cache", "memory"} <= set(lines)
    monkeypatch.setenv("ZOO_WEIGHTS", str(folder / "gone"))
    answer = here("doctor", "--json")
    told = {line["name"]: line for line in json.loads(answer.out)}
    assert answer.code == 1
    assert told["weights"]["state"] == "wrong"
    assert "zoo config set weights" in told["weights"]["advice"]
    assert all(line["advice"] for line in told.values() if line["state"] != "ok")
    shown = here("doctor")
    assert "WRONG" in shown.out
    assert "1 wrong" in shown.err


def test_doctor_reports_a_broken_file_of_settings(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.toml").write_text("x[")
    monkeypatch.setenv("ZOO_CONFIG", str(tmp_path / "c.toml"))
    answer = here("doctor")
    assert answer.code == 1
    assert "is not TOML" in answer.out


def test_doctor_knows_disks_by_their_longest_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._disk_of(Path("/proc/self")) in ("proc", "")
