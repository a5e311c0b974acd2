"""The store of converted chains: what torch and a converter took seconds for is read in a moment.

A folder per chain, $ZOO_CACHE/engines/KEY:
    graph.xml, graph.bin   for OpenVINO, in fp32; takes uint8 N H W C, normalises, N is free
    state.safetensors      the parameters as the chain had them
    about.json             what the caller said of it, versions, length and sha256 of the others
torch is imported only to make one. store.py says how folders come and go.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo import __version__, weights
from zoo.catalog.spec import ModelSpec, Preprocess
from zoo.disk import cache_folder, writing
from zoo.engine import Array, Calls, store
from zoo.engine.graph import AGREES
from zoo.engine.openvino import OpenVinoEngine, runtime, version
from zoo.errors import CacheError, ConversionError, WriteError, ZooError
from zoo.machine import cores

if TYPE_CHECKING:
    from torch import nn

FORMAT = 4  # count up when the files change, or the graph that is made of a chain
GRAPH, WEIGHTS, STATE = "graph.xml", "graph.bin", "state.safetensors"
TORCH = "--engine torch runs it"


Made = Mapping[str, object]


def made_of(
    spec: ModelSpec, variant: Mapping[str, str | float] | None = None, head: str = ""
) -> Made:
    """Return what a chain is made of besides its tensors: what its builder is told, and the code.

    head: the kind of a new one that is in the chain, as a run's record has it.
    """
    library = spec.name.partition("/")[0] if spec.builder == "library" else ""
    told = (spec.name, spec.builder, spec.stages, spec.published or "", spec.head, spec.task)
    return {
        "told": [*told, spec.code, spec.num_classes],
        "variant": sorted((variant or {}).items()),
        "head": head,
        "versions": {name: version_of(name) for name in ("zoo", "torch", library) if name},
    }


@functools.cache
def version_of(package: str) -> str:
    """Return the version that is installed, without importing it; empty where there is none."""
    if package == "zoo":
        return __version__
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def key_of(
    made_of: Made,
    tensors: str,
    after: str | None,
    preprocess: Preprocess,
    precision: str = "fp32",
) -> str:
    """Return the name of a chain in the store: a hash of what its graph is computed from.

    Needs no torch. made_of: see the function. tensors: a hash of their content, as it was read
    (`weights.digest_of`, or `file SHA256`); never what somebody says it is. after: the stage
    behind which the chain is cut, None for all of it. precision: int8 (and with what it was
    calibrated) for a graph that is quantised; fp32 and bf16 run the same one. How a photo becomes
    the input is not the graph's business.
    """
    precision = "fp32" if precision == "bf16" else precision
    pixels = (preprocess.size, preprocess.channels, preprocess.mean, preprocess.std)
    facts = [FORMAT, version(), dict(made_of), tensors, after, precision, pixels]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def folder() -> Path:
    return cache_folder() / "engines"


def find(key: str, state: bool = False) -> Compiled | None:
    """Return the chain of this key, where it is whole: its graph, and its state if asked for."""
    place = folder() / key
    lease = store.lock(place)
    if lease is None:
        return None
    record = store.whole(place, later=() if state else (STATE,))
    if record is None or record["key"] != key:
        store.unlock(lease)
        return None
    store.touch(place)
    return Compiled(place, record, lease)


class Compiled:
    """A converted chain; its files stay as long as this object lives.

    about: what was said when it was made. shape: of the answer for one picture. content: hash of
    the graph with its weights.
    """

    def __init__(self, place: Path, record: store.Record, lease: int) -> None:
        """lease: of store.lock."""
        self.folder = place
        self.record = record
        self.about: store.Record = record["about"]
        self.shape: tuple[int, ...] = tuple(record["shape"])
        digests = " ".join(record["files"][name][1] for name in (GRAPH, WEIGHTS))
        self.content = hashlib.sha256(digests.encode()).hexdigest()
        weakref.finalize(self, store.unlock, lease)

    def engine(
        self, precision: str = "fp32", workers: int | None = None, calls: Calls = "many"
    ) -> OpenVinoEngine:
        """precision: fp32 or bf16 of a chain as it was, int8 of one that was quantised."""
        assert (precision == "int8") == self.record["quantised"], "another graph than it is"
        batch, threads = None if calls == "many" else 1, None
        if calls == "alone":
            workers, threads = 1, workers
        return OpenVinoEngine(self.folder / GRAPH, precision, workers, batch, self, threads)

    def state(self) -> dict[str, Array]:
        """Return the chain's state dict, in order. Raises CacheError where the file has changed."""
        from safetensors.numpy import load_file

        if not store.unchanged(self.folder / STATE, self.record["files"][STATE]):
            raise CacheError(f"{self.folder / STATE} is damaged", "run the command again")
        found = load_file(self.folder / STATE)
        return {name: found[name] for name in self.record["keys"]}


@dataclass(frozen=True, slots=True)
class Converted:
    """What is to be kept of a chain.

    state: its tensors, in order. model: makes an ONNX graph that takes `tensor`, which is in memory
    while it is written. given: what it is compared with: N x what the chain gives for uint8
    N H W C. most: how far a value may be off, of the largest one. quantised: it computes in int8.
    """

    state: Mapping[str, Array]
    model: Callable[[], bytes]
    given: Callable[[Array], Array]
    most: float = AGREES
    quantised: bool = False


def make(
    key: str,
    chain: nn.Module,
    preprocess: Preprocess,
    about: Mapping[str, object] | None = None,
    quantised: bytes | None = None,
    model: Callable[[Mapping[str, Array]], bytes] | None = None,
) -> Compiled:
    """Convert a chain, which stays as it was, keep its graph and return it.

    about: can be written as JSON. quantised: the chain as an ONNX graph that takes `tensor`, to be
    kept in its place; how far it agrees is for the caller to find out. model: makes the graph of
    the chain's state dict, where it need not be traced. Raises ConversionError for a chain that
    OpenVINO cannot run, or that gives there what differs from torch by more than 1e-4 of the
    largest value; CacheError or DiskFull where nothing can be written, here or elsewhere.
    """
    import copy

    twin = copy.deepcopy(chain).cpu().eval()
    state = {name: np.array(value.numpy(), order="C") for name, value in twin.state_dict().items()}
    most = np.inf if quantised else AGREES
    given = partial(by_torch, twin, preprocess)

    def made() -> bytes:
        return quantised or (model(state) if model else onnx_of(twin, preprocess))

    return keep(key, Converted(state, made, given, most, bool(quantised)), preprocess, about)


def by_torch(chain: nn.Module, preprocess: Preprocess, pictures: Array) -> Array:
    """Return what a chain on the CPU gives for uint8 N H W C."""
    import torch

    from zoo.device import Device
    from zoo.engine.torch import Normalise

    normalise = Normalise(preprocess, Device("cpu", "fp32", cores(), "a proof"))
    with torch.inference_mode():
        found: Array = chain(normalise(torch.from_numpy(pictures)).contiguous()).numpy()
    return found


def keep(
    key: str,
    what: Converted,
    preprocess: Preprocess,
    about: Mapping[str, object] | None = None,
) -> Compiled:
    """Keep a converted chain and return it: where the cache is not to be written, for as long as
    it is used. Raises as `make` does.
    """
    place, most = folder() / key, store.limit()
    record = {"key": key, "about": dict(about or {}), "preprocess": preprocess.to_dict()}
    try:
        with store.unfinished(place) as temporary:
            _fill(temporary, record, what, preprocess)
            store.settle(temporary, place)
    except WriteError as error:
        other, until_the_end = store.instead(error, "engine")
        with until_the_end:
            _fill(other, record, what, preprocess)
            alone = Compiled(other, store.whole(other) or {}, store.NO_LOCKS)
            weakref.finalize(alone, until_the_end.pop_all().close)
            return alone
    store.sweep(folder(), most, place)
    made = find(key)
    if made is None:
        raise CacheError(f"{place} is gone as soon as it was made", "run the command again")
    return made


# What a folder is filled with.


def _fill(place: Path, record: store.Record, what: Converted, preprocess: Preprocess) -> None:
    """Write all files of a chain into an empty folder; see `make`. record: what is known of it."""
    with store.elsewhere(), writing(place):
        hashed = {STATE: weights.save_arrays(what.state, place / STATE)}
        store.must_hold(place, (place / STATE).stat().st_size)  # OpenVINO does not say why it fails
        write_graph(place / GRAPH, what.model(), preprocess)
    record |= {
        "quantised": what.quantised,
        "shape": prove(place / GRAPH, what.given, preprocess, what.most),
        "versions": {"format": FORMAT, "openvino": version(), "torch": version_of("torch")},
        "keys": list(what.state),
    }
    store.seal(place, (GRAPH, WEIGHTS, STATE), record, hashed)


def onnx_of(chain: nn.Module, preprocess: Preprocess) -> bytes:
    from zoo.engine.graph import to_onnx

    try:
        return to_onnx(chain, preprocess.shape)
    except ZooError as error:
        raise ConversionError(error.what, TORCH) from error


def write_graph(path: Path, model: bytes, preprocess: Preprocess) -> None:
    """Write an ONNX graph behind a normalisation, as OpenVINO keeps it.

    Its input is uint8 N H W C: (x / 255 - mean) / std, then N C H W.
    """
    openvino = runtime()
    with _converting():
        steps = openvino.preprocess.PrePostProcessor(openvino.Core().read_model(model))
        tensor = steps.input().tensor()
        tensor.set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
        steps.input().model().set_layout(openvino.Layout("NCHW"))
        todo = steps.input().preprocess().convert_element_type(openvino.Type.f32)
        todo.mean([255 * value for value in preprocess.mean])
        todo.scale([255 * value for value in preprocess.std])
        whole = steps.build()
        for number, node in enumerate(whole.get_ordered_ops()):
            # By itself it counts through all that the process has made before.
            node.set_friendly_name(f"{node.get_type_name()}_{number}")
        openvino.save_model(whole, path, compress_to_fp16=False)


def prove(
    path: Path, given: Callable[[Array], Array], preprocess: Preprocess, most: float
) -> list[int]:
    """Compare what was written with what it is to give; return the shape of its answer.

    most: how far a value may be off, of the largest one.
    """
    pictures = _samples(preprocess)
    with ThreadPoolExecutor(1) as pool:  # both leave the interpreter to the other
        wanting = pool.submit(given, pictures)
        with _converting():
            found = OpenVinoEngine(path, "fp32", 1, batch=len(pictures))(pictures)
        wanted = wanting.result()
    if found.shape != wanted.shape:
        raise _disagreement(f"its answer has the shape {found.shape}, not {wanted.shape}")
    largest = float(np.abs(wanted).max())
    with np.errstate(invalid="ignore"):  # of numbers that are not finite
        apart = float(np.abs(found - wanted).max())
    if not apart <= most * largest:  # a NaN is not at most anything
        raise _disagreement(f"it differs by {apart:.2g} where the largest is {largest:.2g}")
    return list(wanted.shape[1:])


def _samples(preprocess: Preprocess) -> Array:
    """Return two pictures, uint8 2 H W C: noise, and a slope that is bright at one corner."""
    channels, height, width = preprocess.shape
    noise = np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)
    slope = np.add.outer(np.arange(height), np.arange(width)) * 255 // max(1, height + width - 2)
    return np.stack([noise, np.repeat(slope[..., None], channels, axis=2).astype(np.uint8)])


def _disagreement(why: str) -> ConversionError:
    return ConversionError(f"OpenVINO does not run this network as torch does: {why}", TORCH)


@contextlib.contextmanager
def _converting() -> Iterator[None]:
    """Raise ConversionError for an error of OpenVINO's, which has no type of its own."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1][:160]
        raise ConversionError(f"OpenVINO cannot run this network: {reason}", TORCH) from error
