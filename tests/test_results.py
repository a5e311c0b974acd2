"""The recipes' measured results: one row each, of the recipe as it stands, and their bars."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from benchmarks import readme

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.toml"))
# Accuracy on MNIST's test pictures that the recipes are to reach.
BARS = {
    "perceptron-mnist": 0.924,
    "mlp-6-distort-mnist": 0.983,
    "cnn-mnist": 0.993,
    "lenet-mnist": 0.990,
    "dannet-mnist": 0.995,
    "dannet-mnist committee of 5": 0.996,
    "rnn-mnist": 0.97,
    "lstm-mnist": 0.987,
}


def test_every_recipe_has_its_row_of_results():
    """And the row is of the recipe as it stands: one that was changed must be measured again."""
    rows = {row["recipe"]: row for row in readme.results("recipes")["rows"]}
    assert {path.stem for path in RECIPES} == {name.partition(" ")[0] for name in rows}
    for path in RECIPES:
        assert rows[path.stem]["settings"] == tomllib.loads(path.read_text()), path.name


@pytest.mark.parametrize(("recipe", "least"), BARS.items())
def test_results_meet_their_bars(recipe, least):
    rows = {row["recipe"]: row for row in readme.results("recipes")["rows"]}
    assert rows[recipe]["value"] >= least


def test_reconstructions_are_far_better_than_principal_components():
    rows = {row["recipe"]: row for row in readme.results("recipes")["rows"]}
    for name in ("autoencoder-mnist", "conv-autoencoder-mnist"):
        assert rows[name]["value"] <= 0.6 * rows[name]["pca_mse"]


@pytest.mark.slow
def test_the_lenet_of_the_package_is_the_recipes(here, shared):
    """Its accuracy on MNIST's test pictures is the one in the table."""
    answer = here("evaluate", "lenet/mnist", "--data", shared / "data/mnist", "--json")
    assert answer.code == 0, answer.err
    (result,) = json.loads(answer.out)["results"]
    rows = {row["recipe"]: row for row in readme.results("recipes")["rows"]}
    assert result["accuracy"] == pytest.approx(rows["lenet-mnist"]["value"], abs=2e-4)
