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
from typing import TYPE_CHECKING

from zoo import records, weights
from zoo.disk import writing
from zoo.errors import RunError, WeightsError
from zoo.train.loop import Loop
from zoo.train.records import TrainState

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

SECONDS = 30.0  # at least, from one to the next
SHARE = 0.1  # of the time, at most, goes into writing them
NUMBERS = tuple(field.name for field in fields(TrainState) if field.name != "best_state")


class Saver:
    """Writes the checkpoints of a run now and then. kept: how much of it is saved, in words."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kept = "no step is saved yet"
        self.last, self.cost = time.monotonic(), 0.0

    def due(self) -> bool:
        return time.monotonic() - self.last > max(SECONDS, self.cost / SHARE)

    def save(self, loop: Loop) -> None:
        """Write the checkpoint whole or not at all. Raises WriteError; the old one stays."""
        began = time.monotonic()
        save(loop, self.path)
        self.last = time.monotonic()
        self.cost = self.last - began
        self.reached(loop)

    def load(self, loop: Loop) -> None:
        load(loop, self.path)
        self.reached(loop)

    def reached(self, loop: Loop) -> None:
        state = loop.state
        self.kept = f"epoch {state.epoch}, step {state.step} of {loop.steps_per_epoch} is saved"


def save(loop: Loop, path: Path) -> None:
    """Write the file whole or not at all. Raises WriteError; the old one stays."""
    training, state = loop.training, loop.state
    numbers = json.dumps({name: getattr(state, name) for name in NUMBERS}).encode()
    tensors = {"progress": _bytes_as_tensor(numbers)}
    tensors |= {f"model.{name}": value for name, value in training.model.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in state.best_state.items()}
    if training.averaged is not training.model:
        mean = training.averaged.state_dict()
        tensors |= {f"mean.{name}": value for name, value in mean.items()}
    for name, parameter in training.model.named_parameters():
        for key, value in training.optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{name}.{key}"] = value
    tensors["digest"] = _bytes_as_tensor(_digest(tensors))
    weights.save(tensors, path, keep=_previous(path))


def load(loop: Loop, path: Path) -> None:
    """Put the loop back to where the checkpoint was written.

    Raises WeightsError, and RunError for the checkpoint of another network.
    """
    training, tensors = loop.training, weights.read(path, finite=False)

    def part(prefix: str) -> dict[str, torch.Tensor]:
        return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

    state = _state_in(tensors)
    try:
        training.model.load_state_dict(part("model."))
        if training.averaged is not training.model:
            training.averaged.load_state_dict(part("mean."))
    except RuntimeError as error:
        what = f"{path} is not of this network and recipe"
        raise RunError(what, "was recipe.toml edited? start a new run") from error
    state.best_state = part("best.")
    training.state = state
    for name, parameter in training.model.named_parameters():
        if moments := part(f"optimizer.{name}."):
            training.optimizer.restore(parameter, moments)


def phase_of(path: Path) -> int:
    """Return the number of the phase in which it was written; 0 where there is none."""
    return _state_in(weights.read(path, finite=False)).phase if path.exists() else 0


def settle(path: Path) -> str:
    """Make the newest whole checkpoint the one at `path`; say so where that was needed.

    Where none is whole, none is left. Raises WriteError.
    """
    older = _previous(path)
    fault = _damage(path)
    if fault is None or not (path.exists() or older.exists()):
        return ""
    with writing(path):
        if _damage(older) is None:
            os.replace(older, path)
            state = _state_in(weights.read(path, finite=False))
            where = f"epoch {state.epoch}, after step {state.step}"
            return f"{fault}: going on from the one before it ({where})"
        remove(path)
    return f"{fault}, and there is none before it: starting over from epoch 1"


def remove(path: Path) -> None:
    for file in (path, _previous(path)):
        file.unlink(missing_ok=True)


def _previous(path: Path) -> Path:
    return path.with_stem(f"{path.stem}-previous")


def _damage(path: Path) -> str | None:
    """Return what is wrong with a checkpoint; None for one that is as it was written."""
    try:
        tensors = weights.read(path, finite=False)
    except WeightsError as error:
        return error.what
    written = tensors.pop("digest", None)
    if written is None or _bytes_in(written) != _digest(tensors):
        return f"{path} is not what was written"
    return None


def _digest(tensors: Tensors) -> bytes:
    """Return the sha256 of names, types, shapes and values."""
    import torch

    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        values = tensor.detach().cpu().contiguous().reshape(-1)
        total.update(values.view(torch.uint8).numpy().data)
    return total.digest()


def _bytes_as_tensor(data: bytes) -> torch.Tensor:
    import torch

    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _bytes_in(tensor: torch.Tensor) -> bytes:
    """Return the bytes that a tensor of bytes holds; none for any other tensor."""
    import torch

    return bytes(tensor.tolist()) if tensor.dtype == torch.uint8 and tensor.ndim == 1 else b""


def _state_in(tensors: Tensors) -> TrainState:
    """Return the small numbers of a checkpoint. Raises WeightsError for another file."""
    try:
        numbers = records.from_json(_bytes_in(tensors["progress"]))
        records.PROGRESS(numbers, "")
        return TrainState(**numbers | {"best_score": tuple(numbers["best_score"])})
    except (KeyError, ValueError, TypeError):
        raise WeightsError("the checkpoint is of another version", "start a new run") from None
