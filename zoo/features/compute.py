"""The feature pass: every photo is read, hashed, decoded and run through the frozen part once.

Its decode is the scan for unreadable photos; they are returned with the reason and left out.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from zoo.catalog import Preprocess
from zoo.data import decoder_warnings
from zoo.data.index import Sample
from zoo.data.views import LastPhoto, view_of
from zoo.engine import Array, Engine
from zoo.engine.pipeline import forward
from zoo.errors import ImageError
from zoo.features.cache import FeatureCache, view_key
from zoo.features.digests import Digests, forget
from zoo.features.read import photos
from zoo.watch import Counted


@dataclass(frozen=True, slots=True)
class Views:
    """Which views of each photo: their numbers, and what they are a function of."""

    numbers: tuple[int, ...] = (0,)
    seed: int = 0
    flip: bool = True

    def key(self, digest: bytes, number: int) -> bytes:
        return digest + view_key(number, self.seed, self.flip)

    def keys(self, digest: bytes) -> list[bytes]:
        """Return the keys of all of them in a FeatureCache, for the content of this digest."""
        return [self.key(digest, number) for number in self.numbers]


@dataclass(slots=True)
class Pass:
    """What a feature pass found out: keys of each readable photo's views, and the bad photos."""

    keys: dict[str, list[bytes]] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)
    computed: int = 0


@dataclass(frozen=True, slots=True)
class _Item:
    """One view to compute."""

    path: str
    key: bytes
    data: bytes
    digest: bytes
    number: int


Work = Sequence[tuple[Sample, Views]]


def compute(
    cache: FeatureCache,
    engine: Engine,
    preprocess: Preprocess,
    root: Path,
    work: Work,
    progress: Counted,
) -> Pass:
    """Fill the cache with what is missing. progress(done, total) counts views; it may raise.

    Views that the cache has are in neither: what is left of the total is what takes time.

    Whatever ends the pass, what was computed until then is kept.
    """
    result, digests = Pass(), Digests(root)
    reasons: dict[bytes, str] = {}  # digest of an unreadable photo -> why
    settings = {sample.path: views for sample, views in work}
    several = any(len(views.numbers) > 1 for _, views in work)
    view = LastPhoto().view_of if several else view_of

    def draw(item: _Item) -> Array:
        views, digest = settings[item.path], item.digest.hex()
        place = (item.data, preprocess, item.number)
        with decoder_warnings.photo(os.path.join(root, item.path)):
            return view(*place, seed=views.seed, digest=digest, flip=views.flip)

    try:
        with closing(_missing(cache, digests, work, result, progress)) as items:
            for item, row in forward(items, draw, engine):
                if isinstance(row, ImageError):
                    reasons[item.digest] = str(row)
                else:
                    cache.add(item.key, row)
                    result.computed += 1
    finally:
        cache.flush()
        digests.save()
        forget()
    for path, keys in list(result.keys.items()) if reasons else ():
        if any(key not in cache for key in keys):
            result.bad[path] = reasons[keys[0][:32]]
            del result.keys[path]
    return result


def _missing(
    cache: FeatureCache, digests: Digests, work: Work, result: Pass, progress: Counted
) -> Generator[_Item]:
    """Yield the views that the cache has not; fill in `result.keys` and unreadable files."""
    total = sum(len(views.numbers) for _, views in work)  # that are not known to be cached
    done, under_way = 0, set()

    def kept(row: int, digest: bytes) -> bool:
        return all(key in cache for key in work[row][1].keys(digest))

    read = photos(digests, [sample for sample, _ in work], kept)
    for (sample, views), (digest, data) in zip(work, read, strict=True):
        if isinstance(digest, ImageError):
            result.bad[sample.path] = str(digest)
            done += len(views.numbers)
            continue
        keys = views.keys(digest)
        result.keys[sample.path] = keys
        if data is None:  # all of them are cached
            total -= len(keys)
            progress(done, total)
            continue
        for key, number in zip(keys, views.numbers, strict=True):
            if key not in cache and key not in under_way:
                under_way.add(key)
                yield _Item(sample.path, key, data, digest, number)
                done += 1
            else:
                total -= 1
            progress(done, total)
