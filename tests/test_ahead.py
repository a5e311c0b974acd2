"""The feature pass that runs beside the import of torch changes nothing but the time."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from kit import Watcher, carried_out, settings, sha256

from zoo import network, weights
from zoo.errors import Interrupted, UnknownStage
from zoo.finetune import begin
from zoo.finetune.events import FeaturesDone
from zoo.finetune.prepare import Prepared, prepare
from zoo.recipe import Recipe
from zoo.run import Run


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def recipe(tmp_path, photos):
    """In steps, on kept features, behind a network from a file."""
    chain = network.pretrained("lenet", "none", seed=3).chain
    file = tmp_path / "lenet.safetensors"
    weights.save(chain.state_dict(), file)
    return settings("lenet", photos, weights=str(file), cut="fc1", epochs=3, batch_size=8)


def tuned(folder: Path, recipe: Recipe) -> tuple[Prepared, FeaturesDone]:
    """As the command does it."""
    with prepare(recipe, begin=True) as made:
        events = carried_out(begin.start(made, folder, Watcher()))
    (done,) = [event for event in events if isinstance(event, FeaturesDone)]
    return made, done


def test_a_pass_that_began_early_gives_the_same_bits(tmp_path, cache, recipe):
    made, first = tuned(tmp_path / "a", recipe)
    assert made.ahead is None  # nothing is known of the network yet
    shutil.rmtree(cache / "features")
    made, second = tuned(tmp_path / "b", recipe)
    assert made.ahead is not None
    assert (second.computed, second.cached) == (first.computed, first.cached) == (36, 0)
    made, third = tuned(tmp_path / "c", recipe)
    assert (third.computed, third.cached) == (0, 36)
    assert len({sha256(tmp_path / name / "model.safetensors") for name in "abc"}) == 1


def test_a_look_that_began_early_gives_the_same_bits(tmp_path, cache, recipe):
    recipe = replace(recipe, freeze=False, cut=None, views=2)
    made, first = tuned(tmp_path / "a", recipe)
    assert made.looked is None  # nothing is known of the network yet
    made, second = tuned(tmp_path / "b", recipe)
    assert made.looked is not None
    assert not made.looked.thread.is_alive()
    assert made.looked.found is None  # it was taken
    assert (second.computed, second.cached, second.bad) == (first.computed, 0, first.bad)
    assert len({sha256(tmp_path / name / "model.safetensors") for name in "ab"}) == 1


@pytest.mark.parametrize(
    "change", [pytest.param({"views": 3}, marks=pytest.mark.slow), {"cut": "conv2", "views": 2}]
)
def test_what_else_is_needed_is_computed_by_the_job(tmp_path, cache, recipe, change):
    recipe = replace(recipe, **change)
    tuned(tmp_path / "a", recipe)
    shutil.rmtree(cache / "features")
    made, done = tuned(tmp_path / "b", recipe)
    assert made.ahead is not None
    train, val = (len(made.plan.index.of(split)) for split in ("train", "val"))
    assert done.computed == change["views"] * train + val
    assert sha256(tmp_path / "a/model.safetensors") == sha256(tmp_path / "b/model.safetensors")


def test_an_unreadable_photo_is_listed_as_ever(tmp_path, cache, recipe, photos):
    bad = shutil.copytree(photos, tmp_path / "photos")
    file = bad / "disc/00.png"
    file.write_bytes(file.read_bytes()[:-60])
    tuned(tmp_path / "a", recipe)
    recipe = replace(recipe, data=str(bad))
    made, done = tuned(tmp_path / "b", recipe)
    assert made.ahead is not None
    assert list(done.bad) == ["disc/00.png"]
    assert len(Run.open(tmp_path / "b").photos("train")) == len(made.plan.index.of("train")) - 1


def test_nothing_begins_where_nothing_is_asked_for(tmp_path, cache, recipe):
    tuned(tmp_path / "a", recipe)
    assert prepare(recipe).ahead is None
    for change in ({"augment": "light"}, {"cache_budget": "1B"}, {"engine": "torch"}):
        with prepare(replace(recipe, **change), begin=True) as made:
            assert made.ahead is None, change


def test_a_plan_that_fails_leaves_no_thread(tmp_path, cache, recipe):
    tuned(tmp_path / "a", recipe)
    with pytest.raises(UnknownStage):
        prepare(replace(recipe, unfreeze="nowhere@2"), begin=True)
    assert "zoo-ahead" not in {thread.name for thread in threading.enumerate()}


def test_a_cache_that_cannot_be_written_keeps_them_for_this_job(tmp_path, cache, recipe):
    tuned(tmp_path / "a", recipe)
    shutil.rmtree(cache / "features")
    (cache / "features").write_text("in the way")
    made, done = tuned(tmp_path / "b", recipe)
    assert made.ahead is not None
    assert made.ahead.cache.place != made.ahead.cache.folder
    assert (done.computed, done.cached) == (36, 0)
    assert sha256(tmp_path / "a/model.safetensors") == sha256(tmp_path / "b/model.safetensors")


def test_a_stopped_pass_keeps_what_it_has(tmp_path, cache, recipe):
    tuned(tmp_path / "a", recipe)
    shutil.rmtree(cache / "features")
    with prepare(recipe, begin=True) as made:
        assert made.ahead is not None
        made.ahead.stop()
    assert not made.ahead.thread.is_alive()
    _, done = tuned(tmp_path / "b", recipe)
    assert done.computed + done.cached == 36
    assert sha256(tmp_path / "a/model.safetensors") == sha256(tmp_path / "b/model.safetensors")


def test_a_signal_ends_the_pass_too(tmp_path, cache, recipe):
    tuned(tmp_path / "a", recipe)
    shutil.rmtree(cache / "features")

    made = prepare(recipe, begin=True)
    assert made.ahead is not None
    with pytest.raises(Interrupted):
        carried_out(begin.start(made, tmp_path / "b", Watcher("features", 1)))
    assert not made.ahead.thread.is_alive()
