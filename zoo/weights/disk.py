"""Whole-or-nothing writes, and hashes that stay tied to the file they were made of."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from zoo.errors import WeightsError, WriteError

# What was hashed in this process: the file as it was then, and its sha256.
_hashed: dict[Path, tuple[tuple[int, ...], str]] = {}


@contextlib.contextmanager
def replacing(path: Path, mode: int = 0o666) -> Iterator[Path]:
    """Yield a new empty file beside `path`, which takes its place or vanishes on any error.

    mode: as for `open`, less the umask. A reader sees the old file or the new one.
    """
    temporary = path.with_name(f".{path.name[:80]}.{secrets.token_hex(6)}.partial")
    try:
        with writing(path):
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
        yield temporary
        with writing(path):
            _sync(temporary)
            os.replace(temporary, path)
        with contextlib.suppress(OSError):  # not every file system syncs a folder
            _sync(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure of the disk into a WriteError that names `path`."""
    try:
        yield
    except OSError as error:
        raise no_room(path, error.strerror or str(error), error.errno) from error


def no_room(path: Path, why: str, number: int | None = None) -> WriteError:
    full = number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    hint = f"free some space in {path.parent}" if full else f"is {path.parent} yours to write to?"
    return WriteError(f"cannot write {path}: {why}", hint)


def make_private(folder: Path) -> None:
    """Create `folder` for this user alone."""
    with writing(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def hash_of(path: Path) -> str:
    """Return the sha256 of the whole file; the same file is read once per process."""
    try:
        with path.open("rb") as file:
            before = _settled(file)
            known = _hashed.get(path)
            if known is None or not before or known[0] != before:
                known = (before, hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}") from error
    _hashed[path] = known
    return known[1]


def remember(path: Path, digest: str) -> None:
    """Note the hash of what was just written; the first to open it reads it back and compares."""
    _hashed[path] = ((), digest)


def must_be_as_hashed(file: BufferedReader, path: Path) -> None:
    """Refuse an open file that was swapped for another after `hash_of` had looked at it."""
    known = _hashed.get(path)
    if known is None or known[0] == _identity(file):
        return
    if hashlib.file_digest(file, "sha256").hexdigest() != known[1]:
        raise WeightsError(f"{path} was changed after it was verified", "run the command again")
    _hashed[path] = (_settled(file), known[1])
    file.seek(0)


def _identity(file: BufferedReader) -> tuple[int, ...]:
    at = os.fstat(file.fileno())
    return at.st_dev, at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns


def _settled(file: BufferedReader) -> tuple[int, ...]:
    """The identity to remember; none for a file so new that a change would not move its times."""
    identity = _identity(file)
    return identity if time.time_ns() - max(identity[3:]) > 1_000_000_000 else ()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
