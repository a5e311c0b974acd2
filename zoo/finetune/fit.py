"""Fit a phase: the head's optimum where it is solved for, else training in steps."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import TrainingError
from zoo.finetune.choices import layer_decay
from zoo.finetune.events import Note
from zoo.finetune.inputs import AnyBatches, Inputs
from zoo.finetune.journal import Journal
from zoo.head.folds import alike
from zoo.head.solver import loss_of, scores_of
from zoo.metrics import Array, report
from zoo.train.batches import FeatureBatches
from zoo.train.loop import Loop
from zoo.train.records import Epoch, LoopSettings, Scores
from zoo.watch import stop

if TYPE_CHECKING:
    from zoo.data.index import DatasetIndex
    from zoo.finetune.phases import Phase
    from zoo.finetune.plan import Plan
    from zoo.head.solver import Solution


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a phase gives: a head, K x D and K, that was found without torch, or who trained.

    scores: of the val photos; test: of the test photos, after the last phase. The outputs in both
    are from before the temperature.
    """

    scores: Scores
    test: Scores | None = None
    head: tuple[Array, Array] | None = None
    loop: Loop | None = None


def phase(inputs: Inputs, journal: Journal, number: int, before: Fitted | None) -> Fitted | None:
    """Fit the phase of this number behind the one before it.

    None in the other processes of a team where there is nothing for them to do. Raises
    TrainingError, Interrupted.
    """
    plan = inputs.plan
    batches = inputs.batches(plan.phases[number])
    if plan.solved_only:
        return _solved(inputs, journal, batches) if inputs.ranks.main else None
    loop = loop_of(inputs, plan.phases[number], batches)
    journal.follow(loop, number, before.loop if before else None)
    last = number == len(plan.phases) - 1
    if plan.phases[number].solved:
        _solve_in(inputs, journal, loop)
    else:
        with journal.failing():
            _train(inputs, journal, loop)
        if not last:  # the next begins with a pass over photos
            journal.save(loop)
        loop.restore_best()
    scores = loop.evaluate()
    test = loop.test_scores() if last else None
    inputs.fold_scaling(loop.model)
    return Fitted(scores, test, loop=loop)


# The head's optimum.


def solve(inputs: Inputs, source: FeatureBatches) -> Solution:
    """Return the head that is best on the training features of a source. Needs no torch."""
    from zoo.head.softmax_regression import Targets
    from zoo.head.solver import Search
    from zoo.head.solver import solve as optimum

    plan, train = inputs.plan, inputs.index.of("train")
    targets = Targets(
        source.labels,
        len(inputs.index.classes),
        alike([inputs.digests[sample.path] for sample in train], plan.views),
        np.array(inputs.class_weights) if inputs.class_weights else None,
        plan.recipe.label_smoothing,
    )
    search = Search(plan.recipe.seed, penalty=plan.recipe.penalty)
    return optimum(source.features.flat(), targets, search, lambda: stop(inputs.watch.signal))


def _solved(inputs: Inputs, journal: Journal, source: AnyBatches) -> Fitted:
    """A solved head is all there is: no torch, and no epoch but the one in its place."""
    assert isinstance(source, FeatureBatches)
    journal.begin(0)
    started = time.perf_counter()
    found = solve(inputs, source)
    scores = _scores(source, found, inputs.index.classes)
    assert scores.report is not None
    if not np.isfinite(scores.outputs).all():  # type: ignore[arg-type]
        raise TrainingError(
            "the features of the val photos hold values that are not finite",
            "use --precision fp32",
        )
    outputs = scores_of(source.features.flat(), found.weight, found.bias)
    epoch = Epoch(
        epoch=1,
        train_loss=loss_of(outputs, source.labels),
        val_loss=scores.loss,
        accuracy=scores.report.accuracy,
        map=None,
        macro_f1=scores.report.macro_f1,
        mse=None,
        lr=0.0,
        seconds=time.perf_counter() - started,
        best=True,
        notes=(found.reason,),
    )
    journal.log(epoch)
    on_test = source.on_test()
    test = _scores(on_test, found, inputs.index.classes) if on_test else None
    return Fitted(scores, test, head=(found.weight, found.bias))


def _scores(source: FeatureBatches, found: Solution, classes: tuple[str, ...]) -> Scores:
    """Return what the val photos of a source say of a head."""
    outputs = scores_of(source.val_features.flat(), found.weight, found.bias)
    labels = source.val_labels
    return Scores(
        loss_of(outputs, labels),
        report(outputs.argmax(axis=1), labels, classes),
        outputs=outputs,
    )


def _solve_in(inputs: Inputs, journal: Journal, loop: Loop) -> None:
    """Put the optimum into the chain's head, from where later phases train it in steps."""
    import torch

    started, note, ranks = time.perf_counter(), "", inputs.ranks
    if ranks.main:
        assert isinstance(loop.batches, FeatureBatches)
        found = solve(inputs, loop.batches)
        head = inputs.prepared.network().chain.get_submodule(inputs.plan.facts.head)
        assert isinstance(head, torch.nn.Linear)
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(found.weight))
            head.bias.copy_(torch.from_numpy(found.bias))
        note = found.reason
    ranks.broadcast_model(loop.model)
    journal.log(loop.solved(note, started))


# Training in steps.


def loop_of(inputs: Inputs, phase: Phase, source: AnyBatches) -> Loop:
    """Return the loop that trains what a phase trains, as the network is now."""
    import torch

    plan = inputs.plan
    torch.set_num_threads(plan.threads)
    settings = settings_of(plan, phase, inputs.index, inputs.class_weights)
    model = inputs.prepared.trained(phase)
    return Loop(model, source, settings, plan.device.torch, inputs.ranks)


def _train(inputs: Inputs, journal: Journal, loop: Loop) -> None:
    what, total = f"epochs to {loop.settings.epochs}", loop.steps_per_epoch * loop.count
    watch, ranks = inputs.watch, inputs.ranks

    def after_step(step: int, steps: int) -> None:
        watch.progress(what, loop.done(), total)
        stop(int(ranks.all_reduce_max(watch.signal)))
        journal.save_if_due(loop)

    with journal.saving(loop):
        for epoch in loop.run(after_step):
            journal.log(epoch)
    if ended := loop.ended():
        watch.tell(Note(ended))


def settings_of(
    plan: Plan, phase: Phase, index: DatasetIndex, class_weights: tuple[float, ...] | None
) -> LoopSettings:
    """Return what the loop needs to know; every other setting has been used by now."""
    recipe = plan.recipe
    # A head on features is small: it stays in fp32.
    small = phase.solved or (plan.scales and phase is plan.phases[0])
    return LoopSettings(
        first=phase.first,
        epochs=phase.last,
        batch_size=recipe.batch_size,
        accumulate=recipe.accumulate,
        lr=phase.lr,
        below=phase.below,
        layer_decay=layer_decay(recipe, plan.facts.trained),
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
        bf16=plan.device.precision == "bf16" and not small,
        compile=recipe.compile,
    )
