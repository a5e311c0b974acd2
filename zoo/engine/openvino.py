"""The OpenVINO engine: a converted chain on a CPU, near what the processor can do. No torch.

Each worker thread has a stream of its own with one thread in it: nobody waits for anybody, and the
same code runs on the same shapes whatever the number of workers, so answers do not depend on it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from zoo.engine import Array, padded
from zoo.errors import UsageError
from zoo.machine import cores

if TYPE_CHECKING:
    import openvino

# Pictures a call. Few keep what a convolution gives in the core's own cache (MobileNetV2 is a sixth
# slower with eight than with four). Weights are read from memory at every call, so where there are
# many beside what the layers give (AlexNet 28 times as many, VGG-16 three times, ResNet-50 two
# thirds) more pictures share a call (AlexNet is a ninth slower with four). And small pictures cost
# less than the call.
TINY, TINY_BATCH = 64, 64  # pixels of a side
BATCHES = ((10.0, 16), (2.0, 8), (0.0, 4))  # from this ratio of weights to activations
WORKERS = 32  # each holds the activations of its own batch
# What is not quantised in an int8 graph runs in fp32.
PRECISIONS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
_importing = threading.Lock()


@functools.cache
def version() -> str | None:
    """Return the version of OpenVINO that is installed, without importing it, or None."""
    try:
        return importlib.metadata.version("openvino")
    except importlib.metadata.PackageNotFoundError:
        return None


def runtime() -> ModuleType:
    """Return the module `openvino`, without its converter.

    `import openvino` imports the converter too, which writes a number for this user into the home
    folder and reports the import over the network. Without it the module is all there but for
    `openvino.convert_model`, and is there in a third of the time.
    """
    with _importing:
        converter = "openvino.tools.ovc"
        if "openvino" in sys.modules:  # somebody else's import: it is done
            import openvino

            return _first_used(openvino)
        sys.modules[converter] = None  # type: ignore[assignment]  # an ImportError to whoever asks
        try:
            import openvino
        finally:
            del sys.modules[converter]
        return _first_used(openvino)


def _first_used(openvino: ModuleType) -> ModuleType:
    """Return the module, with a table filled that `infer` needs.

    Two threads that fill it at once wait for each other for ever: one holds the interpreter and
    waits for the table, the other has the table and waits for the interpreter (2026.4.1).
    """
    openvino.Type.f32.to_dtype()
    return openvino


class OpenVinoEngine:
    """A graph that takes uint8 N H W C and normalises by itself; see `Engine`.

    It is compiled when the first picture asks for it: a run whose features are kept never does.
    All calls have the same shape: a short batch is filled with its last picture.
    """

    decoders = 0

    def __init__(
        self,
        graph: Path,
        precision: str = "fp32",
        workers: int | None = None,
        batch: int | None = None,
        lease: object = None,
        threads: int | None = None,
    ) -> None:
        """graph: a .xml with its .bin, quantised already where it is to run in int8.

        workers: as many as this process has processors. batch: what is quickest for the graph.
        lease: keeps the files of the graph there as long as it lives. threads: of all workers
        together; else one each. Raises UsageError for a precision that it does not know.
        """
        if precision not in PRECISIONS:
            known = ", ".join(PRECISIONS)
            raise UsageError(f"--precision {precision} with --engine openvino", f"give {known}")
        self.graph, self.precision, self.lease = graph, precision, lease
        self.workers = min(workers or cores(), WORKERS)
        self.threads = threads or self.workers
        self.name = f"openvino {version()} cpu {precision}"
        self.asked_batch = batch
        self.of_thread = threading.local()
        self.compiling = threading.Lock()
        self.ready: tuple[openvino.CompiledModel, int] | None = None

    @property
    def batch(self) -> int:
        """Return how many pictures a call has; compiles the graph."""
        return self.compiled()[1]

    def compiled(self) -> tuple[openvino.CompiledModel, int]:
        """Return the compiled graph and the pictures of a call; compiled once."""
        with self.compiling:
            if self.ready is None:
                core = runtime().Core()
                model = core.read_model(self.graph)
                batch = self.asked_batch or _best_batch(model, self.graph)
                reshape(model, batch)
                settings = {
                    "INFERENCE_PRECISION_HINT": PRECISIONS[self.precision],
                    "NUM_STREAMS": self.workers,
                    "INFERENCE_NUM_THREADS": self.threads,
                    "ENABLE_CPU_PINNING": False,
                }
                self.ready = core.compile_model(model, "CPU", settings), batch
            return self.ready

    def start_worker(self) -> None:
        self.of_thread.request = self.compiled()[0].create_infer_request()

    def __call__(self, pixels: Array) -> Array:
        if not hasattr(self.of_thread, "request"):
            self.start_worker()
        full = np.ascontiguousarray(padded(pixels, self.batch))
        result = self.of_thread.request.infer([full], share_inputs=True)
        return np.array(
            result[0][: len(pixels)]
        )  # the request writes its next answer over this one


def one_at_a_time(graph: Path, precision: str) -> Callable[[Array], Array]:
    """Return what runs one picture of a graph on all cores; each answer is good until the next."""
    core = runtime().Core()
    reshape(model := core.read_model(graph), 1)
    how = {"INFERENCE_PRECISION_HINT": PRECISIONS[precision], "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(model, "CPU", how).create_infer_request()
    return lambda pixels: request.infer([pixels], share_inputs=True)[0]


def reshape(model: openvino.Model, batch: int) -> None:
    shape = model.input(0).partial_shape
    shape[0] = batch
    model.reshape(shape)


def _best_batch(model: openvino.Model, graph: Path) -> int:
    """Return how many pictures a call is quickest with; leaves the model with one."""
    reshape(model, 1)
    if model.input(0).shape[1] <= TINY:
        return TINY_BATCH
    activations = sum(
        output.get_tensor().size  # bytes
        for operation in model.get_ops()
        if operation.get_type_name() != "Constant"
        for output in operation.outputs()
    )
    ratio = graph.with_suffix(".bin").stat().st_size / activations
    return next(batch for least, batch in BATCHES if ratio >= least)


def capabilities() -> list[str]:
    """Return what OpenVINO says this processor computes with, as `BF16`; nothing without it."""
    with contextlib.suppress(Exception):  # not installed, or no plugin for this processor
        return list(runtime().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    return []
