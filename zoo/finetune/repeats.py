"""Evidence: the same training again with other seeds, or on other folds of the photos.

One number on a hundred photos says little of which of two settings is better. Each repetition is a
run folder of its own in RUN/repeats, so that an interrupted one goes on where it was; the features
are those of the first training.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import device, records
from zoo.data.folds import folds_of
from zoo.data.index import DatasetIndex
from zoo.errors import ZooError
from zoo.finetune.asked import index_of
from zoo.finetune.choices import COMPUTED, balancing
from zoo.finetune.describe import record
from zoo.finetune.events import Evidence, Note
from zoo.finetune.inputs import Inputs
from zoo.finetune.prepare import Prepared, now, prepare
from zoo.metrics import Array
from zoo.run import DISTANCE, Run
from zoo.train import losses

if TYPE_CHECKING:
    import torch

CarryOut = Callable[[Prepared, Run], object]
State = dict[str, "torch.Tensor"]
Results = dict[str, float]


def initial(prepared: Prepared) -> State:
    """Return what the chain is before it is trained; nothing where nobody asks for it again."""
    recipe = prepared.plan.recipe
    if prepared.plan.solved_only or (recipe.seeds == 1 and recipe.folds is None):
        return {}
    return copy.deepcopy(prepared.network().chain.state_dict())


def run(inputs: Inputs, before: State, carry_out: CarryOut) -> tuple[Evidence, ...]:
    """Return the evidence that the recipe asks for; tell a line of each repetition.

    before: the chain's first state. All repetitions train the one chain: each is planned when the
    one before it is over. carry_out: does what a plan says in a run folder.
    """
    recipe, found = inputs.plan.recipe, []
    if recipe.seeds > 1:
        others = (_seeded(inputs, before, number) for number in range(1, recipe.seeds))
        results = [_trained(inputs, name, each, carry_out) for name, each in others]
        found.append(_evidence("seeds", [inputs.run.record["results"], *results]))
    if recipe.folds:
        numbers = folds_of(inputs.index.without_test(), inputs.digests, recipe.folds, recipe.seed)
        plans = (_folded(inputs, before, numbers, fold) for fold in range(recipe.folds))
        results = [_trained(inputs, name, each, carry_out) for name, each in plans]
        found.append(_evidence("folds", results))
    return tuple(found)


def _evidence(kind: str, results: list[Results]) -> Evidence:
    accuracy, precision = (
        tuple(result[name] for result in results if name in result) for name in ("accuracy", "map")
    )
    f1 = tuple(result["macro_f1"] for result in results)
    return Evidence(kind, accuracy, precision, f1, *interval([*accuracy, *precision]))


def interval(values: list[float]) -> tuple[float, float, float, float]:
    """Return mean, standard deviation, and the ends of the 95 % interval of the mean, in 0 to 1."""
    from scipy.stats import t

    count, mean = len(values), float(np.mean(values))
    deviation = float(np.std(values, ddof=1))
    half = float(t.ppf(0.975, count - 1)) * deviation / math.sqrt(count)
    return mean, deviation, max(0.0, mean - half), min(1.0, mean + half)


def _trained(inputs: Inputs, name: str, prepared: Prepared, carry_out: CarryOut) -> Results:
    """Return the results of a repetition, which is carried out in its folder or is there."""
    folder = inputs.run.path("repeats") / name
    there = (folder / "run.json").exists()
    run = Run.open(folder) if there else Run.create(folder, record(prepared.plan))
    if run.record["status"] != "finished":
        try:
            carry_out(prepared, run)
        except ZooError as error:  # it is the whole that can be resumed
            error.what = f"{name}: {error.what}"
            error.resume = error.resume and inputs.run.resume
            raise
    for file in ("model.safetensors", DISTANCE):  # the numbers are what it was for
        run.path(file).unlink(missing_ok=True)
    run.check(records.fields({"results": records.fields({}, ("macro_f1",))}), ("results",))
    results: Results = dict(run.record["results"])
    what, value = ("mAP", results["map"]) if "map" in results else ("accuracy", results["accuracy"])
    inputs.watch.tell(Note(f"{name}: {what} {100 * value:.1f} %"))
    return results


def _seeded(inputs: Inputs, before: State, number: int) -> tuple[str, Prepared]:
    """Plan another seed: another order, another head, and another split where there is none."""
    plan = inputs.plan
    seed = plan.recipe.seed + number
    index = index_of(replace(plan.recipe, seed=seed), plan.index.source)
    return f"seed-{seed}", _again(inputs.prepared, before, index, seed=seed)


def _folded(inputs: Inputs, before: State, numbers: Array, fold: int) -> tuple[str, Prepared]:
    """Plan a training with one fold for validation; no epoch is chosen on it."""
    samples = tuple(
        replace(sample, split="val" if number == fold else "train")
        for sample, number in zip(inputs.index.without_test().samples, numbers, strict=True)
    )
    found = _again(inputs.prepared, before, replace(inputs.index, samples=samples))
    if not found.plan.solved_only:
        found.plan = replace(found.plan, best="last")
    return f"fold-{fold + 1}", found


def _again(
    prepared: Prepared, before: State, index: DatasetIndex, seed: int | None = None
) -> Prepared:
    """Return the plan for other photos or another seed, with the chain as it was before training.

    Without the test part, which is measured on once.
    """
    plan, index = prepared.plan, index.without_test()
    seed = plan.recipe.seed if seed is None else seed
    once: dict[str, Any] = {"seeds": 1, "folds": None, "log": None}
    if plan.solver != COMPUTED:
        once["optimizer"] = plan.solver
    recipe = replace(plan.recipe, **once, seed=seed)
    if plan.fresh is None:  # random from the first layer on: another seed is another network
        twin = prepare(recipe)
        twin.settle()
        kind, weights, _ = balancing(recipe, index)
        chosen = replace(twin.plan, index=index, balance=kind, class_weights=weights)
        return replace(twin, plan=replace(chosen, view_seed=plan.view_seed))
    kind, weights, _ = balancing(recipe, index)
    if not plan.solved_only:
        from torch import nn

        chain = prepared.network().chain
        chain.load_state_dict(before)
        device.seed_all("head", seed)
        for layer in chain.get_submodule(plan.facts.head).modules():
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
        if recipe.task == "multilabel":
            losses.begin(chain, plan.facts.head, index, weights)
    plan = replace(plan, recipe=recipe, index=index, balance=kind, class_weights=weights)
    return replace(prepared, plan=plan, began=now())
