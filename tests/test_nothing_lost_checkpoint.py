"""A checkpoint that lost its end or a bit, and a disk that is full."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kit import Watcher, carried_out, settings, sha256, tune
from kit.faults import mounted, resized

from zoo.errors import Interrupted, RunError
from zoo.finetune import begin
from zoo.finetune.events import Note
from zoo.finetune.prepare import prepare
from zoo.run import Run
from zoo.train import checkpoint

NAMES = ("checkpoint.safetensors", "checkpoint-previous.safetensors")


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """A checkpoint at each step."""
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", math.inf)


@pytest.fixture(scope="module")
def chosen(photos):
    return settings("lenet", photos, freeze=False, epochs=3, batch_size=8)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, chosen):
    run = tmp_path_factory.mktemp("whole") / "run"
    tune(run, chosen)
    return sha256(run / "model.safetensors")


@pytest.fixture
def stopped(tmp_path, chosen) -> Path:
    """A run that was stopped in its second epoch, with two checkpoints."""
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        tune(run, chosen, Watcher("epoch", 6))
    assert sorted(name for name in os.listdir(run) if "checkpoint" in name) == sorted(NAMES)
    return run


def resume(run: Path, chosen) -> list[str]:
    """Finishes a run; what it had to say."""
    events = carried_out(begin.resume(prepare(chosen), Run.open(run), Watcher()))
    return [event.text for event in events if isinstance(event, Note)]


def truncated(data: bytes, random: np.random.Generator) -> bytes:
    return data[: random.integers(len(data))]


def flipped(data: bytes, random: np.random.Generator) -> bytes:
    """One bit, half of the time in the header."""
    place = int(random.integers(8 + int.from_bytes(data[:8], "little") if random.random() < 0.5
                                else len(data)))  # fmt: skip
    return data[:place] + bytes([data[place] ^ 1 << random.integers(8)]) + data[place + 1 :]


@pytest.mark.parametrize("damage", [truncated, flipped])
def test_of_a_damaged_checkpoint_the_one_before_is_taken(stopped, chosen, whole, damage):
    path, older = (stopped / name for name in NAMES)
    good, before = path.read_bytes(), older.read_bytes()
    assert good != before
    assert checkpoint.settle(path) == ""
    assert path.read_bytes() == good
    random = np.random.default_rng(18)
    for _ in range(20):
        path.write_bytes(damage(good, random))
        older.write_bytes(before)
        assert "going on from the one before it (epoch 2, after step 1)" in checkpoint.settle(path)
        assert path.read_bytes() == before
        assert not older.exists()
    path.write_bytes(damage(good, random))
    older.write_bytes(before)
    said = resume(stopped, chosen)
    assert len(said) == 1
    assert "going on from the one before it" in said[0]
    assert sha256(stopped / "model.safetensors") == whole


def test_without_any_whole_checkpoint_a_run_starts_over_and_says_so(stopped, chosen, whole):
    for name in NAMES:
        (stopped / name).write_bytes((stopped / name).read_bytes()[:-1])
    said = resume(stopped, chosen)
    assert len(said) == 1
    assert "starting over from epoch 1" in said[0]
    assert sha256(stopped / "model.safetensors") == whole
    assert [line["epoch"] for line in Run.open(stopped).metrics()] == [1, 2, 3]


def test_a_checkpoint_that_vanished_is_one_that_cannot_be_read(stopped, chosen, whole):
    (stopped / NAMES[0]).unlink()
    assert "the one before it" in resume(stopped, chosen)[0]
    assert sha256(stopped / "model.safetensors") == whole


def test_there_is_a_whole_checkpoint_at_every_moment(stopped, tmp_path):
    """Two names of one file, as a process leaves them that is killed between two renames."""
    path, older = (stopped / name for name in NAMES)
    older.unlink()
    os.link(path, older)
    new = path.read_bytes()[::-1]
    from zoo.disk import replacing

    before = path.read_bytes()
    with replacing(path, keep=older) as temporary:
        temporary.write_bytes(new)
        assert path.read_bytes() == before
    assert path.read_bytes() == new
    assert older.read_bytes() == before
    assert not [name for name in os.listdir(stopped) if name.endswith(".partial")]


def test_the_checkpoint_of_another_recipe_is_refused_in_words(stopped, chosen):
    other = replace(chosen, ema=0.9)
    with pytest.raises(RunError, match="is not of this network and recipe"):
        resume(stopped, other)


def test_checkpoints_cost_at_most_a_tenth_of_the_time(tmp_path, chosen, monkeypatch):
    """The next one waits ten times as long as the last one took."""
    saver = checkpoint.Saver(tmp_path / "c.safetensors")
    monkeypatch.setattr(checkpoint, "SHARE", 0.1)
    assert saver.due()
    saver.cost = 1000.0
    assert not saver.due()
    saver.last -= 9999
    assert not saver.due()
    saver.last -= 2
    assert saver.due()
    monkeypatch.setattr(checkpoint, "SECONDS", 20_000.0)
    assert not saver.due()


def zoo(warm, *words: object, talk: Path, largest: int | None = None) -> tuple[int, str]:
    """What a process of its own answers and says; largest: bytes of a file that it may write."""
    talk.write_text("")
    return warm.run(*words, talk=talk, largest=largest), talk.read_text()


def files(run: Path) -> dict[str, str]:
    """What is known of a checkpoint or is left of one, and its content."""
    found = [name for name in sorted(os.listdir(run)) if "checkpoint" in name or "partial" in name]
    return {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in found}


def test_a_full_disk_pauses_a_run_and_leaves_the_old_checkpoint(stopped, tmp_path, warm, whole):
    before, talk = files(stopped), tmp_path / "talk.txt"
    assert list(before) == sorted(NAMES)
    again = ["finetune", "--resume", stopped]
    code, said = zoo(warm, *again, talk=talk, largest=100_000)
    assert code == 5, said
    what, hint = said.splitlines()[-2:]
    assert "checkpoint.safetensors: File too large; epoch 2, step 2 of 4 is saved" in what
    assert f"free some space in {stopped}, then `zoo train --resume {stopped}` goes on" in hint
    assert files(stopped) == before
    assert not (stopped / "lock").exists()
    code, said = zoo(warm, *again, talk=talk)
    assert code == 0, said
    assert sha256(stopped / "model.safetensors") == whole


@pytest.mark.slow
def test_a_disk_that_is_full_at_the_end_pauses_a_short_run(tmp_path, warm, chosen, whole):
    run, recipe, talk = tmp_path / "run", tmp_path / "recipe.toml", tmp_path / "talk.txt"
    chosen.save(recipe)
    code = warm.run("finetune", "--recipe", recipe, "-o", run,
                    talk=talk, often=False, largest=100_000)  # fmt: skip
    assert code == 5, talk.read_text()
    assert "model.safetensors: File too large; no step is saved yet" in talk.read_text()
    assert files(run) == {}
    code, said = zoo(warm, "finetune", "--resume", run, talk=talk)
    assert code == 0, said
    assert sha256(run / "model.safetensors") == whole


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system with room for one checkpoint and a half."""
    with mounted(tmp_path / "disk") as place:
        resized(place, 1500 << 10)
        yield place


def test_a_disk_that_is_really_full_pauses_a_run_too(small_disk, tmp_path, warm, chosen, whole):
    run, recipe, talk = small_disk / "run", tmp_path / "recipe.toml", tmp_path / "talk.txt"
    chosen.save(recipe)
    code, said = zoo(warm, "finetune", "--recipe", recipe, "-o", run, talk=talk)
    assert code == 5, said
    assert "No space left on device; epoch 1, step 1 of 4 is saved" in said
    assert list(files(run)) == [NAMES[0]]
    assert checkpoint._damage(run / NAMES[0]) is None
    resized(small_disk, 20 << 20)
    code, said = zoo(warm, "finetune", "--resume", run, talk=talk)
    assert code == 0, said
    assert sha256(run / "model.safetensors") == whole
