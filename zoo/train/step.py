"""One step of a training: forward, loss, backward, all-reduce, clip, optimizer.

`Step.take` and `Step.backward` are all of it. What is done where a loss is not finite, or where
memory ends, stands around them in recovery.py.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from zoo.device import autocast, seed_all
from zoo.errors import TeamError
from zoo.metrics import Array
from zoo.train.batches import parts
from zoo.train.distributed import Ranks
from zoo.train.losses import Loss
from zoo.train.mixup import mix
from zoo.train.optimizers import average
from zoo.train.records import LoopSettings, Training
from zoo.train.recovery import Recovery

if TYPE_CHECKING:
    import torch


class Batch(NamedTuple):
    """The training rows of a step: all of them, and those of this rank with their inputs."""

    rows: Array
    own: Array
    inputs: torch.Tensor | None  # None where this rank has no row


class Step:
    """Takes the steps of one training."""

    def __init__(
        self, training: Training, loss: Loss, settings: LoopSettings, ranks: Ranks
    ) -> None:
        from zoo.models.auxiliary import heads_of

        self.training, self.loss, self.settings, self.ranks = training, loss, settings, ranks
        self.recovery = Recovery(training, settings)
        self.heads = heads_of(training.model)

    def take(self, batch: Batch, rate: float, done: int) -> float | None:
        """Take a step at this rate, after `done` others, and return the mean loss of the batch.

        None where the loss was not finite: nothing has moved then.
        """
        from torch.nn.utils import clip_grad_norm_

        model, optimizer = self.training.model, self.training.optimizer
        self.recovery.remember()
        loss = self.recovery.within_memory(batch.own, lambda at_once: self.backward(batch, at_once))
        try:
            loss = self.ranks.all_reduce_gradients(model, loss, len(batch.own) / len(batch.rows))
        except TeamError:
            self.recovery.undo()  # the state is that before the step: it may be saved
            raise
        if not math.isfinite(loss):
            self.recovery.skip(loss)
            return None
        if self.settings.clip:
            clip_grad_norm_(model.parameters(), self.settings.clip)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]
        optimizer.step()
        self.training.state.in_a_row = 0
        if self.training.averaged is not model:
            average(self.training.averaged, model, self.settings.ema, done)
        return loss

    def backward(self, batch: Batch, at_once: int) -> float:
        """Leave the gradients of this rank's rows in the parameters, computed in parts.

        at_once: rows of a part. Return what the rows add to the mean loss over the whole batch.
        """
        model, settings, state = self.training.model, self.settings, self.training.state
        model.zero_grad()
        if batch.inputs is None:
            return 0.0
        now, rank = (settings.seed, state.epoch, state.step), self.ranks.rank
        seed_all("step", *now, *([rank] if rank else []))  # dropout
        inputs, partner, share = batch.inputs, None, 1.0
        if settings.mixup or settings.cutmix:
            inputs, partner, share = mix(inputs, ("mix", *now), settings.mixup, settings.cutmix)
        weight, total = self.loss.weight(batch.rows), 0.0
        for part in parts(len(batch.own), at_once):
            with autocast(inputs.device, settings.bf16):
                outputs = model(inputs[part])
            loss = share * self.added(outputs, inputs[part], batch.own[part], weight)
            if partner is not None:
                other = self.added(outputs, inputs[part], batch.own[partner[part]], weight)
                loss = loss + (1 - share) * other
            # Before the loss is looked at: a GPU then has work while Python waits for the number.
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
            if not math.isfinite(total):
                break
        return total

    def added(
        self, outputs: torch.Tensor, inputs: torch.Tensor, rows: Array, weight: float
    ) -> torch.Tensor:
        """Return what these rows add to the mean loss over rows of this weight."""
        return self.mean(outputs, inputs, rows) * (self.loss.weight(rows) / weight)

    def mean(self, outputs: torch.Tensor, inputs: torch.Tensor, rows: Array) -> torch.Tensor:
        """Return the mean loss of the outputs and of heads that exist in training only."""
        from zoo.models.auxiliary import WEIGHT

        scores = [head.scores for head in self.heads if head.scores is not None]
        beside = sum(self.loss.mean(each.float(), inputs, rows) for each in scores)
        return self.loss.mean(outputs.float(), inputs, rows) + WEIGHT * beside
