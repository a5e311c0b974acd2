"""zoo cache and zoo doctor: what is kept, what may go, and what is never touched."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kit import ROOT, Answer
from kit.features import add, key, opened, write

from zoo import cache, doctor
from zoo.cli.doctor import _in_all as in_all
from zoo.errors import UsageError
from zoo.features import parts
from zoo.scale import copied

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


@pytest.fixture
def old(folder: Path) -> Path:
    """Four parts of ten features of two networks, used 1 to 4 days ago, and an old graph."""
    for number in range(4):
        own = folder / "features" / KEYS[3 + number % 2]
        before = set(own.glob("*")) if own.exists() else set()
        add(own, range(10 * number, 10 * number + 10))
        for path in set(own.glob("*")) - before:
            os.utime(path, (time.time() - (4 - number) * DAY,) * 2)
    return folder


def rows(place: Path) -> list[int]:
    """Return the numbers in the features of both networks."""
    caches = [opened(place / "features" / name) for name in KEYS[3:5]]
    return [number for number in range(40) if any(key(number) in cache for cache in caches)]


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (["--older", "60h"], range(20, 40)),
        (["--budget", "5kB", "--kind", "features"], range(10, 40)),
    ],
)
def test_prune_takes_parts_of_features_one_by_one(
    here: Here, old: Path, words: list[str], left: range
) -> None:
    assert here("cache", "--prune", *words).code == 0
    assert rows(old) == list(left)


def test_features_beyond_the_budget_go_where_some_were_computed(
    here: Here, old: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The longest unused first; what is open stays readable; weights and data sets stay."""
    photos = write(tmp_path / "photos", range(3))
    assert len(photos) == 3
    words = ("embed", "lenet", "--weights", "none", tmp_path / "photos", "-o")
    held = opened(old / "features" / KEYS[3])
    kept = held.rows([key(number) for number in range(10)])
    monkeypatch.setenv("ZOO_CACHE_BUDGET", "3kB")
    monkeypatch.setattr(parts, "written", 0)
    assert "longest unused" not in here(*words, tmp_path / "a.csv").err  # it has kept none
    assert rows(old) == list(range(40))
    monkeypatch.setattr(parts, "written", 1)
    before = os.stat(old / "data" / "mnist" / "about.json").st_size
    for part in (old / "features").rglob("*.sha256"):  # as they were, before the line above
        os.utime(part, (time.time() - DAY * 9,) * 2)
    said = here(*words, tmp_path / "b.csv").err
    assert "of the longest unused features and graphs removed: they may have 3 kB" in said
    assert parts.written == 0  # what comes next in this process looks for room for its own alone
    assert 0 < len(rows(old)) < 40
    assert kept.gather(range(10))[:, 0, 0].tolist() == list(range(10))
    assert os.stat(old / "data" / "mnist" / "about.json").st_size == before


def test_the_budget_is_what_is_said_or_a_share_of_the_disk(
    here: Here, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    most = cache.budget()
    assert most is not None
    assert most >= 20e9
    monkeypatch.setenv("ZOO_CONFIG", str(tmp_path / "config.toml"))
    assert here("config", "set", "cache_budget", "1.5 TB").code == 0
    assert cache.budget() == 1.5e12
    monkeypatch.setenv("ZOO_CACHE_BUDGET", "none")
    assert cache.budget() is None
    assert cache.make_room() == (0, 0.0)
    monkeypatch.setenv("ZOO_CACHE_BUDGET", "50 Gb")
    with pytest.raises(UsageError, match="room for features and graphs, as 50GB"):
        cache.make_room()
    assert here("config", "set", "cache_budget", "much").code == 2


HOLD = """
import sys, time
from zoo.scale import copied
with copied.held() as place:
    (place / "train").write_bytes(bytes(5000))
    print(place, flush=True)
    time.sleep(60)
"""


def test_what_a_killed_solver_left_goes_and_what_is_in_use_stays(here: Here, folder: Path) -> None:
    jobs = [
        subprocess.Popen([sys.executable, "-c", HOLD], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    places = [Path(job.stdout.readline().strip()) for job in jobs if job.stdout]
    jobs[0].kill()
    jobs[0].communicate()
    assert all(place.parent == folder / "solving" for place in places)
    assert "solving" in here("cache").out
    for path in (*places, *(file for place in places for file in place.iterdir())):
        os.utime(path, (time.time() - 2 * DAY,) * 2)
    assert here("cache", "--prune", "--older", "1d", "--kind", "solving").code == 0
    assert [place.exists() for place in places] == [False, True]
    places[0].mkdir()
    os.utime(places[0], (time.time() - 2 * DAY,) * 2)
    with copied.held() as own:  # the next one sweeps by itself
        assert sorted((folder / "solving").iterdir()) == sorted([places[1], own])
    jobs[1].kill()
    jobs[1].communicate()


class Terminal(io.StringIO):
    """Somebody who types this."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("typed", "gone"), [("\n", 0), ("", 0), ("no\n", 0), ("yesterday\n", 0), ("Y\n", 4)]
)
def test_clear_on_a_terminal_takes_yes_alone_for_a_yes(
    here: Here, folder: Path, monkeypatch: pytest.MonkeyPatch, typed: str, gone: int
) -> None:
    before = files(folder)
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    assert "remove 4 entries, 10 kB?" in here("cache", "--clear").err
    assert len(before - files(folder)) == gone


def test_clear_asks_and_leaves_what_is_not_ours(here: Here, folder: Path) -> None:
    before = files(folder)
    assert here("cache", "--clear").code == 2  # nobody can answer
    assert here("cache", "--clear", "--prune", "--older", "1d", "--force").code == 2
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


def test_doctor_counts_hints_and_says_that_nothing_is_wrong() -> None:
    fine, hint = doctor.Line("a", "cores", "2"), doctor.Line("a", "bf16", "no", "ok", "use int8")
    slow = doctor.Line("a", "disk", "nfs", "slow", "another one")
    assert in_all([fine], 0, 0) == "nothing wrong or slow, of 1 line"
    assert in_all([fine, hint], 0, 0) == "nothing wrong or slow, of 2 lines; 1 hint in case"
    assert in_all([fine, hint, slow], 0, 1) == "0 wrong, 1 slow, of 3 lines"


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
