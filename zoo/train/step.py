"""The gradients of a step: of the batch in parts, mixed where asked for, summed over processes."""

from __future__ import annotations

import contextlib
import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.device import seed_all
from zoo.errors import TeamError
from zoo.train.distributed import Team
from zoo.train.losses import Task
from zoo.train.records import Progress, Settings
from zoo.train.recovery import Guard, empty_cache, out_of_memory, refuse_compiler

if TYPE_CHECKING:
    import torch
    from torch import nn


class Gradients:
    """What a batch says of the network's weights; it is left in the parameters."""

    def __init__(
        self, model: nn.Module, task: Task, settings: Settings, device: Any, team: Team
    ) -> None:
        from zoo.models.auxiliary import AuxiliaryHead

        self.model, self.task, self.settings = model, task, settings
        self.device, self.team = device, team
        self.heads = [part for part in model.modules() if isinstance(part, AuxiliaryHead)]

    def of_step(self, inputs: torch.Tensor | None, rows: Any, share: Any, guard: Guard) -> float:
        """The loss of the batch, its gradients left in the parameters, of all processes alike."""
        self.model.zero_grad()
        loss = 0.0
        if inputs is not None:
            loss = self.of_share(inputs, share, self.task.weight(rows), guard)
        try:
            return self.team.summed(self.model, loss, len(share) / len(rows))
        except TeamError:
            guard.undo()  # the state is that before the step: it may be saved
            raise

    def of_share(self, inputs: torch.Tensor, rows: Any, weight: float, guard: Guard) -> float:
        """What these rows add to the mean over a batch of this weight, gradients as well."""
        while True:
            try:
                return self.in_parts(inputs, rows, weight, guard.progress)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    refuse_compiler(error)
                    raise
                guard.halve(min(len(rows), self.settings.batch_size), error)
            for head in self.heads:
                head.scores = None
            empty_cache(self.device)  # here, where the error no longer holds what it was about

    def in_parts(self, inputs: torch.Tensor, rows: Any, weight: float, progress: Progress) -> float:
        settings = self.settings
        own = [self.team.rank] if self.team.rank else []
        seed_all("step", settings.seed, progress.epoch, progress.step, *own)  # dropout
        self.model.zero_grad()
        inputs, partners, share = self.mixed(inputs, rows, progress)
        total = 0.0
        for part in parts(len(rows), progress.at_once or settings.batch_size):
            with self.precision():
                outputs = self.model(inputs[part])
            loss = share * self.part_of(weight, outputs, inputs[part], rows[part])
            if partners is not None:
                other = self.part_of(weight, outputs, inputs[part], partners[part])
                loss = loss + (1 - share) * other
            # Before the loss is looked at: a GPU then has work while Python waits for the number.
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
            if not math.isfinite(total):
                break
        return total

    def part_of(self, weight: float, *part: Any) -> torch.Tensor:
        """What outputs, inputs and rows of a part add to the mean over rows of this weight."""
        return self.loss(*part) * (self.task.weight(part[-1]) / weight)

    def loss(self, outputs: torch.Tensor, inputs: torch.Tensor, rows: Any) -> torch.Tensor:
        """Return the loss of the outputs and of heads that exist in training only."""
        return self.task.loss(outputs.float(), inputs, rows) + self.auxiliary(inputs, rows)

    def auxiliary(self, inputs: torch.Tensor, rows: Any) -> torch.Tensor | float:
        """The losses of heads that exist in training only."""
        from zoo.models.auxiliary import WEIGHT

        kept = [head.scores for head in self.heads if head.scores is not None]
        return WEIGHT * sum(self.task.loss(scores.float(), inputs, rows) for scores in kept)

    def mixed(
        self, inputs: torch.Tensor, rows: Any, progress: Progress
    ) -> tuple[torch.Tensor, Any, float]:
        """The batch mixed with others of it where asked for, whose rows, and the own share."""
        settings = self.settings
        if not settings.mixup and not settings.cutmix:
            return inputs, None, 1.0
        from zoo.train.mixup import mix

        key = ("mix", settings.seed, progress.epoch, progress.step)
        inputs, partner, share = mix(inputs, key, settings.mixup, settings.cutmix)
        return inputs, np.asarray(rows)[np.asarray(partner)], share

    def precision(self) -> Any:
        import torch

        if not self.settings.bf16:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


def parts(count: int, size: int) -> list[slice]:
    """So many rows in parts of about a size, none with a row alone: a norm has no use for it."""
    number = count if size == 1 else max(1, math.ceil((count - 1) / size))
    ends = [round(count * part / number) for part in range(number + 1)]
    return [slice(*pair) for pair in itertools.pairwise(ends)]
