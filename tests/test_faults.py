"""What breaks beside zoo: kills, full disks, folders that may only be read, clocks, photos that go.

After each of them what has a final name is whole and right, and the same command makes the rest.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from kit import Command, csv_rows, encoded, picture
from kit.faults import COMMANDS, FORCED, Commands, must_be_whole
from kit.warm import Warm

from zoo.cli import main
from zoo.predict.inputs import Input
from zoo.predict.predictor import open_predictor

KILLS = 20
ROOMS = (None, 0, *(4096 << number for number in range(10)))  # bytes that are free; None: all


@pytest.fixture(scope="module")
def commands(
    run: Path, photos: Path, warm: Warm, tmp_path_factory: pytest.TempPathFactory
) -> Commands:
    folder = tmp_path_factory.mktemp("given")
    (folder / "new").mkdir()
    for number, file in enumerate(sorted((photos / "disc").iterdir())[:4]):
        shutil.copy(file, folder / "new" / f"{number}.png")
    names = {"RUN": run, "PHOTOS": photos, "NEW": folder / "new", "JOB": folder / "job"}
    for words in (
        ["plan", str(photos), "--model", str(run), "-o", str(folder / "job")],
        ["work", str(folder / "job")],
    ):
        assert main(words) == 0
    return Commands(warm, names)


# Kills


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_any_moment_nothing_is_torn(
    commands: Commands, tmp_path: Path, name: str
) -> None:
    """One cache for all: what a kill leaves there changes no answer either."""
    right, random = commands.expected(name, tmp_path / "right"), np.random.default_rng(7)
    own, killed = {"ZOO_CACHE": str(tmp_path / "cache")}, 0
    commands.prepare(name, tmp_path / "whole")
    words, began = commands.words(name, tmp_path / "whole"), time.monotonic()
    assert commands.warm.run(*words, talk=tmp_path / "whole.txt") == 0
    seconds = time.monotonic() - began
    for number in range(KILLS):
        out, talk = tmp_path / f"{number}", tmp_path / f"{number}.txt"
        commands.prepare(name, out)
        pid = commands.warm.start(*commands.words(name, out), talk=talk, environment=own)
        time.sleep(random.random() * seconds)
        os.kill(pid, signal.SIGKILL)
        code = commands.warm.wait(pid)
        assert code in (0, -signal.SIGKILL), talk.read_text()
        killed += code != 0
        must_be_whole(commands, out, right, name)
        again = commands.words(name, out, again=True)
        if commands.outcome(out) != right:
            assert commands.warm.run(*again, talk=talk, environment=own) == 0, talk.read_text()
        assert commands.outcome(out) == right, number
        shutil.rmtree(out)
    assert killed


# Full disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, whose size is changed by `resized`."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = os.geteuid() == 0 and shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", place], capture_output=True
    ).returncode == 0  # fmt: skip
    if not mounted:
        pytest.skip("mounting a small file system is not allowed here")
    (place / "other").write_bytes(bytes(4096))  # a size of 0 is any
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def resized(disk: Path, size: int) -> None:
    """Give a disk so many bytes, rounded up to pages."""
    how = f"remount,size={-(-size // 4096) * 4}k"
    subprocess.run(["mount", "-o", how, str(disk)], check=True)


def taken(disk: Path) -> int:
    status = os.statvfs(disk)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_disk_that_is_full_at_any_write_tears_nothing(
    commands: Commands, tmp_path: Path, small_disk: Path, name: str
) -> None:
    """The file, the cache and what is temporary lie on it; with room for any part of them."""
    right = commands.expected(name, tmp_path / "right")
    own = {"ZOO_CACHE": str(small_disk / "cache"), "TMPDIR": str(small_disk / "tmp")}
    talk, full = tmp_path / "talk.txt", 0
    for room in ROOMS:
        out = small_disk / "out"
        commands.prepare(name, out)
        (small_disk / "tmp").mkdir()
        if room is not None:
            resized(small_disk, taken(small_disk) + room)
        talk.write_text("")
        code = commands.warm.run(*commands.words(name, out), talk=talk, environment=own)
        said = talk.read_text()
        assert code in ((0,) if room is None else (0, 5)), said
        assert "Traceback" not in said, said
        full += code == 5
        must_be_whole(commands, out, right, name)
        litter = [*out.rglob(".*.partial"), *(small_disk / "tmp").iterdir()]
        assert litter == [], said
        resized(small_disk, 64_000_000)
        if commands.outcome(out) != right:
            again = commands.words(name, out, again=True)
            assert commands.warm.run(*again, talk=talk, environment=own) == 0, talk.read_text()
        assert commands.outcome(out) == right, room
        for path in filter(Path.is_dir, small_disk.iterdir()):
            shutil.rmtree(path)
    assert full


# Folders that may only be read


@pytest.mark.slow
def test_with_a_home_and_a_cache_that_can_only_be_read_all_works(
    commands: Commands, tmp_path: Path, small_disk: Path
) -> None:
    """Nothing is kept there then; a place that is asked for and cannot be written is exit 4."""
    right = {name: commands.expected(name, tmp_path / name) for name in COMMANDS}
    talk = tmp_path / "talk.txt"
    (small_disk / "home").mkdir()
    for name in COMMANDS:
        commands.prepare(name, small_disk / name)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    homes = {"HOME": str(small_disk / "home"), "ZOO_CONFIG": str(small_disk / "home" / "c.toml")}
    for own in ({"ZOO_CACHE": str(small_disk / "cache")}, {"ZOO_CACHE": "", "XDG_CACHE_HOME": ""}):
        for number, name in enumerate(COMMANDS):
            out = tmp_path / f"{name}{len(own)}"
            commands.prepare(name, out)
            talk.write_text("")
            words = commands.words(name, out)
            code = commands.warm.run(*words, talk=talk, environment={**homes, **own})
            assert (code, commands.outcome(out)) == (0, right[name]), (name, talk.read_text())
            if number == len(own):
                continue
            talk.write_text("")
            words = commands.words(name, small_disk / name)
            code = commands.warm.run(*words, talk=talk, environment={**homes, **own})
            said = talk.read_text()
            assert (code, "Read-only file system" in said) == (4, True), (name, said)
            assert "Traceback" not in said


# Many at once


@pytest.mark.slow
def test_eight_commands_on_one_cache_disturb_nobody(commands: Commands, tmp_path: Path) -> None:
    """While the cache is cleared under them, again and again."""
    names = ["finetune", "predict", "rank", "export", "train", "embed", "check"]
    right = {name: commands.expected(name, tmp_path / name) for name in names}
    own = {"ZOO_CACHE": str(tmp_path / "cache")}
    for number in range(3):
        pids, clear = {}, tmp_path / f"clear{number}.txt"
        for name in names:
            out = tmp_path / f"{number}" / name
            commands.prepare(name, out)
            talk = out.with_suffix(".txt")
            words = commands.words(name, out)
            pids[name] = commands.warm.start(*words, talk=talk, environment=own)
        for _ in range(4):
            words = ["cache", "--clear", "--force"]
            assert commands.warm.run(*words, talk=clear, environment=own) == 0, clear.read_text()
            time.sleep(0.2)
        for name, pid in pids.items():
            out = tmp_path / f"{number}" / name
            said = out.with_suffix(".txt")
            assert commands.warm.wait(pid) == 0, (name, said.read_text())
            assert commands.outcome(out) == right[name], (name, said.read_text())


# Clocks


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_files_of_the_future_change_nothing(commands: Commands, tmp_path: Path, name: str) -> None:
    """As after a clock that went back by a year: the cache, and what the command has made."""
    right = commands.expected(name, tmp_path / "right")
    out, talk = tmp_path / "right" / "first", tmp_path / "talk.txt"
    own = {"ZOO_CACHE": str(tmp_path / "right" / "cache")}
    for again in (False, True):
        for path in [*tmp_path.rglob("*")]:
            os.utime(path, (time.time() + 3e7,) * 2)
        if not again:
            shutil.rmtree(out)
            commands.prepare(name, out)
        words = commands.words(name, out) + (["--force"] if again and name in FORCED else [])
        code = commands.warm.run(*words, talk=talk, environment=own)
        said = talk.read_text()
        if again and code:  # a run that is there already, a job of which all is done
            assert (code, "exists already" in said or "run" in said) == (2, True), said
        assert "Traceback" not in said
        assert commands.outcome(out) == right, (again, said)


FAKE = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


@pytest.mark.slow
@pytest.mark.skipif(not FAKE.exists(), reason="needs libfaketime")
@pytest.mark.parametrize("name", ["finetune", "train", "predict", "check"])
def test_a_clock_that_goes_back_while_a_command_works(
    commands: Commands, zoo: Command, tmp_path: Path, name: str
) -> None:
    """By a month, half a second after it has begun, and again; nothing waits for a month."""
    right = commands.expected(name, tmp_path / "right")
    offset, out = tmp_path / "offset", tmp_path / "out"
    commands.prepare(name, out)

    def going_back() -> None:
        for days in range(0, 3000, 30):
            (tmp_path / "new").write_text(f"-{days}d")
            os.replace(tmp_path / "new", offset)
            if over.wait(0.5):
                return

    over, began = threading.Event(), time.monotonic()
    clock = threading.Thread(target=going_back)
    clock.start()
    fake = {
        "LD_PRELOAD": str(FAKE),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "ZOO_CACHE": str(tmp_path / "cache"),
    }
    done = zoo(*commands.words(name, out), **fake)
    over.set()
    clock.join()
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert commands.outcome(out) == right
    assert time.monotonic() - began < 115


# Photos that change, and photos that go


class Changing(threading.Thread):
    """Replaces a file by one or the other of two, whole or byte by byte, until it is closed."""

    def __init__(self, file: Path, contents: tuple[bytes, bytes], whole: bool) -> None:
        super().__init__(daemon=True)
        self.file, self.contents, self.whole, self.over = file, contents, whole, False
        self.times = 0

    def run(self) -> None:
        beside = self.file.with_suffix(".new")
        while not self.over:
            data = self.contents[self.times % 2]
            if self.whole:
                beside.write_bytes(data)
                os.replace(beside, self.file)
            else:
                with self.file.open("wb") as file:
                    for at in range(0, len(data), 500):
                        file.write(data[at : at + 500])
                        file.flush()
            self.times += 1

    def __enter__(self) -> Changing:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over = True
        self.join()


@pytest.mark.parametrize("whole", [True, False])
def test_a_photo_that_changes_is_the_old_one_or_the_new_one(tmp_path: Path, whole: bool) -> None:
    """Or, written over in place, an error: never a picture of both."""
    contents = encoded(picture("disc", 1)), encoded(picture("stripes", 2))
    file, predictor = tmp_path / "a.png", open_predictor("lenet/mnist")
    right = {row.probabilities for row in predictor.rows([Input("a", "a", d) for d in contents])}
    assert len(right) == 2
    file.write_bytes(contents[0])
    with Changing(file, contents, whole) as changing:
        rows = list(predictor.rows([Input(str(file), "a")] * 400))
    assert changing.times > 5
    assert len(rows) == 400
    assert {row.probabilities for row in rows if row.status == "ok"} <= right
    assert not whole or all(row.status == "ok" for row in rows)


@pytest.mark.slow
def test_features_of_a_photo_that_changes_are_kept_under_its_own_content(
    commands: Commands, tmp_path: Path
) -> None:
    mine = shutil.copytree(commands.names["PHOTOS"], tmp_path / "photos")
    here = Commands(commands.warm, {**commands.names, "PHOTOS": mine})
    file = mine / "disc" / "00.png"
    contents = file.read_bytes(), encoded(picture("stripes", 20))
    own, talk = {"ZOO_CACHE": str(tmp_path / "cache")}, tmp_path / "talk.txt"
    with Changing(file, contents, True) as changing:
        for number in range(4):
            words = here.words("finetune", tmp_path / f"changing{number}")
            assert here.warm.run(*words, talk=talk, environment=own) == 0, talk.read_text()
            own = {"ZOO_CACHE": str(tmp_path / "cache")}
    assert changing.times > 5
    for number, data in enumerate(contents):
        file.write_bytes(data)
        right = here.expected("finetune", tmp_path / f"right{number}")
        out = tmp_path / f"again{number}"
        here.prepare("finetune", out)
        words = here.words("finetune", out)
        assert here.warm.run(*words, talk=talk, environment=own) == 0, talk.read_text()
        assert here.outcome(out) == right


GOING = ["predict", "embed", "finetune", "train", "check", "rank", "work", "explain"]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["moved", "unmounted"])
@pytest.mark.parametrize("name", GOING)
def test_photos_that_go_away_are_told(
    commands: Commands, tmp_path: Path, small_disk: Path, name: str, how: str
) -> None:
    """At five moments: each photo has its row, or the command says what is missing; none hangs."""
    right, random = commands.expected(name, tmp_path / "right"), np.random.default_rng(9)
    source, whole = commands.names["PHOTOS"], 0.0
    for number in range(6):
        share = small_disk / f"photos{number}"
        if how == "unmounted":
            share.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(share)], check=True)
        shutil.copytree(source, share, dirs_exist_ok=True)
        here = Commands(commands.warm, {**commands.names, "PHOTOS": share})
        out, talk = tmp_path / f"{number}", tmp_path / f"{number}.txt"
        here.prepare(name, out)
        own, began = {"ZOO_CACHE": str(tmp_path / f"cache{number}")}, time.monotonic()
        pid = here.warm.start(*here.words(name, out), talk=talk, environment=own)
        if number:
            time.sleep(whole * random.random())
        if number and how == "moved":
            share.rename(small_disk / f"gone{number}")
        elif number:
            subprocess.run(["umount", "-l", str(share)], check=True)
        code, said = here.warm.wait(pid), talk.read_text()
        whole = whole or time.monotonic() - began
        assert "Traceback" not in said, said
        assert code in ((0, 2, 4, 5, 8) if number else (0,)), said
        assert time.monotonic() - began < 60 + 5 * whole
        if code == 0 and name == "predict":
            rows = csv_rows(out / "x.csv")
            told = {row["path"]: row for row in csv_rows(tmp_path / "right/first/x.csv")}
            assert [row["path"] for row in rows] == list(told)
            good = [row for row in rows if row["status"] == "ok"]
            assert all(row == told[row["path"]] for row in good)
        elif code == 0 and name in ("finetune", "train"):
            assert here.outcome(out).keys() == right.keys()
