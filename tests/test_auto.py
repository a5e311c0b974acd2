"""zoo finetune auto: several networks are tried on the photos, and one is taken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kit import Answer, Command, Watcher, names, settings, sha256, write_photos
from PIL import Image

import zoo
from zoo.finetune import auto, backbones
from zoo.finetune.limits import Limits
from zoo.finetune.rank import Ranked, Ranking

Here = Callable[..., Answer]
TWO = "mlp=none,lenet"


def record(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text())  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough photos that some of them can be tried first."""
    folder = tmp_path_factory.mktemp("many") / "photos"
    return write_photos(folder, ("disc", "stripes"), 20)


def ranking(photos: Path) -> Ranking:
    return auto.ranking_of(settings("auto", photos, weights=None), Watcher())


def test_the_choice_is_told_recorded_and_fine_tuned(
    here: Here, photos: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    answer = here("finetune", "auto", photos, "--models", TWO, "--minutes", 5, "-o", run)
    assert answer.code == 0, answer.err
    assert answer.out.strip() == str(run)
    choice = record(run)["choice"]
    assert {row["model"] for row in choice["candidates"]} == set(TWO.split(","))
    (taken,) = [row for row in choice["candidates"] if row["verdict"] == "chosen"]
    assert taken["model"] == choice["chosen"]
    assert choice["limits"] == {"minutes": 5.0}
    for row in choice["candidates"]:
        assert row["accuracy"] > 0
        assert row["photos"] == 30
        assert row["latency"] > 0
        assert row["bytes"] > 10_000
        assert row["verdict"] in answer.err
    name = choice["chosen"].partition("=")[0]
    took = f"choosing took {choice['seconds']:.1f} s"  # what the run's own seconds leave out
    assert f"chosen     {name}: {choice['why']}; {took}" in answer.err
    assert f", {record(run)['seconds']:.1f} s; " in answer.err  # the same as on the page
    assert record(run)["model"] == choice["chosen"].partition("=")[0]
    assert "lbfgs, penalty by cross-validation" in answer.err  # the minutes were for the choice
    told: list[object] = []
    models = TWO.split(",")
    ours = zoo.finetune("auto", photos, models=models, output=tmp_path / "b", on_event=told.append)
    assert record(ours.folder)["choice"]["chosen"] == choice["chosen"]
    assert {row.model for row in told if isinstance(row, Ranked)} == set(models)
    same = [sha256(folder / "model.safetensors") for folder in (run, ours.folder)]
    assert same[0] == same[1]
    again = here("finetune", "--resume", run)
    assert (again.code, record(run)["choice"]) == (0, choice)


def test_a_dry_run_says_what_would_be_tried(here: Here, photos: Path) -> None:
    answer = here("finetune", "auto", photos, "--models", TWO, "--dry-run")
    assert answer.code == 0, answer.err
    assert "2 networks would be tried: mlp=none, lenet\n" in answer.err
    assert "nothing was computed, nothing was written" in answer.err
    assert answer.out == ""


def test_without_models_those_that_are_here_are_tried(here: Here, tmp_path: Path) -> None:
    """A network that was taught digits on small grey pictures only."""
    for kind in ("one", "two"):
        (tmp_path / kind).mkdir()
        for number in range(6):
            grey = Image.new("L", (28, 28), 10 * number + 100 * (kind == "two"))
            grey.save(tmp_path / kind / f"{number}.png")
    answer = here("finetune", "auto", tmp_path, "--dry-run")
    assert answer.code == 0, answer.err
    assert "1 network would be tried: lenet\n" in answer.err


def test_no_weights_and_no_network_say_what_to_pull(
    here: Here, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = here("finetune", "auto", photos)
    assert answer.code == 2
    assert "no pretrained weights for these photos are on this machine" in answer.err
    assert "`zoo pull timm/mobilenetv4_conv_small`" in answer.err
    monkeypatch.delenv("ZOO_OFFLINE")
    assert [one.model for one in backbones.to_pull(["timm/efficientnet_b0"])] == [
        "timm/mobilenetv4_conv_small", "timm/vit_small_patch16_224",
    ]  # fmt: skip


def test_a_limit_leaves_networks_out_before_a_photo_is_looked_at(
    here: Here, photos: Path, tmp_path: Path
) -> None:
    words = ("--models", TWO, "--licence", "permissive", "-o", tmp_path / "run")
    answer = here("finetune", "auto", photos, *words)
    assert answer.code == 0, answer.err
    rows = {row["model"]: row for row in record(tmp_path / "run")["choice"]["candidates"]}
    assert rows["lenet"]["verdict"] == "chosen"
    assert rows["mlp=none"]["verdict"] == "its licence is not stated, not permissive"
    assert rows["mlp=none"]["accuracy"] is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--max-size", "1kB"], "the nearest is lenet: 244 kB, 243 kB more than --max-size"),
        (["--max-latency", "0.001ms"], "ms more than --max-latency"),
        (["--licence", "gpl"], "its licence is Apache-2.0, not gpl"),
        (["--max-size", "large"], "give a number with B, kB, MB, GB, TB, as in 20MB"),
        (["--max-latency", "10"], "give a number with ms, s, as in 10ms"),
        (["--minutes", "0.00001"], "were over before a network was tried"),
        (["--weights", "none"], "--models NAME=FILE"),
        (["--cut", "conv1"], "is of one network"),
        (["--models", "resnet5"], "did you mean"),
        (["--models", "lenet=missing.pth"], "no weights file missing.pth"),
        (["--models", "resnet18"], "none of 1 networks could be tried"),
    ],
)
def test_what_cannot_be_chosen_is_told(
    here: Here, photos: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    default = [] if "--models" in words else ["--models", "lenet"]
    answer = here("finetune", "auto", photos, *default, *words, "-o", tmp_path / "run")
    assert answer.code == 2, answer.err
    assert said in answer.err
    assert names(tmp_path) == []


@pytest.mark.parametrize("slip", ["atuo", "aut", "autom", "AUTO"])
def test_a_slip_of_it_is_told(here: Here, photos: Path, slip: str) -> None:
    done = here("finetune", slip, photos)
    assert done.code == 2
    assert f"there is no model called '{slip}'; did you mean auto?" in done.err
    assert "`zoo finetune auto PHOTOS` chooses a network" in done.err


def test_flags_of_the_choice_need_one(here: Here, photos: Path) -> None:
    answer = here("finetune", "lenet", photos, "--max-size", "20MB")
    assert answer.code == 2
    assert "`zoo finetune auto PHOTOS --max-size 20MB`" in answer.err


def test_hopeless_ones_are_dropped_after_a_few_photos(
    many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto, "_FIRST", 14)
    contest = ranking(many)
    choice = auto.choose(contest, ["mlp=none", "lenet"], Limits())
    photos = {row.model: row.photos for row in choice.rows}
    assert set(photos.values()) <= {14, len(contest.samples)}
    for row in choice.rows:
        if "dropped" in choice.verdicts[row.model]:
            assert row.photos == 14


def row(name: str, accuracy: float, macs: int, spread: float = 0.02) -> Ranked:
    folds = tuple(accuracy + spread * step for step in (-1, -0.5, 0, 0.5, 1))
    return Ranked(
        name, accuracy=accuracy, interval=spread, accuracies=folds, macs=macs, parameters=macs
    )


def test_the_cheapest_within_a_standard_error_is_taken() -> None:
    best, near, far = row("best", 0.9, 900), row("near", 0.893, 90), row("far", 0.7, 9)
    taken, why = auto._best([best, near, far])
    assert taken is near
    assert why == "0.7 points below best, within one standard error (1.0), for 10% of its MACs"
    assert auto._best([best, replace(near, accuracy=0.88), far])[0] is best


def test_an_interval_below_that_of_the_best_is_hopeless() -> None:
    rows = [row("best", 0.9, 900), row("close", 0.87, 90), row("far", 0.85, 9)]
    assert list(auto._dropped({one.model: one for one in rows})) == ["far"]


@pytest.mark.slow
@pytest.mark.parametrize("photos", ["hymenoptera", "clothing10"])
def test_the_choice_is_as_good_as_the_best_single_network(
    zoo: Command, shared: Path, tmp_path: Path, photos: str
) -> None:
    """Within one standard error of its accuracy on the val photos, with all real weights."""
    folder, weights = shared / "data" / photos, shared / "weights"
    files = {
        "timm/mobilenetv2_100": "timm-mobilenetv2_100-keras.pth",
        "torchvision/squeezenet1_1": "squeezenet1_1-caffe.pth",
        "googlenet-2014": "googlenet_bvlc.safetensors",
    }
    models = {name: f"{name}={weights / file}" for name, file in files.items()}
    done = zoo(
        "finetune", "auto", folder, "--models", ",".join(models.values()), "-o", tmp_path / "auto"
    )
    assert done.returncode == 0, done.stderr
    accuracies = []
    for name, file in files.items():
        run = tmp_path / name.replace("/", "-")
        done = zoo("finetune", name, folder, "--weights", weights / file, "-o", run)
        assert done.returncode == 0, done.stderr
        accuracies.append(record(run)["results"]["accuracy"])
        shutil.rmtree(run / "repeats", ignore_errors=True)
    found, best = record(tmp_path / "auto"), max(accuracies)
    error = (best * (1 - best) / found["data"]["val"]) ** 0.5
    assert found["results"]["accuracy"] >= best - error
