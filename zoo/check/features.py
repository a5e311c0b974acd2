"""Features of photos: by the network that is named, or those that the cache has already.

Where no network is named, nothing is computed: of the networks whose features are kept, that one
is taken which knows the most of these photos.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo import device, network
from zoo.catalog import Preprocess, holds_run
from zoo.data.samples import Sample
from zoo.disk import cache_folder
from zoo.engine import Engine
from zoo.engine.open import NetworkRef, open_engine
from zoo.errors import UsageError, WriteError
from zoo.features import parts
from zoo.features.cache import FeatureCache, cache_of
from zoo.features.compute import Views, compute
from zoo.metrics import Array
from zoo.network_ref import frozen_of_name, frozen_of_run, parted
from zoo.run import Run
from zoo.watch import Counted

WIDEST = 8192  # numbers of a photo's features that are taken from the cache as they are
ENOUGH = 0.9  # of the photos must be known to a cache
SMALL = 64  # pixels; what networks for digits see tells little of the labels of photos
PLAIN = Views()


@dataclass(frozen=True)
class Source:
    """Where features are from. engine: what computes those that are not kept; None for nothing."""

    name: str
    preprocess: Preprocess
    cache: FeatureCache
    engine: Engine | None = None

    def rows(
        self, root: Path, samples: Sequence[Sample], digests: Sequence[bytes], progress: Counted
    ) -> tuple[list[int], Array]:
        """Return the places of the samples that have features, and these, M x D float32.

        digests: of the samples, empty where one is not known.
        """
        keys = {
            sample.path: PLAIN.key(digest, 0)
            for sample, digest in zip(samples, digests, strict=True)
            if digest
        }
        rest = [sample for sample in samples if keys.get(sample.path, b"") not in self.cache]
        if self.engine is not None and rest:
            work = [(sample, PLAIN) for sample in rest]
            found = compute(self.cache, self.engine, self.preprocess, root, work, progress)
            keys |= {path: own[0] for path, own in found.keys.items()}
        every = [keys.get(sample.path, b"") for sample in samples]
        places = [n for n, key in enumerate(every) if key in self.cache]
        if not places:
            return [], np.zeros((0, 0), np.float32)
        features = self.cache.rows([every[n] for n in places])
        rows = features.gather(range(len(places)))
        if rows.ndim == 4:  # a map of C x H x W
            rows = rows.mean(axis=(2, 3))
        return places, rows.reshape(len(rows), -1)


def opened(model: str, weights: str | None, classes: int, place: str, progress: Counted) -> Source:
    """Return the features of a run or of a model's name. Raises what opening a network does."""
    if holds_run(model):
        run = Run.open(Path(model)).finished()
        if weights:
            raise UsageError(f"{model} is a run, with weights of its own", "leave --weights out")
        ref, precision = frozen_of_run(run), run.record["precision"]
    else:
        ref, precision = _of_name(model, weights, classes, progress), "fp32"
    chosen = device.choose(place, precision)
    ready = open_engine(ref, "auto", chosen)
    return Source(_words(model, ref.boundary), ref.preprocess, cache_of(ref, ready), ready.engine)


def _of_name(model: str, weights: str | None, classes: int, progress: Counted) -> NetworkRef:
    start = network.pretrained(
        model, weights, except_head=True, progress=lambda done, total: progress(done, total or 0)
    )
    _, parts = parted(start, max(2, classes), 0)
    return frozen_of_name(model, start, parts)


def _words(model: str, boundary: str | None) -> str:
    return f"{model} up to {boundary}"


def kept(digests: Sequence[bytes]) -> Source | None:
    """Return the features that the cache has of most of these photos, None where it has too few."""
    best: tuple[tuple[float, bool, bool, float], Source] | None = None
    keys = [PLAIN.key(digest, 0) for digest in digests]
    for path in parts.matching(cache_folder() / "features", "*/about.json"):
        with suppress(OSError, ValueError, KeyError, TypeError, WriteError):
            about = json.loads(path.read_bytes())
            preprocess = Preprocess.from_dict(about["preprocess"])
            cache = FeatureCache(path.parent, about)
            share = sum(map(cache.seems_to_have, keys)) / max(1, len(keys))
            shape = cache.shape()
            if share < ENOUGH or not shape or int(np.prod(shape)) > WIDEST:
                continue
            sees = preprocess.height > SMALL
            rank = share, sees, len(shape) == 1, path.parent.stat().st_mtime
            if best is None or rank > best[0]:
                best = rank, Source(_words(about["model"], about["after"]), preprocess, cache)
    return best[1] if best else None
