"""Hashes that stay tied to the file they were made of, and pins: hashes that are kept.

A pin is `FILE.sha256` beside FILE, as `sha256sum -c` reads it.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import re
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BufferedRandom, BufferedReader
from pathlib import Path
from typing import IO, Self

from zoo.disk import opened, replacing
from zoo.errors import WeightsError

Reader = BufferedReader | BufferedRandom

# What was hashed in this process: the file as it was then, and its sha256.
_hashed: dict[Path, tuple[tuple[int, ...], str]] = {}
_ahead: dict[Path, _Ahead] = {}
_STEP = 1 << 20  # bytes that are hashed while they are in the processor's cache


def hash_of(path: Path, *, again: bool = False) -> str:
    """Return the sha256 of the whole file; the same file is read once per process.

    again: read it even so.
    """
    if path in _ahead:
        _ahead[path].join()
    try:
        with opened(path) as file:
            before = _settled(file)
            known = _hashed.get(path)
            if again or known is None or not before or known[0] != before:
                known = (before, hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as error:
        what = f"cannot read {path}: {error.strerror}"
        raise WeightsError(what, "is it the file of the weights?") from error
    _hashed[path] = known
    return known[1]


class Hashing:
    """A file that is being written, and the sha256 of it, which a thread makes meanwhile."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest = file, hashlib.sha256()
        self.thread = ThreadPoolExecutor(1, "zoo-sha256")

    def write(self, content: bytes | memoryview, /) -> None:
        self.thread.submit(self.digest.update, content)
        self.file.write(content)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.shutdown()


class _Ahead(threading.Thread):
    """Hashes a file; and reads it into memory, where it is to be kept: once for both."""

    def __init__(self, path: Path, keep: bool) -> None:
        super().__init__(name="zoo-read", daemon=True)
        self.path, self.keep = path, keep
        self.identity: tuple[int, ...] = ()
        self.content: mmap.mmap | None = None

    def run(self) -> None:
        """What fails here is told by those who read the file when they need it."""
        with suppress(OSError, ValueError, MemoryError), opened(self.path) as file:
            before = _settled(file)
            if not self.keep:
                _hashed[self.path] = before, hashlib.file_digest(file, "sha256").hexdigest()
                return
            content = mmap.mmap(-1, os.fstat(file.fileno()).st_size)
            if hasattr(mmap, "MADV_HUGEPAGE"):  # as NumPy has its own large arrays
                content.madvise(mmap.MADV_HUGEPAGE)
            digest, at = hashlib.sha256(), 0
            with memoryview(content) as room:
                while some := file.readinto(room[at : at + _STEP]):
                    digest.update(room[at : at + some])
                    at += some
            if at == len(content) and before and before == _identity(file):
                self.identity, self.content = before, content
                _hashed.setdefault(self.path, (before, digest.hexdigest()))


def read_ahead(path: Path, *, keep: bool = True) -> None:
    """Begin to read a whole file, whose hash is asked for soon.

    By a thread, beside imports and whatever else keeps only one core at work. keep: for
    `read_arrays`, see `let_go`.
    """
    if path not in _ahead:
        _ahead[path] = _Ahead(path, keep)
        _ahead[path].start()


def let_go(path: Path, file: Reader | None = None) -> memoryview | None:
    """Return what was read ahead, once; None where it is not what lies in this open file."""
    one = _ahead.pop(path, None)
    if one is None or file is None:
        return None
    one.join()
    known = one.content is not None and one.identity == _identity(file)
    return memoryview(one.content) if one.content is not None and known else None


def remember(path: Path, digest: str) -> None:
    """Note the hash of what was just written; the first to open it reads it back and compares."""
    _hashed[path] = ((), digest)


def must_be_as_hashed(file: Reader, path: Path) -> None:
    """Refuse an open file that was swapped for another after `hash_of` had looked at it."""
    if path in _hashed:
        hash_of_open(file, path)


def hash_of_open(file: Reader, path: Path) -> str:
    """Return the sha256 of an open file, which must be the one that `hash_of` saw, if it did.

    Leaves it at its start.
    """
    known = _hashed.get(path)
    if known is not None and known[0] == _identity(file):
        return known[1]
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0)
    if known is not None:
        if digest != known[1]:
            raise WeightsError(f"{path} was changed after it was verified", "run the command again")
        _hashed[path] = (_settled(file), digest)
    return digest


def _identity(file: Reader) -> tuple[int, ...]:
    at = os.fstat(file.fileno())
    return at.st_dev, at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns


def _settled(file: Reader) -> tuple[int, ...]:
    """Return the identity to remember; none for a file too new for a change to move its times."""
    identity = _identity(file)
    return identity if time.time_ns() - max(identity[3:]) > 1_000_000_000 else ()


# Hashes of tensors, whichever file they lie in


def line_of(name: str, dtype: str, shape: Iterable[int], digest: str) -> str:
    """Return a tensor as its hash says it: all that is of it, its bytes by their sha256."""
    return json.dumps([name, dtype, list(shape), digest])


def digest_of_lines(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


# Pins


def is_full(sha256: str) -> bool:
    return len(sha256) == 64


def pin_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def pin_of(path: Path) -> str:
    """Return the pinned sha256 of a file; empty where there is none."""
    try:
        text = pin_path(path).read_text("utf-8", "replace")[:200]
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise WeightsError(f"cannot read {pin_path(path)}: {error.strerror}") from error
    match = re.match(r"([0-9a-fA-F]{64})(\s|$)", text)
    if match is None:
        raise WeightsError(f"{pin_path(path)} holds no sha256", "remove it to pin the file anew")
    return match[1].lower()


def pin(path: Path, digest: str) -> None:
    with replacing(pin_path(path), 0o600) as temporary:
        temporary.write_text(f"{digest}  {path.name}\n", "utf-8")
