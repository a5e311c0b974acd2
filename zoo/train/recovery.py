"""What a training survives: losses that are not finite, and too little memory.

A step whose loss is not finite changes nothing. After three in a row training goes back to the
best weights so far at a tenth of the rate, twice at most. Where a batch does not fit in memory it
goes through the network in halves; the step stays the mean over all of it.
"""

from __future__ import annotations

import gc
import math
from typing import TYPE_CHECKING, Any

from zoo.device import trim
from zoo.errors import OutOfMemory, TrainingError, UsageError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from zoo.train.records import Progress, Settings

IN_A_ROW, RETREATS, SLOWER = 3, 2, 0.1


class Guard:
    """Watches the steps of one training; what it says goes into `notes`."""

    def __init__(self, model: nn.Module, progress: Progress, settings: Settings) -> None:
        self.model, self.progress, self.settings = model, progress, settings
        self.notes: list[str] = []
        self.kept: list[torch.Tensor] = []

    def before_step(self) -> None:
        """Remembers the running statistics: a forward pass moves them, good or bad."""
        self.kept = [buffer.clone() for buffer in self.model.buffers()]

    def undo(self) -> None:
        import torch

        with torch.no_grad():
            for buffer, before in zip(self.model.buffers(), self.kept, strict=True):
                buffer.copy_(before)

    def skip(self, loss: float) -> bool:
        """Counts a step that was not taken; whether it is time to go back."""
        progress = self.progress
        self.undo()
        progress.skipped += 1
        progress.in_a_row += 1
        where = f"epoch {progress.epoch}, step {progress.step + 1}"
        self.notes.append(f"the loss was {loss} in {where}: the step was left out")
        return progress.in_a_row >= IN_A_ROW

    def retreat(self, loss: float, where: str) -> None:
        """Puts the best weights back, at a tenth of the rate. Raises TrainingError at the end."""
        progress = self.progress
        if progress.retreats == RETREATS:
            raise TrainingError(
                f"the loss became {loss} {where}, after {RETREATS} attempts at a lower rate",
                f"try a lower rate: --lr {self.settings.lr * SLOWER**3:g}; --clip 1 may help too",
            )
        self.model.load_state_dict(progress.best_state)
        progress.retreats += 1
        progress.in_a_row = 0
        which = f"epoch {progress.best_epoch}" if progress.best_epoch else "the start"
        self.notes.append(
            f"the loss became {loss} {where}: back to the weights of {which}, at a tenth of the "
            f"rate ({self.settings.lr * SLOWER**progress.retreats:g})"
        )

    def halve(self, rows: int, error: Exception) -> None:
        """Fewer rows at once from here on. Raises OutOfMemory where one is too many."""
        progress = self.progress
        at_once = min(rows, progress.at_once or rows)
        if at_once == 1:
            raise OutOfMemory(
                f"out of memory with one photo at a time: {error}",
                "resume it where there is more; or cut later, or use a smaller network",
            ) from error
        self.undo()
        progress.at_once = math.ceil(at_once / 2)
        self.notes.append(
            f"out of memory with {at_once} photos at once: {progress.at_once} at a time from here "
            f"on, steps are of {self.settings.step_rows} as before"
        )


def out_of_memory(error: Exception) -> bool:
    """Whether this is torch saying so: but for CUDA's allocator it raises a plain RuntimeError."""
    import torch

    words = ["not enough memory", "can't allocate memory", "cannot allocate memory"]
    words += ["could not create a primitive", "could not create a memory"]  # oneDNN
    words += ["alloc_failed"]  # cuBLAS, cuDNN
    text = str(error).lower()
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
        word in text for word in words
    )


def refuse_compiler(error: Exception) -> None:
    """Raises UsageError where it was torch.compile that failed."""
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        why = str(error).strip().splitlines()[0]
        raise UsageError(
            f"--compile failed: {why}", "leave --compile out; on a CPU it takes a C++ compiler"
        ) from error


def empty_cache(device: Any) -> None:
    """Memory that is free is given back, so that whoever asks the system for some gets it."""
    import torch

    gc.collect()  # frames of the step that failed hold on to each other
    if device.type == "cuda":
        torch.cuda.empty_cache()
    else:
        trim()
