"""Fit a phase: the head's optimum where it is solved for, else training in steps."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from zoo.finetune import head_rows, solve
from zoo.finetune.choices import layer_decay
from zoo.finetune.events import Note
from zoo.finetune.inputs import AnyBatches, Inputs
from zoo.finetune.journal import Journal
from zoo.head.layers import Layer
from zoo.recipe import table
from zoo.train.loop import Loop
from zoo.train.records import LoopSettings, Scores
from zoo.watch import stop

if TYPE_CHECKING:
    from zoo.data.index import DatasetIndex
    from zoo.finetune.phases import Phase
    from zoo.finetune.plan import Plan
    from zoo.head.distance import Distance


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a phase gives: a head that was found alone, or who trained.

    scores: of the val photos; test: of the test photos, after the last phase. The outputs in both
    are from before the temperature. distance: of a photo from those of the training.
    """

    scores: Scores
    test: Scores | None = None
    head: Layer | None = None
    loop: Loop | None = None
    distance: Distance | None = None


def phase(inputs: Inputs, journal: Journal, number: int, before: Fitted | None) -> Fitted | None:
    """Fit the phase of this number behind the one before it.

    None in the other processes of a team where there is nothing for them to do. Raises
    TrainingError, Interrupted.
    """
    plan = inputs.plan
    batches = inputs.batches(plan.phases[number])
    if plan.solved_only:
        if not inputs.ranks.main:
            return None
        found = solve.only(inputs, journal, batches)
        return Fitted(*found, distance=solve.distance(inputs, batches))
    if number == 0 and not plan.phases[0].solved:
        chain, classes = inputs.prepared.network().chain, inputs.index.classes
        head_rows.take(chain, plan.facts, classes, plan.recipe.head, inputs.scaling)
    loop = loop_of(inputs, plan.phases[number], batches)
    journal.follow(loop, number, before.loop if before else None)
    last = number == len(plan.phases) - 1
    if plan.phases[number].solved:
        solve.into_chain(inputs, journal, loop)
    else:
        with journal.failing():
            _train(inputs, journal, loop)
        if not last:  # the next begins with a pass over photos
            journal.save(loop)
        loop.restore_best()
    scores = loop.evaluate()
    test = loop.test_scores() if last else None
    inputs.fold_scaling(loop.model)
    away = solve.distance(inputs, batches) if last and inputs.ranks.main else None
    return Fitted(scores, test, loop=loop, distance=away)


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
    total, watch, ranks = loop.steps_per_epoch * loop.count, inputs.watch, inputs.ranks

    def after_step(step: int, steps: int) -> None:
        epoch = f"epoch {loop.state.epoch}/{loop.settings.epochs}"
        watch.progress(f"{epoch} · step {step}/{steps}", loop.done(), total)
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
    small = phase.solved or plan.standardises(phase)
    names = {field.name for field in fields(LoopSettings)} & set(table())
    same: dict[str, Any] = {name: getattr(recipe, name) for name in names}
    decided = {
        "first": phase.first,
        "epochs": phase.last,
        "lr": phase.lr,
        "below": phase.below,
        "layer_decay": layer_decay(recipe, plan.facts.trained),
        "class_weights": class_weights,
        "balanced": recipe.balance == "sampler",
        "best": plan.best,
        "classes": index.classes,
        "fresh": plan.fresh,
        "task": "distil" if recipe.teacher else recipe.task or "classify",
        "optimizer": phase.solver if not phase.solved else "adamw",
        "schedule": "cosine" if recipe.schedule == "head-then-all" else recipe.schedule,
        "bf16": plan.device.precision == "bf16" and not small,
    }
    return LoopSettings(**same | decided)
