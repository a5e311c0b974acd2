"""What a chain does to one picture, stage by stage, without computing or copying a single number.

A twin of the chain on the meta device has shapes and no data, so that measuring VGG costs
milliseconds and no memory.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from zoo.catalog.spec import Preprocess


@dataclass(frozen=True, slots=True)
class StageInfo:
    """One stage: its class, the shape that leaves it for one picture, parameters, multiply-adds."""

    name: str
    kind: str
    shape: tuple[int, ...]
    params: int
    macs: int


def measure(chain: nn.Sequential, preprocess: Preprocess) -> list[StageInfo]:
    """One record per stage, in order; shapes are of one picture, without N."""
    side = preprocess.size
    x = torch.empty(1, preprocess.channels, side, side, device="meta")
    infos = []
    for name, stage in meta_twin(chain).eval().named_children():
        with FlopCounterMode(display=False) as counter:
            x = stage(x)
        params = sum(p.numel() for p in stage.parameters())
        macs = counter.get_total_flops() // 2
        infos.append(StageInfo(name, type(stage).__name__, tuple(x.shape[1:]), params, macs))
    return infos


def meta_twin(module: nn.Module) -> nn.Module:
    """A copy with the same structure whose tensors have shapes and no data."""
    memo: dict[int, object] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(_hollow(parameter), parameter.requires_grad)
    for buffer in module.buffers():
        memo[id(buffer)] = _hollow(buffer)
    return copy.deepcopy(module, memo)


def _hollow(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, device="meta")
