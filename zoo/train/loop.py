"""The training loop over the trained part; yields Epoch records.

Everything random is f(seed, epoch, step), so a run that is stopped after any step and goes on
from its checkpoint ends with the same bits as one that was not.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.train.batches import EVAL_BATCH, Source, order, steps
from zoo.train.distributed import ALONE, Team
from zoo.train.losses import TASKS, Task
from zoo.train.optimizers import clip, optimizer
from zoo.train.param_groups import PRETRAINED, fresh_starts, parameter_groups
from zoo.train.records import Epoch, Progress, Scores, Settings
from zoo.train.recovery import SLOWER, Guard
from zoo.train.step import Gradients, parts

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["PRETRAINED", "Epoch", "Loop", "Progress", "Settings", "parameter_groups"]


class Loop:
    """One training of `model` (the trained part) on a source."""

    def __init__(
        self,
        model: nn.Module,
        source: Source,
        settings: Settings,
        device: Any,
        team: Team = ALONE,
    ) -> None:
        import torch

        # Channels last trains small convolutions on a CPU half as fast again.
        self.model = model.to(device).to(memory_format=torch.channels_last)
        if settings.compile:
            model.compile()
        self.source, self.settings, self.device, self.team = source, settings, device, team
        team.spread(self.model)
        groups = parameter_groups(model, settings)
        self.optimizer = optimizer(settings.optimizer, groups, settings.momentum)
        self.task: Task = TASKS[settings.task](settings, source, device)
        self.gradients = Gradients(self.model, self.task, settings, device, team)
        # What is evaluated and kept: the model itself, or the running mean of its weights.
        self.averaged = copy.deepcopy(self.model) if settings.ema else self.model
        self.fresh = fresh_starts(model, settings)
        self.steps_per_epoch = steps(len(source.labels), settings.step_rows)
        self.count = settings.epochs - settings.first + 1  # of epochs
        self.begin(Progress(epoch=settings.first))
        self.keep()

    def begin(self, progress: Progress) -> None:
        """Goes on from this point."""
        self.progress = progress
        self.guard = Guard(self.model, progress, self.settings)

    def follow(self, before: Loop, phase: int) -> None:
        """Goes on from what another loop, of the phase before, has found to be best."""
        was = before.progress
        self.begin(
            Progress(
                epoch=self.settings.first,
                phase=phase,
                trained=was.trained,
                skipped=was.skipped,
                best_epoch=was.best_epoch,
                best_score=was.best_score,
            )
        )
        self.keep()

    def run(self, after_step: Callable[[int, int], None]) -> Iterator[Epoch]:
        """Yields a record per epoch. after_step(step, steps) may raise; the state is then whole."""
        while not self.over():
            started = time.perf_counter()
            self.train_epoch(after_step)
            yield self.finish_epoch(started)

    def over(self) -> bool:
        """Whether there is no epoch to come."""
        progress, settings = self.progress, self.settings
        if progress.epoch > settings.epochs:
            return True
        waited = progress.epoch - 1 - max(progress.best_epoch, settings.first - 1)
        return self.time_is_up() or (settings.patience is not None and waited >= settings.patience)

    def ended(self) -> str:
        """Why there were fewer epochs than planned; nothing where there were not."""
        progress, settings = self.progress, self.settings
        if progress.epoch > settings.epochs:
            return ""
        if not self.time_is_up():
            return (
                f"ended after epoch {progress.epoch - 1} of {settings.epochs}: no better one for "
                f"{settings.patience} (--patience)"
            )
        if progress.epoch == settings.first:
            return f"no time was left for epochs {settings.first} to {settings.epochs}"
        where = f"in epoch {progress.epoch - 1} of {settings.epochs}"
        return f"ended after {settings.minutes:g} min, {where}"

    def time_is_up(self) -> bool:
        minutes = self.settings.minutes
        return minutes is not None and self.progress.trained >= 60 * minutes

    def train_epoch(self, after_step: Callable[[int, int], None]) -> None:
        progress, settings = self.progress, self.settings
        rows = order(
            settings.seed,
            progress.epoch,
            self.source.labels,
            settings.step_rows,
            balanced=settings.balanced,
        )[progress.step :]
        self.train_mode()
        began = time.perf_counter()
        for inputs, share, chosen in self.shares(rows):
            loss = self.step(inputs, chosen, share)
            if loss is not None:
                progress.loss_sum += loss * len(chosen)
                progress.rows += len(chosen)
            progress.step += 1
            self.clock(began)
            after_step(progress.step, self.steps_per_epoch)
            began = time.perf_counter()
            if self.time_is_up():
                break

    def shares(self, steps: list[Any]) -> Iterator[tuple[torch.Tensor | None, Any, Any]]:
        """The inputs of this process's share of each step, if it has one; its rows, and all."""
        shares = [self.team.share(rows) for rows in steps]
        inputs = self.source.train(self.progress.epoch, [rows for rows in shares if len(rows)])
        for share, rows in zip(shares, steps, strict=True):
            yield next(inputs) if len(share) else None, share, rows

    def clock(self, began: float) -> None:
        """The time since then is of the training; the slowest process's where it is limited."""
        self.progress.trained += time.perf_counter() - began
        if self.settings.minutes is not None:
            self.progress.trained = self.team.most(self.progress.trained)

    def train_mode(self) -> None:
        """Pretrained batch norms keep their statistics: those of a few photos are far off them."""
        from torch.nn.modules.batchnorm import _BatchNorm

        self.model.train()
        for name, part in self.model.named_modules():
            if isinstance(part, _BatchNorm) and self.old(name):
                part.eval()

    def old(self, name: str) -> bool:
        """Whether this part came with weights."""
        return self.settings.fresh is not None and not name.startswith(self.fresh)

    def step(self, inputs: torch.Tensor | None, rows: Any, share: Any = None) -> float | None:
        """One step; the mean loss, or None where it was not finite and nothing was changed.

        inputs: of the rows of the share, which are all rows where it is None.
        """
        progress = self.progress
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate() * group["share"]
        self.guard.before_step()
        loss = self.gradients.of_step(inputs, rows, rows if share is None else share, self.guard)
        if not math.isfinite(loss):
            if self.guard.skip(loss):
                self.retreat(loss, f"in epoch {progress.epoch}, step {progress.step + 1}")
            return None
        progress.in_a_row = 0
        if self.settings.clip:
            clip(self.model, self.settings.clip)
        self.optimizer.step()
        if self.averaged is not self.model:
            self.average()
        return loss

    def retreat(self, loss: float, where: str) -> None:
        self.guard.retreat(loss, where)
        self.optimizer.state.clear()
        if self.averaged is not self.model:
            self.averaged.load_state_dict(self.progress.best_state)

    def average(self) -> None:
        """Moves the running mean towards the weights, faster at first (Tarvainen, Valpola 2017)."""
        import torch

        done = self.done()
        share = 1 - min(self.settings.ema, (1 + done) / (10 + done))
        means, values = (each.state_dict() for each in (self.averaged, self.model))
        moving = [name for name, value in values.items() if value.is_floating_point()]
        with torch.no_grad():
            torch._foreach_lerp_([means[n] for n in moving], [values[n] for n in moving], share)
            for name in values.keys() - set(moving):
                means[name].copy_(values[name])

    def done(self) -> int:
        """Steps taken so far."""
        progress = self.progress
        return (progress.epoch - self.settings.first) * self.steps_per_epoch + progress.step

    def rate(self, back: int = 0) -> float:
        """Linear warm-up, then what the schedule says: a cosine to zero, or a factor an epoch.

        Of the step that comes next, or so many steps back. With a limit in minutes the time that
        is used up counts where it is the larger share.
        """
        settings, progress = self.settings, self.progress
        share = (self.done() - back) / (self.steps_per_epoch * self.count)
        one = 1 / (self.steps_per_epoch * self.count)
        if settings.minutes:
            share = min(1.0, max(share, progress.trained / (60 * settings.minutes)))
        rising = min(1.0, (share + one) / max(one, settings.warmup))
        falling = {
            "cosine": 0.5 * (1 + math.cos(math.pi * share)),
            "exponential": settings.decay ** (progress.epoch - settings.first),
            "constant": 1.0,
        }
        return settings.lr * rising * falling[settings.schedule] * SLOWER**progress.retreats

    def finish_epoch(self, started: float) -> Epoch:
        progress, rate = self.progress, self.rate(back=1)
        began = time.perf_counter()
        scores = self.evaluate()
        while not math.isfinite(scores.loss):
            self.retreat(scores.loss, f"on the val photos after epoch {progress.epoch}")
            scores = self.evaluate()
        better = self.choose(scores)
        self.clock(began)
        record = self.record(scores, rate, started, better)
        progress.epoch, progress.step = progress.epoch + 1, 0
        progress.loss_sum, progress.rows = 0.0, 0
        return record

    def record(self, scores: Scores, rate: float, started: float, better: bool) -> Epoch:
        progress = self.progress
        notes, found = tuple(self.guard.notes), scores.report or scores.labels
        self.guard.notes.clear()
        return Epoch(
            epoch=progress.epoch,
            train_loss=progress.loss_sum / max(1, progress.rows),
            val_loss=scores.loss,
            accuracy=scores.report.accuracy if scores.report else None,
            map=scores.labels.map if scores.labels else None,
            macro_f1=found.macro_f1 if found else None,
            mse=scores.mse,
            lr=rate,
            seconds=time.perf_counter() - started,
            best=better,
            notes=notes,
        )

    def solved(self, note: str, started: float) -> Epoch:
        """The record of a model that was solved for, in the place of an epoch."""
        if self.averaged is not self.model:  # a mean of the weights begins here
            self.averaged.load_state_dict(self.model.state_dict())
        self.guard.notes.append(note)
        self.progress.loss_sum, self.progress.rows = self.training_loss()
        scores = self.evaluate()
        record = self.record(scores, 0.0, started, self.choose(scores))
        self.progress.epoch += 1
        return record

    def training_loss(self) -> tuple[float, int]:
        """The sum of the training rows' losses as the model is now, and their number."""
        import torch

        if not self.team.first:
            return 0.0, 0
        count = len(self.source.labels)
        rows = [np.arange(count)[part] for part in parts(count, EVAL_BATCH)]
        self.model.eval()
        total = 0.0
        with torch.inference_mode():
            for inputs, chosen in zip(self.source.train(1, rows), rows, strict=True):
                total += len(chosen) * float(
                    self.gradients.loss(self.model(inputs), inputs, chosen)
                )
        return total, count

    def choose(self, scores: Scores) -> bool:
        """Whether this epoch is the best so far; its weights are then kept."""
        progress, last = self.progress, self.settings.best in ("last", "optimum")
        rank = (float(progress.epoch), 0.0)
        if not last:
            own = scores.rank(self.settings.best) if self.team.first else rank
            score, then = self.team.from_first(*own)
            rank = (score, then)
        if rank <= progress.best_score:
            return False
        progress.best_score, progress.best_epoch = rank, progress.epoch
        self.keep()
        return not last or progress.epoch == self.settings.epochs

    def keep(self) -> None:
        """What is there now is the best so far."""
        state = self.averaged.state_dict().items()
        self.progress.best_state = {n: value.detach().cpu().clone() for n, value in state}

    def evaluate(self) -> Scores:
        """The scores of the validation photos with the weights that would be kept."""
        if not self.team.first:
            (loss,) = self.team.from_first(0.0)
            return Scores(loss)
        with self.gradients.precision():
            scores = self.task.evaluate(self.averaged, self.source)
        self.team.from_first(scores.loss)
        return scores

    def test_scores(self) -> Scores | None:
        """Return the scores of the test photos; None where there are none, or for others to say."""
        source = self.source.on_test() if self.team.first else None
        if source is None:
            return None
        with self.gradients.precision():
            task: Task = TASKS[self.settings.task](self.settings, source, self.device)
            return task.evaluate(self.averaged, source)

    def restore_best(self) -> None:
        """The trained part becomes what was best, and is evaluated as such from here on."""
        self.averaged = self.model
        self.model.load_state_dict(self.progress.best_state)
