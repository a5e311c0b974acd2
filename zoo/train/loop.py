"""The training loop over the trained part; yields Epoch records.

Everything random is f(seed, epoch, step), so a run that is stopped after any step and goes on
from its checkpoint ends with the same bits as one that was not.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from zoo.device import autocast
from zoo.metrics import Array
from zoo.train.batches import EVAL_BATCH, Batches, order, parts, steps
from zoo.train.distributed import SINGLE, Ranks
from zoo.train.losses import loss_of
from zoo.train.optimizers import Optimizer
from zoo.train.param_groups import fresh_starts, param_groups
from zoo.train.records import Epoch, LoopSettings, Scores, Training, TrainState
from zoo.train.recovery import SLOWER
from zoo.train.step import Batch, Step

if TYPE_CHECKING:
    import torch
    from torch import nn

StepFn = Callable[[int, int], None]  # is called after each step: its number, and of how many


class Loop:
    """One training of `model` (the trained part) on batches."""

    def __init__(
        self,
        model: nn.Module,
        batches: Batches,
        settings: LoopSettings,
        device: torch.device,
        ranks: Ranks = SINGLE,
    ) -> None:
        import torch

        # Channels last trains small convolutions on a CPU half as fast again.
        self.model = model.to(device).to(memory_format=torch.channels_last)
        if settings.compile:
            model.compile()
        self.batches, self.settings, self.device, self.ranks = batches, settings, device, ranks
        ranks.broadcast_model(model)
        self.fresh = fresh_starts(model, settings)
        self.steps_per_epoch = steps(len(batches.labels), settings.step_rows)
        self.count = settings.epochs - settings.first + 1  # of epochs
        self.training = Training(
            model,
            copy.deepcopy(model) if settings.ema else model,
            Optimizer(settings.optimizer, param_groups(model, settings), settings.momentum),
            TrainState(epoch=settings.first),
        )
        self.loss = loss_of(settings)(settings, batches, device)
        self.step = Step(self.training, self.loss, settings, ranks)
        self.keep()

    @property
    def state(self) -> TrainState:
        """Return where the training stands."""
        return self.training.state

    def follow(self, before: Loop, phase: int) -> None:
        """Go on from what another loop, of the phase before, has found to be best."""
        was = before.state
        self.training.state = TrainState(
            self.settings.first, phase=phase, trained=was.trained, skipped=was.skipped,
            best_epoch=was.best_epoch, best_score=was.best_score,
        )  # fmt: skip
        self.keep()

    def run(self, after_step: StepFn) -> Iterator[Epoch]:
        """Yield a record per epoch. after_step may raise; the state is then whole."""
        while not self.over():
            started = time.perf_counter()
            self.train_epoch(after_step)
            yield self.finish_epoch(started)

    def over(self) -> bool:
        """Return whether there is no epoch to come."""
        state, settings = self.state, self.settings
        if state.epoch > settings.epochs:
            return True
        waited = state.epoch - 1 - max(state.best_epoch, settings.first - 1)
        return self.time_is_up() or (settings.patience is not None and waited >= settings.patience)

    def ended(self) -> str:
        """Say why there were fewer epochs than planned; nothing where there were not."""
        state, settings = self.state, self.settings
        if state.epoch > settings.epochs:
            return ""
        where = f"epoch {state.epoch - 1} of {settings.epochs}"
        if not self.time_is_up():
            return f"ended after {where}: no better one for {settings.patience} (--patience)"
        if state.epoch == settings.first:
            return f"no time was left for epochs {settings.first} to {settings.epochs}"
        return f"ended after {settings.minutes:g} min, in {where}"

    def time_is_up(self) -> bool:
        minutes = self.settings.minutes
        return minutes is not None and self.state.trained >= 60 * minutes

    def train_epoch(self, after_step: StepFn) -> None:
        state = self.state
        self.train_mode()
        began = time.perf_counter()
        for batch in self.shares():
            loss = self.step.take(batch, self.rate(), self.done())
            if loss is not None:
                state.loss_sum += loss * len(batch.rows)
                state.rows += len(batch.rows)
            state.step += 1
            self.clock(began)
            after_step(state.step, self.steps_per_epoch)
            began = time.perf_counter()
            if self.time_is_up():
                break

    def shares(self) -> Iterator[Batch]:
        """Yield the batch of each step to come, with the inputs of this rank's share."""
        steps = self.divided()[self.state.step :]
        inputs = self.batches.train(self.state.epoch, [own for _, own in steps if len(own)])
        for rows, own in steps:
            yield Batch(rows, own, next(inputs) if len(own) else None)

    def divided(self) -> list[tuple[Array, Array]]:
        """Return the rows of each step of this epoch, and those of them that are this rank's."""
        batches, epoch, settings = self.batches, self.state.epoch, self.settings
        if batches.division:
            return batches.division.steps(settings.seed, epoch, self.steps_per_epoch)
        size, balanced = settings.step_rows, settings.balanced
        rows = order(settings.seed, epoch, batches.labels, size, balanced=balanced)
        return [(step, self.ranks.share(step)) for step in rows]

    def clock(self, began: float) -> None:
        """Count the time since then as training; the slowest rank's where it is limited."""
        self.state.trained += time.perf_counter() - began
        if self.settings.minutes is not None:
            self.state.trained = self.ranks.all_reduce_max(self.state.trained)

    def train_mode(self) -> None:
        """Put all but pretrained batch norms in train mode: few photos' statistics are far off."""
        from torch.nn.modules.batchnorm import _BatchNorm

        self.model.train()
        for name, part in self.model.named_modules():
            pretrained = self.settings.fresh is not None and not name.startswith(self.fresh)
            if isinstance(part, _BatchNorm) and pretrained:
                part.eval()

    def done(self) -> int:
        """Return how many steps were taken so far."""
        state = self.state
        return (state.epoch - self.settings.first) * self.steps_per_epoch + state.step

    def rate(self, back: int = 0) -> float:
        """Return the rate of the step that comes next, or of one so many steps back.

        Linear warm-up, then what the schedule says: a cosine to zero, or a factor an epoch. With a
        limit in minutes the time that is used up counts where it is the larger share.
        """
        settings, state = self.settings, self.state
        share = (self.done() - back) / (self.steps_per_epoch * self.count)
        one = 1 / (self.steps_per_epoch * self.count)
        if settings.minutes:
            share = min(1.0, max(share, state.trained / (60 * settings.minutes)))
        rising = min(1.0, (share + one) / max(one, settings.warmup))
        falling = {
            "cosine": 0.5 * (1 + math.cos(math.pi * share)),
            "exponential": settings.decay ** (state.epoch - settings.first),
            "constant": 1.0,
        }
        return settings.lr * rising * falling[settings.schedule] * SLOWER**state.retreats

    def finish_epoch(self, started: float) -> Epoch:
        state, rate = self.state, self.rate(back=1)
        began = time.perf_counter()
        while not math.isfinite((scores := self.evaluate()).loss):
            where = f"on the val photos after epoch {state.epoch}"
            self.step.recovery.retreat(scores.loss, where)
        better = self.choose(scores)
        self.clock(began)
        record = self.record(scores, rate, started, better)
        state.epoch, state.step, state.loss_sum, state.rows = state.epoch + 1, 0, 0.0, 0
        return record

    def record(self, scores: Scores, rate: float, started: float, better: bool) -> Epoch:
        state, notes = self.state, self.step.recovery.notes
        found = scores.report or scores.labels
        record = Epoch(
            epoch=state.epoch,
            train_loss=state.loss_sum / max(1, state.rows),
            val_loss=scores.loss,
            accuracy=scores.report.accuracy if scores.report else None,
            map=scores.labels.map if scores.labels else None,
            macro_f1=found.macro_f1 if found else None,
            mse=scores.mse,
            lr=rate,
            seconds=time.perf_counter() - started,
            best=better,
            notes=tuple(notes),
        )
        notes.clear()
        return record

    def solved(self, note: str, started: float) -> Epoch:
        """Return the record of a model that was solved for, in the place of an epoch."""
        self.training.averaged.load_state_dict(self.model.state_dict())  # the mean begins here
        self.step.recovery.notes.append(note)
        self.state.loss_sum, self.state.rows = self.training_loss()
        scores = self.evaluate()
        record = self.record(scores, 0.0, started, self.choose(scores))
        self.state.epoch += 1
        return record

    def training_loss(self) -> tuple[float, int]:
        """Return the sum of the training rows' losses as the model is now, and their number."""
        import torch

        if not self.ranks.main:
            return 0.0, 0
        count = len(self.batches.labels)
        rows = [np.arange(count)[part] for part in parts(count, EVAL_BATCH)]
        self.model.eval()
        with torch.inference_mode():
            total = sum(
                len(chosen) * float(self.step.mean(self.model(inputs), inputs, chosen))
                for inputs, chosen in zip(self.batches.train(1, rows), rows, strict=True)
            )
        return total, count

    def choose(self, scores: Scores) -> bool:
        """Return whether this epoch is the best so far; its weights are then kept."""
        state, last = self.state, self.settings.best in ("last", "optimum")
        score: tuple[float, ...] = (float(state.epoch), 0.0)
        if not last:
            score = scores.rank(self.settings.best) if self.ranks.main else score
            score = self.ranks.broadcast(*score)
        if score <= state.best_score:
            return False
        state.best_score, state.best_epoch = score, state.epoch
        self.keep()
        return not last or state.epoch == self.settings.epochs

    def keep(self) -> None:
        """Take what is there now for the best so far."""
        weights = self.training.averaged.state_dict().items()
        self.state.best_state = {n: value.detach().cpu().clone() for n, value in weights}

    def evaluate(self) -> Scores:
        """Return the scores of the validation photos with the weights that would be kept."""
        if not self.ranks.main:
            (loss,) = self.ranks.broadcast(0.0)
            return Scores(loss)
        with autocast(self.device, self.settings.bf16):
            scores = self.loss.evaluate(self.training.averaged, self.batches)
        self.ranks.broadcast(scores.loss)
        return scores

    def test_scores(self) -> Scores | None:
        """Return the scores of the test photos; None without any, and where others score them."""
        if not self.ranks.main or (batches := self.batches.on_test()) is None:
            return None
        with autocast(self.device, self.settings.bf16):
            loss = loss_of(self.settings)(self.settings, batches, self.device)
            return loss.evaluate(self.training.averaged, batches)

    def restore_best(self) -> None:
        """Make the trained part what was best; it is evaluated as such from here on."""
        self.training.averaged = self.model
        self.model.load_state_dict(self.state.best_state)
