"""What a plan is made for: a recipe that is checked, its photos in their parts, and the machine.

Everything that takes neither torch nor the weights is checked here, before anything is computed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from zoo import catalog, datasets, device, weights
from zoo import recipe as recipes
from zoo.data.folds import folds_of
from zoo.data.index import DatasetIndex, scan
from zoo.device import Device
from zoo.errors import DataError
from zoo.features.digests import contents
from zoo.finetune import checks
from zoo.finetune.choices import MIRRORS, engine_of, mirrored
from zoo.finetune.teacher import Teacher, taught
from zoo.recipe import Recipe
from zoo.train.loggers import kinds
from zoo.watch import Progress


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for, once the photos and the machine are known. reasons: by name."""

    recipe: Recipe
    index: DatasetIndex
    device: Device
    engine: str
    reasons: dict[str, str]


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
