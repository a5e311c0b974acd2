"""The content of photos, by which a copy is known: the sha256 that training has of each file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from zoo.data.decode import read_bytes
from zoo.device import cores
from zoo.engine.pipeline import batched, ordered
from zoo.errors import ImageError

AT_ONCE = 16  # files a thread is given


def digests_of(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(path, sha256 in hex) of each file that can be read, in order; each is read once."""
    workers = cores()
    with ThreadPoolExecutor(workers, "zoo-hash") as pool:
        for found in ordered(pool, look_at, batched(paths, AT_ONCE), 4 * workers):
            yield from found


def look_at(paths: list[str]) -> list[tuple[str, str]]:
    found = []
    for path in paths:
        try:
            found.append((path, hashlib.sha256(read_bytes(path)).hexdigest()))
        except ImageError:  # is told of where it is measured
            continue
    return found
