"""One network in one engine, in a process of its own: images/s, latency and memory."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.bench.subject import Subject
from zoo.engine import Array, Engine
from zoo.machine import cores

if TYPE_CHECKING:
    from zoo.catalog import Preprocess

STORED, ONNX = "bench", "network.onnx"  # what is converted, under the folder given
BATCH = 8  # of ONNX Runtime, as of the others
PICTURES = 32
Call = Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class Measured:
    """What an engine does; or why it cannot.

    images_per_second: many pictures, all cores. latency, slowest: seconds of one picture at a time
    on all cores, median and the 95th percentile. memory: bytes of the process at most, libraries
    included; on a GPU those of the GPU. converting: seconds spent once for each network; opening:
    in each process.
    """

    engine: str
    name: str = ""
    images_per_second: float = 0.0
    latency: float = 0.0
    slowest: float = 0.0
    memory: int = 0
    converting: float = 0.0
    opening: float = 0.0
    error: str = ""
    hint: str = ""


def convert(subject: Subject, engine: str, precision: str, place: Path) -> float:
    """Writes what the engine opens into the folder, by torch; the seconds that it took."""
    began = time.perf_counter()
    CONVERT[engine](subject, precision, place)
    return time.perf_counter() - began


def measure(
    subject: Subject, engine: str, precision: str, device: str, seconds: float, photo: str,
    place: Path,
) -> Measured:  # fmt: skip
    """Two thirds of the time for many pictures, one for single ones. place: of `convert`."""
    pictures = subject.pictures(photo, PICTURES)
    began = time.perf_counter()
    many, one = OPEN[engine](subject, precision, device, place)
    opening = time.perf_counter() - began
    rate = throughput(many, pictures, 2 * seconds / 3)
    times = latencies(one, pictures, seconds / 3)
    middle, slowest = np.percentile(times, (50, 95)).tolist()
    return Measured(engine, many.name, rate, middle, slowest, memory(device), opening=opening)


def throughput(engine: Engine, pictures: list[Array], seconds: float) -> float:
    """Images per second, with as many threads as the engine takes."""
    from zoo.engine.pipeline import forward

    def run(stop: float) -> int:
        def each() -> Iterator[Array]:
            first = engine.batch * engine.workers
            for number, picture in enumerate(itertools.cycle(pictures)):
                if number >= first and time.perf_counter() >= stop:
                    return
                yield picture

        return sum(1 for _ in forward(each(), lambda picture: picture, engine))

    run(0.0)  # the first call prepares
    began = time.perf_counter()
    done = run(began + seconds)
    return done / (time.perf_counter() - began)


def latencies(one: Call, pictures: list[Array], seconds: float) -> list[float]:
    """Seconds of each call with one picture, after a first one that is not counted."""
    one(pictures[0][None])
    times: list[float] = []
    stop = time.perf_counter() + seconds
    for picture in itertools.cycle(pictures):
        began = time.perf_counter()
        if times and began >= stop:
            return times
        one(picture[None])
        times.append(time.perf_counter() - began)
    raise AssertionError("there are pictures")


def memory(device: str) -> int:
    """Return the most memory that this process has had, in bytes."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource
        import sys

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


# Each engine: what runs many pictures, and what runs one on all cores.


def of_torch(subject: Subject, precision: str, device: str, place: Path) -> tuple[Engine, Call]:
    from zoo import device as devices
    from zoo.engine.torch import TorchEngine

    chosen = devices.choose(device, precision)
    engine = TorchEngine(subject.chain(), subject.preprocess, chosen)
    single = TorchEngine(subject.chain(), subject.preprocess, chosen)
    single.batch = 1
    return engine, single


def to_openvino(subject: Subject, precision: str, place: Path) -> None:
    """Into a store of its own, so that the user's has nothing of this."""
    from zoo.engine import compiled

    os.environ["ZOO_CACHE"] = str(place)  # of this process, which ends with it
    quantised = in_int8(subject) if precision == "int8" else None
    compiled.make(STORED, subject.chain(), subject.preprocess, quantised=quantised)


def of_openvino(subject: Subject, precision: str, device: str, place: Path) -> tuple[Engine, Call]:
    from zoo.engine import compiled
    from zoo.engine.openvino import runtime

    os.environ["ZOO_CACHE"] = str(place)
    found = compiled.find(STORED)
    assert found is not None, "it was converted a moment ago"
    core = runtime().Core()
    model = core.read_model(found.folder / compiled.GRAPH)
    shape = model.input(0).partial_shape
    shape[0] = 1
    model.reshape(shape)
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": cores(),
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return found.engine(precision), lambda pixels: request.infer([pixels], share_inputs=True)[0]


def to_onnx(subject: Subject, precision: str, place: Path) -> None:
    model = in_int8(subject) if precision == "int8" else subject.onnx()
    (place / ONNX).write_bytes(model)


def of_onnxruntime(
    subject: Subject, precision: str, device: str, place: Path
) -> tuple[Engine, Call]:
    from zoo.engine.onnx import OnnxEngine, OnnxModel

    if subject.file is not None:
        many = OnnxEngine(OnnxModel(subject.file, threads=1), cores())
        return many, OnnxModel(subject.file).run
    engine = Session(place / ONNX, subject.preprocess, threads=1)
    return engine, Session(place / ONNX, subject.preprocess, threads=cores())


class Session:
    """A chain in ONNX Runtime; see `Engine`. zoo itself runs only exported files in it."""

    decoders = 0
    batch = BATCH

    def __init__(self, model: Path, preprocess: Preprocess, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        self.session: Any = onnxruntime.InferenceSession(str(model), options, providers=providers)
        self.workers = cores()
        self.name = f"onnxruntime {onnxruntime.__version__} cpu"
        self.mean = 255 * np.array(preprocess.mean, np.float32)
        self.scale = 1 / (255 * np.array(preprocess.std, np.float32))

    def start_worker(self) -> None:
        pass

    def __call__(self, pixels: Array) -> Array:
        values = (pixels - self.mean) * self.scale
        tensor = np.ascontiguousarray(values.transpose(0, 3, 1, 2), np.float32)
        return self.session.run(None, {"tensor": tensor})[0]  # type: ignore[no-any-return]


def in_int8(subject: Subject) -> bytes:
    """Calibrated on noise: speed is all that is asked of it."""
    from zoo.engine.quantise import quantise

    side, channels = subject.preprocess.size, subject.preprocess.channels
    noise = np.random.default_rng(0).standard_normal((BATCH, channels, side, side), np.float32)
    model: bytes = quantise(subject.onnx(), noise)
    return model


OPEN: dict[str, Callable[[Subject, str, str, Path], tuple[Engine, Call]]] = {
    "openvino": of_openvino,
    "torch": of_torch,
    "onnxruntime": of_onnxruntime,
}
CONVERT: dict[str, Callable[[Subject, str, Path], None]] = {
    "openvino": to_openvino,
    "onnxruntime": to_onnx,
}
