"""From a Recipe to a Plan: the photos are looked at first, then the network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import catalog, datasets, device, weights
from zoo import recipe as recipes
from zoo.catalog import Preprocess
from zoo.data.folds import folds_of
from zoo.data.index import DatasetIndex, scan
from zoo.device import Device
from zoo.errors import DataError
from zoo.features.digests import contents
from zoo.finetune import ahead, facts
from zoo.finetune.checks import (
    check_batches,
    check_compiler,
    check_mixing,
    check_old,
    check_share,
    check_steps,
    check_task,
)
from zoo.finetune.choices import (
    MIRRORS,
    OF_STEPS,
    alone_here,
    balancing,
    default,
    engine_of,
    epoch_kept,
    learning_rate,
    mirrored,
    solver_of,
    threads_of,
)
from zoo.finetune.facts import networks, preprocess_of, recall, row_of
from zoo.finetune.phases import phases_of
from zoo.finetune.plan import Plan
from zoo.models.cut import Cut, only_head
from zoo.network import Network
from zoo.recipe import Recipe
from zoo.train import losses
from zoo.train.loggers import kinds

if TYPE_CHECKING:
    from zoo.network import Progress


def make(recipe: Recipe, progress: Progress | None = None, begin: bool = False) -> Plan:
    """Looks at the photos first, then at the weights; raises any of the input errors.

    begin: the pass over the photos may begin meanwhile; whoever asks for it ends with `Plan.stop`.
    """
    index = photos_of(recipe, progress)
    flip_why = MIRRORS if recipe.flip is None else "as asked for"
    recipe = settled(recipe, index)
    check_steps(recipe)
    if recipe.folds:
        folds_of(index.without_test(), contents(index), recipe.folds, recipe.seed)
    device.tune_allocator()
    chosen = device.choose(recipe.device, recipe.precision)
    engine, engine_why = engine_of(recipe, chosen)
    if quick := plan_of(recipe, index, chosen, (engine, engine_why)):
        return replace(quick, reasons={**quick.reasons, "flip": flip_why})
    begun = ahead.begin(recipe, index, chosen, engine) if begin else None
    try:
        plan = planned(recipe, index, chosen, (engine, engine_why), progress)
    except BaseException:
        if begun:
            begun.stop()
        raise
    return replace(plan, ahead=begun, reasons={**plan.reasons, "flip": flip_why})


def planned(
    recipe: Recipe,
    index: DatasetIndex,
    chosen: Device,
    engine: tuple[str, str],
    progress: Progress | None,
) -> Plan:
    """With the network, which takes torch."""
    start, chain, spec, digest = networks(recipe, len(index.classes), progress)
    preprocess = replace(start.preprocess, fit=recipe.fit or start.preprocess.fit)
    phases, views, reasons = phases_of(recipe, chain, spec, start, preprocess, index)
    parts = phases[0].parts
    scales = parts is not None and only_head(parts, chain, spec) and not phases[0].solved
    lr, lr_why = learning_rate(recipe, start, scales)
    threads, threads_why = threads_of(recipe, phases[-1].parts, spec, chosen)
    best, best_why = epoch_kept(recipe, index)
    if all(phase.solved for phase in phases):
        best, best_why = "optimum", "no epoch is chosen on the val photos"
    balance, class_weights, balance_why = balancing(recipe, index)
    if recipe.task == "multilabel":
        losses.begin(chain, spec.head, index, class_weights)
    plan = Plan(
        recipe=recipe,
        start=start,
        index=index,
        chain=chain,
        head=spec.head,
        cut=parts,
        preprocess=preprocess,
        device=chosen,
        weights_sha256=digest,
        lr=lr,
        views=views,
        threads=threads,
        scales=scales,
        phases=phases,
        best=best,
        view_seed=recipe.seed,
        balance=balance,
        class_weights=class_weights,
        engine=engine[0],
        facts=facts.place(recipe, start.source),
        reasons={
            **reasons,
            "lr": lr_why,
            "threads": threads_why,
            "best": best_why,
            "balance": balance_why,
            "engine": engine[1],
        },
    )
    check_batches(plan)
    check_mixing(plan)
    check_old(plan)
    return plan


def photos_of(recipe: Recipe, progress: Progress | None) -> DatasetIndex:
    """The photos, once everything is checked that takes neither torch nor the weights."""
    if not catalog.of_library(recipe.model):
        row = catalog.find(recipe.model)
        catalog.check_variant(row, recipe.variant)
        check_task(recipe, row)
        weights.choose(row, recipe.weights)
    else:
        catalog.library_name(recipe.model)
        if recipe.weights is not None:
            weights.check_file(recipe.weights)
    kinds(recipe.log)
    check_compiler(recipe)
    place = datasets.locate(recipe.data, progress=progress)
    index = index_of(recipe, place)
    if not index.of("val"):
        raise DataError(f"{recipe.data} leaves no photo for validation", "add photos")
    check_share(recipe, index)
    return index


def index_of(recipe: Recipe, place: Path) -> DatasetIndex:
    """The photos in their parts, as the recipe's task and seed have them. Raises DataError."""
    return scan(
        place,
        val_fraction=recipe.val_fraction,
        seed=recipe.seed,
        labelled=recipe.task != "reconstruct",
        several={"classify": False, "multilabel": True}.get(recipe.task or ""),
        contents=contents,
        keep_copies=recipe.keep_duplicates,
    )


def settled(recipe: Recipe, index: DatasetIndex) -> Recipe:
    """The recipe with what the photos decide where it says nothing: task, and mirror images.

    Raises RecipeError.
    """
    if recipe.flip is None:
        recipe = replace(recipe, flip=mirrored(index))
    if recipe.task is not None:
        return recipe
    recipe = replace(recipe, task="multilabel" if index.multilabel else "classify")
    recipes.check_task(recipe)
    recipes.check_idle(recipe)
    return recipe


def able(recipe: Recipe, device: Device, engine: str) -> bool:
    """Whether all there is to do is to solve for a linear head, and not torch runs the rest."""
    plain = recipe.freeze and recipe.head == "linear" and recipe.task == "classify"
    steps = any(getattr(recipe, name) != default(name) for name in OF_STEPS)
    asked = recipe.augment != "none" or recipe.distort != "none"
    if not (plain and engine == "openvino" and alone_here(device)) or steps or asked:
        return False
    return solver_of(recipe, linear=True, kept=True)[0] == "lbfgs"


def plan_of(
    recipe: Recipe, index: DatasetIndex, device: Device, engine: tuple[str, str]
) -> Plan | None:
    """The plan without the network, where it is known and its frozen part is compiled."""
    from zoo.engine import compiled
    from zoo.finetune.phases import solved_phase

    if not able(recipe, device, engine[0]):
        return None
    known = recall(recipe)
    if known is None or not known.linear:
        return None
    row = row_of(known, recipe)
    weights_fit = Preprocess.from_dict(known.preprocess)
    unseen: Any = None  # the chain: whoever needs it has not come this way
    start = Network(row, row, unseen, weights_fit, (), known.origin, variant=dict(recipe.variant))
    preprocess = preprocess_of(known, recipe)
    parts = Cut(known.cut, known.boundary, unseen, unseen)
    phase, views, reasons = solved_phase(recipe, parts, known.shape, preprocess, index)
    if not phase.kept:
        return None
    balance, class_weights, balance_why = balancing(recipe, index)
    solver_why = solver_of(recipe, linear=True, kept=True)[1]
    plan = Plan(
        recipe=recipe,
        start=start,
        index=index,
        chain=unseen,
        head=known.head,
        cut=parts,
        preprocess=preprocess,
        device=device,
        weights_sha256=known.weights_sha256,
        lr=0.0,
        views=views,
        threads=1,
        scales=False,
        phases=(phase,),
        best="optimum",
        view_seed=recipe.seed,
        balance=balance,
        class_weights=class_weights,
        engine=engine[0],
        known=known,
        reasons={
            **reasons,
            "solver": solver_why,
            "lr": "",
            "threads": "",
            "best": "no epoch is chosen on the val photos",
            "balance": balance_why,
            "engine": engine[1],
        },
    )
    return plan if compiled.find(plan.part(parts).key(), state=True) else None
