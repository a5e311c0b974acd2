"""Who answers: the network of a run or of a name, told without building it.

What an answer takes is the compiled graph, the classes and the Preprocess. All of them can be had
without torch where the graph was compiled before; only to compile one the network is built.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from zoo import catalog, records, weights
from zoo.catalog import Preprocess, Weights
from zoo.data.preprocess import normalise
from zoo.data.views import plain_view
from zoo.device import Device
from zoo.disk import read_sealed, write_sealed
from zoo.engine import Array, Engine
from zoo.errors import (
    CacheError,
    ConversionError,
    ImageError,
    RunError,
    UsageError,
    WeightsError,
    WriteError,
)
from zoo.run import EDITED, Run

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

    made_of, tensors: what its graph is computed from, see `compiled.key_of`. boundary: the stage
    up to which a graph runs, None for all of it. head: K x D and K behind that stage. photos: what
    int8 is calibrated on.
    """

    model: str
    made_of: Mapping[str, Any]
    tensors: str
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

        if precision == "int8":
            precision = f"int8 {self.calibration()}"
        return key_of(self.made_of, self.tensors, self.boundary, self.preprocess, precision)

    def calibration(self) -> str:
        """A hash of all that the int8 graph is measured out with: photos, pixels, code."""
        from zoo.engine.compiled import version_of

        code = [version_of(name) for name in ("onnxruntime", "pillow")]
        facts = [digest_of(self.photos), self.preprocess.to_dict(), *code]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

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
    """Return the hash of the content of files, in their order; one that cannot be read has none."""
    digest = hashlib.sha256()
    for path in photos:
        try:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError:
            digest.update(b"unreadable")
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
            raise RunError(
                f"the frozen part gives {rows.shape[1]:,} numbers, and the head in "
                f"model.safetensors takes {len(self.weight):,}",
                EDITED,
            )
        # Row by row: what stands beside a picture in a batch changes no bit of its answer.
        return np.stack([row @ self.weight for row in rows]) + self.bias


def tensors_of(path: Path, without: Sequence[str]) -> str:
    """Return the hash of a file's tensors but for these; found once for a file of this content."""
    words = ["tensors 1", weights.hash_of(path), *without]
    digest = hashlib.sha256(json.dumps(words).encode()).hexdigest()
    place = weights.cache_folder() / "known" / f"tensors-{digest[:32]}"
    if (known := read_sealed(place)) is not None:
        return known.decode()
    found = weights.digest_of_file(path, without)
    with suppress(WriteError):
        write_sealed(place, found.encode())
    return found


def of_run(run: Run) -> Subject:
    """Of a finished run: its frozen part and its head where that is linear, else all of it."""
    from zoo import network
    from zoo.engine.compiled import made_of

    about = run.record
    preprocess = Preprocess.from_dict(about["preprocess"])
    (path, digest), stage = network.model_file(run), about.get("linear_head")
    names, row = tuple(about["classes"]), network.recorded(about)
    variant = dict(about.get("variant", {}))
    parts: dict[str, Any] = {
        "made_of": made_of(row, variant, about["head"]),
        "tensors": f"file {digest}",
        "boundary": None,
    }
    if stage and about.get("model_sha256") == digest:
        last = [f"{stage}.weight", f"{stage}.bias"]
        head = weights.read_arrays(path, last)
        must_be_head(head[last[0]], head[last[1]], len(names), path)
        run.check(records.fields({}), ("boundary",))
        parts = {
            "made_of": made_of(row, variant),
            "tensors": tensors_of(path, last),
            "boundary": about["boundary"],
            "head": (head[last[0]], head[last[1]]),
        }
    return Subject(
        model=about["model"],
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
    from zoo.engine.compiled import made_of

    def build() -> Network:
        return network.pretrained(name, choice, seed=seed, progress=progress)

    if not catalog.of_library(name):
        row = catalog.find(name)
        chosen = weights.choose(row, choice)
        if isinstance(chosen, Weights):
            path = weights.find(chosen, progress=progress, model=row.name)
            names = network.class_names(chosen.classes, row.num_classes)
            tensors = f"file {weights.hash_of(path)}"
            place = (None, chosen.preprocess, names, None)
            return Subject(name, made_of(row), tensors, *place, build)
    net = build()
    tensors = weights.digest_of_state(net.chain.state_dict())
    made, shown = made_of(net.spec, net.variant), (net.preprocess, net.classes, net.threshold)
    return Subject(name, made, tensors, None, *shown, lambda: net, note=net.said_of_file)


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
