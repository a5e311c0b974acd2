"""How a chain runs fast: an Engine takes uint8 pictures and gives float32 arrays."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


class Engine(Protocol):
    """A compiled chain.

    Called with uint8 N H W C (C is 1 or 3), N <= batch; gives float32 N x whatever the chain
    gives. workers: how many threads may call it at once. decoders: threads that decode for them;
    0 where each worker decodes for itself. The answer for a picture does not depend on the
    pictures beside it.
    """

    batch: int
    workers: int
    decoders: int
    name: str

    def __call__(self, pixels: Array) -> Array: ...

    def start_worker(self) -> None:
        """Called once in each thread before the engine is called there."""
