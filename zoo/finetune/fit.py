"""The head's optimum: the solver on the kept features, its answer put into the head."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import TrainingError
from zoo.features.cache import Features
from zoo.finetune.choices import layer_decay
from zoo.finetune.inputs import Gather
from zoo.head.folds import alike
from zoo.head.solver import loss_of, scores_of
from zoo.metrics import Array, report
from zoo.train.batches import FeatureBatches
from zoo.train.records import Epoch, LoopSettings, Scores

if TYPE_CHECKING:
    from zoo.data.index import DatasetIndex
    from zoo.finetune.phases import Phase
    from zoo.finetune.plan import Plan
    from zoo.head.solver import Solution
    from zoo.train.loop import Loop


def solve_head(plan: Plan, loop: Loop, gather: Gather) -> str:
    """Solves for the training features of the loop's source; says what was chosen, in a line."""
    import torch

    source = loop.batches
    assert isinstance(source, FeatureBatches)
    solution = optimum(plan, source, gather)
    head = plan.chain.get_submodule(plan.head)
    assert isinstance(head, torch.nn.Linear)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(solution.weight))
        head.bias.copy_(torch.from_numpy(solution.bias))
    return solution.reason


@dataclass(frozen=True, slots=True)
class Fitted:
    """A solved head, K x D and K, and what the val photos say of it."""

    weight: Array
    bias: Array
    scores: Scores


def solve_only(plan: Plan, source: FeatureBatches, gather: Gather) -> tuple[Fitted, Epoch]:
    """Return the solved head, and what stands in the place of an epoch. Needs no torch."""
    started = time.perf_counter()
    solution = optimum(plan, source, gather)
    weight, bias = solution.weight, solution.bias
    scores = scores_on(source, weight, bias, gather.index.classes)
    assert scores.outputs is not None
    if not np.isfinite(scores.outputs).all():
        raise TrainingError(
            "the features of the val photos hold values that are not finite",
            "use --precision fp32",
        )
    train_loss = loss_of(scores_of(flat(source.features), weight, bias), source.labels)
    seconds = time.perf_counter() - started
    return Fitted(weight, bias, scores), epoch_of(scores, train_loss, seconds, solution.reason)


def optimum(plan: Plan, source: FeatureBatches, gather: Gather) -> Solution:
    """Return the head that is best on the training features of a source. Needs no torch."""
    from zoo.head.solver import solve

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


def scores_on(
    source: FeatureBatches, weight: Array, bias: Array, classes: tuple[str, ...]
) -> Scores:
    """Return the scores of the val photos of a source."""
    outputs = scores_of(flat(source.val_features), weight, bias)
    labels = source.val_labels
    found = report(outputs.argmax(axis=1), labels, classes)
    return Scores(loss_of(outputs, labels), found, outputs=outputs)


def epoch_of(scores: Scores, train_loss: float, seconds: float, note: str) -> Epoch:
    """What stands in the place of an epoch."""
    assert scores.report is not None
    return Epoch(
        epoch=1,
        train_loss=train_loss,
        val_loss=scores.loss,
        accuracy=scores.report.accuracy,
        map=None,
        macro_f1=scores.report.macro_f1,
        mse=None,
        lr=0.0,
        seconds=seconds,
        best=True,
        notes=(note,),
    )


def head_alone(plan: Plan, phase: Phase) -> bool:
    """Whether a head is trained on features: what is that small stays in fp32."""
    return phase.solved or (plan.scales and phase is plan.phases[0])


def settings_of(
    plan: Plan, phase: Phase, index: DatasetIndex, class_weights: tuple[float, ...] | None
) -> LoopSettings:
    """What the loop needs to know; every other setting has been used by now."""
    recipe = plan.recipe
    return LoopSettings(
        first=phase.first,
        epochs=phase.last,
        batch_size=recipe.batch_size,
        accumulate=recipe.accumulate,
        lr=phase.lr,
        below=phase.below,
        layer_decay=layer_decay(recipe, plan.start),
        weight_decay=recipe.weight_decay,
        warmup=recipe.warmup,
        label_smoothing=recipe.label_smoothing,
        class_weights=class_weights,
        balanced=recipe.balance == "sampler",
        best=plan.best,
        seed=recipe.seed,
        classes=index.classes,
        fresh=plan.fresh,
        task=recipe.task or "classify",
        loss=recipe.loss,
        optimizer=phase.solver if not phase.solved else "adamw",
        momentum=recipe.momentum,
        schedule="cosine" if recipe.schedule == "head-then-all" else recipe.schedule,
        decay=recipe.decay,
        ema=recipe.ema,
        clip=recipe.clip,
        mixup=recipe.mixup,
        cutmix=recipe.cutmix,
        patience=recipe.patience,
        minutes=recipe.minutes,
        bf16=plan.device.precision == "bf16" and not head_alone(plan, phase),
        compile=recipe.compile,
    )
