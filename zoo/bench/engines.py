"""A network in each engine: images/s, latency and memory.

Every engine has a process of its own, so that its memory and its settings are its own.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import cycle, takewhile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo import catalog, network
from zoo.catalog import Preprocess
from zoo.disk import scratch
from zoo.engine import Array, Engine
from zoo.engine.select import choose_for_network, why_not
from zoo.errors import UsageError, ZooError
from zoo.machine import cores
from zoo.run import Run
from zoo.watch import check, undoing, unheard

if TYPE_CHECKING:
    from torch import nn

STORED = "bench"  # the graph's name in a cache that is removed at the end
POLL = 0.1  # seconds
PICTURES = 32
Call = Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class Job:
    """A network and how it is measured; another process can be given it, which builds it.

    kind: model, run or onnx. macs: multiply-adds for one picture, None where not known. trusts: a
    network that was changed after its run was finished is measured too.
    """

    name: str
    kind: str
    preprocess: Preprocess
    macs: int | None
    precision: str = "fp32"
    trusts: bool = False
    device: str = "cpu"
    engine: str = ""
    seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What an engine does; or why it cannot.

    images_per_second: many pictures, all cores. latency, slowest: seconds of one picture at a time
    on all cores, median and 95th percentile. memory: most bytes of the process, libraries included;
    on a GPU the GPU's. converting: seconds spent once for a network; opening: in each process.
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


def find(name: str, *, trusts: bool = False) -> Job:
    """Return what a name is. Raises UnknownModel, RunError, InputError or WeightsError."""
    if catalog.is_exported(name):
        from zoo.engine.open_file import open_exported

        if not os.path.isfile(name):
            raise catalog.no_exported(name)
        if not trusts:
            network.must_be_exported(Path(name))
        model = open_exported(Path(name))
        known = catalog.ROWS.get(catalog.base(model.about.get("zoo.model", "")))
        return Job(name, "onnx", model.preprocess, known.macs if known else None)
    if catalog.is_run(name):
        run = Run.open(Path(name), trusts=trusts).finished()
        network.model_file(run)
        preprocess = Preprocess.from_dict(run.record["preprocess"])
        macs = network.recorded(run.record).macs or None
        return Job(name, "run", preprocess, macs, run.record["precision"], trusts)
    if catalog.of_library(name):
        from zoo import models

        row = models.resolve(name)
    else:
        row = catalog.find(name)
    return Job(name, "model", row.preprocess, row.macs or None)


def here(job: Job, wanted: str | None) -> list[str]:
    """Return the engine that was asked for, else all that are here, the preferred one first."""
    if job.kind == "onnx":
        if wanted not in (None, "onnxruntime") or job.precision != "fp32":
            raise UsageError(
                f"{job.name} is an exported file: it runs in onnxruntime as it is",
                "leave --engine and --precision out",
            )
        return ["onnxruntime"]
    if wanted is not None:
        return [choose_for_network(wanted, job.device, job.precision)[0]]
    return ["torch"] if why_not(job.device) else ["openvino", "torch"]


# One engine.


def measure(job: Job) -> Measured:
    """Measure one engine in a process of its own; one that fails is a row with its error.

    A network is converted in one process and measured in the next, which has no torch for that.
    """
    converted = Measured(job.engine)
    with scratch("bench") as place:
        if job.engine == "openvino":
            converted = _apart(_converted, job, place)
        found = converted if converted.error else _apart(_measured, job, place)
    return replace(found, converting=converted.converting)


def _apart(work: Callable[[Job], Measured], job: Job, cache: Path) -> Measured:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, work, job, cache), daemon=True)
    with unheard(spawned=True):
        process.start()
    sender.close()
    try:
        with undoing(process.kill):
            while not receiver.poll(POLL):
                check()
            return receiver.recv()  # type: ignore[no-any-return]
    except EOFError:
        process.join()
        check()
        why = f"the process of {job.engine} ended with {process.exitcode} and no answer"
        hint = "perhaps the memory was not enough: choose a smaller network"
        return Measured(job.engine, error=why, hint=hint)
    finally:
        process.kill()
        process.join()


def _child(sender: Connection, work: Callable[[Job], Measured], job: Job, cache: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a library's thread may not have the mask
    os.environ["ZOO_CACHE"] = str(cache)
    try:
        if job.kind != "onnx":
            choose_for_network(job.engine, job.device, job.precision)
        found = work(job)
    except ZooError as error:
        found = Measured(job.engine, error=error.what, hint=error.hint)
    except Exception as error:  # a library's
        text = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        found = Measured(job.engine, error=text, hint="another --engine may run it")
    sender.send(found)


def _chain(job: Job) -> nn.Sequential:
    """Build it; a model's name has random weights, which cost as much as others."""
    if job.kind == "run":
        return network.of_run(Run.open(Path(job.name), trusts=job.trusts).finished()).chain
    return network.pretrained(job.name, "none").chain


def _converted(job: Job) -> Measured:
    from zoo.engine import compiled
    from zoo.engine.graph import to_onnx
    from zoo.engine.quantise import quantise

    began, chain, quantised = time.perf_counter(), _chain(job), None
    if job.precision == "int8":  # calibrated on noise: speed is all that is wanted of it
        noise = np.random.default_rng(0).standard_normal((8, *job.preprocess.shape), np.float32)
        quantised = quantise(to_onnx(chain, job.preprocess.shape), noise)
    compiled.make(STORED, chain, job.preprocess, quantised=quantised)
    return Measured(job.engine, converting=time.perf_counter() - began)


def _measured(job: Job) -> Measured:
    """Spend two thirds of the time on many pictures, one third on single ones."""
    channels, height, width = job.preprocess.shape
    began = time.perf_counter()
    engine, single, shape, kind = OPEN[job.engine](job, (height, width, channels))
    opening, random = time.perf_counter() - began, np.random.default_rng(0)
    noise: list[Array] = [
        random.integers(0, 256, shape, np.uint8).astype(kind) for _ in range(PICTURES)
    ]
    _forward(engine, noise, 0)  # the first call prepares
    rate = _forward(engine, noise, 2 * job.seconds / 3)
    one, times = single(), [0.0]
    while sum(times) < job.seconds / 3 or len(times) < 3:
        began = time.perf_counter()
        one(noise[len(times) % PICTURES][None])
        times.append(time.perf_counter() - began)
    middle, slowest = np.percentile(times[2:], (50, 95)).tolist()
    memory = _memory(job.device)
    return Measured(job.engine, engine.name, rate, middle, slowest, memory, opening=opening)


def _forward(engine: Engine, pictures: list[Array], seconds: float) -> float:
    """Return images per second, with as many threads as the engine takes."""
    from zoo.engine.pipeline import forward

    began, first = time.perf_counter(), engine.batch * engine.workers

    def goes_on(item: tuple[int, Array]) -> bool:
        return item[0] < first or time.perf_counter() < began + seconds

    items = takewhile(goes_on, enumerate(cycle(pictures)))
    done = sum(1 for _ in forward(items, lambda item: item[1], engine))
    return done / (time.perf_counter() - began)


def _memory(device: str) -> int:
    """Return the most memory that this process has had, in bytes."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    with suppress(OSError, StopIteration):  # getrusage counts what the parent had before the exec
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    try:
        import resource
    except ModuleNotFoundError:  # Windows, where it is not known
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


# Each engine for many pictures, what runs one picture on all cores, and what they take.

Shape = tuple[int, ...]
Opened = tuple[Engine, Callable[[], Call], Shape, type[np.generic]]


def _torch(job: Job, shape: Shape) -> Opened:
    from zoo import device
    from zoo.engine.torch import TorchEngine

    engine = TorchEngine(_chain(job), job.preprocess, device.choose(job.device, job.precision))

    def single() -> Call:
        engine.batch = 1
        return engine

    return engine, single, shape, np.uint8


def _openvino(job: Job, shape: Shape) -> Opened:
    from zoo.engine import compiled
    from zoo.engine.openvino import one_at_a_time

    found = compiled.find(STORED)
    assert found is not None, "it was converted a moment ago"

    def single() -> Call:
        return one_at_a_time(found.folder / compiled.GRAPH, job.precision)

    return found.engine(job.precision), single, shape, np.uint8


def _exported(job: Job, shape: Shape) -> Opened:
    from zoo.engine.onnx import OnnxEngine
    from zoo.engine.open_file import open_exported

    model = open_exported(Path(job.name))
    photo = model.input == "image"  # of any size; else what a chain takes
    shape = (375, 500, 3) if photo else (shape[2], *shape[:2])
    engine = OnnxEngine(model, workers=cores())
    kind = np.uint8 if photo else np.float32
    return engine, lambda: open_exported(Path(job.name), threads=None).run, shape, kind


OPEN = {"torch": _torch, "openvino": _openvino, "onnxruntime": _exported}
