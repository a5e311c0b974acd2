"""What a training needs to know, what it yields, and where it stands."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zoo.metrics import Array, LabelReport, Report

if TYPE_CHECKING:
    import torch
    from torch import nn

    from zoo.train.optimizers import Optimizer


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """What the loop needs to know of the recipe, with every choice made.

    first, epochs: its epochs are those from `first` to `epochs`. lr is the peak rate of new
    layers; a pretrained stage is trained at `below` of it, and each stage further from the head
    at `layer_decay` of the one above. batch_size: rows that go through the network at once, of
    which `accumulate` make a step. minutes: of training, None without a limit.
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
    temperature: float = 1.0  # of a teacher's answers
    truth: float = 0.0  # share of the labels beside them
    optimizer: str = "adamw"
    momentum: float = 0.0
    schedule: str = "cosine"
    decay: float = 0.6
    ema: float = 0.0
    first: int = 1
    below: float = 0.1
    layer_decay: float = 1.0
    accumulate: int = 1
    clip: float | None = None
    mixup: float = 0.0
    cutmix: float = 0.0
    patience: int | None = None
    minutes: float | None = None
    bf16: bool = False
    compile: bool = False

    @property
    def step_rows(self) -> int:
        return self.batch_size * self.accumulate


@dataclass(frozen=True, slots=True)
class Epoch:
    """One line of metrics.jsonl; `best` says that this epoch is the best so far.

    accuracy and macro_f1 of classes, map in its place of several labels a photo, mse of
    reconstructions. notes: what happened on the way that a person should know.
    """

    epoch: int
    train_loss: float
    val_loss: float
    accuracy: float | None
    map: float | None
    macro_f1: float | None
    mse: float | None
    lr: float
    seconds: float
    best: bool
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class TrainState:
    """Where training stands: epoch and step that come next, and what is known so far.

    seconds, cpu_seconds: spent by the processes before this one. trained: seconds of steps and
    of evaluating. phase: the number of the phase. best_state: the weights that are best so far,
    at first those that training starts from. skipped, in_a_row: steps whose loss was not finite.
    retreats: how often training went back to the best weights at a tenth of the rate. at_once:
    rows that fit in memory, 0 as long as all did.
    """

    epoch: int = 1
    step: int = 0
    loss_sum: float = 0.0
    rows: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    trained: float = 0.0
    phase: int = 0
    skipped: int = 0
    in_a_row: int = 0
    retreats: int = 0
    at_once: int = 0
    best_epoch: int = 0
    best_score: tuple[float, ...] = (-math.inf, 0.0)
    best_state: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass(slots=True)
class Training:
    """What a step changes and a checkpoint holds.

    averaged: what is evaluated and kept, the running mean of the weights or the model itself.
    """

    model: nn.Module
    averaged: nn.Module
    optimizer: Optimizer
    state: TrainState


@dataclass(frozen=True, slots=True)
class Scores:
    """What the validation photos say. mse, mae: per value in [0, 1], of reconstructions.

    labels: of several labels a photo. outputs: N K, what the network gave for them, of classes.
    """

    loss: float
    report: Report | None = None
    labels: LabelReport | None = None
    mse: float | None = None
    mae: float | None = None
    outputs: Array | None = None

    def rank(self, best: str) -> tuple[float, ...]:
        """Return what is larger for a better epoch; of equally right ones the smaller loss wins."""
        if best == "loss":
            return (-self.loss, 0.0)
        return (getattr(self.report or self.labels, best), -self.loss)
