"""How a chain runs fast: an Engine takes uint8 pictures and gives float32 arrays.

open.py            which network runs, and the engine that runs it: its graph, else torch
select.py          which engine, and why
compiled.py        the store of graphs, in store.py's folders
torch.py           a chain in torch, with fuse.py; openvino.py a graph; onnx.py an exported file
graph.py           a chain to an ONNX graph; quantise.py that in int8
graph_template.py  graphs without weights
latency.py         how long one picture takes
pipeline.py        photos through an engine, decoded beside it
"""

from __future__ import annotations

import os
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

# Else ONNX Runtime (1.31 for Linux, at least) sends events to its makers, from its import on.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

Array = NDArray[Any]
# How an engine is called on a CPU: with as many pictures as it is quickest with where there are
# many; with a single one, on a core of its own; or with one alone, which has all cores.
Calls = Literal["many", "single", "alone"]


class Engine(Protocol):
    """A compiled chain.

    Called with uint8 N H W C (C is 1 or 3), N <= batch; gives float32 N x whatever the chain
    gives. workers: how many threads may call it at once. decoders: threads that decode for them;
    0 where each worker decodes for itself. The answer for a picture does not depend on the
    pictures beside it.
    """

    workers: int
    decoders: int
    name: str

    @property
    def batch(self) -> int: ...

    def __call__(self, pixels: Array) -> Array: ...

    def start_worker(self) -> None:
        """Called once in each thread before the engine is called there."""


def padded(pixels: Array, count: int) -> Array:
    """Return so many pictures, the last one repeated: calls of one shape give the same bits."""
    missing = count - len(pixels)
    if missing <= 0:
        return pixels
    return np.concatenate([pixels, np.repeat(pixels[-1:], missing, axis=0)])
