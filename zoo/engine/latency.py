"""How long one picture takes where nothing else runs: not the engine's batches of many."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import numpy as np

from zoo.engine import Array
from zoo.engine.open import Opened

if TYPE_CHECKING:
    from zoo.engine.torch import TorchEngine

SECONDS = 0.3  # of calls that are timed
_CALLS = range(5, 50)  # at least, at most


def latency(opened: Opened, precision: str, shape: tuple[int, int, int]) -> float:
    """Return the seconds of one picture, all cores at work on it: the median of some calls.

    shape: H W C of a picture.
    """
    call = single(opened, precision)
    picture = np.random.default_rng(0).integers(0, 256, (1, *shape), np.uint8)
    times: list[float] = []
    for _ in range(2):  # they prepare
        call(picture)
    while len(times) < _CALLS.start or (sum(times) < SECONDS and len(times) < _CALLS.stop):
        began = time.perf_counter()
        call(picture)
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def single(opened: Opened, precision: str) -> Callable[[Array], Array]:
    """Return what runs one picture on all cores by the engine that was opened."""
    if opened.compiled is not None:
        from zoo.engine.compiled import GRAPH
        from zoo.engine.openvino import one_at_a_time

        return one_at_a_time(opened.compiled.folder / GRAPH, precision)
    engine = cast("TorchEngine", copy.copy(opened.engine))
    engine.batch = 1
    return engine
