"""A cache that is full, can only be read, or is everybody's at once: the answers are the same.

Where nothing can be kept, one line says so; what is computed then goes with the command.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit import ROOT
from kit.faults import (
    COMMANDS,
    Commands,
    commands_of,
    mounted,
    must_be_whole,
    remount,
    resized,
    strange,
    taken,
)
from kit.warm import Warm

ROOMS = (0, 16_384, 65_536, 262_144, 1_500_000)  # bytes that are free
KEEPS = ("predict", "finetune", "train", "rank", "check", "lr", "distill")


@pytest.fixture(scope="module")
def commands(
    run: Path, photos: Path, warm: Warm, tmp_path_factory: pytest.TempPathFactory
) -> Commands:
    return commands_of(warm, run, photos, tmp_path_factory.mktemp("given"))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk") as place:
        yield place


def told(said: str) -> list[str]:
    """Return the lines that say that nothing is kept."""
    return [line for line in said.splitlines() if "nothing is kept there" in line]


@pytest.mark.parametrize(
    ("name", "rooms"),
    [
        ("predict", (0,)),
        *(pytest.param(name, ROOMS, marks=pytest.mark.slow) for name in KEEPS),
    ],
)
def test_a_full_disk_of_the_cache_loses_no_answer(
    commands: Commands, tmp_path: Path, disk: Path, name: str, rooms: tuple[int, ...]
) -> None:
    """What is made lies on another disk, which has room, as has what is temporary."""
    right, warned = commands.expected(name, tmp_path / "right"), 0
    (tmp_path / "tmp").mkdir()
    own = {"ZOO_CACHE": str(disk / "cache"), "TMPDIR": str(tmp_path / "tmp")}
    for room in rooms:
        out, talk = tmp_path / f"{room}", tmp_path / f"{room}.txt"
        commands.prepare(name, out)
        resized(disk, taken(disk) + room)
        code = commands.warm.run(*commands.words(name, out), talk=talk, environment=own)
        said = talk.read_text()
        assert code == 0, said
        assert commands.outcome(out) == right, (room, said)
        assert len(told(said)) <= 1, said
        warned += len(told(said))
        assert list((tmp_path / "tmp").glob("zoo-*")) == [], said
        resized(disk, 64_000_000)
        if (disk / "cache").exists():
            assert strange(disk / "cache") == set(), said
            shutil.rmtree(disk / "cache")
    assert warned


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_home_and_a_cache_that_can_only_be_read_cost_no_answer(
    commands: Commands, tmp_path: Path, disk: Path, name: str
) -> None:
    """A cold cache, then a warm one. What is to be written there itself is exit 4."""
    right, talk = commands.expected(name, tmp_path / "right"), tmp_path / "talk.txt"
    (disk / "home").mkdir()
    (disk / "out").mkdir()
    (tmp_path / "right" / "cache").mkdir(exist_ok=True)  # some keep nothing
    shutil.copytree(tmp_path / "right" / "cache", disk / "warm")
    commands.prepare(name, disk / "here")
    remount(disk, "ro")
    home = {"HOME": str(disk / "home"), "ZOO_CONFIG": str(disk / "home" / "config.toml")}
    for cache in ("cold", "warm"):
        own = {**home, "ZOO_CACHE": str(disk / cache)}
        out = tmp_path / cache
        commands.prepare(name, out)
        talk.write_text("")
        code = commands.warm.run(*commands.words(name, out), talk=talk, environment=own)
        said = talk.read_text()
        assert (code, commands.outcome(out)) == (0, right), (cache, said)
        assert len(told(said)) <= 1, said
        assert "atplotlib" not in said
    talk.write_text("")
    words = commands.words(name, disk / "here")
    assert commands.warm.run(*words, talk=talk, environment=home) == 4, talk.read_text()
    assert "Read-only file system" in talk.read_text()
    assert "Traceback" not in talk.read_text()


UNABLE = "-dac_override,-dac_read_search"  # what lets root look into everything


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_home_that_may_not_be_looked_into_costs_no_answer(
    commands: Commands, tmp_path: Path, name: str
) -> None:
    """Of another user, as with sudo -u; and somebody else's folder among what is temporary."""
    unable = ["setpriv", f"--bounding-set={UNABLE}", f"--inh-caps={UNABLE}"]
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("needs root and setpriv")
    right, out = commands.expected(name, tmp_path / "right"), tmp_path / "out"
    commands.prepare(name, out)
    (tmp_path / "tmp").mkdir()
    for place in (tmp_path / "home", tmp_path / "tmp" / "zoo-others"):
        place.mkdir(0o700)
        os.chown(place, 65534, 65534)
    assert subprocess.run([*unable, "ls", tmp_path / "home"], capture_output=True).returncode
    own = {key: os.environ[key] for key in os.environ if key not in ("ZOO_CACHE", "ZOO_CONFIG")}
    own |= {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp"), "ZOO_OFFLINE": "1"}
    words = [*unable, sys.executable, "-m", "zoo", *commands.words(name, out)]
    done = subprocess.run(words, cwd=ROOT, env=own, capture_output=True, text=True)
    assert (done.returncode, commands.outcome(out)) == (0, right), done.stderr
    assert len(told(done.stderr)) <= 1, done.stderr
    assert [one.name for one in (tmp_path / "tmp").glob("zoo-*")] == ["zoo-others"]


def begun(commands: Commands, names: dict[str, str], place: Path, cache: Path) -> dict[str, int]:
    """Start commands that share a cache; return their processes. names: of who does what."""
    pids = {}
    for who, name in names.items():
        commands.prepare(name, place / who)
        words, talk = commands.words(name, place / who), place / f"{who}.txt"
        own = {"ZOO_CACHE": str(cache)}
        pids[who] = commands.warm.start(*words, talk=talk, environment=own)
    return pids


@pytest.mark.slow
def test_eight_commands_on_one_cache_disturb_nobody(commands: Commands, tmp_path: Path) -> None:
    """All at once on an empty cache, while it is pruned; then while it is cleared under them."""
    names = {"a": "finetune", "b": "finetune", "c": "finetune", "d": "predict", "e": "predict",
             "f": "rank", "g": "export"}  # fmt: skip
    right = {name: commands.expected(name, tmp_path / name) for name in {*names.values()}}
    shared = tmp_path / "cache"
    for number, words in enumerate(
        (["--prune", "--budget", "1B"], ["--clear", "--force"], ["--clear", "--force"])
    ):
        place = tmp_path / f"{number}"
        pids, talk = begun(commands, names, place, shared), place / "cache.txt"
        for _ in range(6):
            own = {"ZOO_CACHE": str(shared)}
            code = commands.warm.run("cache", *words, talk=talk, environment=own)
            assert code == 0, talk.read_text()
            time.sleep(0.2)
        for who, pid in pids.items():
            code, said = commands.warm.wait(pid), (place / f"{who}.txt").read_text()
            assert code == 0, (who, said)
            assert commands.outcome(place / who) == right[names[who]], (who, said)
            must_be_whole(commands, place / who, right[names[who]], names[who])
        assert strange(shared) == set()
