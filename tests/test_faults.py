"""What breaks beside zoo: kills, full disks, clocks, and photos that change or go.

After each of them what has a final name is whole and right, and the same command makes the rest.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from kit import ROOT, Answer, Command, Here, csv_rows, encoded, names, picture
from kit.faults import (
    COMMANDS,
    FORCED,
    Commands,
    commands_of,
    mounted,
    must_be_whole,
    resized,
    strange,
    taken,
)
from kit.warm import Warm

from zoo.disk import HELD, YOUNG, scratch
from zoo.predict.inputs import Input
from zoo.predict.predictor import open_predictor

KILLS = 20
ROOMS = (None, 0, 8192, 65_536, 524_288)  # bytes that are free; None: all


@pytest.fixture(scope="module")
def commands(
    run: Path, photos: Path, warm: Warm, tmp_path_factory: pytest.TempPathFactory
) -> Commands:
    return commands_of(warm, run, photos, tmp_path_factory.mktemp("given"))


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
    assert strange(tmp_path / "cache") == set()


HOLDS = """
import sys, time
from zoo.disk import scratch
with scratch("x") as folder:
    (folder / "large").touch()
    print(folder, flush=True)
    time.sleep(60)
"""


def test_what_a_killed_command_had_for_a_while_goes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is another's stays: a living process's, and whatever has such a name besides."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "zoo-mine").mkdir()
    processes = [
        subprocess.Popen([sys.executable, "-c", HOLDS], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for _ in range(2)
    ]
    dead, alive = (Path((each.stdout or sys.stdin).readline().strip()) for each in processes)
    processes[0].kill()
    processes[0].wait()
    for aged in (False, True):
        for folder in (dead, alive) if aged else ():
            os.utime(folder.parent / HELD, (time.time() - 2 * YOUNG,) * 2)
        with scratch("y"):
            assert (dead.exists(), alive.exists()) == (not aged, True)
    processes[1].terminate()
    for each in processes:
        each.communicate()
    assert {path for path in tmp_path.iterdir() if path != alive.parent} == {tmp_path / "zoo-mine"}


# Full disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk") as place:
        yield place


@pytest.mark.slow
@pytest.mark.parametrize("name", ["export", "report", "merge", "plan", "work"])
def test_a_disk_that_is_full_at_any_write_tears_nothing(
    commands: Commands, tmp_path: Path, small_disk: Path, name: str
) -> None:
    """What is made and what is temporary lie on it, with room for any part of them.

    The cache does not: without room for one another engine may answer, as is told.
    """
    right = commands.expected(name, tmp_path / "right")
    own = {"ZOO_CACHE": str(tmp_path / "cache"), "TMPDIR": str(small_disk / "tmp")}
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
        litter = [*out.rglob(".*.partial"), *(small_disk / "tmp").glob("zoo-*")]
        assert litter == [], said
        resized(small_disk, 64_000_000)
        if code:
            again = commands.words(name, out, again=True)
            assert commands.warm.run(*again, talk=talk, environment=own) == 0, talk.read_text()
        assert commands.outcome(out) == right, (room, said)
        for path in filter(Path.is_dir, small_disk.iterdir()):
            shutil.rmtree(path)
    assert full


# What the command was started with


def started(shell: str, *words: object, cwd: Path, megabytes: int = 0) -> Answer:
    """The answer of `zoo WORDS` in a process of its own. shell: around it, where "$@" stands."""
    limits = f"ulimit -v {megabytes}000; " if megabytes else ""
    done = subprocess.run(
        ["sh", "-c", limits + shell, "sh", sys.executable, "-m", "zoo", *map(str, words)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "Traceback" not in done.stderr
    return Answer(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("streams", ["<&- >&- 2>&-", "2>/dev/full"])
def test_an_answer_needs_no_stdin_stdout_and_stderr(
    run: Path, photos: Path, tmp_path: Path, here: Here, streams: str
) -> None:
    """No file that is opened takes the place of one, and has words in it."""
    right = here("predict", run, photos / "disc").out
    words = ("predict", run, photos / "disc", "-o", "x.csv")
    assert started(f'exec "$@" {streams}', *words, cwd=tmp_path) == (0, "", "")
    assert (tmp_path / "x.csv").read_text() == right
    assert names(tmp_path) == ["x.csv"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", ["list", "--version", "predict RUN PHOTOS"])
def test_a_stdout_that_is_full_or_closed_is_said(
    run: Path, photos: Path, tmp_path: Path, words: str
) -> None:
    """Also where all of it is held until the end."""
    typed = [
        str(run if w == "RUN" else photos / "disc" if w == "PHOTOS" else w) for w in words.split()
    ]
    full = "No space left on device (where stdout goes)"
    for stream, code, why, hint in (
        (">/dev/full", 5, full, "free space"),
        (">&-", 4, "stdout is closed, where the answer goes", "let it go to a file"),
    ):
        answer = started(f'unset PYTHONUNBUFFERED; exec "$@" {stream}', *typed, cwd=tmp_path)
        assert answer.code == code
        *_, error, to_do = answer.err.splitlines()
        assert error == f"error: {why}"
        assert to_do.startswith(f"hint: {hint}")


def test_a_folder_that_is_gone_is_said(run: Path, photos: Path, tmp_path: Path) -> None:
    """Where it was the one that the command was started in: MKL would end the process."""
    words = ("embed", run, photos / "disc", "-o", "x.npz")
    answer = started('mkdir gone; cd gone; rmdir ../gone; exec "$@"', *words, cwd=tmp_path)
    assert (answer.code, answer.err.splitlines()) == (
        4, ["error: the folder that this was started in is gone", "hint: cd to one that is there"],
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ["predict", "embed", "finetune", "train"])
def test_too_little_memory_is_said(commands: Commands, tmp_path: Path, name: str) -> None:
    """In our words, but where a library ends the process itself; nothing is torn by either."""
    right, told = commands.expected(name, tmp_path / "right"), 0
    for megabytes in (250, 300, 400, 800, 1600, 3200):
        out = tmp_path / f"{megabytes}"
        commands.prepare(name, out)
        answer = started('exec "$@"', *commands.words(name, out), cwd=out, megabytes=megabytes)
        told += "error: there is not enough memory" in answer.err
        assert not re.search("unexpected (Runtime|Import|OS|Memory)Error", answer.err), answer.err
        must_be_whole(commands, out, right, name)
        assert answer.code or commands.outcome(out) == right
    assert told


# Clocks


@pytest.mark.slow
@pytest.mark.parametrize("name", ["predict", "finetune", "work"])
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
        assert code in ((0, 2) if again else (0,)), said  # 2: the run is there already
        assert "Traceback" not in said
        assert commands.outcome(out) == right, (again, said)


FAKE = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


@pytest.mark.slow
@pytest.mark.skipif(not FAKE.exists(), reason="needs libfaketime of Debian on x86-64")
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
    rows = []
    with Changing(file, contents, whole) as changing:
        while len(rows) < 400 or (changing.times < 6 and changing.is_alive()):
            rows += predictor.rows([Input(str(file), "a")] * 40)
    assert changing.times > 5
    assert len(rows) % 40 == 0
    assert {row.probabilities for row in rows if row.status == "ok"} <= right
    assert not whole or all(row.status == "ok" for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["moved", "unmounted"])
@pytest.mark.parametrize("name", ["predict", "finetune"])
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
            # A folder that went before its photos were listed is a row of its own.
            gone = {row["path"] for row in rows if row["status"] == "error"} - told.keys()
            folders = {path: path.rpartition("/")[0] for path in told}
            expected = [folders[path] if folders[path] in gone else path for path in told]
            assert [row["path"] for row in rows] == list(dict.fromkeys(expected))
            good = [row for row in rows if row["status"] == "ok"]
            assert all(row == told[row["path"]] for row in good)
        elif code == 0:
            assert here.outcome(out).keys() == right.keys()
