"""Phases: spans of epochs with one cut each.

Most trainings have one. `--unfreeze STAGE@EPOCH` begins another one at an epoch, `--schedule
head-then-all` after the head is trained (Kumar et al. 2022, arXiv:2202.10054: a head trained first
keeps the features that are there from being distorted by a random one).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from tempfile import gettempdir

from zoo.catalog import Preprocess
from zoo.data.index import DatasetIndex
from zoo.errors import UsageError
from zoo.finetune.choices import (
    COMPUTED,
    RATE,
    Choice,
    Room,
    budget,
    keeping,
    layer_decay,
    solver_of,
    view_count,
)
from zoo.finetune.facts import CutFacts, NetworkFacts
from zoo.recipe import Recipe, unfreezings
from zoo.train.param_groups import PRETRAINED
from zoo.weights import cache_folder

_FULL = 64 << 20  # bytes: a disk with less is full
_HEAD_SHARE = 3  # a head that is trained in steps has a third of the epochs
_AT_ONCE = ("lbfgs", COMPUTED)
# The solver of the phases behind a head that was solved.
_LATER_SOLVER = {"lbfgs": "adamw"}
# Of the peak rate, in the phases behind a head that was trained in steps at the whole of it.
_LATER = 0.1
# Steps from which on the phases behind a head that was solved for have the whole rate, which they
# were measured with (benchmarks.deeper). In fewer, less in proportion: what a few large steps tear
# down they do not build up again.
WHOLE = 240


@dataclass(frozen=True, slots=True)
class Phase:
    """A span of epochs with all that is decided about it.

    cut: its name is None where everything is trained. kept: the features are on disk; else the
    frozen part runs in each epoch, or there is none. lr: the peak rate of the head, below: the
    share of it of the pretrained stage next to it. why: of `kept`.
    """

    first: int
    last: int
    cut: CutFacts
    kept: bool
    solver: str
    lr: float
    below: float
    why: str

    @property
    def whole(self) -> bool:
        """Whether everything is trained: nothing is frozen."""
        return self.cut.name is None

    @property
    def solved(self) -> bool:
        """Whether the head is solved for, or computed; else it is trained in steps."""
        return self.solver in _AT_ONCE

    def record(self) -> dict[str, object]:
        """Return what run.json says of it."""
        return {
            "first": self.first,
            "last": self.last,
            "cut": self.cut.name,
            "solver": self.solver,
            "lr": None if self.solved else self.lr,
            "features_kept": self.kept,
        }


def phases_of(
    recipe: Recipe, facts: NetworkFacts, preprocess: Preprocess, index: DatasetIndex
) -> tuple[tuple[Phase, ...], int, dict[str, str]]:
    """Return the phases of the training, the views of each photo, and the reasons."""
    first, room = facts.cuts[0], budget(recipe, _free_room())
    views, views_why = _views_of(recipe, first, preprocess, index, room)
    rows = rows_of(index, views)
    kept, _ = keeping(first.feature_bytes * rows, views, room)
    solver, why = solver_of(recipe, first.kind == "linear", kept and first.name is not None)
    found: list[Phase] = []
    for (begins, ends), cut in zip(_spans(recipe, solver in _AT_ONCE), facts.cuts, strict=True):
        needed = cut.feature_bytes * rows
        kept, kept_why = keeping(needed, views, room)
        room = room.less(needed * kept)
        later = len(found) > 0
        epochs = ends - begins + 1
        share = _share_of_rate(recipe, facts.trained, solver, epochs, index) if later else 1.0
        found.append(
            Phase(
                first=begins,
                last=ends,
                cut=cut,
                kept=kept and cut.name is not None,
                solver=_LATER_SOLVER.get(solver, solver) if later else solver,
                lr=(recipe.lr or RATE) * share,
                below=layer_decay(recipe, facts.trained)
                if later or not facts.trained
                else PRETRAINED,
                why=kept_why if cut.name else "",
            )
        )
    return tuple(found), views, {"views": views_why, "solver": why}


def scales_features(phases: Sequence[Phase]) -> bool:
    """Return whether features are standardised, for a head that is trained on them in steps."""
    return phases[0].cut.kind != "deeper" and not phases[0].solved


def _share_of_rate(
    recipe: Recipe, trained: bool, solver: str, epochs: int, index: DatasetIndex
) -> float:
    """Return a later phase's share of the peak rate; one given is that behind a solved head."""
    if solver != "lbfgs":
        return _LATER
    if recipe.lr or not trained:
        return 1.0
    batches = -(-len(index.of("train")) // recipe.batch_size)
    steps = epochs * batches // recipe.accumulate
    return min(1.0, max(_LATER, round(steps / WHOLE, 2)))


def _views_of(
    recipe: Recipe, first: CutFacts, preprocess: Preprocess, index: DatasetIndex, room: Room
) -> Choice[int]:
    """Return the views of each photo, whose features fit into the room, and why so many."""
    kind = "head" if first.kind != "deeper" else "deeper"
    if unfreezings(recipe):
        kind = "deeper"
    elif first.name and solver_of(recipe, first.kind == "linear", True)[0] in _AT_ONCE:
        kind = "solved"
    frozen, photos = first.name is not None, len(index.of("train"))
    views, why = view_count(recipe, frozen, preprocess, photos, kind)
    needed = first.feature_bytes * rows_of(index, views)
    if views > 1 and recipe.views is None and needed > room.bytes:
        return 1, f"the plain view: {views} of each photo would not fit in {room.whose}"
    return views, why


def _spans(recipe: Recipe, solved: bool) -> list[tuple[int, int]]:
    """Return the first and last epoch of each phase. Raises UsageError.

    solved: the head's optimum is found at once, as one epoch.
    """
    begins = [epoch for epoch, _ in unfreezings(recipe)] if recipe.freeze else []
    if recipe.schedule == "head-then-all":
        begins = [2 if solved else 1 + max(1, recipe.epochs // _HEAD_SHARE)]
    starts = [1, *begins]
    check_order(recipe, starts)
    last = recipe.epochs if begins or not solved else 1
    return list(zip(starts, [*(epoch - 1 for epoch in begins), last], strict=True))


def check_order(recipe: Recipe, starts: list[int]) -> None:
    """Raises UsageError where a phase would begin before the one before it, or never."""
    rising = all(before < after for before, after in itertools.pairwise(starts))
    if recipe.schedule == "head-then-all" and starts[-1] > recipe.epochs:
        raise UsageError(
            "--schedule head-then-all in one epoch: the head takes the first", "give --epochs 2"
        )
    if not rising or starts[-1] > recipe.epochs:
        raise UsageError(
            f"--unfreeze {recipe.unfreeze} in {recipe.epochs} epochs",
            f"give rising epochs from 2 to {max(2, recipe.epochs)}, the later stages of the "
            "network first; --epochs says how many there are",
        )


def rows_of(index: DatasetIndex, views: int) -> int:
    """Return how many views of photos have features: only those to train on have several."""
    train = len(index.of("train"))
    return train * max(1, views) + len(index.samples) - train


def _free_room() -> int:
    """Return the bytes that are free where features are kept: see `FeatureCache.place`."""
    folder = cache_folder()
    there = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    free = shutil.disk_usage(there).free
    if free < _FULL or not os.access(there, os.W_OK):
        with contextlib.suppress(OSError):  # nothing temporary can be written either
            return max(free, shutil.disk_usage(gettempdir()).free)
    return free
