"""What a training survives: losses that are not finite, and too little memory.

A step whose loss is not finite changes nothing. After three in a row training goes back to the
best weights so far at a tenth of the rate, twice at most. Where a batch does not fit in memory it
goes through the network in halves; the step stays the mean over all of it.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from zoo.device import trim
from zoo.errors import OutOfMemory, TrainingError, UsageError
from zoo.machine import out_of_memory
from zoo.metrics import Array
from zoo.train.records import LoopSettings, Training

if TYPE_CHECKING:
    import torch

IN_A_ROW, RETREATS, SLOWER = 3, 2, 0.1


class Recovery:
    """Watches the steps of one training; what it has to say goes into `notes`."""

    def __init__(self, training: Training, settings: LoopSettings) -> None:
        self.training, self.settings = training, settings
        self.notes: list[str] = []
        self.buffers: list[torch.Tensor] = []

    def remember(self) -> None:
        """Remember the running statistics: a forward pass moves them, good or bad."""
        self.buffers = [buffer.clone() for buffer in self.training.model.buffers()]

    def undo(self) -> None:
        """Put the running statistics back to what they were before the step."""
        import torch

        with torch.no_grad():
            for buffer, before in zip(self.training.model.buffers(), self.buffers, strict=True):
                buffer.copy_(before)

    def skip(self, loss: float) -> None:
        """Count a step whose loss was not finite. After three in a row, go back."""
        state = self.training.state
        self.undo()
        state.skipped, state.in_a_row = state.skipped + 1, state.in_a_row + 1
        where = f"epoch {state.epoch}, step {state.step + 1}"
        self.notes.append(f"the loss was {loss} in {where}: the step was left out")
        if state.in_a_row >= IN_A_ROW:
            self.retreat(loss, f"in {where}")

    def retreat(self, loss: float, where: str) -> None:
        """Go back to the best weights, at a tenth of the rate; TrainingError the third time."""
        training, state = self.training, self.training.state
        if state.retreats == RETREATS:
            raise TrainingError(
                f"the loss became {loss} {where}, after {RETREATS} attempts at a lower rate",
                f"try a lower rate: --lr {self.settings.lr * SLOWER**3:g}; --clip 1 may help too",
            )
        for model in {training.model, training.averaged}:
            model.load_state_dict(state.best_state)
        training.optimizer.state.clear()
        state.retreats, state.in_a_row = state.retreats + 1, 0
        which = f"epoch {state.best_epoch}" if state.best_epoch else "the start"
        self.notes.append(
            f"the loss became {loss} {where}: back to the weights of {which}, at a tenth of the "
            f"rate ({self.settings.lr * SLOWER**state.retreats:g})"
        )

    def within_memory(self, rows: Array, backward: Callable[[int], float]) -> float:
        """Return what `backward` does with as many of the rows at once as fit in memory.

        Raises OutOfMemory where one is too many, UsageError where torch.compile has failed.
        """
        from zoo.models.auxiliary import heads_of

        state, batch_size = self.training.state, self.settings.batch_size
        while True:
            try:
                return backward(state.at_once or batch_size)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    _refuse_compiler(error)
                    raise
                self.halve(min(len(rows), batch_size), error)
            for head in heads_of(self.training.model):
                head.scores = None
            _empty_cache()  # here, where the error no longer holds what it was about

    def halve(self, rows: int, error: Exception) -> None:
        """Take fewer rows at once from here on. Raises OutOfMemory where one is too many."""
        state = self.training.state
        at_once = min(rows, state.at_once or rows)
        if at_once == 1:
            raise OutOfMemory(
                f"out of memory with one photo at a time: {error}",
                "resume it where there is more; or cut later, or use a smaller network",
            ) from error
        self.undo()
        state.at_once = math.ceil(at_once / 2)
        self.notes.append(
            f"out of memory with {at_once} photos at once: {state.at_once} at a time from here "
            f"on, steps are of {self.settings.step_rows} as before"
        )


def _refuse_compiler(error: Exception) -> None:
    """Raise UsageError where it was torch.compile that failed."""
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        why = str(error).strip().splitlines()[0]
        raise UsageError(
            f"--compile failed: {why}", "leave --compile out; on a CPU it takes a C++ compiler"
        ) from error


def _empty_cache() -> None:
    """Give back memory that is free, so that whoever asks the system for some gets it."""
    import torch

    gc.collect()  # frames of the step that failed hold on to each other
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim()
