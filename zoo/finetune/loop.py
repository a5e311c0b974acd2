"""The training loop: AdamW with warm-up and cosine over the trained part; yields Epoch records.

Everything random is f(seed, epoch, step), so a run that is stopped after any step and goes on
from its checkpoint ends with the same bits as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.device import seed_all
from zoo.errors import TrainingError
from zoo.finetune.adamw import AdamW
from zoo.finetune.sources import Source, order
from zoo.metrics import Array, report

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


@dataclass(frozen=True, slots=True)
class Epoch:
    """One line of metrics.jsonl; `best` says that this epoch is the best so far."""

    epoch: int
    train_loss: float
    val_loss: float
    accuracy: float
    macro_f1: float
    lr: float
    seconds: float
    best: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class Progress:
    """Where training stands: epoch and step that come next, and what is known so far."""

    epoch: int = 1
    step: int = 0
    loss_sum: float = 0.0
    rows: int = 0
    best_epoch: int = 0
    best_score: tuple[float, float] = (-1.0, 0.0)
    best_state: dict[str, torch.Tensor] = field(default_factory=dict)


PRETRAINED = 0.1


def parameter_groups(model: nn.Module, settings: Settings) -> list[dict[str, Any]]:
    """Parameters by rate (new or pretrained) and decay (matrices have it, biases not)."""
    groups: dict[tuple[float, float], list[Any]] = {}
    for name, parameter in model.named_parameters():
        new = settings.fresh is None or name.startswith(settings.fresh + ".")
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

        self.model, self.source, self.settings = model.to(device), source, settings
        groups = parameter_groups(model, settings)
        self.optimizer = AdamW(groups)
        weights = settings.class_weights
        self.loss = torch.nn.CrossEntropyLoss(
            torch.tensor(weights, device=device) if weights else None,
            label_smoothing=settings.label_smoothing,
        )
        self.labels = torch.from_numpy(source.labels).long().to(device)
        self.val_labels = torch.from_numpy(source.val_labels).long().to(device)
        self.progress = Progress()
        self.steps_per_epoch = math.ceil(len(source.labels) / settings.batch_size)

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
            loss = self.step(inputs, self.labels[chosen.tolist()])
            progress.loss_sum += loss * len(chosen)
            progress.rows += len(chosen)
            progress.step += 1
            after_step(progress.step, self.steps_per_epoch)

    def step(self, inputs: torch.Tensor, labels: torch.Tensor) -> float:
        progress = self.progress
        seed_all("step", self.settings.seed, progress.epoch, progress.step)  # dropout
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate() * group["share"]
        self.optimizer.zero_grad()
        loss = self.loss(self.model(inputs), labels)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss became {value} in epoch {progress.epoch}, step {progress.step + 1}",
                f"try a lower rate: --lr {self.settings.lr / 10:g}",
            )
        loss.backward()
        self.optimizer.step()
        return value

    def rate(self) -> float:
        """Linear warm-up, then a cosine to zero, over all steps of the run."""
        total = self.steps_per_epoch * self.settings.epochs
        done = (self.progress.epoch - 1) * self.steps_per_epoch + self.progress.step
        warm = max(1.0, self.settings.warmup * total)
        rising = min(1.0, (done + 1) / warm)
        return self.settings.lr * rising * 0.5 * (1 + math.cos(math.pi * done / total))

    def finish_epoch(self, started: float) -> Epoch:
        progress, rate = self.progress, self.rate()
        scores, loss = self.evaluate()
        result = report(scores.argmax(axis=1), self.source.val_labels, self.settings.classes)
        # Of epochs that are equally right the one with the smaller loss.
        score = (getattr(result, self.settings.best), -loss)
        better = score > progress.best_score
        if better:
            progress.best_score, progress.best_epoch = score, progress.epoch
            state = self.model.state_dict().items()
            progress.best_state = {name: value.detach().cpu().clone() for name, value in state}
        record = Epoch(
            epoch=progress.epoch,
            train_loss=progress.loss_sum / max(1, progress.rows),
            val_loss=loss,
            accuracy=result.accuracy,
            macro_f1=result.macro_f1,
            lr=rate,
            seconds=time.perf_counter() - started,
            best=better,
        )
        progress.epoch, progress.step = progress.epoch + 1, 0
        progress.loss_sum, progress.rows = 0.0, 0
        return record

    def evaluate(self) -> tuple[Array, float]:
        """Class scores of the validation photos (N x K) and their mean cross-entropy."""
        import torch

        self.model.eval()
        with torch.inference_mode():
            scores = torch.cat([self.model(inputs) for inputs in self.source.val()])
            loss = torch.nn.functional.cross_entropy(scores, self.val_labels)
        return np.asarray(scores.cpu().numpy()), float(loss)

    def restore_best(self) -> None:
        self.model.load_state_dict(self.progress.best_state)
