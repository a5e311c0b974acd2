"""The feature pass: every photo is read, hashed, decoded and run through the frozen part once.

Its decode is the scan for unreadable photos; they are returned with the reason and left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zoo.catalog import Preprocess
from zoo.data.decode import decode, read_bytes
from zoo.data.index import Sample
from zoo.data.preprocess import mode
from zoo.data.views import view
from zoo.engine import Array, Engine
from zoo.engine.pipeline import forward
from zoo.errors import ImageError
from zoo.finetune.cache import FeatureCache, view_key

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Views:
    """Which views of each photo: their numbers, and what they are a function of."""

    numbers: tuple[int, ...] = (0,)
    seed: int = 0
    flip: bool = True

    def key(self, digest: bytes, number: int) -> bytes:
        return digest + view_key(number, self.seed, self.flip)


@dataclass(slots=True)
class Pass:
    """What a feature pass found out: keys of each readable photo's views, and the bad photos."""

    keys: dict[str, list[bytes]] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)
    computed: int = 0


@dataclass(frozen=True, slots=True)
class Item:
    """One view to compute."""

    path: str
    key: bytes
    data: bytes
    digest: bytes
    number: int


def compute(
    cache: FeatureCache,
    engine: Engine,
    preprocess: Preprocess,
    root: Path,
    work: Sequence[tuple[Sample, Views]],
    progress: Progress,
) -> Pass:
    """Fills the cache with what is missing. progress(done, total) counts views; it may raise.

    Whatever ends the pass, what was computed until then is kept.
    """
    result = Pass()
    reasons: dict[bytes, str] = {}  # digest of an unreadable photo -> why

    settings = {sample.path: views for sample, views in work}

    def draw(item: Item) -> Array:
        views = settings[item.path]
        image = decode(item.data, mode(preprocess))
        digest = item.digest.hex()
        return view(image, preprocess, item.number, seed=views.seed, digest=digest, flip=views.flip)

    try:
        for item, row in forward(missing(cache, root, work, result, progress), draw, engine):
            if isinstance(row, ImageError):
                reasons[item.digest] = str(row)
            else:
                cache.add(item.key, row)
                result.computed += 1
    finally:
        cache.flush()
    for path, keys in list(result.keys.items()):
        if any(key not in cache for key in keys):
            result.bad[path] = reasons[keys[0][:32]]
            del result.keys[path]
    return result


def missing(
    cache: FeatureCache,
    root: Path,
    work: Sequence[tuple[Sample, Views]],
    result: Pass,
    progress: Progress,
) -> Iterator[Item]:
    """The views that the cache has not; fills in `result.keys` and unreadable files on the way."""
    total = sum(len(views.numbers) for _, views in work)
    done, under_way = 0, set()
    for sample, views in work:
        try:
            data = read_bytes(root / sample.path)
        except ImageError as error:
            result.bad[sample.path] = str(error)
            done += len(views.numbers)
            continue
        digest = hashlib.sha256(data).digest()
        keys = [views.key(digest, number) for number in views.numbers]
        result.keys[sample.path] = keys
        for key, number in zip(keys, views.numbers, strict=True):
            if key not in cache and key not in under_way:
                under_way.add(key)
                yield Item(sample.path, key, data, digest, number)
            done += 1
            progress(done, total)
