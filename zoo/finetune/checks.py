"""Plans that cannot be carried out, refused before anything is computed."""

from __future__ import annotations

import os
import shutil
import sys

from zoo import catalog
from zoo.catalog import ModelSpec, Preprocess
from zoo.data.index import DatasetIndex
from zoo.errors import UsageError
from zoo.finetune.choices import default, solver_of
from zoo.finetune.facts import CutFacts, NetworkFacts
from zoo.finetune.phases import Phase, check_order
from zoo.head.kinds import kind_of
from zoo.head.neighbours import must_fit
from zoo.recipe import Recipe, unfreezings
from zoo.train.distributed import Ranks
from zoo.train.mixup import check_cutmix


def check_task(recipe: Recipe, row: ModelSpec) -> None:
    """Raises UsageError where the network cannot learn what the recipe asks for."""
    if recipe.task == "reconstruct" and row.task != "reconstruct":
        names = [name for name, row in catalog.ROWS.items() if row.task == "reconstruct"]
        raise UsageError(
            f"{row.name} gives classes, it cannot reconstruct its input",
            f"autoencoders: {', '.join(names)}",
        )


def check_batches(cut: CutFacts, rows: int, recipe: Recipe) -> None:
    """Raises UsageError where a norm over the pictures of a batch would see one picture.

    rows: views of photos to train on.
    """
    if cut.norm and min(rows, recipe.batch_size) == 1:
        raise UsageError(
            "BatchNorm over a batch of one photo", "give --batch-size 2 or more, and photos for it"
        )


def check_compiler(recipe: Recipe) -> None:
    """Raises UsageError where torch.compile would look for a C++ compiler in vain."""
    name = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if recipe.compile and shutil.which(name) is None:
        raise UsageError(
            f"--compile takes a C++ compiler, and there is no {name}",
            "install one, name it in CXX, or leave --compile out",
        )


def check_old(recipe: Recipe, facts: NetworkFacts) -> None:
    """Raises UsageError for a decay from stage to stage where no pretrained stage is trained."""
    if recipe.layer_decay is not None and not (facts.trained and facts.cuts[-1].old):
        raise UsageError(
            f"--layer-decay {recipe.layer_decay:g} would do nothing: every trained layer is new",
            "leave it out, or train more: --cut, --unfreeze, --no-freeze",
        )


def check_mixing(recipe: Recipe, phases: tuple[Phase, ...], preprocess: Preprocess) -> None:
    """Raises UsageError where boxes are to be cut out of features that have no place."""
    for phase in phases if recipe.cutmix else ():
        check_cutmix(phase.cut.shape or preprocess.shape)


def check_steps(recipe: Recipe) -> None:
    """Raises UsageError for what can be said of the training before the network is known."""
    if (recipe.freeze and recipe.head == "linear") or kind_of(recipe.head).computed:
        solver_of(recipe, linear=True, kept=True)
    begins = [epoch for epoch, _ in unfreezings(recipe)]
    if recipe.schedule != "head-then-all":
        check_order(recipe, [1, *begins])


def check_neighbours(recipe: Recipe, cut: CutFacts, rows: int) -> None:
    """Raises UsageError for a head of nearest neighbours that its photos are too few or many for.

    rows: views of photos to train on.
    """
    kind = kind_of(recipe.head)
    if kind.word == "knn":
        must_fit(rows, cut.feature_bytes // 4, kind.number)


def check_share(recipe: Recipe, index: DatasetIndex) -> None:
    """Raises UsageError for a share of the photos for validation where they have a part for it."""
    if recipe.val_fraction != default("val_fraction") and not index.drawn:
        raise UsageError(
            f"--val-fraction {recipe.val_fraction:g} would do nothing: {recipe.data} says itself "
            "which photos are for validation",
            "leave it out, or give the photos without their val part",
        )


def check_team(recipe: Recipe, ranks: Ranks) -> None:
    """Raises UsageError for what is not divided among processes."""
    if recipe.teacher and not ranks.single:
        raise UsageError(
            "a teacher under torchrun: its answers are not divided among processes",
            "`zoo distill` without torchrun",
        )
    for name, asked in (("seeds", recipe.seeds > 1), ("folds", recipe.folds)):
        if asked and not ranks.single:
            raise UsageError(
                f"--{name} {getattr(recipe, name)} under torchrun: the repetitions are not "
                "divided among its processes",
                f"give --{name} to `zoo finetune` without torchrun",
            )
