"""The learning-rate range test: what the curve says, and that nothing is left behind."""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kit import Answer
from PIL import Image

from zoo import recipe
from zoo.cli import lr
from zoo.errors import TrainingError, UsageError
from zoo.finetune.lr_finder import (
    HIGHEST,
    LOWEST,
    STEPS,
    Point,
    diverged,
    in_steps,
    longest_fall,
    smoothed,
    suggestion,
)
from zoo.recipe import Recipe

RATES = np.geomspace(LOWEST, HIGHEST, STEPS)


def curve(loss: Callable[[float], float], noise: float = 0.0) -> list[Point]:
    random = np.random.default_rng(0)
    return [Point(rate, loss(rate) + noise * random.standard_normal()) for rate in RATES.tolist()]


def slope(rate: float) -> float:
    """2 up to 1e-4, falling to 0.5 at 1e-2 with the logarithm of the rate, rising from 1 on."""
    way = np.clip((np.log10(rate) + 4) / 2, 0, 1)
    return float(2 - 1.5 * way + max(0.0, 3 * np.log10(rate)))


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_the_valley_is_the_middle_of_the_way_down(noise: float) -> None:
    found = suggestion(curve(slope, noise))
    assert found.valley == pytest.approx(1e-3, rel=0.5)
    assert 1e-4 < found.steepest < 1e-2
    assert found.fall[0] == pytest.approx(2.5e-4, rel=0.5)
    assert found.fall[1] == pytest.approx(4e-3, rel=0.5)
    assert found.losses[0] == pytest.approx(1.7, abs=0.15)
    assert found.losses[1] == pytest.approx(0.8, abs=0.15)


def test_flat_ends_that_keep_on_falling_do_not_move_the_valley() -> None:
    """As the loss of a head on features that can be separated does, up to any rate."""
    tail = suggestion(curve(lambda rate: min(slope(rate), 2.0) - 0.004 * np.log10(rate)))
    assert tail.valley == pytest.approx(1e-3, rel=0.5)


def test_the_steepest_place_is_where_the_slope_is() -> None:
    found = suggestion(curve(lambda rate: 2 / (1 + (rate / 3e-2) ** 2)))
    assert found.steepest == pytest.approx(3e-2, rel=0.5)


def test_a_curve_that_falls_nowhere_has_no_suggestion() -> None:
    with pytest.raises(TrainingError, match="falls nowhere between the rates 1e-06 and 1e\\+01"):
        suggestion(curve(lambda rate: 2 + rate))
    with pytest.raises(TrainingError, match="after 2 steps"):
        suggestion([Point(1e-6, 2.0), Point(2e-6, 9.0)])


def test_the_smooth_curve_does_not_lag() -> None:
    straight = np.linspace(3, 1, 60)
    np.testing.assert_allclose(smoothed(list(straight))[12:-12], straight[12:-12], 1e-5)


def test_the_longest_fall() -> None:
    assert longest_fall(np.array([1.0, 5, 4, 6, 3, 7, 2, 8])) == (1, 6)
    assert longest_fall(np.array([1.0, 2, 3])) == (0, 0)


def test_divergence_is_four_times_the_least_loss_where_that_is_something() -> None:
    assert diverged(np.array([2.0, 0.5, 2.1]))
    assert not diverged(np.array([2.0, 0.5, 1.9]))
    assert not diverged(np.array([2.0, 0.001, 0.1]))


def test_a_recipe_without_steps_gets_a_solver_that_takes_them() -> None:
    recipe = Recipe(model="lenet", data="x")
    assert in_steps(recipe).optimizer == "adamw"
    assert in_steps(replace(recipe, optimizer="sgd")).optimizer == "sgd"
    for several in ({"unfreeze": "layer4@3"}, {"schedule": "head-then-all"}):
        with pytest.raises(UsageError, match="of one cut"):
            in_steps(replace(recipe, **several))


Here = Callable[..., Answer]


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory and a folder for temporary files, both empty."""
    (tmp_path / "temporary").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


LENET = ("lenet", "--weights", "none", "--no-freeze", "--views", 1, "--batch-size", 12)


def test_the_suggested_rate_is_all_that_goes_to_stdout(
    here: Here, photos: Path, empty: Path
) -> None:
    before = sorted(photos.rglob("*"))
    answer = here("lr", *LENET[:1], photos, *LENET[1:], "-o", "lr.png")
    assert answer.code == 0, answer.err
    assert 1e-5 < float(answer.out) < 1
    (step,) = [line for line in answer.err.splitlines() if line.startswith("next: ")]
    words = shlex.split(step.removeprefix("next: "))
    assert words[:4] == ["zoo", "finetune", "lenet", str(photos)]
    assert words[-2:] == ["--lr", answer.out.strip()]
    assert "--no-freeze" in words
    with Image.open("lr.png") as picture:
        assert picture.width > 500
    assert os.listdir(".") == ["lr.png"]
    assert list((empty / "temporary").iterdir()) == []
    assert sorted(photos.rglob("*")) == before
    again = here("lr", *LENET[:1], photos, *LENET[1:])
    assert again.out == answer.out
    trained = here(*words[1:], "--epochs", 15, "-o", "run")
    assert trained.code == 0, trained.err
    rows = Path("run/metrics.jsonl").read_text().splitlines()
    losses = [json.loads(row)["train_loss"] for row in rows]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.slow
def test_the_rate_that_is_suggested_learns(here: Here, photos: Path, empty: Path) -> None:
    answer = here("lr", *LENET[:1], photos, *LENET[1:], "--json", "-o", "curve.csv")
    found = json.loads(answer.out)
    words = shlex.split(found["next"])[1:]
    trained = here(*words, "--epochs", 30, "-o", "run")
    assert trained.code == 0, trained.err
    record = json.loads(Path("run/run.json").read_text())
    assert record["results"]["accuracy"] > 0.7
    with open("curve.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["lr"]) for row in rows] == [point["lr"] for point in found["curve"]]
    assert float(rows[0]["lr"]) == LOWEST
    assert found["solver"] == "adamw"


def test_a_known_network_whose_graph_was_removed_is_built_again(
    here: Here, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the budget of the cache removes graphs, and leaves what is known of their networks."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    words = ("lenet", photos, "--weights", "none")
    assert here("finetune", *words, "--epochs", 1, "-o", tmp_path / "run").code == 0
    for kept in ("engines", "features"):
        shutil.rmtree(tmp_path / "cache" / kept)
    answer = here("lr", *words, "--json")
    assert answer.code == 0, answer.err


def test_a_head_that_would_be_solved_is_tested_in_steps(
    here: Here, photos: Path, empty: Path
) -> None:
    words = ("--weights", "none", "--solver", "lbfgs", "--json")
    answer = here("lr", "lenet", photos, *words)
    assert answer.code == 0, answer.err
    assert "adamw" in answer.err
    assert "lbfgs computes a linear head at once" in answer.err
    found = json.loads(answer.out)
    assert "--solver adamw" in found["next"]
    words = shlex.split(found["next"])[1:]
    assert here(*words, "--dry-run").code == 0


def test_what_cannot_be_is_said_before_anything_is_computed(
    here: Here, photos: Path, empty: Path
) -> None:
    for output, what in (("x.jpg", "names no format"), ("no/x.png", "no folder no")):
        answer = here("lr", "lenet", photos, "-o", output)
        assert answer.code == 2
        assert what in answer.err
    Path("recipe.toml").write_text('schedule = "head-then-all"\n')
    answer = here("lr", "lenet", photos, "--recipe", "recipe.toml")
    assert answer.code == 2
    assert "of one cut" in answer.err


def test_photos_that_cannot_be_read_are_named(here: Here, photos: Path, empty: Path) -> None:
    import shutil

    mine = empty / "mine"
    shutil.copytree(photos, mine)
    (mine / "disc/broken.png").write_bytes(b"no picture")
    answer = here("lr", LENET[0], mine, *LENET[1:])
    assert answer.code == 0
    assert "1 unreadable photo is left out:" in answer.err
    assert "skipped.csv" not in answer.err


def test_the_next_step_is_typed_as_it_was_asked_for():
    """A variant is NAME=VALUE, and a setting has the flag that it is known by."""
    asked = {"model": "cnn", "data": "photos", "variant": {"kernels": "8"}, "freeze": False}
    ours = recipe.make(asked | {"optimizer": "adamw"})
    step = lr._next_step(asked | {"optimizer": "adamw"}, None, ours, ours, 0.01)
    words = "zoo finetune cnn photos --variant kernels=8 --no-freeze --solver adamw --lr 0.01"
    assert step == words
