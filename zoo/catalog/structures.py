"""What the catalogue's networks are made of, so that who asks need not build them.

structures.json has it of each row, as `python -m benchmarks.graph_templates` has found it by
building the network; tests build it again and compare.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("structures.json")
Tensor = tuple[str, tuple[int, ...]]  # its type in words of the safetensors format, its shape


@dataclass(frozen=True, slots=True)
class StageInfo:
    """One stage: its class, the shape that leaves it for one picture, parameters, multiply-adds.

    activations: bytes, in float32, of all tensors alive at the stage's worst moment: the picture,
    what enters the stage, and what the stage holds at once. See ModelSpec.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    params: int
    macs: int
    activations: int


@dataclass(frozen=True, slots=True)
class Structure:
    """A network as its row has it.

    tensors: of its state dict, in order. plan: what a fine-tune of a linear head must know of it,
    see `zoo.finetune.catalogued`; empty where there is no graph template of it. output: the tensor
    of the template that leaves the frozen part; frozen: how many tensors that part has, the first.
    """

    stages: tuple[StageInfo, ...]
    tensors: Mapping[str, Tensor]
    plan: Mapping[str, Any]
    output: str
    frozen: int


def find(name: str) -> Structure | None:
    """Return what is known of a row of the catalogue, or None."""
    said = _read().get(name)
    if said is None:
        return None
    stages = tuple(StageInfo(one[0], one[1], tuple(one[2]), *one[3:]) for one in said["stages"])
    tensors = {key: (kind, tuple(shape)) for key, (kind, *shape) in said["tensors"].items()}
    return Structure(stages, tensors, said["plan"], said["output"], said["frozen"])


@functools.cache
def _read() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found
