"""Forward passes and nothing else, each in a process of its own; prints one line of JSON.

    python -m benchmarks.bare photos MODEL FOLDER    the frozen part over decoded photos
    python -m benchmarks.bare engine MODEL           images/s of zoo's engine
    python -m benchmarks.bare eager MODEL            images/s of plain PyTorch: NCHW, batch 32

`photos` and `engine` use zoo's TorchEngine in zoo's worker threads under zoo's allocator
settings (ZOO_MALLOC=default: without them).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS, ROUNDS = 4.0, 3


def photos(name: str, folder: str) -> dict[str, Any]:
    """Wall and CPU seconds of a first and of a second pass over every photo's plain view."""
    from zoo.data.decode import decode, read_bytes
    from zoo.data.preprocess import apply

    engine, preprocess = zoo_engine(name, frozen=True)
    pixels = [apply(decode(read_bytes(p)), preprocess) for p in sorted(Path(folder).rglob("*.jpg"))]
    passes = []
    for _ in range(2):
        cpu = time.process_time()
        passes.append({"wall": forward_seconds(engine, pixels), "cpu": time.process_time() - cpu})
    return {"photos": len(pixels), "passes": passes}


def engine(name: str) -> dict[str, Any]:
    import numpy as np

    model, preprocess = zoo_engine(name, frozen=False)
    size = preprocess.size
    pictures = list(np.random.default_rng(0).integers(0, 256, (64, size, size, 3), np.uint8))
    return rate(lambda: forward_seconds(model, pictures), len(pictures))


def eager(name: str) -> dict[str, Any]:
    """torchvision's model as it comes, under glibc's own settings."""
    import torch
    import torchvision

    model = torchvision.models.get_model(name, weights=None).eval()
    batch = torch.randn(32, 3, 224, 224)

    def one() -> float:
        began = time.perf_counter()
        with torch.no_grad():
            model(batch)
        return time.perf_counter() - began

    return rate(one, len(batch))


def zoo_engine(name: str, *, frozen: bool) -> tuple[Any, Any]:
    from zoo import device, network
    from zoo.engine.torch import TorchEngine
    from zoo.finetune.cut import cut

    device.tune_allocator()
    net = network.pretrained(name, "none")
    chain = cut(net.chain, net.spec.cut).frozen if frozen else net.chain
    return TorchEngine(chain, net.preprocess, device.choose("cpu")), net.preprocess


def forward_seconds(engine: Any, pixels: list[Any]) -> float:
    from zoo.engine.pipeline import forward

    began = time.perf_counter()
    for _ in forward(pixels, lambda image: image, engine):
        pass
    return time.perf_counter() - began


def rate(one: Callable[[], float], images: int) -> dict[str, Any]:
    """Images per second in rounds of some seconds each, after a first call that is not counted."""
    one()
    rates = []
    for _ in range(ROUNDS):
        seconds = calls = 0.0
        while seconds < SECONDS:
            seconds += one()
            calls += 1
        rates.append(calls * images / seconds)
    return {"images_per_second": rates}


if __name__ == "__main__":
    print(
        json.dumps({"photos": photos, "engine": engine, "eager": eager}[sys.argv[1]](*sys.argv[2:]))
    )
