"""The plan of a fine-tune: every choice made, with its reason, before anything is computed."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import __version__, catalog, datasets, device, weights
from zoo import recipe as recipes
from zoo.catalog import ModelSpec, Preprocess
from zoo.data.index import DatasetIndex, scan
from zoo.device import Device
from zoo.engine.compiled import made_of
from zoo.errors import DataError
from zoo.finetune import ahead, known, multilabel
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
    balancing,
    engine_of,
    epoch_kept,
    learning_rate,
    mirrored,
    threads_of,
)
from zoo.finetune.cut import Cut
from zoo.finetune.digests import contents
from zoo.finetune.evidence import folds_of
from zoo.finetune.explain import Line, lines
from zoo.finetune.known import Known
from zoo.finetune.loggers import kinds
from zoo.finetune.phases import Phase, only_head, phases_of, rows_of
from zoo.finetune.prefix import Part, state_sha256, tensors_of
from zoo.metrics import THRESHOLD
from zoo.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

    from zoo.finetune.ahead import Ahead
    from zoo.network import Network, Progress


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done.

    head: the stage of the new head in `chain`. cut: of the first phase. scales:
    standardise the features for a head trained in steps. views: 0 draws a new view in every epoch.
    threads: of the trained part. best: what chooses the epoch that is kept. engine: of the frozen
    part. known: of a network that is not here itself; then chain and start.chain are None, and of
    the cut only the names are there. facts: where that is to be kept. ahead: a pass over the photos
    that has begun. reasons: of `lr`, `threads`, `views`, `flip`, `best`, `solver`, `balance` and
    `engine`.
    """

    recipe: Recipe
    start: Network
    index: DatasetIndex
    chain: nn.Sequential
    head: str
    cut: Cut | None
    preprocess: Preprocess
    device: Device
    weights_sha256: str
    lr: float
    views: int
    threads: int
    scales: bool
    phases: tuple[Phase, ...]
    best: str
    view_seed: int
    balance: str
    class_weights: tuple[float, ...] | None
    engine: str = "torch"
    known: Known | None = None
    facts: Path | None = None
    ahead: Ahead | None = None
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def lines(self) -> list[Line]:
        return lines(self)

    @property
    def training_chain(self) -> nn.Sequential:
        """The whole chain, with the heads that exist in training only; the stages are shared."""
        spec = self.start.row
        if not spec.auxiliary:
            return self.chain
        module, function = spec.auxiliary.rsplit(".", 1)
        add = getattr(importlib.import_module(module), function)
        device.seed_all("auxiliary", self.recipe.seed)
        return add(self.chain, len(self.index.classes))  # type: ignore[no-any-return]

    @property
    def rows(self) -> int:
        """Views of photos whose features are kept."""
        return rows_of(self.index, self.views)

    @property
    def feature_bytes(self) -> int:
        """Of the phases whose features are kept."""
        each = sum(int(np.prod(phase.shape)) for phase in self.phases if phase.kept)
        return 4 * each * self.rows

    @property
    def solver(self) -> str:
        """Of the head."""
        return self.phases[0].solver

    @property
    def alone(self) -> bool:
        """Whether a solved head is all there is to train: torch has nothing to do."""
        return all(phase.solved for phase in self.phases)

    def stop(self) -> None:
        """Ends what has begun; what it has computed is kept."""
        if self.ahead:
            self.ahead.stop()

    def part(self, cut: Cut) -> Part:
        """The frozen part of a cut, for an engine."""
        made = made_of(self.start.row, self.start.variant)
        tensors = self.known.tensors if self.known else tensors_of(cut.frozen)
        where = (self.recipe.model, made, tensors, cut.boundary, self.preprocess)
        return Part(*where, None if self.known else cut.frozen)

    @property
    def fresh(self) -> str | None:
        """The stage of the new head; None where every layer is new."""
        return self.head if self.start.trained else None

    def record(self) -> dict[str, Any]:
        """What run.json says from the start."""
        from zoo.network import record_of

        return {
            "zoo": __version__,
            "model": self.recipe.model,
            "spec": record_of(self.start.row),
            "weights": self.start.origin,
            "weights_sha256": self.weights_sha256,
            "classes": list(self.index.classes),
            "task": self.recipe.task,
            **({"threshold": THRESHOLD} if self.recipe.task == "multilabel" else {}),
            "best_by": self.best,
            "variant": self.start.variant,
            "head": self.recipe.head,
            "cut": self.cut.name if self.cut else None,
            "boundary": self.cut.boundary if self.cut else None,
            "phases": [phase.record() for phase in self.phases],
            "feature_bytes": self.feature_bytes if self.cut and self.views else None,
            "preprocess": self.preprocess.to_dict(),
            "precision": self.device.precision,
            "engine": self.engine,
            "device": self.device.name,
            "data": {
                "name": self.recipe.data,
                "root": str(self.index.root.absolute()),
                "fingerprint": self.index.fingerprint,
                "drawn": self.index.drawn,
                **{part: len(self.index.of(part)) for part in ("train", "val", "test")},
            },
            "plan": [[line.what, line.value, line.reason] for line in self.lines],
        }


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
    if quick := known.plan_of(recipe, index, chosen, (engine, engine_why)):
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
        multilabel.begin(chain, spec.head, index, class_weights)
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
        facts=known.place(recipe, start.source),
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


def networks(
    recipe: Recipe, classes: int, progress: Progress | None
) -> tuple[Network, nn.Sequential, ModelSpec, str]:
    """Where it starts from, the chain to train with its row, and the sha256 of its first weights.

    A network to be trained whole from random weights is made for the classes at once; any other
    gets a new head, so that what is frozen does not depend on the classes.
    """
    from zoo import network

    whole = recipe.task == "reconstruct"
    scratch = not recipe.freeze and recipe.head == "linear"
    start = network.pretrained(
        recipe.model,
        recipe.weights,
        variant=dict(recipe.variant),
        classes=classes if scratch and not whole else None,
        except_head=True,
        seed=recipe.seed,
        progress=progress,
    )
    digest = state_sha256(start.chain)
    if whole or (scratch and not start.trained and start.spec.task == "classify"):
        return start, start.chain, start.spec, digest
    device.seed_all("head", recipe.seed)
    chain, spec = network.with_head(start.chain, start.spec, classes, recipe.head)
    return start, chain, spec, digest
