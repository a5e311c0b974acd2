"""The scan of photos for networks that train from the pixels: every photo is decoded once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from zoo.catalog import Preprocess
from zoo.data import heard
from zoo.data.decode import read_bytes
from zoo.data.index import DatasetIndex, Sample
from zoo.data.views import view_of
from zoo.device import cores
from zoo.engine import Array
from zoo.engine.pipeline import batched, ordered
from zoo.errors import ImageError
from zoo.finetune.cache import memory
from zoo.finetune.features import Pass

AT_ONCE = 16  # photos a thread is given: small ones are decoded faster than they are handed over


def scan_photos(
    index: DatasetIndex,
    preprocess: Preprocess,
    *,
    keep_train: bool,
    progress: Callable[[int, int], None],
    workers: int | None = None,
) -> tuple[Pass, dict[str, bytes], dict[bytes, Array]]:
    """Which photos are readable, their digests, and the plain views that fit in memory.

    workers: threads that decode; all cores where it is None.
    """

    def look(sample: Sample) -> tuple[Sample, bytes, Array | ImageError]:
        try:
            path = os.path.join(index.root, sample.path)
            data = read_bytes(path)
            with heard.photo(path):
                return sample, hashlib.sha256(data).digest(), view_of(data, preprocess)
        except ImageError as error:
            return sample, b"", error

    def look_at(samples: list[Sample]) -> list[tuple[Sample, bytes, Array | ImageError]]:
        return [look(sample) for sample in samples]

    found, digests, plain = Pass(), {}, {}
    room = memory() // 4
    workers = workers or cores()
    with ThreadPoolExecutor(workers, "zoo-scan") as pool:
        looked = ordered(pool, look_at, batched(index.samples, AT_ONCE), 4 * workers)
        each = (result for results in looked for result in results)
        for done, (sample, digest, pixels) in enumerate(each, start=1):
            progress(done, len(index.samples))
            if isinstance(pixels, ImageError):
                found.bad[sample.path] = str(pixels)
                continue
            found.computed += 1
            found.keys[sample.path] = [digest]
            digests[sample.path] = digest
            if (keep_train or sample.split == "val") and room > pixels.nbytes:
                room -= pixels.nbytes
                plain[digest] = pixels
    return found, digests, plain
