"""What an earlier zoo has written opens: a run folder, a cache of features, an exported file.

`fixtures/earlier` was written by zoo 0.1.0 of November 2026, in a folder with its 20 photos:

    zoo finetune xo photos --weights none --seed 0 -o run --no-report
    zoo export onnx run -o model.onnx && zoo predict run photos/val -o run.csv

with ZOO_CACHE=cache, of which the features are there.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from kit import Answer

FIXTURE = Path(__file__).parent / "fixtures" / "earlier"
Here = Callable[..., Answer]


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    return shutil.copytree(FIXTURE, tmp_path / "another place")


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


@pytest.mark.parametrize("model", ["run", "model.onnx"])
def test_a_run_and_a_file_of_an_earlier_zoo_give_the_answers_of_then(
    here: Here, earlier: Path, model: str
) -> None:
    done = here("predict", earlier / model, earlier / "photos" / "val")
    assert done.code == 0, done.err
    then, now = rows((earlier / "run.csv").read_text()), rows(done.out)
    assert len(now) == 8
    for old, new in zip(then, now, strict=True):
        assert {**old, "probability": ""} == {**new, "probability": ""}
        assert float(new["probability"]) == pytest.approx(float(old["probability"]), abs=2e-6)


def test_a_run_of_an_earlier_zoo_is_exported(
    here: Here, earlier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(earlier)  # where its photos are `photos`
    done = here("export", "onnx", earlier / "run", "-o", earlier / "again.onnx")
    assert done.code == 0, done.err
    assert "same class on 8 of 8" in done.err


def test_features_that_an_earlier_zoo_has_computed_are_used(
    here: Here, earlier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = earlier / "cache" / "features"
    (folder,) = kept.iterdir()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setenv("ZOO_CACHE", str(earlier / "cache"))
    done = here("finetune", "xo", earlier / "photos", "--weights", "none", "--seed", 0,
                "--no-report", "-o", earlier / "new")  # fmt: skip
    assert done.code == 0, done.err
    for path in kept.iterdir():
        if path != folder:
            engine = json.loads((path / "about.json").read_text())["engine"]
            if engine != json.loads(before["about.json"])["engine"]:
                pytest.skip(f"features are of another engine here: {engine}")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert "none to compute, 20 from the cache" in done.err


def test_a_recipe_repeats_a_run_to_the_bit(here: Here, earlier: Path) -> None:
    """The one of an earlier zoo is a recipe as well; what it gives is this zoo's own."""
    once = here("finetune", "xo", earlier / "photos", "--recipe", earlier / "run" / "recipe.toml",
                "--no-report", "-o", earlier / "once")  # fmt: skip
    assert once.code == 0, once.err
    twice = here("finetune", "--recipe", earlier / "once" / "recipe.toml", "--no-report", "-o",
                 earlier / "twice")  # fmt: skip
    assert twice.code == 0, twice.err
    files = [(earlier / name / "model.safetensors").read_bytes() for name in ("once", "twice")]
    assert files[0] == files[1]
    recorded = [json.loads((earlier / name / "run.json").read_text())["model_sha256"]
                for name in ("once", "twice")]  # fmt: skip
    assert recorded[0] == recorded[1]


@pytest.mark.parametrize(
    ("said", "hint"),
    [(2, "pip install -U"), (0, "the version of zoo"), ("x", "the version of zoo")],
)
def test_a_run_of_another_format_says_what_to_do(
    here: Here, earlier: Path, said: object, hint: str
) -> None:
    file = earlier / "run" / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": said}))
    done = here("predict", earlier / "run", earlier / "photos")
    assert done.code == 2
    assert f"has format {said}, expected 1" in done.err.replace("'", "")
    assert hint in done.err
