"""Two runs into one folder. One process works in it, and the other is told which one."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from kit import ROOT, until

from zoo import lock
from zoo.errors import RunError
from zoo.run import Run

HOLD = """
import sys
import threading
from pathlib import Path
from zoo import lock
lock.LEASE = float(sys.argv[2]) if sys.argv[2:] else lock.LEASE
held = lock.take(Path(sys.argv[1]))
print(held.died, flush=True)
sys.stdin.read()
held.release()
"""

RACE = """
import os, sys, time
from pathlib import Path
from zoo import lock
from zoo.errors import RunError

folder, rounds, dies = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "dies"
lock.take(folder).release()  # what it imports costs the children no time then
for number in range(rounds):
    begin, children = time.monotonic() + 0.02, []
    (ends, starts), (tried, tries) = os.pipe(), os.pipe()
    for _ in range(8):
        if (child := os.fork()) == 0:
            os.close(starts)
            while time.monotonic() < begin:
                pass
            try:
                held = lock.take(folder)
                code = 1
            except RunError:
                code = 0
            os.write(tries, b".")
            os.read(ends, 1)  # nobody gives it back before all have tried
            if code and not dies:
                held.release()
            os._exit(code)
        children.append(child)
    for _ in children:
        os.read(tried, 1)
    for end in (starts, ends, tried, tries):
        os.close(end)
    winners = sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
    print(winners, flush=True)
"""


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def python() -> Iterator[Start]:
    """Code in a process of its own, which does not outlive the test."""
    started = []

    def start(code: str, *words: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, words)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        with suppress(ValueError):  # its streams are closed
            process.communicate(timeout=30)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_living_holder_is_named_and_left_alone(tmp_path, python):
    holder = python(HOLD, tmp_path)
    assert said(holder) == ""
    began = time.monotonic()
    who = re.escape(f"pid {holder.pid} on {socket.gethostname()}")
    with pytest.raises(RunError, match=who) as refused:
        lock.take(tmp_path)
    assert time.monotonic() - began < lock.LEASE / 2
    assert refused.value.exit_code == 2
    holder.communicate(timeout=30)
    assert os.listdir(tmp_path) == []
    lock.take(tmp_path).release()
    assert os.listdir(tmp_path) == []


def marker(**values: object) -> str:
    """What the lock file of a process of another machine says."""
    known = {"pid": 7, "host": "far", "mode": "lease", "token": "ab", "duration": lock.LEASE}
    return "".join(["filelock/2\n", *(f"{k}={v}\n" for k, v in (known | values).items())])


def test_a_dead_holder_is_followed_and_its_death_is_told(tmp_path, python):
    """Dead and buried, and another that followed it."""
    for number in range(2):
        holder = python(HOLD, tmp_path)
        before = said(holder)
        assert ("was killed, perhaps for want of memory" in before) == (number > 0)
        holder.kill()
        holder.wait()
    held = lock.take(tmp_path)
    assert f"pid {holder.pid}" in held.died
    assert os.listdir(tmp_path) == ["lock"]
    with pytest.raises(RunError, match=f"pid {os.getpid()}"):
        lock.take(tmp_path)
    held.release()
    assert os.listdir(tmp_path) == []


def test_a_dead_one_that_nobody_has_buried_is_followed_when_its_lease_is_over(
    tmp_path, python, monkeypatch
):
    monkeypatch.setattr(lock, "LEASE", 0.5)
    holder = python(HOLD, tmp_path, lock.LEASE)
    said(holder)
    holder.kill()
    until(lambda: lock.began(holder.pid) == "dead")
    held = lock.take(tmp_path)
    assert f"pid {holder.pid} on {socket.gethostname()}) was killed" in held.died
    held.release()
    assert os.listdir(tmp_path) == []


def test_another_process_with_the_number_of_a_dead_one_is_not_the_holder(tmp_path):
    held = lock.take(tmp_path)
    words = (tmp_path / "lock").read_text()
    held.release()
    (tmp_path / "lock").write_text(re.sub(r"start=\d+", "start=1", words))
    held = lock.take(tmp_path)
    assert f"pid {os.getpid()}" in held.died
    held.release()


@pytest.mark.parametrize("words", [marker(), '{"pid": 7, "host": "far"}\n'], ids=["ours", "older"])
def test_the_lease_of_another_host_runs_out(tmp_path, words, monkeypatch):
    """Also of a file that an older zoo has made."""
    (tmp_path / "lock").write_text(words)
    with pytest.raises(RunError, match="gave a sign of life"):
        lock.take(tmp_path)
    assert os.listdir(tmp_path) == ["lock"]
    os.utime(tmp_path / "lock", (time.time() - 61, time.time() - 61))
    monkeypatch.setattr(lock, "LEASE", 0.3)  # what is left of it to be watched
    (tmp_path / "lock").write_text(marker() if "mode" in words else words)
    os.utime(tmp_path / "lock", (time.time() - 61, time.time() - 61))
    held = lock.take(tmp_path)
    assert re.search(r"no sign of life for \d\d s", held.died)
    held.release()
    assert os.listdir(tmp_path) == []


def test_a_sign_of_life_from_the_future_is_watched_for_another(tmp_path, monkeypatch):
    """As after a clock that went back by a year: nobody waits until that time has come."""
    for name in ("LEASE", "SILENT"):
        monkeypatch.setattr(lock, name, 0.3)
    (tmp_path / "lock").write_text(marker())
    os.utime(tmp_path / "lock", (time.time() + 3e7, time.time() + 3e7))
    held = lock.take(tmp_path)
    assert "no sign of life" in held.died
    held.release()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("age", [0, 3600])
def test_a_holder_that_was_killed_before_it_said_who_it_is_is_followed(tmp_path, monkeypatch, age):
    """Unless it may live: its file is touched, written, or held by another that asks the same."""
    monkeypatch.setattr(lock, "SILENT", 0.3)
    names = [tmp_path / lock.NAME, tmp_path / ".a.pth.lock"]

    def leave() -> None:
        for name in names:
            name.touch()
            os.utime(name, (time.time() - age, time.time() - age))

    leave()
    with lock.held(tmp_path) as held, lock.in_turn(tmp_path / "a.pth", pytest.fail):
        assert "killed as it began" in held.died
    assert os.listdir(tmp_path) == []
    leave()
    for act in (lambda: names[0].write_text(marker()), lambda: os.utime(names[0])):
        timer = threading.Timer(0.1, act)
        timer.start()
        assert not lock._cleared(names[0])
        timer.join()
    names[0].write_text("")
    with names[0].open() as asking:
        fcntl.flock(asking, fcntl.LOCK_EX)
        assert not lock._cleared(names[0])


def test_a_lock_without_words_is_named_to_be_removed(tmp_path, monkeypatch):
    """Where nobody can tell whose it is, and it cannot be seen whether another asks the same."""
    monkeypatch.setattr(lock, "LEASE", 0.1)
    monkeypatch.setattr(lock, "SILENT", 0.1)
    (tmp_path / "lock").touch()
    os.utime(tmp_path / "lock", (1, 1))
    with (tmp_path / "lock").open() as asking:
        fcntl.flock(asking, fcntl.LOCK_EX)
        with pytest.raises(RunError) as refused:
            lock.take(tmp_path)
    assert f"remove {tmp_path / 'lock'}" in refused.value.hint


def test_a_holder_that_slept_learns_that_it_was_followed(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "LEASE", 0.3)
    held = lock.take(tmp_path)
    time.sleep(0.2)
    held.must_be_ours()
    (tmp_path / "new").write_text(marker())
    os.replace(tmp_path / "new", tmp_path / "lock")
    until(lambda: held.lease.compromise is not None)
    with pytest.raises(RunError, match="another process has taken over"):
        held.must_be_ours()
    held.release()
    assert os.listdir(tmp_path) == ["lock"], "what is another's is not taken away"


def test_signs_of_life_are_given(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "LEASE", 0.3)
    held = lock.take(tmp_path)
    os.utime(held.path, (1, 1))
    until(lambda: held.path.stat().st_mtime > 2)
    held.release()


@pytest.mark.parametrize("dies", ["dies", "gives back"])
def test_of_eight_that_race_one_wins(tmp_path, python, dies):
    """For a free folder, and for the place of a holder that died."""
    rounds = 5
    race = python(RACE, tmp_path, rounds, dies)
    winners, _ = race.communicate(timeout=60)
    assert winners.split() == ["1"] * rounds
    assert bool(os.listdir(tmp_path)) == (dies == "dies")


def test_of_eight_that_start_a_run_one_makes_it(tmp_path, python):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom zoo.run import Run\n"
        "print(flush=True)\nsys.stdin.readline()\n"
        "print(Run.create(Path(sys.argv[1]), {'by': sys.argv[2]}).record['by'], flush=True)"
    )
    racers = [python(f"{code}", tmp_path / "run", number) for number in range(8)]
    for racer in racers:
        said(racer)
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = [out.strip() for out in (racer.communicate(timeout=60)[0] for racer in racers)]
    won = [number for number in won if number]
    assert len(won) == 1
    assert Run.open(tmp_path / "run").record["by"] == won[0]


CHURN = """
import os, random, sys, time
from pathlib import Path
from zoo import lock
from zoo.errors import RunError

folder, deaths, parent = Path(sys.argv[1]), int(sys.argv[2]), os.getpid()
alone = folder.parent / "alone"

def work(seed):
    mine = random.Random(seed)
    while os.getppid() == parent:
        try:
            held = lock.take(folder)
        except RunError:
            time.sleep(0.003 * mine.random())
            continue
        before = alone.read_text() if alone.exists() else ""
        if before and lock.began(int(before)) not in ("", "dead"):
            os._exit(9)  # there are two of us
        alone.write_text(str(os.getpid()))
        time.sleep(0.004 * mine.random())
        if mine.random() < 0.3:
            os.kill(os.getpid(), 9)
        alone.write_text("")
        held.release()

workers, codes = set(), []
while workers or codes.count(-9) < deaths:
    while codes.count(-9) < deaths and len(workers) < 6:
        if (child := os.fork()) == 0:
            work(len(codes) + len(workers))
            os._exit(0)
        workers.add(child)
    child, status = os.wait()
    workers.discard(child)
    codes.append(os.waitstatus_to_exitcode(status))
print(codes.count(-9), codes.count(9))
"""


@pytest.mark.slow
def test_of_six_that_come_and_die_at_any_moment_one_works(tmp_path, python):
    (tmp_path / "run").mkdir()
    died, doubled = python(CHURN, tmp_path / "run", 60).communicate(timeout=600)[0].split()
    assert int(died) >= 60
    assert int(doubled) == 0
