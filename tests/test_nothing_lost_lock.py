"""Two runs into one folder. One process works in it, and the other is told which one."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from kit import ROOT

from zoo import lock
from zoo.errors import RunError
from zoo.run import Run

HOLD = """
import sys
from pathlib import Path
from zoo import lock
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
for number in range(rounds):
    begin, children = time.monotonic() + 0.02, []
    ends, starts = os.pipe()
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
            os.read(ends, 1)  # nobody gives it back before all have tried
            if code and not dies:
                held.release()
            os._exit(code)
        children.append(child)
    time.sleep(0.3)
    os.close(starts)
    os.close(ends)
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
    assert time.monotonic() - began < 1
    assert refused.value.exit_code == 2
    holder.communicate(timeout=30)
    assert os.listdir(tmp_path) == []
    lock.take(tmp_path).release()
    assert os.listdir(tmp_path) == []


def test_a_dead_holder_is_followed_and_its_death_is_told(tmp_path, python):
    """Dead and buried, dead and not yet buried, dead twice over: the chain is followed."""
    for number in range(3):
        holder = python(HOLD, tmp_path)
        before = said(holder)
        assert ("was killed, perhaps for want of memory" in before) == (number > 0)
        holder.kill()
        if number != 1:
            holder.wait()
    held = lock.take(tmp_path)
    assert f"pid {holder.pid}" in held.died
    assert len(os.listdir(tmp_path)) == 4
    with pytest.raises(RunError, match=f"pid {os.getpid()}"):
        lock.take(tmp_path)
    held.release()
    assert os.listdir(tmp_path) == []


def test_another_process_with_the_number_of_a_dead_one_is_not_the_holder(tmp_path):
    lock.take(tmp_path)
    words = json.loads((tmp_path / "lock").read_text())
    (tmp_path / "lock").write_text(json.dumps(words | {"began": "1"}))
    held = lock.take(tmp_path)
    assert f"pid {os.getpid()}" in held.died
    held.release()


def test_the_lease_of_another_host_runs_out(tmp_path):
    """Also of a file without words, as a power failure leaves it."""
    for words in (json.dumps({"pid": 7, "host": "far", "system": "x", "began": "1", "token": "t"}),
                  ""):  # fmt: skip
        (tmp_path / "lock").write_text(words)
        with pytest.raises(RunError, match="gave a sign of life"):
            lock.take(tmp_path)
        assert os.listdir(tmp_path) == ["lock"]
        os.utime(tmp_path / "lock", (time.time() - 61, time.time() - 61))
        held = lock.take(tmp_path)
        assert "no sign of life for 61 s" in held.died
        held.release()
        assert os.listdir(tmp_path) == []


def test_a_holder_that_slept_learns_that_it_was_followed(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "TOUCH", 0.05)
    held = lock.take(tmp_path)
    time.sleep(0.2)
    held.must_be_ours()
    (tmp_path / f"lock.{held.holder.token}").write_text(
        json.dumps({"pid": 7, "host": "far", "system": "x", "began": "1", "token": "t"})
    )
    deadline = time.monotonic() + 10
    while not held.lost and time.monotonic() < deadline:
        time.sleep(0.02)
    with pytest.raises(RunError, match="another process has taken over"):
        held.must_be_ours()
    held.release()
    assert len(os.listdir(tmp_path)) == 2, "what is another's is not taken away"


def test_signs_of_life_are_given(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "TOUCH", 0.05)
    held = lock.take(tmp_path)
    os.utime(held.path, (1, 1))
    deadline = time.monotonic() + 10
    while held.path.stat().st_mtime < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert held.path.stat().st_mtime > 2
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

folder, until = Path(sys.argv[1]), time.monotonic() + float(sys.argv[2])
alone = folder.parent / "alone"

def work(seed):
    mine = random.Random(seed)
    while time.monotonic() < until:
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
while time.monotonic() < until or workers:
    while time.monotonic() < until and len(workers) < 6:
        if (child := os.fork()) == 0:
            work(len(codes))
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
    died, doubled = python(CHURN, tmp_path / "run", 20).communicate(timeout=60)[0].split()
    assert int(died) > 50
    assert int(doubled) == 0
