"""Evidence: the same training again with other seeds, or on other folds of the photos.

One number on a hundred photos says little of which of two settings is better. Each repetition is a
run folder of its own in RUN/repeats, so that an interrupted one goes on where it was; the features
are those of the first training.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import device, records
from zoo.data.folds import folds_of
from zoo.data.index import DatasetIndex
from zoo.errors import ZooError
from zoo.finetune.choices import balancing
from zoo.finetune.describe import record
from zoo.finetune.events import Evidence
from zoo.metrics import Array
from zoo.run import Run
from zoo.train import losses

if TYPE_CHECKING:
    import torch

    from zoo.finetune.plan import Plan


@dataclass(frozen=True, slots=True)
class Repeated:
    """The training that is repeated. carry_out: does what a plan says in a run folder."""

    plan: Plan
    run: Run
    index: DatasetIndex
    digests: dict[str, bytes]
    carry_out: Callable[[Plan, Run], None]


def evidence(kind: str, results: list[dict[str, Any]]) -> Evidence:
    accuracy, precision = (
        tuple(result[name] for result in results if name in result) for name in ("accuracy", "map")
    )
    mean, deviation, low, high = interval([*accuracy, *precision])
    f1 = tuple(result["macro_f1"] for result in results)
    return Evidence(kind, accuracy, precision, f1, mean, deviation, low, high)


def interval(values: list[float]) -> tuple[float, float, float, float]:
    """Mean, standard deviation, and the ends of the 95 % interval of the mean, within 0 to 1."""
    from scipy.stats import t

    count, mean = len(values), float(np.mean(values))
    deviation = float(np.std(values, ddof=1))
    half = float(t.ppf(0.975, count - 1)) * deviation / math.sqrt(count)
    return mean, deviation, max(0.0, mean - half), min(1.0, mean + half)


def initial(plan: Plan) -> dict[str, torch.Tensor]:
    """What the chain is before it is trained."""
    if plan.alone or (plan.recipe.seeds == 1 and plan.recipe.folds is None):
        return {}
    return copy.deepcopy(plan.chain.state_dict())


def repeat(job: Repeated, before: dict[str, torch.Tensor]) -> Iterator[Evidence | str]:
    """The evidence that the recipe asks for, and before it a line for each repetition.

    before: the chain's first state. All repetitions train the one chain: each is planned when the
    one before it is over.
    """
    recipe = job.plan.recipe
    if recipe.seeds > 1:
        others = (seeded(job, before, number) for number in range(1, recipe.seeds))
        results = yield from trained(job, others)
        yield evidence("seeds", [job.run.record["results"], *results])
    if recipe.folds:
        index = job.index.without_test()
        numbers = folds_of(index, job.digests, recipe.folds, recipe.seed)
        plans = (folded(job, before, numbers, fold) for fold in range(recipe.folds))
        results = yield from trained(job, plans)
        yield evidence("folds", results)


def trained(
    job: Repeated, plans: Iterator[tuple[str, Plan]]
) -> Generator[str, None, list[dict[str, Any]]]:
    results = []
    for name, plan in plans:
        results.append(train(job, plan, name))
        what, value = next(iter(results[-1].items()))
        yield f"{name}: {what} {100 * value:.1f} %"
    return results


def train(job: Repeated, plan: Plan, name: str) -> dict[str, Any]:
    """Carries out a repetition in its folder, or takes its results from there."""
    folder = job.run.path("repeats") / name
    run = Run.open(folder) if (folder / "run.json").exists() else Run.create(folder, record(plan))
    if run.record["status"] != "finished":
        try:
            job.carry_out(plan, run)
        except ZooError as error:  # it is the whole that can be resumed
            error.what = f"{name}: {error.what}"
            error.resume = error.resume and job.run.resume
            raise
    run.path("model.safetensors").unlink(missing_ok=True)  # the numbers are what it was for
    run.check(records.fields({"results": records.fields({}, ("macro_f1",))}), ("results",))
    return dict(run.record["results"])


def seeded(job: Repeated, before: dict[str, torch.Tensor], number: int) -> tuple[str, Plan]:
    """With another seed: another order, another head, and another split where there is none."""
    from zoo.finetune.planning import index_of

    plan = job.plan
    seed = plan.recipe.seed + number
    index = index_of(replace(plan.recipe, seed=seed), plan.index.source)
    return f"seed-{seed}", again(plan, before, index, seed=seed)


def folded(
    job: Repeated, before: dict[str, torch.Tensor], numbers: Array, fold: int
) -> tuple[str, Plan]:
    """With one fold for validation; no epoch is chosen on it."""
    samples = tuple(
        replace(sample, split="val" if number == fold else "train")
        for sample, number in zip(job.index.without_test().samples, numbers, strict=True)
    )
    plan = again(job.plan, before, replace(job.index, samples=samples))
    return f"fold-{fold + 1}", replace(plan, best="last" if plan.best != "optimum" else plan.best)


def again(
    plan: Plan, before: dict[str, torch.Tensor], index: DatasetIndex, seed: int | None = None
) -> Plan:
    """The plan for other photos or another seed, with the chain as it was before training.

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


def record_of(found: list[Evidence]) -> dict[str, Any]:
    """What run.json says of it."""
    return {each.kind: asdict(each) for each in found}
