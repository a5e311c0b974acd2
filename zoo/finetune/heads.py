"""The head's optimum: the solver on the kept features, its answer put into the head."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zoo.finetune.cache import Features
from zoo.finetune.folds import alike
from zoo.finetune.gather import Gather
from zoo.finetune.sources import FeatureSource
from zoo.metrics import Array

if TYPE_CHECKING:
    from zoo.finetune.loop import Loop
    from zoo.finetune.plan import Plan
    from zoo.finetune.solver import Solution


def solve_head(plan: Plan, loop: Loop, gather: Gather) -> str:
    """Solves for the training features of the loop's source; says what was chosen, in a line."""
    import torch

    source = loop.source
    assert isinstance(source, FeatureSource)
    solution = optimum(plan, source, gather)
    head = plan.chain.get_submodule(plan.head)
    assert isinstance(head, torch.nn.Linear)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(solution.weight))
        head.bias.copy_(torch.from_numpy(solution.bias))
    return solution.reason


def optimum(plan: Plan, source: FeatureSource, gather: Gather) -> Solution:
    """Of the training features of a source. Needs no torch."""
    from zoo.finetune.solver import solve

    train, rows = gather.index.of("train"), flat(source.features)
    return solve(
        rows,
        source.labels,
        len(gather.index.classes),
        seed=plan.recipe.seed,
        groups=alike([gather.digests[sample.path] for sample in train], plan.views),
        class_weights=np.array(gather.class_weights) if gather.class_weights else None,
        label_smoothing=plan.recipe.label_smoothing,
        penalty=plan.recipe.penalty,
        poll=gather.stop_if_asked,
    )


def flat(features: Features) -> Array:
    """All rows, N x D."""
    rows = features.gather(range(len(features)))
    return rows.reshape(len(rows), -1)
