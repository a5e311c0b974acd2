"""What is known of a network: the plan made of it is the one that was made when it was found."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from zoo import recipe as recipes
from zoo.finetune import kept_facts
from zoo.finetune.describe import lines, record
from zoo.finetune.examine import build
from zoo.finetune.prepare import Prepared, prepare
from zoo.models.cut import cut

RECIPES: dict[str, dict[str, Any]] = {
    "frozen": {},
    "--cut": {"cut": "conv2", "epochs": 2},
    "--unfreeze": {"cut": "act4", "unfreeze": "fc1@2,conv2@3", "epochs": 3},
    "head-then-all": {"cut": "act4", "schedule": "head-then-all", "epochs": 3},
    "several labels": {"cut": "act4", "data": "labels.csv", "epochs": 2},
    "another head": {"cut": "act4", "head": "mlp:8"},
    "no freeze": {"freeze": False, "epochs": 2},
    "an autoencoder": {"model": "autoencoder", "freeze": False, "task": "reconstruct"},
}


@pytest.fixture
def prepared(tmp_path, photos, monkeypatch):
    """Prepares a recipe in a cache of this test alone."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    names = sorted(path.relative_to(photos) for path in Path(photos).rglob("*.png"))
    rows = [
        f"{photos}/{name},{name.parent}|{('odd', 'even')[n % 2]}" for n, name in enumerate(names)
    ]
    Path("labels.csv").write_text("\n".join(["path,label", *rows]) + "\n")

    def make(values: dict[str, Any]) -> Prepared:
        base = {"model": "lenet", "data": str(photos), "weights": "none"}
        base |= {"cache_budget": "1GB"} if values.get("freeze", True) else {}
        return prepare(recipes.make(base | values))

    return make


@pytest.mark.parametrize("name", RECIPES)
def test_the_first_and_the_second_run_print_the_same_plan(name, prepared):
    first, second = prepared(RECIPES[name]), prepared(RECIPES[name])
    assert first.built is not None  # nothing was known
    assert second.built is None
    assert lines(first.plan) == lines(second.plan)
    assert record(first.plan) == record(second.plan)
    for field in fields(first.plan):
        assert getattr(first.plan, field.name) == getattr(second.plan, field.name), field.name


def test_facts_tell_the_parameters_of_any_number_of_classes(prepared):
    first = prepared({"cut": "conv2"})
    for classes in (3, 10):
        _, net = build(first.plan.recipe, classes)
        trained = cut(net.chain, "conv2").trainable
        count = sum(parameter.numel() for parameter in trained.parameters())
        assert first.plan.facts.parameters(first.plan.cut, classes) == count


def test_a_known_network_is_planned_without_torch(prepared, photos):
    prepared({"cut": "conv2", "epochs": 2})
    code = f"""if True:
        import sys
        from zoo import recipe
        from zoo.finetune.prepare import prepare
        prepare(recipe.make({{"model": "lenet", "data": {str(photos)!r}, "weights": "none",
                              "cut": "conv2", "epochs": 2}}))
        assert not {{"torch", "onnx"}} & set(sys.modules), "torch was loaded"
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_damaged_record_of_facts_is_found_anew(prepared, tmp_path):
    first = prepared({"cut": "act4"})
    (kept,) = (tmp_path / "cache/known").glob("*.json")
    kept.write_text('{"row": 1}')
    second = prepared({"cut": "act4"})
    assert second.built is not None
    assert second.plan.facts == first.plan.facts
    assert kept_facts.recall(second.plan.recipe, 3) == first.plan.facts
