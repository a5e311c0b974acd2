"""Who answers: the network of a run or of a name, told without building it.

What an answer takes is the compiled graph, the classes and the Preprocess. All of them can be had
without torch where the graph was compiled before; only to compile one the network is built.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from zoo import catalog, weights
from zoo.catalog import Preprocess, Weights
from zoo.data.preprocess import normalise
from zoo.data.views import plain_view
from zoo.device import Device
from zoo.engine import Array, Engine
from zoo.errors import (
    CacheError,
    ConversionError,
    ImageError,
    UsageError,
    WeightsError,
    WriteError,
)
from zoo.run import Run

if TYPE_CHECKING:
    from torch import nn

    from zoo.engine.compiled import Compiled
    from zoo.network import Network

CALIBRATION = 64  # photos
OTHER = "WARNING: model.safetensors is not the one that the run saved: its results are of another"
T = TypeVar("T")
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Subject:
    """A network to be asked. build: makes it, with torch.

    weights: what says which parameters it has. boundary: the stage up to which a graph runs, None
    for all of it. head: K x D and K behind that stage. photos: what int8 is calibrated on.
    """

    model: str
    variant: dict[str, str | float]
    weights: str
    boundary: str | None
    preprocess: Preprocess
    classes: tuple[str, ...]
    threshold: float | None
    build: Callable[[], Network] = field(repr=False)
    head: tuple[Array, Array] | None = None
    photos: tuple[Path, ...] = ()
    note: str = ""  # what is to be known of it

    def key(self, precision: str) -> str:
        """Of the graph for a precision."""
        from zoo.engine.compiled import key_of

        plain = replace(self.preprocess, fit="crop")  # which is not the graph's business
        if precision == "int8":
            precision = f"int8 {digest_of(self.photos)} {self.preprocess.fit}"
        where = (self.model, self.variant, self.weights, self.boundary, plain)
        return key_of(*where, precision)

    def chain(self) -> nn.Sequential:
        """What a graph is made of."""
        from zoo.models.tap import halves

        chain = self.build().chain.eval()
        return chain if self.boundary is None else halves(chain, self.boundary)[0]

    def engine(self, device: Device) -> Engine:
        """Raises ConversionError, CacheError where there can be no graph."""
        from zoo.engine import compiled

        found = compiled.find(self.key(device.precision)) or self.made(device.precision)
        ready: Engine = found.engine(device.precision)
        return ready if self.head is None else WithHead(ready, *self.head)

    def made(self, precision: str) -> Compiled:
        from zoo.engine import compiled

        chain, about = self.chain(), {"model": self.model, "precision": precision}
        quantised = self.quantised(chain) if precision == "int8" else None
        return compiled.make(self.key(precision), chain, self.preprocess, about, quantised)

    def quantised(self, chain: nn.Sequential) -> bytes:
        """Raises UsageError where there is nothing to calibrate on."""
        from zoo.engine.graph import to_onnx
        from zoo.engine.quantise import quantise

        inputs = []
        for path in self.photos:
            with suppress(ImageError):
                inputs.append(normalise(plain_view(path, self.preprocess), self.preprocess))
        if not inputs:
            raise UsageError(
                f"int8 of {self.model} is measured out on photos, and there are none",
                "give readable photos; those of a run are looked for where they were in training",
            )
        model = to_onnx(chain, self.preprocess.channels, self.preprocess.size)
        return quantise(model, np.stack(inputs))


def digest_of(photos: Sequence[Path]) -> str:
    """Of files as they are now: names, lengths and times."""
    digest = hashlib.sha256()
    for path in photos:
        at = path.stat()
        digest.update(f"{path} {at.st_size} {at.st_mtime_ns}".encode(errors="surrogateescape"))
    return digest.hexdigest()


def spread(photos: Sequence[T], count: int) -> tuple[T, ...]:
    """Up to so many, from all over the list."""
    places = np.linspace(0, len(photos) - 1, min(count, len(photos))).astype(int)
    return tuple(photos[place] for place in places)


class WithHead:
    """An engine for the frozen part with a linear head behind it; see `Engine`."""

    def __init__(self, engine: Engine, weight: Array, bias: Array) -> None:
        self.engine, self.weight, self.bias = engine, weight.T, bias
        self.batch, self.workers, self.decoders = engine.batch, engine.workers, engine.decoders
        self.name = engine.name

    def start_worker(self) -> None:
        self.engine.start_worker()

    def __call__(self, pixels: Array) -> Array:
        features = self.engine(pixels)
        rows = features.reshape(len(features), -1)
        if rows.shape[1] != len(self.weight):
            raise WeightsError(
                f"the head takes {len(self.weight)} numbers, the network before it gives "
                f"{rows.shape[1]}",
                "run.json and model.safetensors are not of one training: make the run anew",
            )
        # Row by row: what stands beside a picture in a batch changes no bit of its answer.
        return np.stack([row @ self.weight for row in rows]) + self.bias


def of_run(run: Run) -> Subject:
    """Of a finished run: its frozen part and its head where that is linear, else all of it."""
    from zoo import network

    about, path = run.record, run.path("model.safetensors")
    preprocess = Preprocess.from_dict(about["preprocess"])
    digest, stage = weights.hash_of(path), about.get("linear_head")
    names = tuple(about["classes"])
    parts: dict[str, Any] = {"weights": f"file {digest}", "boundary": None}
    if stage and about.get("model_sha256") == digest:
        head = weights.read_arrays(path, [f"{stage}.weight", f"{stage}.bias"])
        must_be_head(head[f"{stage}.weight"], head[f"{stage}.bias"], len(names), path)
        parts = {
            "weights": about["weights_sha256"],
            "boundary": about["boundary"],
            "head": (head[f"{stage}.weight"], head[f"{stage}.bias"]),
        }
    return Subject(
        model=about["model"],
        variant=dict(about.get("variant", {})),
        preprocess=preprocess,
        classes=names,
        threshold=about.get("threshold"),
        build=lambda: network.of_run(run),
        note=OTHER if about.get("model_sha256", digest) != digest else "",
        photos=spread([path for path in run.photos("train") if path.is_file()], CALIBRATION),
        **parts,
    )


def must_be_head(weight: Array, bias: Array, classes: int, path: Path) -> None:
    """Raises WeightsError for a head that does not give one number for each class."""
    if weight.ndim != 2 or weight.shape[:1] != (classes,) or bias.shape != (classes,):
        shapes = " and ".join(" x ".join(map(str, part.shape)) for part in (weight, bias))
        raise WeightsError(
            f"{path}: its head of {shapes} numbers is not one of {classes} classes",
            "run.json and model.safetensors are not of one training: make the run anew",
        )


def of_name(name: str, choice: str | None, seed: int, progress: Progress | None) -> Subject:
    """Of a model's name: of the catalogue without building it, of a library's by doing so."""
    from zoo import network

    def build() -> Network:
        return network.pretrained(name, choice, seed=seed, progress=progress)

    if not catalog.of_library(name):
        row = catalog.find(name)
        chosen = weights.choose(row, choice)
        if isinstance(chosen, Weights):
            path = weights.find(chosen, progress=progress, model=row.name)
            names = network.class_names(chosen.classes, row.num_classes)
            said = f"file {weights.hash_of(path)}"
            place = (None, chosen.preprocess, names, None)
            return Subject(name, {}, said, *place, build)
    net = build()
    said = f"file {weights.hash_of(net.source)}" if net.source else f"none {seed}"
    library = name.partition("/")[0] if catalog.of_library(name) else ""
    if library:
        from importlib.metadata import version

        said += f" {library} {version(library)}"
    return Subject(
        *(name, net.variant, said, None, net.preprocess, net.classes, net.threshold, lambda: net),
        note=net.said_of_file,
    )


def engine_of(subject: Subject, kind: str, device: Device) -> tuple[Engine, str]:
    """The engine, and why it is torch where another was chosen."""
    note = ""
    if kind == "openvino":
        try:
            return subject.engine(device), note
        except (ConversionError, CacheError, WriteError) as error:
            if device.precision == "int8":
                raise
            note = f"torch: {error.what}"
    from zoo.engine.torch import TorchEngine

    return TorchEngine(subject.build().chain, subject.preprocess, device), note
