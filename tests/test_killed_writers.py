"""kill -9 at any moment: what has a final name is whole, and the same command makes it then."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from kit import csv_rows
from kit.warm import Warm

from zoo.engine.onnx import OnnxModel
from zoo.run import Run


def whole(verb: str, path: Path) -> bool:
    """Whether a file is what the command writes to its end."""
    if verb == "predict":
        return [row["status"] for row in csv_rows(path)] == ["ok"] * 36
    return len(OnnxModel(path).classes) == 3


WORDS = {"export": ["export", "onnx", "RUN", "-o"], "predict": ["predict", "RUN", "PHOTOS", "-o"]}
NAME = {"export": "x.onnx", "predict": "x.csv"}


def killed(
    warm: Warm, words: list[str], verb: str, folder: Path, falls: int = 0, after: float = 0.0
) -> bool:
    """Whether a command was killed, at an event or after so many seconds.

    What it left is looked at: it says that it is unfinished, or is whole.
    """
    folder.mkdir()
    at = {"falls": (str(folder), falls)} if falls else {}
    pid = warm.start(*words, folder / NAME[verb], talk=folder.with_suffix(".txt"), **at)
    if not falls:
        time.sleep(after)
        os.kill(pid, signal.SIGKILL)
    code = warm.wait(pid)
    assert code in (0, -signal.SIGKILL), folder.with_suffix(".txt").read_text()
    left = {path.name for path in folder.iterdir()}
    assert all(one == NAME[verb] or one.endswith(".partial") for one in left), left
    assert NAME[verb] not in left or whole(verb, folder / NAME[verb]), (falls, after)
    return code != 0


@pytest.mark.parametrize(
    ("verb", "moments"),
    [("predict", 4), *(pytest.param(verb, 20, marks=pytest.mark.slow) for verb in WORDS)],
)
def test_killed_at_any_moment_a_file_is_absent_or_whole(
    run: Path, photos: Path, warm: Warm, tmp_path: Path, verb: str, moments: int
) -> None:
    """At each thing that is done where the file will be; then at moments by the clock."""
    mine = shutil.copytree(run, tmp_path / "run")
    words = [{"RUN": str(mine), "PHOTOS": str(photos)}.get(word, word) for word in WORDS[verb]]
    last = 1
    while killed(warm, words, verb, tmp_path / f"event{last}", last):
        Run.open(mine)  # into which an export writes what it was
        last += 1
        if last > moments:
            break
    assert last > 2, "nothing was killed"
    if moments > 4:
        began = time.monotonic()
        assert not killed(warm, words, verb, tmp_path / "whole", 10_000)
        seconds, random = time.monotonic() - began, np.random.default_rng(1)
        for number in range(moments):
            killed(warm, words, verb, tmp_path / f"{number}", after=seconds * random.random())
            Run.open(mine)
    talk = tmp_path / "talk.txt"
    again = tmp_path / "event1" / NAME[verb]
    assert warm.run(*words, again, talk=talk) == 0, talk.read_text()
    assert whole(verb, again)


@pytest.mark.parametrize("verb", [pytest.param("export", marks=pytest.mark.slow), "predict"])
def test_a_full_disk_leaves_the_old_file_and_no_part_of_a_new_one(
    run: Path, photos: Path, warm: Warm, tmp_path: Path, verb: str
) -> None:
    mine = shutil.copytree(run, tmp_path / "run")
    words = [{"RUN": str(mine), "PHOTOS": str(photos)}.get(word, word) for word in WORDS[verb]]
    (tmp_path / "out").mkdir()
    place, talk = tmp_path / "out" / NAME[verb], tmp_path / "talk.txt"
    place.write_text("old")
    assert warm.run(*words, place, "--force", talk=talk, largest=1000) == 5, talk.read_text()
    assert "cannot write" in talk.read_text()
    assert place.read_text() == "old"
    left = {path.name for path in place.parent.iterdir()}
    assert left <= {NAME[verb], "x.csv.partial"}  # the rows so far, as is said
