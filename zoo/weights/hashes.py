"""Hashes that stay tied to the file they were made of."""

from __future__ import annotations

import hashlib
import os
import time
from io import BufferedReader
from pathlib import Path

from zoo.disk import writing
from zoo.errors import WeightsError

# What was hashed in this process: the file as it was then, and its sha256.
_hashed: dict[Path, tuple[tuple[int, ...], str]] = {}


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
