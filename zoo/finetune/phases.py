"""Phases: spans of epochs with one cut each.

Most trainings have one. `--unfreeze STAGE@EPOCH` begins another one at an epoch, `--schedule
head-then-all` after the head is trained (Kumar et al. 2022, arXiv:2202.10054: a head trained first
keeps the features that are there from being distorted by a random one).
"""

from __future__ import annotations

import itertools
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.catalog import ModelSpec, Preprocess
from zoo.data.index import DatasetIndex
from zoo.errors import UsageError
from zoo.finetune.choices import RATE, budget, keeping, layer_decay, solver_of, view_count
from zoo.models.cut import Cut, cut, feature_shape, is_linear, listed, only_head
from zoo.recipe import Recipe
from zoo.train.param_groups import PRETRAINED
from zoo.weights import cache_folder

if TYPE_CHECKING:
    from torch import nn

    from zoo.network import Network

HEAD_SHARE = 3  # a head that is trained in steps has a third of the epochs
# The solver of the phases behind a head that was solved.
LATER_SOLVER = {"lbfgs": "adamw"}
# Of the peak rate, in the phases behind a head that was trained in steps at the whole of it.
LATER = 0.1
# Steps from which on the phases behind a head that was solved for have the whole rate, which they
# were measured with (benchmarks.deeper). In fewer, less in proportion: what a few large steps tear
# down they do not build up again.
WHOLE = 240


@dataclass(frozen=True, slots=True)
class Span:
    """Epochs first to last; cut: the last frozen stage, None trains everything."""

    first: int
    last: int
    cut: str | None


@dataclass(frozen=True, slots=True)
class Phase:
    """A span with all that is decided about it.

    parts: None trains everything. shape: of one picture's features. kept: they are on disk; else
    the frozen part runs in each epoch, or there is none. lr: the peak rate of the head, below:
    the share of it of the pretrained stage next to it.
    """

    first: int
    last: int
    parts: Cut | None
    shape: tuple[int, ...]
    kept: bool
    solver: str
    lr: float
    below: float
    why: str

    @property
    def solved(self) -> bool:
        return self.solver == "lbfgs"

    def record(self) -> dict[str, Any]:
        """What run.json says of it."""
        cut = self.parts.name if self.parts else None
        named = {"first": self.first, "last": self.last, "cut": cut, "solver": self.solver}
        return named | {"lr": None if self.solved else self.lr, "features_kept": self.kept}


def phases_of(
    recipe: Recipe,
    chain: nn.Sequential,
    spec: ModelSpec,
    start: Network,
    preprocess: Preprocess,
    index: DatasetIndex,
) -> tuple[tuple[Phase, ...], int, dict[str, str]]:
    """The phases of the training, the views of each photo, and the reasons."""
    first = cut_of(recipe, chain, spec)
    shape = feature_shape(first, preprocess) if first else ()
    each, (room, whose) = 4 * int(np.prod(shape)), budget(recipe, free_room())
    linear = first is not None and is_linear(first, chain, spec.head, shape)
    kind = "head" if first is not None and only_head(first, chain, spec) else "deeper"
    solved = first is not None and solver_of(recipe, linear, True)[0] == "lbfgs"
    if recipe.schedule == "head-then-all" or recipe.unfreeze:
        kind = "deeper"
    elif solved:
        kind = "solved"
    views, views_why = few_enough(recipe, first, preprocess, index, kind, each, room, whose)
    rows = rows_of(index, views)
    kept, _ = keeping(each * rows, views, room, whose)
    solver, why = solver_of(recipe, linear, kept and first is not None)
    found: list[Phase] = []
    for number, span in enumerate(spans(recipe, chain, spec, solver == "lbfgs")):
        parts = cut(chain, span.cut) if span.cut else None
        shape = feature_shape(parts, preprocess) if parts else ()
        needed = 4 * int(np.prod(shape)) * rows
        kept, kept_why = keeping(needed, views, room, whose)
        room -= needed * kept
        fresh = start.trained and number == 0
        found.append(
            Phase(
                first=span.first,
                last=span.last,
                parts=parts,
                shape=shape,
                kept=kept and parts is not None,
                solver=solver
                if number == 0
                # The solver of the phases behind a head that was solved.
                else LATER_SOLVER.get(solver, solver),
                lr=(recipe.lr or RATE) * share_of_rate(recipe, start, number, solver, span, index),
                below=PRETRAINED if fresh else layer_decay(recipe, start),
                why=kept_why if parts else "",
            )
        )
    if found[0].parts is not None:
        found[0].parts.freeze()
    return tuple(found), views, {"views": views_why, "solver": why}


def share_of_rate(
    recipe: Recipe, start: Network, number: int, solver: str, span: Span, index: DatasetIndex
) -> float:
    """Return a phase's share of the peak rate; one that was given is that behind a solved head."""
    if number and solver != "lbfgs":
        return LATER
    if number == 0 or recipe.lr or not start.trained:
        return 1.0
    batches = -(-len(index.of("train")) // recipe.batch_size)
    steps = (span.last - span.first + 1) * batches // recipe.accumulate
    return min(1.0, max(LATER, round(steps / WHOLE, 2)))


def solved_phase(
    recipe: Recipe,
    parts: Cut,
    shape: tuple[int, ...],
    preprocess: Preprocess,
    index: DatasetIndex,
) -> tuple[Phase, int, dict[str, str]]:
    """The one phase of a linear head that is solved for, as `phases_of` has it."""
    each, (room, whose) = 4 * int(np.prod(shape)), budget(recipe, free_room())
    views, why = few_enough(recipe, parts, preprocess, index, "solved", each, room, whose)
    kept, kept_why = keeping(each * rows_of(index, views), views, room, whose)
    rate = recipe.lr or RATE
    phase = Phase(1, 1, parts, shape, kept, "lbfgs", rate, 1.0, kept_why)
    return phase, views, {"views": why}


def few_enough(
    recipe: Recipe,
    parts: Cut | None,
    preprocess: Preprocess,
    index: DatasetIndex,
    kind: str,
    each: int,
    room: int,
    whose: str,
) -> tuple[int, str]:
    """Views of each photo, whose features fit into the room, and why so many."""
    views, why = view_count(recipe, parts, preprocess, len(index.of("train")), kind)
    if views > 1 and recipe.views is None and each * rows_of(index, views) > room:
        views, why = 1, f"the plain view: {views} of each photo would not fit in {whose}"
    return views, why


def spans(recipe: Recipe, chain: nn.Sequential, spec: ModelSpec, solved: bool) -> list[Span]:
    """The epochs of each cut. solved: the head's optimum is found at once, as one epoch.

    Raises UsageError, UnknownStage.
    """
    if not recipe.freeze:
        return [Span(1, recipe.epochs, None)]
    first = recipe.cut or spec.cut
    if recipe.schedule == "head-then-all":
        head = 1 if solved else max(1, recipe.epochs // HEAD_SHARE)
        stage = recipe.unfreeze or "all"
        if not re.fullmatch(r"[\w.-]+", stage):
            raise UsageError(
                f"--schedule head-then-all with --unfreeze {stage}: it says itself when",
                "give the stage alone, as in --unfreeze layer3",
            )
        begins = [(head + 1, stage)]
    else:
        begins = list(unfreezings(recipe))
    names = [first, *(cut_before(chain, stage, spec) for _, stage in begins)]
    starts = [1, *(epoch for epoch, _ in begins)]
    check_order(recipe, starts)
    check_growth(chain, names, [first, *(stage for _, stage in begins)])
    ends = [*(epoch - 1 for epoch in starts[1:]), recipe.epochs if begins or not solved else 1]
    return [Span(*span) for span in zip(starts, ends, names, strict=True)]


def unfreezings(recipe: Recipe) -> list[tuple[int, str]]:
    """The epochs and stages of `layer4@10,layer3@20`. Raises UsageError."""
    if recipe.unfreeze is None:
        return []
    found = []
    for part in recipe.unfreeze.split(","):
        match = re.fullmatch(r"\s*([\w.-]+)@(\d{1,6})\s*", part)
        if not match:
            raise UsageError(
                f"--unfreeze {recipe.unfreeze}: expected STAGE@EPOCH, as in layer4@10",
                "give the stage and the epoch from which on it is trained; with --schedule "
                "head-then-all the stage alone",
            )
        found.append((int(match[2]), match[1]))
    return found


def check_order(recipe: Recipe, starts: list[int]) -> None:
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


def cut_before(chain: nn.Sequential, stage: str, spec: ModelSpec) -> str | None:
    """The cut that trains from this stage on; None where it is the first. Raises UnknownStage."""
    from zoo.models.cut import before, halves

    if stage == "all":
        return None
    halves(chain, stage)  # says what there is, where this is not
    return before(chain, stage) or None


def check_growth(chain: nn.Sequential, names: list[str | None], stages: list[str]) -> None:
    """Raises UsageError where a phase trains no more than the one before it."""
    counts = [trained(chain, name) for name in names]
    for number, stage in enumerate(stages[1:], start=1):
        if counts[number] <= counts[number - 1]:
            raise UsageError(
                f"--unfreeze {stage}: that is trained before already",
                f"stages: {listed(chain)}, or all; each must lie before those trained so far",
            )


def trained(chain: nn.Sequential, name: str | None) -> int:
    part = chain if name is None else cut(chain, name).trainable
    return sum(parameter.numel() for parameter in part.parameters())


def cut_of(recipe: Recipe, chain: nn.Sequential, spec: ModelSpec) -> Cut | None:
    return cut(chain, recipe.cut or spec.cut) if recipe.freeze else None


def rows_of(index: DatasetIndex, views: int) -> int:
    train = len(index.of("train"))
    return train * max(1, views) + len(index.samples) - train


def free_room() -> int:
    """Bytes free where features are kept."""
    folder = cache_folder()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(there).free
