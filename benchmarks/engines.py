"""Forward passes: images/s of every engine, and what share that is of what the processor can do.

The limit is that of peak.c, a loop of multiply-adds on registers, measured in every round; work is
counted as two operations for each multiply-add of the convolutions and matrix products (catalogue).
Each way to run a network is a process of its own, warm before it is timed, and a round runs all of
them once before the next round. "by CPU time" is the share of one processor's limit for the CPU
time that was spent, which other work on the machine hardly moves.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import peak
from benchmarks.measure import (
    arguments,
    machine,
    median,
    numbers,
    python,
    run,
    save,
    show,
    summary,
    verdict,
    version_of,
    warn_about_byte_code,
)

MODELS = ("resnet50", "vgg16", "googlenet", "alexnet")
SHARES = {"fp32": 0.84, "bf16": 0.89}  # bars: of the limit, ResNet-50
OTHERS = 0.95  # bar: of the best that others reach, the other networks
OURS = "zoo openvino"
PEERS = ("torch NCHW", "torch channels last", "onnxruntime", "openvino throughput")
WAYS = (OURS, "zoo torch", *PEERS)
BATCHES = (8, 32)  # of the peers: the better one counts


@dataclass
class Row:
    """What was measured of one way to run one network in one precision, a number a round."""

    model: str
    precision: str
    way: str
    rates: list[float] = field(default_factory=list)  # images/s
    shares: list[float] = field(default_factory=list)  # of the limit in the same round
    by_cpu: list[float] = field(default_factory=list)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--precisions", nargs="+", default=list(SHARES), choices=SHARES)
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--seconds", type=float, default=4.0, help="a measurement (4)")
    parser.add_argument("--dry", action="store_true", help="print, keep no results")
    flags = parser.parse_args()
    warn_about_byte_code()
    facts = machine() | {name: version_of(name) for name in ("openvino", "onnxruntime")}
    with tempfile.TemporaryDirectory() as folder:
        rows, peaks = measure(flags, Path(folder))
    table(rows)
    bars = [*against_the_limit(rows), *against_the_others(rows)]
    result = {
        "peaks": [asdict(each) for each in peaks],
        "rows": [described(row) for row in rows],
        "bars": bars,
    }
    if not flags.dry:
        save("engines", facts, result)


def measure(flags: Namespace, folder: Path) -> tuple[list[Row], list[peak.Peak]]:
    program = peak.build(folder)
    around = {"ZOO_CACHE": str(folder)}
    for model in flags.models:
        run(python("-m", "benchmarks.engines", "--prepare", model, folder), env=around)
    rows = [
        Row(model, precision, way)
        for model in flags.models
        for precision in flags.precisions
        for way in flags.ways
        if (way, precision) != ("onnxruntime", "bf16")  # on x86 it has no such mode
    ]
    peaks = []
    for _ in range(flags.repeat):
        for row in rows:
            (limit,) = peak.measured(program)  # beside it, for clocks that drift
            peaks.append(limit)
            words = (row.model, row.precision, row.way, str(flags.seconds), folder)
            command = python("-m", "benchmarks.engines", "--child", *words)
            child = run(command, env=around, unset=["OMP_NUM_THREADS"])
            add(row, json.loads(child.out), limit)
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return rows, peaks


def add(row: Row, answer: dict[str, float], limit: peak.Peak) -> None:
    from zoo import catalog

    work = 2e-9 * catalog.find(row.model).macs  # GFLOP a picture
    together, of_one = (
        (limit.fp32, limit.fp32_of_one)
        if row.precision == "fp32"
        else (limit.bf16, limit.bf16_of_one)
    )
    row.rates.append(answer["images_per_second"])
    row.shares.append(answer["images_per_second"] * work / together)
    row.by_cpu.append(answer["images_per_cpu_second"] * work / of_one)


def table(rows: list[Row]) -> None:
    lines = [
        [
            f"{row.model} {row.precision} {row.way}",
            *numbers(row.rates, 1),
            *(f"{100 * value:.0f} %" for value in (median(row.shares), median(row.by_cpu))),
        ]
        for row in rows
    ]
    header = ["network, precision, engine; images/s", "min", "median", "max", "n"]
    show(lines, [*header, "of the limit", "by CPU time"])


def described(row: Row) -> dict[str, Any]:
    return {
        "model": row.model,
        "precision": row.precision,
        "way": row.way,
        "images_per_second": summary(row.rates),
        "share_of_limit": summary(row.shares),
        "share_by_cpu_time": summary(row.by_cpu),
    }


def against_the_limit(rows: list[Row]) -> list[dict[str, Any]]:
    return [
        verdict(
            f"resnet50 {row.precision}: share of the measured limit",
            median(row.shares),
            SHARES[row.precision],
            at_most=False,
        )
        for row in rows
        if (row.model, row.way) == ("resnet50", OURS)
    ]


def against_the_others(rows: list[Row]) -> list[dict[str, Any]]:
    """Ratio a round to the peer whose median is the best."""
    found = []
    for row in rows:
        peers = [
            other
            for other in rows
            if other.way in PEERS and (other.model, other.precision) == (row.model, row.precision)
        ]
        if row.way != OURS or row.model == "resnet50" or not peers:
            continue
        best = max(peers, key=lambda other: median(other.rates))
        ratios = [ours / theirs for ours, theirs in zip(row.rates, best.rates, strict=True)]
        name = f"{row.model} {row.precision}: images/s over those of {best.way}, the best other"
        found.append(verdict(name, median(ratios), OTHERS, at_most=False))
    return found


# In the process of one measurement.


def prepare(model: str, folder: Path) -> None:
    """Writes MODEL.onnx into the folder, and the converted chain into the store."""
    from zoo.engine import compiled
    from zoo.engine.graph import to_onnx

    chain, preprocess = network(model)
    data = to_onnx(chain, preprocess.shape)
    (folder / f"{model}.onnx").write_bytes(data)
    compiled.make(key(model, preprocess), chain, preprocess)


def network(model: str) -> tuple[Any, Any]:
    from zoo import network

    net = network.pretrained(model, "none")
    return net.chain.eval(), net.preprocess


def key(model: str, preprocess: Any) -> str:
    from zoo import catalog
    from zoo.engine import compiled

    return compiled.key_of(compiled.made_of(catalog.find(model)), "seed 0", None, preprocess)


def child(model: str, precision: str, way: str, seconds: float, folder: Path) -> dict[str, float]:
    if way.startswith("zoo"):
        return of_engine(zoo_engine(model, precision, way), seconds)
    make = {
        "torch NCHW": lambda batch: eager(model, precision, batch, False),
        "torch channels last": lambda batch: eager(model, precision, batch, True),
        "onnxruntime": lambda batch: onnxruntime(folder / f"{model}.onnx", batch),
        "openvino throughput": lambda batch: throughput(folder / f"{model}.onnx", precision, batch),
    }[way]
    found = [repeated(make(batch), seconds / len(BATCHES)) for batch in BATCHES]
    return max(found, key=lambda one: one["images_per_second"])


def zoo_engine(model: str, precision: str, way: str) -> Any:
    if way == OURS:
        from zoo import catalog
        from zoo.engine import compiled

        found = compiled.find(key(model, catalog.find(model).preprocess))
        assert found is not None
        return found.engine(precision)
    from zoo import device
    from zoo.engine.torch import TorchEngine

    device.tune_allocator()
    chain, preprocess = network(model)
    return TorchEngine(chain, preprocess, device.choose("cpu", precision))


def of_engine(engine: Any, seconds: float) -> dict[str, float]:
    """All worker threads of an engine of ours at once, each with batches of its own."""
    import numpy as np

    pixels = np.random.default_rng(0).integers(0, 256, (engine.batch, 224, 224, 3), np.uint8)
    until = 0.0

    def work(_: int) -> int:
        done = 0
        while time.perf_counter() < until:
            engine(pixels)
            done += len(pixels)
        return done

    def warm(_: int) -> None:
        for _ in range(2):
            engine(pixels)

    with ThreadPoolExecutor(engine.workers, initializer=engine.start_worker) as pool:
        list(pool.map(warm, range(2 * engine.workers)))
        began, cpu = time.perf_counter(), time.process_time()
        until = began + seconds
        done = sum(pool.map(work, range(engine.workers)))
        return rate(done, began, cpu)


def rate(done: int, began: float, cpu: float) -> dict[str, float]:
    wall, spent = time.perf_counter() - began, time.process_time() - cpu
    return {"images_per_second": done / wall, "images_per_cpu_second": done / spent}


def repeated(call: Callable[[], int], seconds: float) -> dict[str, float]:
    """call: runs some pictures and says how many."""
    call()
    call()
    done, began, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        done += call()
    return rate(done, began, cpu)


def eager(model: str, precision: str, batch: int, channels_last: bool) -> Callable[[], int]:
    """torchvision's model with torch's own threads and glibc's own allocator settings."""
    import torch
    import torchvision

    kind = {"init_weights": True} if model == "googlenet" else {}
    net = torchvision.models.get_model(model, weights=None, **kind).eval()
    x = torch.randn(batch, 3, 224, 224)
    if channels_last:
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)

    def call() -> int:
        with (
            torch.inference_mode(),
            torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
        ):
            net(x)
        return batch

    return call


def onnxruntime(path: Path, batch: int) -> Callable[[], int]:
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).standard_normal((batch, 3, 224, 224), np.float32)

    def call() -> int:
        session.run(None, {"tensor": x})
        return batch

    return call


def throughput(path: Path, precision: str, batch: int) -> Callable[[], int]:
    """As OpenVINO's documentation has it: the throughput hint and a queue of requests."""
    import numpy as np

    from zoo.engine.openvino import runtime

    openvino = runtime()
    core = openvino.Core()
    model = core.read_model(path)
    model.reshape([batch, 3, 224, 224])
    kind = {"fp32": "f32", "bf16": "bf16"}[precision]
    settings = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": kind}
    queue = openvino.AsyncInferQueue(core.compile_model(model, "CPU", settings))
    x = np.random.default_rng(0).standard_normal((batch, 3, 224, 224), np.float32)

    def call() -> int:
        for _ in range(2 * len(queue)):
            queue.start_async([x], share_inputs=True)
        queue.wait_all()
        return 2 * len(queue) * batch

    return call


if __name__ == "__main__":
    os.environ.setdefault("ZOO_OFFLINE", "1")
    if sys.argv[1:2] == ["--prepare"]:
        prepare(sys.argv[2], Path(sys.argv[3]))
    elif sys.argv[1:2] == ["--child"]:
        words = sys.argv[2:]
        print(json.dumps(child(*words[:3], float(words[3]), Path(words[4]))))
    else:
        main()
