"""What a chain does to one picture, stage by stage, without computing or copying a single number.

A twin of the chain on the meta device has shapes and no data, so that measuring VGG costs
milliseconds and no memory.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zoo.catalog.spec import Preprocess
from zoo.catalog.structures import StageInfo


def measure(chain: nn.Sequential, preprocess: Preprocess) -> list[StageInfo]:
    """Return one record per stage, in order; shapes are of one picture, without N."""
    from torch.utils.flop_counter import FlopCounterMode  # imports triton

    twin = meta_twin(chain).eval().requires_grad_(False)  # the counter asks for gradients else
    picture = x = torch.empty(1, *preprocess.shape, device="meta")
    memory = Live([*twin.parameters(), *twin.buffers()])
    memory.add(picture)
    infos = []
    for name, stage in twin.named_children():
        memory.peak = 0
        with torch.no_grad(), FlopCounterMode(display=False) as counter, memory:
            x = stage(x)
        params = sum(p.numel() for p in stage.parameters())
        macs = counter.get_total_flops() // 2
        shape = tuple(x.shape[1:])
        infos.append(StageInfo(name, type(stage).__name__, shape, params, macs, memory.peak))
    return infos


def passes(chain: nn.Module, preprocess: Preprocess, *, quick: bool = False) -> None:
    """Send one picture through a twin without data; whatever the network raises is raised.

    quick: through the chain itself, whose modules are all in one mode: for a small one that takes
    less than torch's import of what it computes shapes with.
    """
    if quick:
        mode = chain.training
        try:
            with torch.inference_mode():
                chain.eval()(torch.zeros(1, *preprocess.shape))
        finally:
            chain.train(mode)
        return
    with torch.no_grad():
        meta_twin(chain).eval()(torch.empty(1, *preprocess.shape, device="meta"))


class Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """How many bytes of tensors are alive after each operator, and the most there ever were.

    Views and in-place operators share the storage that they work on. The weights of the network
    are not counted, nor is what an operator needs for itself while it runs.
    """

    def __init__(self, weights: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.weights = {tensor.untyped_storage()._cdata for tensor in weights}
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.weights:
            weak = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
            self.alive[storage._cdata] = (weak, storage.nbytes())

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        result = func(*args, **(kwargs or {}))
        self.alive = {key: one for key, one in self.alive.items() if not one[0].expired()}  # type: ignore[no-untyped-call]
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self.add(tensor)
        self.peak = max(self.peak, sum(size for _, size in self.alive.values()))
        return result


def meta_twin(module: nn.Module) -> nn.Module:
    """Return a copy with the same structure whose tensors have shapes and no data."""
    memo: dict[int, object] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(_hollow(parameter), parameter.requires_grad)
    for buffer in module.buffers():
        memo[id(buffer)] = _hollow(buffer)
    return copy.deepcopy(module, memo)


def _hollow(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, device="meta")
