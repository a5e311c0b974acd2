"""Photos read and hashed in threads, in order, but for those of which all is kept that is asked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from zoo.data.decode import read_bytes
from zoo.data.index import Sample
from zoo.engine.pipeline import batched, ordered
from zoo.errors import ImageError
from zoo.features.digests import Digests
from zoo.machine import cores

AT_ONCE = 16  # photos a thread is given; their content is in memory
_READERS = 8
# The digest of a photo's content, or why it cannot be read; the content, unless it is not needed.
Read = tuple[bytes | ImageError, bytes | None]


def photos(
    digests: Digests, samples: Sequence[Sample], kept: Callable[[int, bytes], bool]
) -> Iterator[Read]:
    """Yield every photo in order. kept(row, digest): whether its content is not needed.

    Those that come first, were looked at when they were listed and need nothing take no thread.
    """
    begin = 0
    for row, sample in enumerate(samples):
        digest = digests.known(sample.path, sample.status)[1] if sample.status else None
        if digest is None or not kept(row, digest):
            break
        begin = row + 1
        yield digest, None
    if begin < len(samples):
        yield from _read(digests, samples, begin, kept)


def _read(
    digests: Digests, samples: Sequence[Sample], begin: int, kept: Callable[[int, bytes], bool]
) -> Iterator[Read]:
    """Yield the photos from a row on, by threads."""

    def read(row: int) -> Read:
        path = samples[row].path
        status, digest = digests.known(path, samples[row].status)
        if digest is not None and kept(row, digest):
            return digest, None
        try:
            data = read_bytes(os.path.join(digests.root, path))
        except ImageError as error:
            return error, None
        digest = hashlib.sha256(data).digest()
        digests.note(path, status, digest)
        return digest, None if kept(row, digest) else data

    def read_all(rows: list[int]) -> list[Read]:
        return [read(row) for row in rows]

    workers = min(cores(), _READERS)
    with ThreadPoolExecutor(workers, "zoo-read") as pool:
        for some in ordered(
            pool, read_all, batched(range(begin, len(samples)), AT_ONCE), workers + 1
        ):
            yield from some
