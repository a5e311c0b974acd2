"""The look at every photo where no features are computed: can it be read, and what is in it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Container
from concurrent.futures import ThreadPoolExecutor

from zoo.catalog import Preprocess
from zoo.data import decoder_warnings
from zoo.data.decode import read_bytes
from zoo.data.index import DatasetIndex, Sample
from zoo.data.views import view_of
from zoo.engine import Array
from zoo.engine.pipeline import batched, ordered
from zoo.errors import ImageError
from zoo.features.cache import memory
from zoo.features.compute import Pass
from zoo.features.read import AT_ONCE
from zoo.machine import cores
from zoo.watch import Counted


def scan(
    index: DatasetIndex,
    preprocess: Preprocess,
    keep: Container[str],
    progress: Counted,
    workers: int | None = None,
) -> tuple[Pass, dict[bytes, Array]]:
    """Return what is readable, and by digest the plain views that fit in memory.

    keep: the parts, as `val`, whose views are kept. workers: threads that decode; as many as there
    are cores where it is None.
    """

    def look(sample: Sample) -> tuple[Sample, bytes, Array | ImageError]:
        try:
            path = os.path.join(index.root, sample.path)
            data = read_bytes(path)
            with decoder_warnings.photo(path):
                return sample, hashlib.sha256(data).digest(), view_of(data, preprocess)
        except ImageError as error:
            return sample, b"", error

    found, plain, room, done = Pass(), {}, memory() // 4, 0
    workers = workers or cores()
    with ThreadPoolExecutor(workers, "zoo-scan") as pool:
        some = batched(index.samples, AT_ONCE)
        for looked in ordered(pool, lambda part: list(map(look, part)), some, 4 * workers):
            for sample, digest, pixels in looked:
                progress(done := done + 1, len(index.samples))
                if isinstance(pixels, ImageError):
                    found.bad[sample.path] = str(pixels)
                    continue
                found.computed += 1
                found.keys[sample.path] = [digest]
                if sample.split in keep and room > pixels.nbytes:
                    room -= pixels.nbytes
                    plain[digest] = pixels
    return found, plain
