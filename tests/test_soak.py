"""A process that fine-tunes again and again keeps its size: what one use opens, that use closes."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

import zoo
from benchmarks import soak


def test_what_a_fine_tune_opens_it_closes(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    found = []
    for number in range(3):
        settings = {"cut": "act4", "weights": "none", "views": 1, "seed": number}
        run = zoo.finetune("lenet", photos, output=tmp_path / "run", **settings)
        run.predict([sorted(photos.rglob("*.png"))[0]])
        shutil.rmtree(tmp_path / "run")
        found.append(soak.sample(os.getpid(), number, temporary))
    first, last = found[1], found[-1]  # what is opened once is open by then
    assert last.descriptors <= first.descriptors
    assert last.threads <= first.threads
    assert last.children <= first.children
    assert last.files == 0
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize("what", ["api", "cycles"])
def test_twenty_times_in_one_process_it_keeps_its_size(what: str, tmp_path: Path) -> None:
    samples = soak.judged(list(soak.repeated(what, 20, tmp_path)))
    assert soak.growth(samples) < 0.1
    for each in soak.COUNTED:
        assert soak.more(samples, each) <= 0, each
    assert samples[-1].files == 0
