"""Digests of photos that are known from an earlier run, so that they need not be read again.

A file per folder of photos: path -> size, times of the last change and inode, sha256. As git does
with its index, what has the same of all of these is taken for the same content. A file that is
changed in place gets another time of change (ctime), which no program can set back; what was
changed within SETTLED seconds before it was read is not written down, so that a clock of coarse
steps cannot hide a second change. Windows has no such time: there every file is read. FAT and exFAT
have none either (Linux shows the time of modification for it), see docs/promises.md.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import itertools
import os
import time
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from zoo.data import container
from zoo.data.index import DatasetIndex
from zoo.data.samples import Sample, Stat, status_of
from zoo.disk import cache_folder, read_sealed, sha256_of, write_sealed
from zoo.engine import Array
from zoo.engine.pipeline import ordered
from zoo.errors import ImageError
from zoo.machine import cores

SETTLED = 5.0  # seconds; the coarsest clock of a file system in use (FAT) has steps of 2
VERSION = 1
KEPT = os.name == "posix"
READERS, AHEAD = 8, 64  # threads that look for copies, and sizes that wait for them
END = 4096  # bytes at the end of a file, where pictures differ that begin alike


class Digests:
    """What is known of one folder's files. Several threads may ask and note at once."""

    def __init__(self, root: Path | str) -> None:
        self.root = os.path.abspath(root)
        name = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:32]
        self.path = cache_folder() / "digests" / name
        self.table = read(self.path) if KEPT else {}
        self.new: Known = {}

    def known(self, path: str, now: Stat | None = None) -> tuple[Stat | None, bytes | None]:
        """Return what the file is, to be handed to `note`, and its digest if that is known.

        now: what it was when it was listed; it is looked at where that is None.
        """
        if not KEPT:
            return None, None
        try:
            now = now or status_of(os.stat(os.path.join(self.root, path)))
        except OSError:  # reading it says why
            return None, None
        before = self.table.get(path)
        return now, before[1] if before and before[0] == now else None

    def note(self, path: str, status: Stat | None, digest: bytes) -> None:
        """status: from before the file was read, so a change since then is seen the next time."""
        if self.table.get(path) == (status, digest):
            return
        if status and time.time() - max(status[1], status[2]) / 1e9 > SETTLED:
            self.new[path] = status, digest

    def save(self) -> None:
        """Adds what is new to the file; where it cannot be written, photos are read again."""
        if not self.new:
            return
        whole = read(self.path) | self.new  # another process may have added to it
        file = io.BytesIO()
        np.savez(
            file,
            version=np.array(VERSION),
            paths=np.frombuffer(b"\0".join(map(os.fsencode, whole)), np.uint8),
            stats=np.array([status for status, _ in whole.values()], np.int64),
            digests=np.frombuffer(b"".join(d for _, d in whole.values()), np.uint8),
        )
        write_sealed(self.path, file.getvalue())
        self.table, self.new = whole, {}


def contents(index: DatasetIndex) -> dict[str, bytes]:
    """Return the digest by path of every sample that may have a copy; the others are not read.

    Only files of the same size can be copies. Of those whose digest is not known from an earlier
    run the ends are read, and the whole of those whose ends are equal.
    """
    digests = Digests(index.root)
    boxes = {path for path, _ in index.containers}
    inside: dict[str, list[str]] = {}
    sizes: dict[int, list[Sample]] = {}
    for sample in index.samples:
        file = sample.path.rpartition("#")[0]
        if file in boxes:
            inside.setdefault(file, []).append(sample.path)
        elif sample.bytes:
            sizes.setdefault(sample.bytes, []).append(sample)
    found: dict[str, bytes] = {}
    for file, paths in inside.items():
        found |= _of_pictures(os.path.join(digests.root, file), paths)
    alike = [samples for samples in sizes.values() if len(samples) > 1]
    with ThreadPoolExecutor(min(cores(), READERS), "zoo-copies") as pool:
        for some in ordered(pool, lambda group: _of_alike(digests, group), iter(alike), AHEAD):
            found |= some
    digests.save()
    return found


def digest_of(path: Path) -> str:
    """Return the sha256 of a file in hex; nothing where it cannot be read."""
    try:
        return sha256_of(path)
    except OSError:
        return ""


def _of_pictures(box: str, paths: Sequence[str]) -> dict[str, bytes]:
    """Return the digests of a container's pictures: of pixels, or of the bytes of a photo."""
    pictures, found = container.load(box), {}
    for path in paths:
        with contextlib.suppress(ImageError):  # it has a row of its own that says so
            content = pictures.content(int(path.rpartition("#")[2]))
            found[path] = hashlib.sha256(content).digest()
    return found


def _of_alike(digests: Digests, samples: Sequence[Sample]) -> dict[str, bytes]:
    """Return the digests of those files of one size that may be copies, if they can be read."""
    known = {sample.path: digests.known(sample.path, sample.status) for sample in samples}
    if all(digest for _, digest in known.values()):
        return {path: digest for path, (_, digest) in known.items() if digest}
    ends: dict[bytes, list[str]] = {}
    for path in known:
        with contextlib.suppress(OSError), open(os.path.join(digests.root, path), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - END))
            ends.setdefault(file.read(END), []).append(path)
    found = {}
    for path in itertools.chain.from_iterable(same for same in ends.values() if len(same) > 1):
        status, digest = known[path]
        if digest is None:
            digest = bytes.fromhex(digest_of(Path(digests.root, path)))
            digests.note(path, status if digest else None, digest)
        if digest:
            found[path] = digest
    return found


Known = dict[str, tuple[Stat, bytes]]


def read(path: Path) -> Known:
    """Return what a file says: nothing where there is none or it is damaged. It is not to change.

    The file is read once from the look for copies to the end of a pass, see `forget`.
    """
    try:
        return _read(path, status_of(path.stat()))
    except OSError:
        return {}


def forget() -> None:
    """Let go of what was read."""
    _read.cache_clear()


@functools.lru_cache(maxsize=1)
def _read(path: Path, _: Stat) -> Known:
    content = read_sealed(path)
    if content is None:
        return {}
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            found: dict[str, Array] = {name: file[name] for name in file.files}
        if int(found["version"]) != VERSION:
            return {}
        names = [os.fsdecode(name) for name in found["paths"].tobytes().split(b"\0")]
        stats = [tuple(row) for row in found["stats"].reshape(-1, 4).tolist()]
        blob = found["digests"].tobytes()
        digests = [blob[start : start + 32] for start in range(0, len(blob), 32)]
        return dict(zip(names, zip(stats, digests, strict=True), strict=True))
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile):
        return {}
