"""A part of the cache: the features of some views in files of their own, whole or not there.

NAME.rows.npy (rows x feature shape, float32), NAME.keys.npy (rows x 40 bytes: sha256 of the photo's
bytes, view) and NAME.sha256, a line of each. The keys are written last and so say that the part is
whole. Its time of change is when it was last used.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import mmap
import os
import uuid
from glob import glob
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zoo.disk import atomic, sha256_of, warn
from zoo.engine import Array
from zoo.engine.store import elsewhere

KEYS, KEY_BYTES = "*.keys.npy", 40
KEY = np.dtype(f"V{KEY_BYTES}")
_HEADER = 128  # bytes before the numbers of a file
written = 0  # parts, by this process


class Part(NamedTuple):
    """keys: N of type KEY. digest: what the file of the rows must hash to; empty where it did."""

    keys: Array
    rows: Array
    digest: str = ""
    path: Path | None = None


class Sizes(NamedTuple):
    """rows: how many a part has. bytes: of all of their numbers."""

    rows: int
    bytes: int


def sizes(path: Path) -> Sizes:
    """Return how large a part is without reading it; 0 rows where it is not there any more."""
    try:
        long, wide = path.stat().st_size, beside(path, "rows.npy").stat().st_size
    except OSError:
        return Sizes(0, 0)
    return Sizes(max(0, long - _HEADER) // KEY_BYTES, max(0, wide - _HEADER))


def write(folder: Path, keys: list[bytes], rows: Array) -> Part:
    """Return a new part; its rows as they lie on disk. Raises CacheError, DiskFull."""
    global written
    name = folder / f"{uuid.uuid4().hex}.rows.npy"
    table = io.BytesIO()
    flat = np.frombuffer(b"".join(keys), np.uint8)
    np.save(table, flat.reshape(-1, KEY_BYTES))
    try:
        with elsewhere(), atomic(name) as file:
            rows = np.ascontiguousarray(rows)
            header = np.lib.format.header_data_from_array_1_0(rows)
            np.lib.format.write_array_header_1_0(file, header)
            file.write(rows.data)  # NumPy's own way does not say that a disk is full
        digests = hashlib.sha256(table.getvalue()).hexdigest(), sha256_of(name)
        with elsewhere(), atomic(beside(name, "sha256")) as file:
            file.write("\n".join(digests).encode())
        with elsewhere(), atomic(beside(name, "keys.npy")) as file:
            file.write(table.getvalue())
    except BaseException:
        forget(beside(name, "keys.npy"))
        raise
    written += 1
    return Part(flat.view(KEY), np.load(name, "r", allow_pickle=False))


def matching(folder: Path, pattern: str) -> list[Path]:
    """Return the files of a folder in order; none where it may not be looked into.

    There Path's own glob fails.
    """
    return [folder / name for name in sorted(glob(pattern, root_dir=folder))]


def read(path: Path) -> Part | None:
    """Return keys and rows; a pair of files that does not fit together counts as not there.

    The rows are looked at later, see `is_whole`.
    """
    try:
        content = path.read_bytes()
        digests = beside(path, "sha256").read_bytes().decode().split("\n")
        if hashlib.sha256(content).hexdigest() != digests[0]:
            raise ValueError("other keys than were written")
        keys = np.load(io.BytesIO(content), allow_pickle=False)
        rows = np.load(beside(path, "rows.npy"), "r", allow_pickle=False)
        if len(keys) != len(rows) or rows.dtype != np.float32 or rows.ndim < 2:
            raise ValueError("other rows than were written")
        (digest,) = digests[1:]
        return Part(np.ascontiguousarray(keys).view(KEY).reshape(-1), rows, digest, path)
    except FileNotFoundError:  # another process has merged it meanwhile, or was ended
        return None
    except (OSError, ValueError, EOFError, OverflowError):
        _warn_of(path)
        forget(path)
        return None


def is_whole(part: Part) -> bool:
    """Whether the rows are those that were written; says so where they are not.

    Of the file as it was opened: another process may have merged it meanwhile, and removed it.
    Where they are, notes that the part is used now.
    """
    if not part.digest or part.path is None:
        return True
    whole = hashlib.sha256(_mapped(part.rows)).hexdigest() == part.digest
    let_go(part.rows)
    if whole:
        with contextlib.suppress(OSError):  # a cache that cannot be written has no order
            os.utime(beside(part.path, "sha256"))
    else:
        _warn_of(part.path)
    return whole


def let_go(rows: Array) -> None:
    """Take the rows of a file out of this process' memory; they are read again when asked for."""
    with contextlib.suppress(AttributeError, OSError, ValueError):  # not everywhere
        _mapped(rows).madvise(mmap.MADV_DONTNEED)


def _mapped(rows: Array) -> mmap.mmap:
    mapped: mmap.mmap = getattr(rows, "_mmap")  # noqa: B009 - numpy has no public name for it
    return mapped


def _warn_of(path: Path) -> None:
    name = path.name.partition(".")[0]
    warn(f"{path.parent / name} is damaged: its features are computed anew")


def forget(path: Path) -> None:
    """Remove a part: the keys first, since they say that the pair is whole."""
    for each in (path, beside(path, "rows.npy"), beside(path, "sha256")):
        with contextlib.suppress(OSError):
            each.unlink()


def unfinished(folder: Path) -> list[Path]:
    """Return the files that belong to no part: it is being written, or who wrote it has died."""
    whole = {path.name.partition(".")[0] for path in folder.glob(KEYS)}
    files = [*folder.glob(".*.partial"), *folder.glob("*.rows.npy"), *folder.glob("*.sha256")]
    return [path for path in files if path.name.partition(".")[0] not in whole]


def beside(path: Path, kind: str) -> Path:
    """Return the other file of a part: `rows.npy`, `keys.npy` or `sha256`."""
    return path.with_name(f"{path.name.partition('.')[0]}.{kind}")
