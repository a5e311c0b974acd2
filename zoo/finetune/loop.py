"""The training loop over the trained part; yields Epoch records.

Everything random is f(seed, epoch, step), so a run that is stopped after any step and goes on
from its checkpoint ends with the same bits as one that was not.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from zoo.device import seed_all
from zoo.errors import TrainingError
from zoo.finetune.optimizers import optimizer
from zoo.finetune.sources import Source, order, steps
from zoo.finetune.tasks import Classify, Reconstruct, Scores, Task

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, slots=True)
class Settings:
    """What the loop needs to know of the recipe, with every choice made.

    lr is the peak rate of new layers; pretrained ones are trained at PRETRAINED of it.
    """

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    warmup: float
    label_smoothing: float
    class_weights: tuple[float, ...] | None
    balanced: bool
    best: str
    seed: int
    classes: tuple[str, ...]
    fresh: str | None  # stage of the new head; None where every layer is new
    task: str = "classify"
    loss: str = "auto"
    optimizer: str = "adamw"
    momentum: float = 0.0
    schedule: str = "cosine"
    decay: float = 0.6
    ema: float = 0.0


@dataclass(frozen=True, slots=True)
class Epoch:
    """One line of metrics.jsonl; `best` says that this epoch is the best so far.

    accuracy and macro_f1 of classes, mse of reconstructions.
    """

    epoch: int
    train_loss: float
    val_loss: float
    accuracy: float | None
    macro_f1: float | None
    mse: float | None
    lr: float
    seconds: float
    best: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class Progress:
    """Where training stands: epoch and step that come next, and what is known so far.

    seconds, cpu_seconds: spent by the processes before this one.
    """

    epoch: int = 1
    step: int = 0
    loss_sum: float = 0.0
    rows: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    best_epoch: int = 0
    best_score: tuple[float, float] = (-math.inf, 0.0)
    best_state: dict[str, torch.Tensor] = field(default_factory=dict)


PRETRAINED = 0.1


def parameter_groups(model: nn.Module, settings: Settings) -> list[dict[str, Any]]:
    """Parameters by rate (new or pretrained) and decay (matrices have it, biases not)."""
    from zoo.models.auxiliary import AuxiliaryHead

    groups: dict[tuple[float, float], list[Any]] = {}
    parts = model.named_modules()
    fresh = [name for name, part in parts if isinstance(part, AuxiliaryHead)] + [settings.fresh]
    starts = tuple(f"{name}." for name in fresh)
    for name, parameter in model.named_parameters():
        new = settings.fresh is None or name.startswith(starts)
        decay = settings.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((1.0 if new else PRETRAINED, decay), []).append(parameter)
    return [
        {"params": parameters, "share": share, "lr": 0.0, "weight_decay": decay}
        for (share, decay), parameters in groups.items()
    ]


class Loop:
    """One training of `model` (the trained part) on a source."""

    def __init__(self, model: nn.Module, source: Source, settings: Settings, device: Any) -> None:
        import torch

        from zoo.models.auxiliary import AuxiliaryHead

        # Channels last trains small convolutions on a CPU half as fast again.
        self.model = model.to(device).to(memory_format=torch.channels_last)
        self.source, self.settings = source, settings
        groups = parameter_groups(model, settings)
        self.optimizer = optimizer(settings.optimizer, groups, settings.momentum)
        kind = Classify if settings.task == "classify" else Reconstruct
        self.task: Task = kind(settings, source, device)
        # What is evaluated and kept: the model itself, or the running mean of its weights.
        self.averaged = copy.deepcopy(self.model) if settings.ema else self.model
        self.heads = [part for part in self.model.modules() if isinstance(part, AuxiliaryHead)]
        self.progress = Progress()
        self.steps_per_epoch = steps(len(source.labels), settings.batch_size)

    def run(self, after_step: Callable[[int, int], None]) -> Iterator[Epoch]:
        """Yields a record per epoch. after_step(step, steps) may raise; the state is then whole."""
        while self.progress.epoch <= self.settings.epochs:
            started = time.perf_counter()
            self.train_epoch(after_step)
            yield self.finish_epoch(started)

    def train_epoch(self, after_step: Callable[[int, int], None]) -> None:
        progress, settings = self.progress, self.settings
        rows = order(
            settings.seed,
            progress.epoch,
            self.source.labels,
            settings.batch_size,
            balanced=settings.balanced,
        )[progress.step :]
        self.model.train()
        for inputs, chosen in zip(self.source.train(progress.epoch, rows), rows, strict=True):
            loss = self.step(inputs, chosen)
            progress.loss_sum += loss * len(chosen)
            progress.rows += len(chosen)
            progress.step += 1
            after_step(progress.step, self.steps_per_epoch)

    def step(self, inputs: torch.Tensor, rows: Any) -> float:
        progress = self.progress
        seed_all("step", self.settings.seed, progress.epoch, progress.step)  # dropout
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate() * group["share"]
        self.optimizer.zero_grad()
        loss = self.task.loss(self.model(inputs), inputs, rows)
        loss = loss + self.auxiliary(inputs, rows)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise self.diverged(value, f"in epoch {progress.epoch}, step {progress.step + 1}")
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        if self.averaged is not self.model:
            self.average()
        return value

    def diverged(self, value: float, where: str) -> TrainingError:
        return TrainingError(
            f"the loss became {value} {where}", f"try a lower rate: --lr {self.settings.lr / 10:g}"
        )

    def average(self) -> None:
        """Moves the running mean towards the weights, faster at first (Tarvainen, Valpola 2017)."""
        import torch

        done = (self.progress.epoch - 1) * self.steps_per_epoch + self.progress.step
        share = 1 - min(self.settings.ema, (1 + done) / (10 + done))
        with torch.no_grad():
            means = self.averaged.state_dict()
            for name, value in self.model.state_dict().items():
                if value.is_floating_point():
                    means[name].lerp_(value, share)
                else:
                    means[name].copy_(value)

    def auxiliary(self, inputs: torch.Tensor, rows: Any) -> torch.Tensor | float:
        """The losses of heads that exist in training only."""
        from zoo.models.auxiliary import WEIGHT

        kept = [head.scores for head in self.heads if head.scores is not None]
        return WEIGHT * sum(self.task.loss(scores, inputs, rows) for scores in kept)

    def rate(self, back: int = 0) -> float:
        """Linear warm-up, then what the schedule says: a cosine to zero, or a factor an epoch.

        Of the step that comes next, or so many steps back.
        """
        settings = self.settings
        total = self.steps_per_epoch * settings.epochs
        done = (self.progress.epoch - 1) * self.steps_per_epoch + self.progress.step
        done -= back
        rising = min(1.0, (done + 1) / max(1.0, settings.warmup * total))
        falling = {
            "cosine": 0.5 * (1 + math.cos(math.pi * done / total)),
            "exponential": settings.decay ** (self.progress.epoch - 1),
            "constant": 1.0,
        }
        return settings.lr * rising * falling[settings.schedule]

    def finish_epoch(self, started: float) -> Epoch:
        progress, rate = self.progress, self.rate(back=1)
        scores = self.evaluate()
        if not math.isfinite(scores.loss):
            raise self.diverged(scores.loss, f"on the val photos after epoch {progress.epoch}")
        better = self.choose(scores)
        record = Epoch(
            epoch=progress.epoch,
            train_loss=progress.loss_sum / max(1, progress.rows),
            val_loss=scores.loss,
            accuracy=scores.report.accuracy if scores.report else None,
            macro_f1=scores.report.macro_f1 if scores.report else None,
            mse=scores.mse,
            lr=rate,
            seconds=time.perf_counter() - started,
            best=better,
        )
        progress.epoch, progress.step = progress.epoch + 1, 0
        progress.loss_sum, progress.rows = 0.0, 0
        return record

    def choose(self, scores: Scores) -> bool:
        """Whether this epoch is the best so far; its weights are then kept."""
        progress, last = self.progress, self.settings.best == "last"
        if last and progress.epoch < self.settings.epochs:
            return False
        rank = (float(progress.epoch), 0.0) if last else scores.rank(self.settings.best)
        if rank <= progress.best_score:
            return False
        progress.best_score, progress.best_epoch = rank, progress.epoch
        state = self.averaged.state_dict().items()
        progress.best_state = {name: value.detach().cpu().clone() for name, value in state}
        return True

    def evaluate(self) -> Scores:
        """The scores of the validation photos with the weights that would be kept."""
        return self.task.evaluate(self.averaged, self.source)

    def restore_best(self) -> None:
        """The trained part becomes what was best, and is evaluated as such from here on."""
        self.averaged = self.model
        self.model.load_state_dict(self.progress.best_state)
