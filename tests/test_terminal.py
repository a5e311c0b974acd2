"""What a terminal is sent: colours by meaning, and one line that says what is going on."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import threading
from collections import deque

import pytest
from kit import features, until

from zoo.cli import progress, style
from zoo.cli.console import Screen
from zoo.features.compute import Views, compute


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def about(monkeypatch):
    """An environment that says nothing of colours."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    return monkeypatch


@pytest.mark.parametrize(
    ("environment", "terminal", "piped"),
    [
        ({}, True, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": ""}, True, False),
        ({"TERM": "dumb"}, False, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": "0"}, True, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
        ({"FORCE_COLOR": "3", "TERM": "dumb"}, True, True),
    ],
)
def test_there_are_colours_where_they_are_wanted(environment, terminal, piped, about):
    for name, value in environment.items():
        about.setenv(name, value)
    assert style.coloured(Terminal()) == terminal
    assert style.coloured(io.StringIO()) == piped


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("error: it is gone", "\033[1;31merror\033[0m: it is gone"),
        ("hint: `zoo list`", "\033[36mhint\033[0m: \033[36m`zoo list`\033[0m"),
        ("warning: 3 are left out", "\033[33mwarning\033[0m: 3 are left out"),
        ("cut a; WARNING: random", "cut a; \033[33mWARNING\033[0m: random"),
        ("no error: 75.0 % of 120", "no error: 75.0 % of 120"),
    ],
)
def test_a_line_is_coloured_by_what_it_says(line, shown, about):
    assert style.told(line, Terminal()) == shown
    assert style.told(line, io.StringIO()) == line


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (("features", 640, 1720), "features 640/1,720"),
        (("features", 0, None), "features"),
        (("solving the head, step", 12, None), "solving the head, step 12"),
        (("epoch 3/8 · step 6/13", 32, 104), "epoch 3/8 · step 6/13"),
        (("download", 2_500_000, 14_000_000), "download 2.5 MB of 14 MB"),
        (("", 0, None), "working"),
    ],
)
def test_the_line_says_what_is_done_of_how_much(told, said):
    assert progress.label(*told) == said


def test_the_rate_is_of_the_last_seconds_and_of_what_was_done_in_them():
    samples = deque([(100.0, 1000), (110.0, 1170)])
    assert progress.speed("features", 1170, 1510, samples) == ("17/s", "0:20 left")
    assert progress.speed("features", 1170, None, samples) == ("17/s", "")
    assert progress.speed("features", 1170, 90_000, samples) == ("17/s", "1:27:05 left")
    assert progress.speed("features", 1000, 1510, deque([(100.0, 1000)])) == ("", "")


@pytest.mark.parametrize("width", [20, 40, 59, 60, 80, 120])
def test_the_line_never_wraps(width, about):
    about.setenv("NO_COLOR", "1")
    for words in ("features 640/1,720  17/s  0:20 left", "x" * 300):
        assert len(progress.drawn(words, 0.4, 1.0, width)) < width


def test_what_is_cached_is_in_neither_rate_nor_total(tmp_path):
    samples = features.write(tmp_path / "photos", range(30))
    cache = features.opened(tmp_path / "kept")
    features.passed(cache, tmp_path / "photos", samples[:20])
    told: list[tuple[int, int]] = []
    compute(
        cache, features.Pixels(), features.SMALL, tmp_path / "photos",
        [(sample, Views()) for sample in samples], lambda *far: told.append(far),
    )  # fmt: skip
    assert told[:20] == [(0, total) for total in range(29, 9, -1)]
    assert told[20:] == [(done, 10) for done in range(1, 11)]


# Each goes on when what it shows was seen; where nothing is to be seen, the first after a while.
WORK = """
import os, sys, time
from zoo.cli import progress
from zoo.cli.console import Screen, out, talk
shown = os.environ["TERM"] != "dumb"
with Screen() as screen:
    screen.doing("solving")
    sys.stdin.readline() if shown else time.sleep(progress.SILENT + 0.3)
    talk("half")
    for done in range(1, 8):
        screen.progress("features", done, 8)
    sys.stdin.readline() if shown else time.sleep(progress.AGAIN + 0.3)
    out("answer")
"""


def on_a_terminal(code: str, *awaited: str, **about: str) -> str:
    """Return all that a process writes to a terminal, which answers what it waits for by a line."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", **about}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE, stdout=theirs, stderr=theirs, env=environment,
    )  # fmt: skip
    os.close(theirs)
    found = bytearray()

    def read() -> None:
        try:
            while data := os.read(ours, 4096):
                found.extend(data)
        except OSError:  # as Linux says that the other end is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    assert process.stdin
    for pattern in awaited:
        until(lambda pattern=pattern: re.search(pattern, found.decode(errors="replace")))
        process.stdin.write(b"\n")
        process.stdin.flush()
    process.stdin.close()
    assert process.wait(60) == 0
    reader.join(60)
    os.close(ours)
    return found.decode()


def test_a_terminal_sees_what_goes_on_and_nothing_of_it_stays():
    waits = r"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] solving", r"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] .*━.* features \d/8"
    text = on_a_terminal(WORK, *waits)
    left = [line.rpartition("\r\033[2K")[2] for line in text.replace("\r\n", "\n").split("\n")]
    assert left == ["half", "answer", ""]
    assert "\033" not in on_a_terminal(WORK, TERM="dumb")


STOPPED = """
import os, signal, sys
from zoo.cli.console import Screen
with Screen() as screen:
    screen.doing("importing")
    os.kill(os.getpid(), signal.SIGINT)
    sys.stdin.readline()
"""


def test_a_signal_is_answered_at_once_though_the_work_goes_on():
    on_a_terminal(STOPPED, r"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] stopping · importing")


@pytest.mark.parametrize(
    ("piped", "output", "quiet"), [(1, None, 1), (1, "a.csv", 0), (0, None, 0)]
)
def test_rows_for_another_program_are_not_torn_by_the_line(
    piped, output, quiet, tmp_path, monkeypatch
):
    """What `| head` prints comes to the same terminal; what a file takes does not."""
    ours, theirs = os.pipe()
    with (
        open(ours),
        open(theirs, "w") as pipe,
        open(tmp_path / "rows", "w") as file,
        Screen() as on,
    ):
        monkeypatch.setattr(sys, "stdout", pipe if piped else file)
        on.rows_go_to(output)
        assert on.quiet == bool(quiet)
