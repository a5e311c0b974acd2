"""zoo sweep: every combination once, errors first, interrupted without loss, compared fairly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from kit import Watcher, settings, tune

from zoo import weights
from zoo.errors import Interrupted, RecipeError, RunError, UsageError
from zoo.finetune import sweep as sweeps
from zoo.finetune.sweep import Row, as_good, best_of, grid, recipes_of, sweep
from zoo.run import Run


@pytest.fixture(scope="module")
def start(tmp_path_factory, photos) -> Path:
    """A run of LeNet to start from, which knows little."""
    run = tmp_path_factory.mktemp("start") / "lenet"
    tune(run, settings("lenet", photos, freeze=False, epochs=2, views=1, lr=0.002, batch_size=8))
    return run


def base(photos: Path, start: Path, **more: object) -> dict[str, object]:
    return {"model": "lenet", "data": str(photos), "weights": str(start), "cut": "act4", **more}


def carried_out(settings: dict[str, object], words: list[str], folder: Path) -> list[Row]:
    return list(sweep(recipes_of(settings, None, words), grid(words), folder, Watcher()))


# What is asked for.


def test_a_grid_is_every_combination_in_order():
    assert grid(["lr=0.1,1", "head=linear,mlp:8"]) == [
        {"lr": 0.1, "head": "linear"},
        {"lr": 0.1, "head": "mlp:8"},
        {"lr": 1, "head": "linear"},
        {"lr": 1, "head": "mlp:8"},
    ]
    assert grid(["batch-size=8,16", "flip=true,false", "epochs=3"]) == [
        {"batch_size": size, "flip": flip, "epochs": 3}
        for size in (8, 16)
        for flip in (True, False)
    ]
    assert grid(["lr=1,2,1"]) == [{"lr": 1}, {"lr": 2}]


@pytest.mark.parametrize(
    ("words", "what", "hint"),
    [
        (["lr=0.1"], "1 combination to sweep over", "commas between them"),
        (["lr"], "'lr' is no setting", "NAME=VALUE,VALUE"),
        (["lr="], "'lr=' is no setting", "NAME=VALUE,VALUE"),
        (["=3"], "unknown setting ''", "--help"),
        (["weightdecay=1,2"], "unknown setting 'weightdecay'", "did you mean"),
        (["lr=1,2", "lr=3"], "'lr' is given twice", "together: lr="),
        (["data=a,b"], "'data' is of the whole sweep", "second word"),
        (["folds=2,3"], "'folds' is of the whole sweep", "--folds"),
        (["seeds=2,3"], "'seeds' is of the whole sweep", "--folds"),
        (["seed=" + ",".join(map(str, range(1001)))], "1,001 combinations", "at most 1,000"),
        (["lr=1,0"], "lr=0: lr = 0", "--help"),
        (["lr=1,fast"], "lr=fast: lr = 'fast'", "--help"),
        (["momentum=0.5,0.9"], "momentum=0.5: momentum = 0.5 would do nothing", "leave it out"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(here, tmp_path, photos, words, what, hint):
    answer = here("sweep", "lenet", photos, *words, "-o", tmp_path / "sweep")
    assert answer.code == 2, answer.err
    error, advice = answer.err.splitlines()[-2:]
    assert error.startswith("error: ")
    assert what in error
    assert advice.startswith("hint: ")
    assert hint in advice
    assert answer.out == ""
    assert not (tmp_path / "sweep").exists()


def test_a_wrong_combination_at_the_end_is_found_at_the_start(photos, start):
    with pytest.raises(RecipeError, match="head=mlp:0 lr=1"):
        recipes_of(base(photos, start), None, ["head=linear,mlp:8,mlp:0", "lr=1"])


# What comes of it.


def test_the_table_has_a_row_for_each_and_names_the_best(here, tmp_path, photos, start):
    words = ("sweep", "lenet", photos, "--weights", start, "penalty=100,0.01", "cut=act4")
    answer = here(*words, "--folds", 3, "-o", tmp_path / "sweep")
    assert answer.code == 0, answer.err
    assert "2 combinations, 3 folds each" in answer.err
    header, *rows = answer.out.splitlines()
    assert header.split() == ["penalty", "cut", "accuracy", "±", "error", "val", "time", "run"]
    assert len(rows) == 2
    assert rows[0].endswith("  best")
    means = {}
    for number, penalty in (("001", 100.0), ("002", 0.01)):
        run = Run.open(tmp_path / "sweep" / number).finished()
        assert f"penalty = {penalty}" in (run.folder / "recipe.toml").read_text()
        means[number] = run.record["evidence"]["folds"]["mean"]
    best = tmp_path / "sweep" / max(means, key=lambda number: means[number])
    assert str(best) in rows[0]
    assert f"`zoo predict {best} FOLDER`" in answer.err
    picture = next(photos.rglob("*.png"))
    assert here("predict", best, picture).code == 0


def test_json_is_the_rows(here, tmp_path, photos, start):
    words = ("sweep", "lenet", photos, "--weights", start, "penalty=1,0.1", "cut=act4", "--json")
    answer = here(*words, "--folds", 4, "-o", tmp_path / "sweep")
    assert answer.code == 0, answer.err
    rows = json.loads(answer.out)
    assert [row["settings"] for row in rows] == [
        {"penalty": 1, "cut": "act4"}, {"penalty": 0.1, "cut": "act4"},
    ]  # fmt: skip
    for row in rows:
        record = Run.open(Path(row["run"])).record
        folds = record["evidence"]["folds"]["accuracy"]
        assert row["accuracy"] == pytest.approx(np.mean(folds))
        assert row["error_of_mean"] == pytest.approx(np.std(folds, ddof=1) / 2)
        assert row["val_accuracy"] == record["results"]["accuracy"]
        assert row["error"] == ""
    assert sum(row["best"] for row in rows) == 1


def test_without_folds_the_val_photos_compare(here, tmp_path, photos, start):
    words = ("sweep", "lenet", photos, "--weights", start, "seed=1,2", "cut=act4", "--json")
    answer = here(*words, "--folds", 1, "-o", tmp_path / "sweep")
    assert answer.code == 0, answer.err
    for row in json.loads(answer.out):
        assert row["accuracy"] == row["val_accuracy"]
        assert row["error_of_mean"] is None
    assert "folds" not in answer.err


def test_one_that_cannot_be_trained_is_a_row_with_its_error(here, tmp_path, photos, start):
    words = ("sweep", "lenet", photos, "--weights", start, "cut=act4,act9,fc2", "--folds", 1)
    answer = here(*words, "-o", tmp_path / "sweep")
    assert answer.code == 0, answer.err
    assert "2 of 3  cut=act9: there is no stage 'act9'" in answer.err
    assert answer.err.count("photos: 30 train, 6 val; 3 classes; val is drawn by the seed, ") == 1
    first, *failed = answer.out.splitlines()[1:]
    assert first.startswith("act4")
    assert first.endswith("best")
    assert [line.split()[0] for line in failed] == ["act9", "fc2"]
    assert "leaves nothing to train" in failed[1]
    assert sorted(path.name for path in (tmp_path / "sweep").iterdir()) == ["001"]


def test_where_none_can_be_trained_the_sweep_has_failed(here, tmp_path, photos, start):
    words = ("sweep", "lenet", photos, "--weights", start, "cut=act8,act9")
    answer = here(*words, "-o", tmp_path / "sweep")
    assert answer.code == 1
    assert "error: none of the 2 combinations was trained: there is no stage 'act8'" in answer.err
    assert "hint: " in answer.err


def test_features_that_combinations_share_are_computed_once(tmp_path, photos, start, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    carried_out(base(photos, start), ["penalty=1,0.1", "label_smoothing=0,0.1"], tmp_path / "sweep")
    files = (weights.cache_folder() / "features").rglob("*.keys.npy")
    assert sum(len(np.load(path)) for path in files) == 36


# Again.


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("what", "after"),
    [("epoch", 3), pytest.param("epoch", 60, marks=SLOW), pytest.param("features", 50, marks=SLOW)],
)
def test_an_interrupted_sweep_goes_on_to_the_same_numbers(tmp_path, photos, start, what, after):
    words = ["lr=0.01,0.1", "label_smoothing=0.0,0.1"]
    asked = base(photos, start, folds=2, epochs=2, batch_size=8, cut="act3")
    whole = carried_out(asked, words, tmp_path / "whole")
    found, chosen, folder = recipes_of(asked, None, words), grid(words), tmp_path / "sweep"
    with pytest.raises(Interrupted) as stopped:
        list(sweep(found, chosen, folder, Watcher(what, after)))
    assert stopped.value.what.startswith("lr=0.")
    assert stopped.value.hint == "the same command again goes on"
    kept = sorted(folder.glob("*/model.safetensors"))
    before = [path.stat().st_mtime_ns for path in kept]
    again = list(sweep(found, chosen, folder, Watcher()))
    assert [(row.settings, row.accuracy, row.val_accuracy) for row in again] == [
        (row.settings, row.accuracy, row.val_accuracy) for row in whole
    ]
    done = [path for path in kept if path.parent != kept[-1].parent]
    assert [path.stat().st_mtime_ns for path in done] == before[: len(done)]


def test_the_same_command_again_trains_nothing(here, tmp_path, photos, start, monkeypatch):
    """With paths as they were typed, from where they were typed."""
    monkeypatch.chdir(photos.parent)
    words = ("sweep", "lenet", photos.name, "--weights", start, "penalty=1,0.1", "cut=act4")
    first = here(*words, "--folds", 1, "-o", tmp_path / "sweep")
    assert first.code == 0, first.err
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "sweep").rglob("*.*")}
    again = here(*words, "--folds", 1, "-o", tmp_path / "sweep")
    assert again.code == 0, again.err
    assert again.out == first.out
    assert {path: path.stat().st_mtime_ns for path in files} == files


@pytest.mark.parametrize("other", ["settings", "photos", "weights"])
def test_the_folder_of_another_sweep_is_refused(tmp_path, photos, start, other):
    """Its runs would be taken for answers to a question that nobody asked them."""
    words = ["penalty=1,0.1"]
    carried_out(base(photos, start), words, tmp_path / "sweep")
    data, chosen = photos, start
    if other == "settings":
        words = ["penalty=1,0.2"]
    elif other == "photos":
        data = tmp_path / "copy"
        shutil.copytree(photos, data)
    else:
        chosen = tmp_path / "start"
        shutil.copytree(start, chosen)
    with pytest.raises(RunError, match="is of another sweep"):
        carried_out(base(data, chosen), words, tmp_path / "sweep")


def test_the_best_and_those_as_good():
    def row(accuracy: float | None, error: float | None = 0.02) -> Row:
        return Row({}, Path(), accuracy, error, accuracy, 1.0)

    rows = [row(None), row(0.90), row(0.95), row(0.93), row(0.92999), row(0.95)]
    best = best_of(rows)
    assert best is rows[2]
    assert [as_good(each, best) for each in rows] == [False, False, True, True, False, True]
    assert best_of([row(None)]) is None
    assert not as_good(row(0.94), row(0.95, None))
    with pytest.raises(UsageError, match="no setting to sweep over"):
        grid([])


def test_every_value_is_what_toml_would_have():
    texts = ("true", "false", "3", "3.0", "1e-3", "mlp:8", "layer4@2")
    values = [sweeps.value(text) for text in texts]
    assert values == [True, False, 3, 3.0, 0.001, "mlp:8", "layer4@2"]
    assert [type(value) for value in values[:4]] == [bool, bool, int, float]
