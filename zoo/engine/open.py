"""The frozen part, ready to run: who runs it, and what its features are called."""

from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import PIL

from zoo import weights
from zoo.catalog import Preprocess
from zoo.data.preprocess import normalise
from zoo.data.views import plain_view
from zoo.device import Device
from zoo.disk import digest_of
from zoo.engine import Array, Engine
from zoo.errors import CacheError, ConversionError, ImageError, RunError, UsageError, WriteError
from zoo.records import EDITED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from zoo.engine.compiled import Compiled


@dataclass(frozen=True, slots=True)
class Opened:
    """An engine for the frozen part. key: names the features that it gives.

    compiled: where a graph of it is kept; None where torch runs it. note: why it is torch though
    another engine was chosen.
    """

    engine: Engine
    key: str
    compiled: Compiled | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class NetworkRef:
    """A chain up to a stage, or all of it.

    made_of, tensors: what its graph is computed from, see `compiled.key_of`. chain: None where it
    is not here.
    """

    model: str
    made_of: Mapping[str, Any]
    tensors: str
    boundary: str | None
    preprocess: Preprocess
    chain: nn.Sequential | None

    @property
    def key(self) -> str:
        """Return the name of the compiled graph; how a photo becomes a square is not in it."""
        from zoo.engine.compiled import key_of

        return key_of(self.made_of, self.tensors, self.boundary, self.preprocess)


_digests: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()


def tensors_of(frozen: nn.Sequential) -> str:
    """Return the hash of the tensors of a frozen part, which no training changes; found once."""
    if frozen not in _digests:
        _digests[frozen] = weights.digest_of_state(frozen.state_dict())
    return _digests[frozen]


def state_sha256(chain: nn.Sequential) -> str:
    digest = hashlib.sha256()
    for tensor in chain.state_dict().values():
        digest.update(tensor.contiguous().numpy().reshape(-1).data)
    return digest.hexdigest()


def prefix(
    part: NetworkRef, engine: str, device: Device, workers: int | None = None, *, alone: bool = True
) -> Opened:
    """Compiles what is not compiled yet. Raises DiskFull.

    alone: False in a team, whose processes must all have the same engine; then CacheError too.
    """
    from zoo.engine.torch import TorchEngine

    note = ""
    if engine == "openvino":
        try:
            return compiled(part, device, workers)
        except (ConversionError, CacheError) as error:
            if part.chain is None or (isinstance(error, CacheError) and not alone):
                raise
            note = f"torch runs the frozen part: {error.what}"
    assert part.chain is not None
    torch = TorchEngine(part.chain, part.preprocess, device, workers)
    made = (part.made_of, part.boundary, part.preprocess)
    return Opened(torch, fingerprint(part.chain, *made, torch), None, note)


def compiled(part: NetworkRef, device: Device, workers: int | None) -> Opened:
    """Raises ConversionError where the chain cannot be compiled."""
    from zoo.engine.compiled import find, make

    found = find(part.key)
    if found is None:
        if part.chain is None:  # it was there a moment ago
            raise CacheError("the compiled network was removed meanwhile", "run the command again")
        found = make(part.key, part.chain, part.preprocess, {"model": part.model})
    ready = found.engine(device.precision, workers or device.threads)
    about: list[Any] = [VERSION, found.content, ready.name, part.preprocess.to_dict()]
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()
    return Opened(ready, key, found)


CALIBRATION = 64  # photos


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Subject:
    """A network to be asked. build: makes its chain, with torch.

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
    build: Callable[[], nn.Sequential] = field(repr=False)
    head: tuple[Array, Array] | None = None
    photos: tuple[Path, ...] = ()
    note: str = ""  # what is to be known of it

    def key(self, precision: str) -> str:
        """Return the name of the graph for a precision."""
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
        from zoo.models.cut import halves

        chain = self.build().eval()
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

    return TorchEngine(subject.build(), subject.preprocess, device), note


# Count up when decode, views or resize change.
VERSION = f"features-3 pillow-{PIL.__version__}"


def fingerprint(
    frozen: nn.Module,
    made_of: Mapping[str, Any],
    boundary: str | None,
    preprocess: Preprocess,
    engine: Engine,
) -> str:
    """Hash of all that features depend on: parameters, structure, code, Preprocess, engine."""
    about = [VERSION, dict(made_of), boundary, repr(frozen), engine.name, preprocess.to_dict()]
    about.append(weights.digest_of_state(frozen.state_dict()))
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()
