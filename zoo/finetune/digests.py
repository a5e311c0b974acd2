"""Digests of photos that are known from an earlier run, so that they need not be read again.

A file per folder of photos: path -> size, times of the last change and inode, sha256. As git does
with its index, what has the same of all of these is taken for the same content. A file that is
changed in place gets another time of change (ctime), which no program can set back; what was
changed within SETTLED seconds before it was read is not written down, so that a clock of coarse
steps cannot hide a second change. Windows has no such time: there every file is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import time
import zipfile
from pathlib import Path

import numpy as np

from zoo.disk import cache_folder, read_sealed, write_sealed
from zoo.engine import Array
from zoo.errors import WriteError

SETTLED = 5.0  # seconds; the coarsest clock of a file system in use (FAT) has steps of 2
VERSION = 1
KEPT = os.name == "posix"

Stat = tuple[int, int, int, int]  # bytes, modified and changed in ns, inode


class Digests:
    """What is known of one folder's files. Several threads may ask and note at once."""

    def __init__(self, root: Path | str) -> None:
        self.root = os.path.abspath(root)
        name = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:32]
        self.path = cache_folder() / "digests" / name
        self.table = read(self.path) if KEPT else {}
        self.new: dict[str, tuple[Stat, bytes]] = {}

    def known(self, path: str) -> tuple[Stat | None, bytes | None]:
        """What the file is now, to be handed to `note`, and its digest if that is known."""
        if not KEPT:
            return None, None
        try:
            status = os.stat(os.path.join(self.root, path))
        except OSError:  # reading it says why
            return None, None
        now = (
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
            status.st_ino & (1 << 63) - 1,
        )
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
        with contextlib.suppress(WriteError):
            write_sealed(self.path, file.getvalue())
        self.table, self.new = whole, {}


def read(path: Path) -> dict[str, tuple[Stat, bytes]]:
    """Nothing where there is no such file or it is damaged."""
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
