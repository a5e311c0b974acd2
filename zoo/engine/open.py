"""A network, ready to run: by its graph where there is one, else by torch."""

from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo import weights
from zoo.catalog import Preprocess
from zoo.data.preprocess import normalise
from zoo.data.views import plain_view
from zoo.device import Device
from zoo.disk import digest_of
from zoo.engine import Array, Calls, Engine
from zoo.engine.compiled import Made, find, keep, key_of, make, version_of
from zoo.engine.select import choose_for_network
from zoo.errors import (
    CacheError,
    ConversionError,
    ImageError,
    RunError,
    UsageError,
    WeightsError,
    ZooError,
)
from zoo.records import EDITED

if TYPE_CHECKING:
    from torch import nn

    from zoo.engine.compiled import Compiled
    from zoo.head.layers import Layer

FEATURES = 4  # count up when decode, views or resize change
FORGIVEN: tuple[type[ZooError], ...] = (ConversionError, CacheError)


@dataclass(frozen=True, slots=True)
class NetworkRef:
    """Which network, which weights, up to which stage: enough to find or make its graph.

    made_of, tensors: what the graph is computed from, see `compiled.key_of`. boundary: the last
    stage in the graph, None for all of them. build: makes the chain with torch, up to the boundary,
    or of a network with a `head` all of it; None where it is not here. head: what gives scores of
    the features behind the boundary. photos: what int8 is calibrated on. features: each row gives
    what leaves the boundary as well, before what the head makes of it. arrays: gives all tensors of
    the network by their names without torch; None where it turns out that they are not at hand so.
    """

    model: str
    made_of: Made
    tensors: str
    boundary: str | None
    preprocess: Preprocess
    build: Callable[[], nn.Sequential] | None = field(repr=False)
    head: Layer | None = None
    photos: tuple[Path, ...] = ()
    features: bool = False
    arrays: Callable[[], Mapping[str, Array] | None] | None = field(default=None, repr=False)

    def key(self, precision: str = "fp32") -> str:
        """Return the name of the graph; how a photo becomes the input is not in it."""
        if precision == "int8":  # all that it is calibrated with: photos, pixels, code
            code = [version_of(name) for name in ("onnxruntime", "pillow")]
            facts = [digest_of(self.photos), self.preprocess.to_dict(), *code]
            precision = f"int8 {_sha256(facts)}"
        return key_of(self.made_of, self.tensors, self.boundary, self.preprocess, precision)


@dataclass(frozen=True, slots=True)
class Opened:
    """An engine for a network.

    compiled: where its graph is kept; None where torch runs it. note: why torch runs it though
    another engine was chosen.
    """

    engine: Engine
    compiled: Compiled | None = None
    note: str = ""


def open_engine(
    ref: NetworkRef,
    engine: str,
    device: Device,
    workers: int | None = None,
    forgiven: tuple[type[ZooError], ...] = FORGIVEN,
    calls: Calls = "many",
) -> Opened:
    """Return the engine that runs a network; a graph that is not there yet is made.

    engine: `auto` for this device, `openvino`, or `torch`, which also runs what openvino cannot,
    after the errors that are forgiven; where there is no chain, and in int8, none is. Raises those
    that are not, as DiskFull.
    """
    note = ""
    if engine == "auto":
        engine, _ = choose_for_network(engine, device.name, device.precision)
    if ref.features and ref.head is None:  # one graph has the head in it, and gives scores alone
        if device.precision == "int8":
            raise UsageError(
                "what stands before a head that was trained in steps is torch's, not in int8",
                "leave --precision out",
            )
        engine, note = "torch", "the features before a head that was trained in steps"
    if engine == "openvino":
        try:
            return _compiled(ref, device, workers or device.threads, calls)
        except forgiven as error:
            if ref.build is None or device.precision == "int8":
                raise
            note = error.what
    from zoo.engine.torch import TorchEngine

    assert ref.build is not None
    chain = _with_features(ref) if ref.features else ref.build()
    return Opened(TorchEngine(chain, ref.preprocess, device, workers, calls), None, note)


def _with_features(ref: NetworkRef) -> nn.Sequential:
    """Return the chain of a network with a head that gives its features before its scores."""
    from torch import nn

    from zoo.models.cut import halves
    from zoo.models.tap import Tap

    assert ref.build is not None
    assert ref.boundary is not None
    first, rest = halves(ref.build().eval(), ref.boundary)
    return nn.Sequential(Tap(first, (), rest))


def _compiled(ref: NetworkRef, device: Device, workers: int, calls: Calls) -> Opened:
    """Raises ConversionError where the chain cannot be compiled, CacheError."""
    compiled = find(ref.key(device.precision)) or _made(ref, device.precision)
    ready = compiled.engine(device.precision, workers, calls)
    if ref.head is not None:
        return Opened(_WithHead(ready, ref.head, ref.features), compiled)
    return Opened(ready, compiled)


def _made(ref: NetworkRef, precision: str) -> Compiled:
    """Make the graph: of a template that is shipped where there is one, else by tracing."""
    from zoo.engine.shipped import shipped
    from zoo.models.cut import halves

    about = {"model": ref.model, "precision": precision}
    ready = shipped(ref.made_of, ref.boundary, ref.preprocess)
    with suppress(ConversionError, WeightsError):  # torch has the last word
        state = ref.arrays() if ready and ref.arrays and precision != "int8" else None
        if ready and state and {*ready.names} <= state.keys():
            what = ready.converted(state, ref.preprocess)
            return keep(ref.key(precision), what, ref.preprocess, about)
    if ref.build is None:  # the graph was there a moment ago
        raise CacheError("the compiled network was removed meanwhile", "run the command again")
    chain = ref.build()
    if ref.head is not None and ref.boundary is not None:
        chain, _ = halves(chain, ref.boundary)
    quantised = _quantised(ref, chain) if precision == "int8" else None
    model = ready.graph if ready else None
    return make(ref.key(precision), chain, ref.preprocess, about, quantised, model)


def _quantised(ref: NetworkRef, chain: nn.Sequential) -> bytes:
    """Raises UsageError where there is nothing to calibrate on."""
    from zoo.engine.graph import to_onnx
    from zoo.engine.quantise import quantise

    inputs = []
    for path in ref.photos:
        with suppress(ImageError):
            inputs.append(normalise(plain_view(path, ref.preprocess), ref.preprocess))
    if not inputs:
        raise UsageError(
            f"int8 of {ref.model} is measured out on photos, and there are none",
            "give readable photos; those of a run are looked for where they were in training",
        )
    model = to_onnx(chain, ref.preprocess.shape)
    return quantise(model, np.stack(inputs))


class _WithHead:
    """An engine for the frozen part with a head behind it; see `Engine`.

    features: a row is D features, and then K scores.
    """

    def __init__(self, engine: Engine, head: Layer, features: bool = False) -> None:
        self.engine, self.head, self.features = engine, head, features
        self.workers, self.decoders = engine.workers, engine.decoders
        self.name, self.start_worker = engine.name, engine.start_worker

    @property
    def batch(self) -> int:
        return self.engine.batch

    def __call__(self, pixels: Array) -> Array:
        features = self.engine(pixels)
        rows = features.reshape(len(features), -1)
        if rows.shape[1] != self.head.columns:
            raise RunError(
                f"the frozen part gives {rows.shape[1]:,} numbers, and the head in "
                f"model.safetensors takes {self.head.columns:,}",
                EDITED,
            )
        # Row by row: what stands beside a picture in a batch changes no bit of its answer.
        scores = np.stack([self.head.scores(row) for row in rows])
        return np.concatenate([rows, scores], axis=1) if self.features else scores


def without_head(ready: Opened) -> Opened:
    """Return what runs the frozen part alone, where a head is behind it."""
    engine = ready.engine
    return replace(ready, engine=engine.engine) if isinstance(engine, _WithHead) else ready


# What features and tensors are called.


def feature_key(ref: NetworkRef, ready: Opened) -> str:
    """Return the name of the features of a frozen part: a hash of all that they depend on.

    Of a graph its content and the engine, of torch parameters, structure and code; of both the
    Preprocess and what decodes.
    """
    decode = f"features-{FEATURES} pillow-{version_of('pillow')}"
    run, pixels = ready.engine.name, ref.preprocess.to_dict()
    if ready.compiled is not None:
        return _sha256([decode, ready.compiled.content, run, pixels])
    assert ref.build is not None
    frozen = ref.build()
    state = weights.digest_of_state(frozen.state_dict())
    return _sha256([decode, dict(ref.made_of), ref.boundary, repr(frozen), run, pixels, state])


def _sha256(facts: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


_digests: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()


def tensors_of(frozen: nn.Sequential) -> str:
    """Return the hash of the tensors of a frozen part, which no training changes; found once."""
    if frozen not in _digests:
        _digests[frozen] = weights.digest_of_state(frozen.state_dict())
    return _digests[frozen]


def state_sha256(chain: nn.Sequential, without: str = "") -> str:
    """Return the sha256 of all numbers of a chain, in the order of its state dict.

    without: the stage of a head that is not counted.
    """
    digest = hashlib.sha256()
    for name, tensor in chain.state_dict().items():
        if not (without and name.startswith(f"{without}.")):
            digest.update(tensor.contiguous().numpy().reshape(-1).data)
    return digest.hexdigest()
