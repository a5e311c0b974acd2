"""The most that this machine computes: `python -m benchmarks.limit [--precision bf16]`.

An ideal convolution, measured on the spot; `benchmarks.peak` measures bare multiply-adds. A network
of M MACs that makes R images/s (`zoo bench`) computes at 2 M R operations per second.

Nobody has a compiler at hand, so it is no loop of bare multiply-adds. The convolution comes to the
same within two percent where both were measured (AVX-512: fp32, bf16 and int8 alike), since its
weights and its picture stay in the caches: 3 x 3, 512 channels in and out, on 28 x 28.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.measure import arguments
from zoo.machine import cores

CHANNELS, SIDE, DEPTH = 512, 28, 4
OPERATIONS = 2 * DEPTH * CHANNELS**2 * 9 * SIDE**2  # for one picture; a multiply-add is two
WHAT = f"a 3 x 3 convolution of {CHANNELS} channels on {SIDE} x {SIDE}"
SCALE = 0.0005  # of int8 weights


@dataclass(frozen=True, slots=True)
class Limit:
    """gflops: billions of operations per second, a multiply-add being two. how: in words."""

    gflops: float
    precision: str
    how: str


def measure(precision: str, seconds: float, device: str = "cpu") -> Limit:
    """The best of some rounds on all cores, or on the device."""
    from zoo.engine.openvino import version

    if device == "cpu" and version():
        return Limit(by_openvino(precision, seconds), precision, f"{WHAT}, by OpenVINO")
    if precision == "int8":
        precision = "fp32"  # torch has no convolution in int8
    return Limit(by_torch(precision, seconds, device), precision, f"{WHAT}, by torch on {device}")


def by_openvino(precision: str, seconds: float) -> float:
    """One request for each core, each with a stream of its own, all at once."""
    from zoo.engine.openvino import runtime

    streams = cores()
    hint = "bf16" if precision == "bf16" else "f32"
    settings = {
        "INFERENCE_PRECISION_HINT": hint,
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": streams,
    }
    compiled = runtime().Core().compile_model(convolutions(precision == "int8"), "CPU", settings)
    picture = np.abs(np.random.default_rng(0).standard_normal(compiled.input(0).shape, np.float32))
    requests = [compiled.create_infer_request() for _ in range(streams)]

    def once() -> int:
        for request in requests:
            request.start_async([picture], share_inputs=True)
        for request in requests:
            request.wait()
        return streams

    return best(once, seconds)


def convolutions(int8: bool) -> Any:
    """The graph, one picture a call, with ReLU between the convolutions."""
    from zoo.engine.openvino import runtime

    openvino = runtime()
    from openvino import opset13 as ops

    first = ops.parameter([1, CHANNELS, SIDE, SIDE], np.float32)
    random, shape, node = np.random.default_rng(0), (CHANNELS, CHANNELS, 3, 3), first
    for _ in range(DEPTH):
        weights = random.standard_normal(shape, np.float32) / np.float32(np.sqrt(9 * CHANNELS))
        kernel = ops.constant(weights)
        if int8:
            low, high = np.float32(0), np.float32(4)
            node = ops.fake_quantize(node, low, high, low, high, 256)
            whole = np.clip(np.round(weights / SCALE), -127, 127).astype(np.int8)
            scales = ops.constant(np.full((CHANNELS, 1, 1, 1), SCALE, np.float32))
            kernel = ops.multiply(ops.convert(ops.constant(whole), "f32"), scales)
        node = ops.relu(ops.convolution(node, kernel, [1, 1], [1, 1], [1, 1], [1, 1]))
    return openvino.Model([node], [first], "limit")


def by_torch(precision: str, seconds: float, device: str) -> float:
    import torch
    from torch import nn

    count = cores() if device == "cpu" else 64  # pictures; a GPU needs many to be busy
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    layers = [nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1) for _ in range(DEPTH)]
    model = nn.Sequential(*layers).eval().to(device, kind)
    model.to(memory_format=torch.channels_last)
    pictures = torch.randn(count, CHANNELS, SIDE, SIDE, device=device, dtype=kind)
    pictures = pictures.contiguous(memory_format=torch.channels_last)

    def once() -> int:
        with torch.inference_mode():
            model(pictures)
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return count

    return best(once, seconds)


def best(once: Any, seconds: float, rounds: int = 3) -> float:
    """GFLOP/s of the quickest round; once: computes some pictures and says how many."""
    once()
    rates = []
    for _ in range(rounds):
        began, done, took = time.perf_counter(), 0, 0.0
        while took < seconds / rounds or not done:
            done += once()
            took = time.perf_counter() - began
        rates.append(done * OPERATIONS / took / 1e9)
    return max(rates)


def main() -> None:
    flags = arguments(__doc__)
    flags.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "int8"))
    flags.add_argument("--device", default="cpu")
    flags.add_argument("--seconds", type=float, default=1.5)
    given = flags.parse_args()
    found = measure(given.precision, given.seconds, given.device)
    print(f"{found.gflops:,.0f} GFLOP/s in {found.precision}: {found.how}")


if __name__ == "__main__":
    main()
