"""What breaks beside zoo: kills, and photos that change.

After each of them what has a final name is whole and right, and the same command makes the rest.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from kit import encoded, picture
from kit.faults import COMMANDS, Commands, must_be_whole
from kit.warm import Warm

from zoo.cli import main
from zoo.predict.inputs import Input
from zoo.predict.predictor import open_predictor

KILLS = 20


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


# Photos that change


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
