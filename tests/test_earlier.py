"""What an earlier zoo has written opens, and a recipe repeats its run; of a newer zoo that is said.

`fixtures/earlier` was written by zoo 0.1.0 of November 2026, in a folder with its 20 photos:

    zoo finetune xo photos --weights none --seed 0 -o run --no-report
    zoo export onnx run -o model.onnx && zoo predict run photos/val -o run.csv
    zoo export onnx run -o fp16.onnx --fp16 && zoo export onnx run -o int8.onnx --int8
    zoo plan photos/val -o job --model model.onnx --per-shard 3 && zoo work job

with ZOO_CACHE=cache, of which the features are there, with the table that finds them.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from kit import Answer, Watcher, settings, sha256, tune

from zoo import extras
from zoo.errors import Interrupted
from zoo.run import Run

FIXTURE = Path(__file__).parent / "fixtures" / "earlier"
Here = Callable[..., Answer]


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    return shutil.copytree(FIXTURE, tmp_path / "another place")


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


@pytest.mark.parametrize(
    ("model", "near"),
    [("run", 2e-6), ("model.onnx", 2e-6), ("fp16.onnx", 1e-3), ("int8.onnx", 0.1)],
)
def test_a_run_and_files_of_an_earlier_zoo_give_the_answers_of_then(
    here: Here, earlier: Path, model: str, near: float
) -> None:
    done = here("predict", earlier / model, earlier / "photos" / "val")
    assert done.code == 0, done.err
    agree(rows((earlier / "run.csv").read_text()), rows(done.out), near)


def agree(then: list[dict[str, str]], now: list[dict[str, str]], near: float) -> None:
    assert len(now) == 8
    for old, new in zip(then, now, strict=True):
        assert {**old, "probability": ""} == {**new, "probability": ""}
        assert float(new["probability"]) == pytest.approx(float(old["probability"]), abs=near)


def test_a_job_of_an_earlier_zoo_is_verified_and_merged(here: Here, earlier: Path) -> None:
    done = here("verify", earlier / "job")
    assert done.code == 0, done.err
    assert here("merge", earlier / "job", "-o", earlier / "job.csv").code == 0
    agree(rows((earlier / "run.csv").read_text()), rows((earlier / "job.csv").read_text()), 2e-6)


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


# What a run is made by, beside its data and its folder; "recipe" is that of the earlier zoo.
WAYS = {
    "the earlier recipe": ("finetune", "xo", "--recipe", "recipe"),
    "solved, of views": ("finetune", "lenet", "--weights", "none", "--cut", "act4", "--views", "3"),
    "in steps": ("finetune", "lenet", "--weights", "none", "--cut", "act2", "--epochs", "2",
                 "--augment", "trivial", "--mixup", "0.2"),
    "from random weights": ("train", "cnn", "--epochs", "2", "--batch-size", "5"),
}  # fmt: skip


@pytest.mark.parametrize(
    "way",
    [
        *("the earlier recipe", "in steps"),
        *(pytest.param(one, marks=pytest.mark.slow) for one in list(WAYS)[1::2]),
    ],
)
def test_a_recipe_repeats_a_run_to_the_bit(here: Here, earlier: Path, way: str) -> None:
    verb, model, *words = WAYS[way]
    words = [str(earlier / "run" / "recipe.toml") if word == "recipe" else word for word in words]
    once = here(verb, model, earlier / "photos", *words, "--seed", 7, "--no-report", "-o",
                earlier / "once")  # fmt: skip
    assert once.code == 0, once.err
    twice = here(verb, "--recipe", earlier / "once" / "recipe.toml", "--no-report", "-o",
                 earlier / "twice")  # fmt: skip
    assert twice.code == 0, twice.err
    first, again = (
        (sha256(earlier / name), Run.open(earlier / name).record["model_sha256"])
        for name in ("once", "twice")
    )
    assert first == again
    recipes = [(earlier / name / "recipe.toml").read_text() for name in ("once", "twice")]
    assert recipes[0] == recipes[1]


@pytest.mark.slow
def test_a_run_that_was_moved_goes_on_and_does_all_that_it_did(
    here: Here, earlier: Path, tmp_path: Path
) -> None:
    """Stopped, moved, resumed; moved again, it answers, exports and has a page."""
    chosen = settings("lenet", earlier / "photos", cut="act2", epochs=3, views=1, seed=1)
    tune(tmp_path / "whole", chosen)
    with pytest.raises(Interrupted):
        tune(tmp_path / "begun", chosen, Watcher("epoch", 2))
    moved = (tmp_path / "begun").rename(tmp_path / "a new place é")
    done = here("finetune", "--resume", moved, "--no-report")
    assert done.code == 0, done.err
    assert sha256(moved) == sha256(tmp_path / "whole")
    moved = moved.rename(tmp_path / "and another")
    answers = [here("predict", run, earlier / "photos") for run in (moved, tmp_path / "whole")]
    assert answers[0].out == answers[1].out
    assert len(rows(answers[0].out)) == 20
    for words in (("export", "onnx", moved), ("report", moved)):
        done = here(*words)
        assert done.code == 0, done.err
        assert "a new place" not in done.out + done.err
    text = (moved / "report.html").read_text()
    assert "and another" in text
    assert "begun" not in text
    assert "a new place" not in text


@pytest.mark.parametrize(
    ("said", "hint"),
    [(2, extras.update()), (0, "the version of zoo"), ("x", "the version of zoo")],
)
@pytest.mark.parametrize(
    ("file", "key", "words"),
    [("run/run.json", "format", ("predict", "run", "photos")),
     ("job/plan.json", "version", ("merge", "job", "-o", "all.csv"))],
)  # fmt: skip
def test_a_run_and_a_job_of_another_format_say_what_to_do(
    here: Here, earlier: Path, monkeypatch: pytest.MonkeyPatch, file: str, key: str,
    words: tuple[str, ...], said: object, hint: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(earlier)
    place = earlier / file
    place.write_text(json.dumps(json.loads(place.read_text()) | {key: said}))
    done = here(*words)
    assert done.code == 2
    assert f"has format {said}, expected 1" in done.err.replace("'", "")
    assert hint in done.err


@pytest.mark.parametrize(("version", "hint"), [("9.0.0", extras.update()), ("0.1.0", "zoo export")])
def test_a_file_that_is_not_understood_says_whether_a_newer_zoo_has_written_it(
    here: Here, earlier: Path, version: str, hint: str
) -> None:
    import onnx

    model = onnx.load(earlier / "model.onnx")
    about = {each.key: each.value for each in model.metadata_props}
    onnx.helper.set_model_props(model, about | {"zoo.version": version})
    onnx.save(model, earlier / "newer.onnx")
    assert here("predict", earlier / "newer.onnx", earlier / "photos").code == 0
    onnx.helper.set_model_props(model, about | {"zoo.version": version, "zoo.input": "film"})
    onnx.save(model, earlier / "newer.onnx")
    done = here("predict", earlier / "newer.onnx", earlier / "photos")
    assert done.code == 2
    assert hint in done.err
