"""The plan of a fine-tune: every choice with its reason, from facts, before anything is computed.

`look` asks the photos and the machine, `plan_of` puts what they say and the facts of the network
together. Neither needs torch; who wants both, and the facts found where there are none, calls
`prepare.prepare`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import catalog, datasets, device, weights
from zoo import recipe as recipes
from zoo.catalog import Preprocess
from zoo.data.folds import folds_of
from zoo.data.index import DatasetIndex, scan
from zoo.device import Device
from zoo.errors import DataError
from zoo.features.digests import contents
from zoo.finetune import checks, head_rows
from zoo.finetune.choices import (
    MIRRORS,
    balancing,
    engine_of,
    epoch_kept,
    mirrored,
    rate_in_words,
    threads_of,
)
from zoo.finetune.facts import CutFacts, NetworkFacts
from zoo.finetune.phases import Phase, phases_of, rows_of, scales_features
from zoo.finetune.teacher import Teacher, taught
from zoo.head.kinds import kind_of
from zoo.recipe import Recipe
from zoo.train.loggers import kinds

if TYPE_CHECKING:
    from zoo.network import Progress


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for, once the photos and the machine are known. reasons: by name."""

    recipe: Recipe
    index: DatasetIndex
    device: Device
    engine: str
    reasons: dict[str, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done.

    preprocess: with the recipe's fit. engine: of the frozen part. views: 0 draws a new view in
    every epoch; view_seed: what they are drawn from. threads: of the trained part. best: what
    chooses the epoch that is kept. reasons: of `lr`, `threads`, `views`, `flip`, `best`, `solver`,
    `balance` and `engine`.
    """

    recipe: Recipe
    index: DatasetIndex
    facts: NetworkFacts
    preprocess: Preprocess
    device: Device
    engine: str
    phases: tuple[Phase, ...]
    views: int
    view_seed: int
    threads: int
    best: str
    balance: str
    class_weights: tuple[float, ...] | None
    reasons: dict[str, str]

    @property
    def cut(self) -> CutFacts:
        """Return the cut of the first phase."""
        return self.phases[0].cut

    @property
    def solver(self) -> str:
        """Return the name of the solver that trains the head."""
        return self.phases[0].solver

    @property
    def solved_only(self) -> bool:
        """Whether a solved head is all there is to train: torch has nothing to do."""
        return all(phase.solved for phase in self.phases)

    @property
    def scales(self) -> bool:
        """Whether features are standardised, for a head that is trained on them in steps."""
        return scales_features(self.phases)

    @property
    def fresh(self) -> str | None:
        """Return the stage of the new head; None where every layer is new."""
        return self.facts.head if self.facts.trained else None

    @property
    def rows(self) -> int:
        """Return how many views of photos there are features of."""
        return rows_of(self.index, self.views)

    @property
    def feature_bytes(self) -> int:
        """Return the bytes of all features that are kept."""
        return self.rows * sum(phase.cut.feature_bytes for phase in self.phases if phase.kept)


def look(recipe: Recipe, progress: Progress | None = None) -> Asked:
    """Look at the photos first, then at the machine. Raises any of the input errors."""
    index = _photos_of(recipe, progress)
    flip_why = MIRRORS if recipe.flip is None else "as asked for"
    recipe = _settled(recipe, index)
    checks.check_steps(recipe)
    if recipe.folds:
        folds_of(index.without_test(), contents(index), recipe.folds, recipe.seed)
    device.tune_allocator()
    place = device.choose(recipe.device, recipe.precision)
    engine, engine_why = engine_of(recipe, place)
    return Asked(recipe, index, place, engine, {"flip": flip_why, "engine": engine_why})


def plan_of(asked: Asked, facts: NetworkFacts) -> Plan:
    """Return the plan. Raises UsageError for one that cannot be carried out."""
    recipe, index = asked.recipe, asked.index
    preprocess = replace(facts.preprocess, fit=recipe.fit or facts.preprocess.fit)
    phases, views, reasons = phases_of(recipe, facts, preprocess, index)
    threads, threads_why = threads_of(recipe, facts, len(index.classes), asked.device)
    best, best_why = epoch_kept(recipe, index)
    if all(phase.solved for phase in phases):
        best = "computed" if kind_of(recipe.head).computed else "optimum"
        best_why = "no epoch is chosen on the val photos"
    if recipe.head == "text":
        best_why = "the val photos choose how much the class names count"
    reasons["rows"] = head_rows.told(facts, index.classes, recipe.head, phases[0].solved)
    balance, class_weights, balance_why = balancing(recipe, index)
    reasons |= {
        "lr": rate_in_words(recipe, facts.trained, scales_features(phases)),
        "threads": threads_why,
        "best": best_why,
        "balance": balance_why,
    }
    plan = Plan(
        recipe=recipe,
        index=index,
        facts=facts,
        preprocess=preprocess,
        device=asked.device,
        engine=asked.engine,
        phases=phases,
        views=views,
        view_seed=recipe.seed,
        threads=threads,
        best=best,
        balance=balance,
        class_weights=class_weights,
        reasons=asked.reasons | reasons,
    )
    checks.check_batches(plan.cut, len(index.of("train")) * max(1, views), recipe)
    checks.check_neighbours(recipe, plan.cut, len(index.of("train")) * views)
    checks.check_mixing(recipe, phases, preprocess)
    checks.check_old(recipe, facts)
    return plan


def index_of(recipe: Recipe, place: Path) -> DatasetIndex:
    """Return the photos in their parts, as the recipe's task and seed have them.

    Raises DataError.
    """

    def look(task: str | None) -> DatasetIndex:
        return scan(
            place,
            val_fraction=recipe.val_fraction,
            seed=recipe.seed,
            task=task,
            contents=contents,
            keep_copies=recipe.keep_duplicates,
        )

    if recipe.teacher is None:
        return look(recipe.task)
    return taught(look, Teacher.of(recipe.teacher).classes, recipe)


def _photos_of(recipe: Recipe, progress: Progress | None) -> DatasetIndex:
    """Return the photos, once everything is checked that takes neither torch nor the weights."""
    if not catalog.of_library(recipe.model):
        row = catalog.find(recipe.model)
        catalog.check_variant(row, recipe.variant)
        checks.check_task(recipe, row)
        weights.choose(row, recipe.weights)
    else:
        catalog.library_name(recipe.model)
        if recipe.weights is not None:
            weights.check_file(recipe.weights)
    kinds(recipe.log)
    checks.check_compiler(recipe)
    index = index_of(recipe, datasets.locate(recipe.data, progress=progress))
    if not index.of("val"):
        raise DataError(f"{recipe.data} leaves no photo for validation", "add photos")
    checks.check_share(recipe, index)
    return index


def _settled(recipe: Recipe, index: DatasetIndex) -> Recipe:
    """Return the recipe with what the photos decide where it says nothing: task, mirror images.

    Raises RecipeError.
    """
    if recipe.flip is None:
        recipe = replace(recipe, flip=mirrored(index))
    if recipe.text is not None:
        recipe = replace(recipe, head="text")
    if recipe.task is not None:
        return recipe
    recipe = replace(recipe, task="multilabel" if index.multilabel else "classify")
    recipes.check_task(recipe)
    recipes.check_idle(recipe)
    return recipe
