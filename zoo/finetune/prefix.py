"""The frozen part, ready to run: who runs it, and what its features are called."""

from __future__ import annotations

import hashlib
import json
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo import weights
from zoo.catalog import Preprocess
from zoo.device import Device
from zoo.engine import Engine
from zoo.errors import CacheError, ConversionError
from zoo.finetune.cache import VERSION, FeatureCache, fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from zoo.engine.compiled import Compiled


@dataclass(frozen=True, slots=True)
class Prefix:
    """An engine for the frozen part. key: names the features that it gives.

    compiled: where a graph of it is kept; None where torch runs it. note: why it is torch though
    another engine was chosen.
    """

    engine: Engine
    key: str
    compiled: Compiled | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Part:
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
        """Of the compiled graph, which does not depend on how a photo becomes a square."""
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
    part: Part, engine: str, device: Device, workers: int | None = None, *, alone: bool = True
) -> Prefix:
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
    return Prefix(torch, fingerprint(part.chain, *made, torch), None, note)


def compiled(part: Part, device: Device, workers: int | None) -> Prefix:
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
    return Prefix(ready, key, found)


def cache_of(part: Part, ready: Prefix, *, alone: bool = True) -> FeatureCache:
    """Where the features are kept that this engine gives. Raises DiskFull.

    alone: False in a team, whose processes share them; then WriteError too.
    """
    about = {
        "model": part.model,
        "after": part.boundary,
        "engine": ready.engine.name,
        "preprocess": part.preprocess.to_dict(),
    }
    return FeatureCache(weights.cache_folder() / "features" / ready.key[:32], about, alone)
