"""A checkpoint: everything a stopped training needs, as tensors in one safetensors file.

model.*, mean.* and best.* are state dicts, optimizer.NAME.* the moments by the parameter's name,
progress the small numbers as JSON in bytes. No pickle.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zoo import weights
from zoo.finetune.loop import Loop, Progress

NUMBERS = (
    "epoch",
    "step",
    "loss_sum",
    "rows",
    "seconds",
    "cpu_seconds",
    "best_epoch",
    "best_score",
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
    weights.save(tensors, path)


def load(loop: Loop, path: Path) -> None:
    """Puts the loop back to where the checkpoint was written. Raises WeightsError."""
    tensors = weights.read(path)
    numbers: dict[str, Any] = json.loads(bytes(tensors.pop("progress").tolist()))
    numbers["best_score"] = tuple(numbers["best_score"])

    def part(prefix: str) -> dict[str, Any]:
        return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

    loop.model.load_state_dict(part("model."))
    if loop.averaged is not loop.model:
        loop.averaged.load_state_dict(part("mean."))
    loop.progress = Progress(**numbers, best_state=part("best."))
    for name, parameter in loop.model.named_parameters():
        state = part(f"optimizer.{name}.")
        if state:
            loop.optimizer.state[parameter] = {
                key: value if key == "step" else value.to(parameter.device)
                for key, value in state.items()
            }
