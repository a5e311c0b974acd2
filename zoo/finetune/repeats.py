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
from zoo.finetune.plan import index_of
from zoo.finetune.prepare import Prepared, prepare
from zoo.metrics import Array
from zoo.run import Run
from zoo.train import losses

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Repeated:
    """The training that is repeated. carry_out: does what a plan says in a run folder."""

    prepared: Prepared
    run: Run
    index: DatasetIndex
    digests: dict[str, bytes]
    carry_out: Callable[[Prepared, Run], None]


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


def initial(prepared: Prepared) -> dict[str, torch.Tensor]:
    """What the chain is before it is trained."""
    plan = prepared.plan
    if plan.solved_only or (plan.recipe.seeds == 1 and plan.recipe.folds is None):
        return {}
    return copy.deepcopy(prepared.network().chain.state_dict())


def repeat(job: Repeated, before: dict[str, torch.Tensor]) -> Iterator[Evidence | str]:
    """The evidence that the recipe asks for, and before it a line for each repetition.

    before: the chain's first state. All repetitions train the one chain: each is planned when the
    one before it is over.
    """
    recipe = job.prepared.plan.recipe
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
    job: Repeated, plans: Iterator[tuple[str, Prepared]]
) -> Generator[str, None, list[dict[str, Any]]]:
    results = []
    for name, prepared in plans:
        results.append(train(job, prepared, name))
        what, value = next(iter(results[-1].items()))
        yield f"{name}: {what} {100 * value:.1f} %"
    return results


def train(job: Repeated, prepared: Prepared, name: str) -> dict[str, Any]:
    """Carries out a repetition in its folder, or takes its results from there."""
    folder = job.run.path("repeats") / name
    there = (folder / "run.json").exists()
    run = Run.open(folder) if there else Run.create(folder, record(prepared.plan))
    if run.record["status"] != "finished":
        try:
            job.carry_out(prepared, run)
        except ZooError as error:  # it is the whole that can be resumed
            error.what = f"{name}: {error.what}"
            error.hint = error.hint.replace(str(folder), str(job.run.folder))
            raise
    run.path("model.safetensors").unlink(missing_ok=True)  # the numbers are what it was for
    run.check(records.fields({"results": records.fields({}, ("macro_f1",))}), ("results",))
    return dict(run.record["results"])


def seeded(job: Repeated, before: dict[str, torch.Tensor], number: int) -> tuple[str, Prepared]:
    """With another seed: another order, another head, and another split where there is none."""
    plan = job.prepared.plan
    seed = plan.recipe.seed + number
    index = index_of(replace(plan.recipe, seed=seed), plan.index.source)
    return f"seed-{seed}", again(job.prepared, before, index, seed=seed)


def folded(
    job: Repeated, before: dict[str, torch.Tensor], numbers: Array, fold: int
) -> tuple[str, Prepared]:
    """With one fold for validation; no epoch is chosen on it."""
    samples = tuple(
        replace(sample, split="val" if number == fold else "train")
        for sample, number in zip(job.index.without_test().samples, numbers, strict=True)
    )
    found = again(job.prepared, before, replace(job.index, samples=samples))
    if not found.plan.solved_only:
        found.plan = replace(found.plan, best="last")
    return f"fold-{fold + 1}", found


def again(
    prepared: Prepared,
    before: dict[str, torch.Tensor],
    index: DatasetIndex,
    seed: int | None = None,
) -> Prepared:
    """The plan for other photos or another seed, with the chain as it was before training.

    Without the test part, which is measured on once.
    """
    plan, index = prepared.plan, index.without_test()
    alone: dict[str, Any] = {"seeds": 1, "folds": None, "optimizer": plan.solver, "log": None}
    seed = plan.recipe.seed if seed is None else seed
    recipe = replace(plan.recipe, **alone, seed=seed)
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
    return replace(prepared, plan=plan)


def record_of(found: list[Evidence]) -> dict[str, Any]:
    """What run.json says of it."""
    return {each.kind: asdict(each) for each in found}
