"""zoo rank: what every backbone makes of the user's photos."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kit import Answer, Command, write_photos
from PIL import Image

import zoo
from zoo.finetune import backbones
from zoo.finetune.rank import Ranked, in_order

Here = Callable[..., Answer]
NONE = "lenet=none,rnn=none"


def ranked(here: Here, *words: object) -> dict[str, Any]:
    answer = here("rank", *words, "--json")
    assert answer.code == 0, answer.err
    return json.loads(answer.out)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def copied(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos with two among them that are none."""
    folder = tmp_path_factory.mktemp("broken") / "photos"
    shutil.copytree(photos, folder)
    (folder / "disc" / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (folder / "square" / "empty.png").touch()
    shutil.copytree(photos / "disc", folder / "disc" / "@eaDir")
    return folder


def test_rows_are_sorted_and_complete(here: Here, photos: Path, tmp_path: Path) -> None:
    table = tmp_path / "rank.csv"
    found = ranked(here, photos, "--models", f"{NONE},lenet", "-o", table)
    rows = found["models"]
    accuracies = [row["accuracy"] for row in rows]
    assert accuracies == sorted(accuracies, reverse=True)
    assert {row["model"] for row in rows} == {"lenet=none", "rnn=none", "lenet"}
    assert found["photos"] == 30  # of 36: what a fine-tune puts aside for val is not touched
    for row in rows:
        assert row["photos"] == 30
        assert row["accuracy"] == pytest.approx(sum(row["accuracies"]) / 5)
        assert len(row["accuracies"]) == len(row["penalties"]) == 5
        assert row["nested"]
        assert row["ms"] > 0
        assert row["error"] == ""
    (shipped,) = [row for row in rows if row["model"] == "lenet"]
    assert (shipped["weights"], shipped["licence"]) == ("mnist", "Apache-2.0")
    assert shipped["parameters"] == 61_706 - 10 * 85 + 3 * 85
    with table.open(newline="") as file:
        kept = list(csv.DictReader(file))
    assert [row["model"] for row in kept] == [row["model"] for row in rows]
    assert [float(row["accuracy"]) for row in kept] == accuracies
    assert [float(one) for one in kept[0]["accuracies"].split()] == pytest.approx(
        rows[0]["accuracies"], abs=1e-5
    )


def test_a_second_time_says_the_same_from_kept_features(here: Here, photos: Path) -> None:
    words = (here, photos, "--models", "lenet=none", "--folds", 2, "--seed")
    first, again, other = (ranked(*words, seed) for seed in (3, 3, 4))
    same = ("accuracies", "penalties", "features", "parameters")
    assert [first["models"][0][name] for name in same] == [
        again["models"][0][name] for name in same
    ]
    assert again["models"][0]["ms"] > 0
    assert other["seed"] == 4
    timed = [[one["models"][0][name] for name in ("ms", "measured")] for one in (first, again)]
    assert timed[0] == timed[1]  # nothing is computed, and so nothing timed


def test_a_fine_tune_finds_the_features_kept(here: Here, tmp_path: Path) -> None:
    """Of its training photos; only those of val are left to compute."""
    photos = write_photos(tmp_path / "photos", each=10)
    ranked(here, photos, "--models", "lstm=none", "--folds", 2)
    words = ("finetune", "lstm", photos, "--weights", "none", "--freeze", "-o", tmp_path / "run")
    answer = here(*words)
    assert answer.code == 0, answer.err
    assert "6 computed" in answer.err
    assert "24 from the cache" in answer.err


def test_photos_that_cannot_be_read_are_left_out_for_all_and_listed(
    here: Here, copied: Path
) -> None:
    found = ranked(here, copied, "--models", NONE, "--folds", 2)
    assert set(found["left_out"]) <= {"disc/broken.jpg", "square/empty.png"}
    assert found["left_out"]
    assert len({row["photos"] for row in found["models"]}) == 1
    answer = here("rank", copied, "--models", "rnn=none", "--folds", 2)
    assert answer.code == 0
    for path in found["left_out"]:
        assert path in answer.err
    assert "photos: 1 (a folder that a system makes): disc/@eaDir\n" in answer.err


def test_a_backbone_that_fails_is_a_row_and_the_others_go_on(here: Here, photos: Path) -> None:
    found = ranked(here, photos, "--models", "resnet18,lenet=none,mlp=missing.pth", "--folds", 2)
    assert found["models"][0]["model"] == "lenet=none"
    assert [bool(row["error"]) for row in found["models"]] == [False, True, True]
    answer = here("rank", photos, "--models", "resnet18")
    assert answer.code == 1
    assert "resnet18" in answer.out
    assert "error" in answer.out
    assert "not found" in answer.err


def test_a_run_counts_unless_these_photos_have_taught_it(
    here: Here, photos: Path, run: Path, tmp_path: Path
) -> None:
    found = ranked(here, photos, "--models", f"{run},lenet=none", "--folds", 3)
    rows = {row["model"]: row for row in found["models"]}
    assert rows[str(run)]["note"] == "was trained on these photos"
    assert not rows[str(run)]["best"]
    assert rows[str(run)]["accuracy"] > 0.9
    assert rows["lenet=none"]["best"]
    elsewhere = write_photos(tmp_path / "others", each=5)
    (row,) = ranked(here, elsewhere, "--models", run, "--folds", 2)["models"]
    assert row["note"] == ""
    assert row["best"]


def test_views_of_a_photo_train_and_one_of_them_is_tested(here: Here, photos: Path) -> None:
    (row,) = ranked(here, photos, "--models", "lenet=none", "--views", 3, "--folds", 2)["models"]
    assert row["photos"] == 30
    assert row["error"] == ""


def test_without_models_those_whose_weights_are_here_are_taken(here: Here, tmp_path: Path) -> None:
    for kind in ("one", "two"):
        (tmp_path / kind).mkdir()
        for number in range(6):
            grey = Image.new("L", (28, 28), 10 * number + 100 * (kind == "two"))
            grey.save(tmp_path / kind / f"{number}.png")
    answer = here("rank", tmp_path, "--folds", 2)
    assert answer.code == 0, answer.err
    rows = answer.out.splitlines()
    assert rows[1].startswith("lenet ")  # the one that comes with the package
    assert len(rows) == 2
    assert "not tried" not in answer.err
    assert "zoo pull" in answer.err
    assert "--models all" in answer.err
    assert "2-fold cross-validation on 10 photos" in answer.err


def test_what_knows_grey_digits_is_not_tried_on_colours_unless_it_is_named(
    here: Here, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = here("rank", photos)
    assert (answer.code, answer.out) == (2, "")
    assert "no pretrained weights for these photos are on this machine" in answer.err
    assert "`zoo pull timm/mobilenetv4_conv_small`" in answer.err
    assert "--models lenet tries what knows grey pictures" in answer.err
    with pytest.raises(zoo.ZooError, match="no pretrained weights for these photos"):
        zoo.rank(photos)
    for name in ("timm--resnet18.a1_in1k.safetensors", "timm--resnet18.a2_in1k.safetensors"):
        (tmp_path / name).touch()
    (tmp_path / "squeezenet1_1-b8a52dc0.pth").touch()
    monkeypatch.setenv("ZOO_WEIGHTS", str(tmp_path))  # `zoo list` has them as here, too
    assert backbones.here() == [
        "lenet", "torchvision/squeezenet1_1", "timm/resnet18", "timm/resnet18.a2_in1k"
    ]  # fmt: skip
    assert [row.model for row in zoo.rank(photos, ["lenet"], folds=2)] == ["lenet"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--models", "resnet5"], "did you mean"),
        (["--models", ","], "names no model"),
        (["-o", "out.xlsx"], "as in out.csv"),
        (["-o", "nowhere/out.csv"], "no folder"),
        (["--folds", "1"], "--folds"),
    ],
)
def test_bad_words_are_told_at_once(here: Here, photos: Path, words: list[str], said: str) -> None:
    answer = here("rank", photos, *words)
    assert answer.code == 2
    assert said in answer.err
    assert answer.out == ""


def test_classes_of_one_photo_cannot_be_tested(here: Here, tmp_path: Path) -> None:
    answer = here("rank", write_photos(tmp_path / "few", each=2), "--models", NONE)
    assert answer.code == 2
    assert "two photos" in answer.err


def test_best_is_what_nobody_beats_in_both() -> None:
    row = Ranked("a", accuracy=0.9, ms=10.0)
    rows = in_order(
        [
            row,
            replace(row, model="slower", ms=20.0),
            replace(row, model="worse", accuracy=0.8),
            replace(row, model="twin"),
            replace(row, model="fast", accuracy=0.5, ms=1.0),
            replace(row, model="top", accuracy=0.95, ms=90.0),
            replace(row, model="cheat", accuracy=1.0, ms=0.1, note="was trained on these photos"),
            Ranked("broken", error="no weights"),
        ]
    )
    assert [row.model for row in rows] == [
        "cheat", "top", "a", "twin", "slower", "worse", "fast", "broken",
    ]  # fmt: skip
    assert [row.model for row in rows if row.best] == ["top", "a", "twin", "fast"]


@pytest.mark.slow
def test_a_real_backbone_on_real_photos(zoo: Command, shared: Path, tmp_path: Path) -> None:
    """Ants and bees, in a process of its own: learnt from ImageNet they are told apart."""
    for kind in ("ants", "bees"):
        (tmp_path / "some" / kind).mkdir(parents=True)
        for path in sorted((shared / "data" / "hymenoptera" / "train" / kind).glob("*.jpg"))[:15]:
            shutil.copy(path, tmp_path / "some" / kind)
    googlenet = f"googlenet-2014={shared / 'weights' / 'googlenet_bvlc.safetensors'}"
    done = zoo("rank", tmp_path / "some", "--models", f"rnn=none,{googlenet}", "--json")
    assert done.returncode == 0, done.stderr
    best, other = json.loads(done.stdout)["models"]
    assert (best["model"], best["weights"]) == (googlenet, "googlenet_bvlc.safetensors")
    assert best["accuracy"] > 0.8 > other["accuracy"]
    assert best["best"]
    assert best["features"] == 1024
