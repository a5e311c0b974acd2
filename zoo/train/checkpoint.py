"""A checkpoint: everything a stopped training needs, as tensors in one safetensors file.

model.*, mean.* and best.* are state dicts, optimizer.NAME.* the moments by the parameter's name,
progress the small numbers as JSON in bytes, digest the sha256 of all the others. No pickle. The
one before is kept under the name checkpoint-previous: a file that was whole when it was written
may have lost its end, or a bit, when it is read.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import records, weights
from zoo.disk import writing
from zoo.errors import RunError, WeightsError
from zoo.train.loop import Loop
from zoo.train.records import Progress

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

SECONDS = 30.0  # at least, from one to the next
SHARE = 0.1  # of the time, at most, goes into writing them
NUMBERS = tuple(field.name for field in fields(Progress) if field.name != "best_state")


class Saver:
    """Writes the checkpoints of a run now and then. kept: how much of it is saved, in words."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kept = "no step is saved yet"
        self.last, self.cost = time.monotonic(), 0.0

    def due(self) -> bool:
        return time.monotonic() - self.last > max(SECONDS, self.cost / SHARE)

    def save(self, loop: Loop) -> None:
        """Raises WriteError; the old one stays."""
        began = time.monotonic()
        save(loop, self.path)
        self.last = time.monotonic()
        self.cost = self.last - began
        self.kept = reached(loop)

    def load(self, loop: Loop) -> None:
        load(loop, self.path)
        self.kept = reached(loop)


def reached(loop: Loop) -> str:
    return (
        f"epoch {loop.progress.epoch}, step {loop.progress.step} of {loop.steps_per_epoch} is saved"
    )


def save(loop: Loop, path: Path) -> None:
    """Writes the file whole or not at all. Raises WriteError; the old one stays."""
    import torch

    progress = loop.progress
    numbers = json.dumps({name: getattr(progress, name) for name in NUMBERS}).encode()
    tensors = {"progress": torch.frombuffer(bytearray(numbers), dtype=torch.uint8)}
    tensors |= {f"model.{name}": value for name, value in loop.model.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in progress.best_state.items()}
    if loop.averaged is not loop.model:
        tensors |= {f"mean.{name}": value for name, value in loop.averaged.state_dict().items()}
    for name, parameter in loop.model.named_parameters():
        for key, value in loop.optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{name}.{key}"] = value
    tensors["digest"] = torch.frombuffer(bytearray(digest(tensors)), dtype=torch.uint8)
    weights.save(tensors, path, keep=previous(path))


def load(loop: Loop, path: Path) -> None:
    """Puts the loop back to where the checkpoint was written.

    Raises WeightsError, and RunError for the checkpoint of another network.
    """
    tensors = weights.read(path, finite=False)
    progress = progress_in(tensors)

    def part(prefix: str) -> dict[str, Any]:
        return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

    try:
        loop.model.load_state_dict(part("model."))
        if loop.averaged is not loop.model:
            loop.averaged.load_state_dict(part("mean."))
    except RuntimeError as error:
        what = f"{path} is not of this network and recipe"
        raise RunError(what, "was recipe.toml edited? start a new run") from error
    progress.best_state = part("best.")
    loop.begin(progress)
    for name, parameter in loop.model.named_parameters():
        state = part(f"optimizer.{name}.")
        if state:
            loop.optimizer.restore(parameter, state)


def phase_of(path: Path) -> int:
    """The number of the phase in which it was written; 0 where there is none."""
    return progress_in(weights.read(path, finite=False)).phase if path.exists() else 0


def settle(path: Path) -> str:
    """Makes the newest checkpoint that is whole the one at `path`; says so where that was needed.

    Where none is whole, none is left. Raises WriteError.
    """
    older = previous(path)
    fault = damage(path)
    if fault is None or not (path.exists() or older.exists()):
        return ""
    with writing(path):
        if damage(older) is None:
            os.replace(older, path)
            progress = progress_in(weights.read(path, finite=False))
            where = f"epoch {progress.epoch}, after step {progress.step}"
            return f"{fault}: going on from the one before it ({where})"
        remove(path)
    return f"{fault}, and there is none before it: starting over from epoch 1"


def remove(path: Path) -> None:
    for file in (path, previous(path)):
        file.unlink(missing_ok=True)


def previous(path: Path) -> Path:
    return path.with_stem(f"{path.stem}-previous")


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint; None for one that is as it was written."""
    try:
        tensors = weights.read(path, finite=False)
    except WeightsError as error:
        return error.what
    written = tensors.pop("digest", None)
    if written is None or text_in(written) != digest(tensors):
        return f"{path} is not what was written"
    return None


def digest(tensors: Tensors) -> bytes:
    """sha256 of names, types, shapes and values."""
    import torch

    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        values = tensor.detach().cpu().contiguous().reshape(-1)
        total.update(values.view(torch.uint8).numpy().data)
    return total.digest()


def text_in(tensor: torch.Tensor) -> bytes:
    """The bytes that a tensor of bytes holds; empty for any other tensor."""
    import torch

    return bytes(tensor.tolist()) if tensor.dtype == torch.uint8 and tensor.ndim == 1 else b""


def progress_in(tensors: Tensors) -> Progress:
    """Raises WeightsError for a file that is no checkpoint."""
    try:
        numbers = records.from_json(text_in(tensors["progress"]))
        records.PROGRESS(numbers, "")
        return Progress(**numbers | {"best_score": tuple(numbers["best_score"])})
    except (KeyError, ValueError, TypeError):
        raise WeightsError("the checkpoint is of another version", "start a new run") from None
