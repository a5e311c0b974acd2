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
from zoo.finetune.choices import balancing
from zoo.finetune.describe import record
from zoo.finetune.events import Evidence, Note
from zoo.finetune.inputs import Inputs
from zoo.metrics import Array
from zoo.run import Run
from zoo.train import losses

if TYPE_CHECKING:
    import torch

    from zoo.finetune.plan import Plan


CarryOut = Callable[["Plan", Run], None]
State = dict[str, "torch.Tensor"]
Results = dict[str, float]


def initial(plan: Plan) -> State:
    """Return what the chain is before it is trained; nothing where nobody asks for it again."""
    if plan.alone or (plan.recipe.seeds == 1 and plan.recipe.folds is None):
        return {}
    return copy.deepcopy(plan.chain.state_dict())


def run(inputs: Inputs, before: State, carry_out: CarryOut) -> tuple[Evidence, ...]:
    """Return the evidence that the recipe asks for; tell a line of each repetition.

    before: the chain's first state. All repetitions train the one chain: each is planned when the
    one before it is over. carry_out: does what a plan says in a run folder.
    """
    recipe, found = inputs.plan.recipe, []
    if recipe.seeds > 1:
        others = (_seeded(inputs, before, number) for number in range(1, recipe.seeds))
        results = [_trained(inputs, name, plan, carry_out) for name, plan in others]
        found.append(_evidence("seeds", [inputs.run.record["results"], *results]))
    if recipe.folds:
        numbers = folds_of(inputs.index.without_test(), inputs.digests, recipe.folds, recipe.seed)
        plans = (_folded(inputs, before, numbers, fold) for fold in range(recipe.folds))
        results = [_trained(inputs, name, plan, carry_out) for name, plan in plans]
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


def _trained(inputs: Inputs, name: str, plan: Plan, carry_out: CarryOut) -> Results:
    """Return the results of a repetition, which is carried out in its folder or is there."""
    folder = inputs.run.path("repeats") / name
    run = Run.open(folder) if (folder / "run.json").exists() else Run.create(folder, record(plan))
    if run.record["status"] != "finished":
        try:
            carry_out(plan, run)
        except ZooError as error:  # it is the whole that can be resumed
            error.what = f"{name}: {error.what}"
            error.resume = error.resume and inputs.run.resume
            raise
    run.path("model.safetensors").unlink(missing_ok=True)  # the numbers are what it was for
    run.check(records.fields({"results": records.fields({}, ("macro_f1",))}), ("results",))
    results: Results = dict(run.record["results"])
    what, value = ("mAP", results["map"]) if "map" in results else ("accuracy", results["accuracy"])
    inputs.watch.tell(Note(f"{name}: {what} {100 * value:.1f} %"))
    return results


def _seeded(inputs: Inputs, before: State, number: int) -> tuple[str, Plan]:
    """Plan another seed: another order, another head, and another split where there is none."""
    from zoo.finetune.planning import index_of

    plan = inputs.plan
    seed = plan.recipe.seed + number
    index = index_of(replace(plan.recipe, seed=seed), plan.index.source)
    return f"seed-{seed}", _again(plan, before, index, seed=seed)


def _folded(inputs: Inputs, before: State, numbers: Array, fold: int) -> tuple[str, Plan]:
    """Plan a training with one fold for validation; no epoch is chosen on it."""
    samples = tuple(
        replace(sample, split="val" if number == fold else "train")
        for sample, number in zip(inputs.index.without_test().samples, numbers, strict=True)
    )
    plan = _again(inputs.plan, before, replace(inputs.index, samples=samples))
    return f"fold-{fold + 1}", replace(plan, best="last" if plan.best != "optimum" else plan.best)


def _again(plan: Plan, before: State, index: DatasetIndex, seed: int | None = None) -> Plan:
    """Return the plan for other photos or another seed, with the chain as it was before training.

    Without the test part, which is measured on once.
    """
    from zoo.finetune.planning import make

    index = index.without_test()
    alone: dict[str, Any] = {"seeds": 1, "folds": None, "optimizer": plan.solver, "log": None}
    seed = plan.recipe.seed if seed is None else seed
    recipe = replace(plan.recipe, **alone, seed=seed)
    if plan.fresh is None:  # random from the first layer on: another seed is another network
        twin = make(recipe)
        kind, weights, _ = balancing(recipe, index)
        twin = replace(twin, index=index, balance=kind, class_weights=weights)
        return replace(twin, view_seed=plan.view_seed)
    kind, weights, _ = balancing(recipe, index)
    if not plan.alone:
        from torch import nn

        plan.chain.load_state_dict(before)
        device.seed_all("head", seed)
        for layer in plan.chain.get_submodule(plan.head).modules():
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
    if recipe.task == "multilabel":
        losses.begin(plan.chain, plan.head, index, weights)
    return replace(plan, recipe=recipe, index=index, balance=kind, class_weights=weights)
