"""Writing that is whole or not at all, and errors of the disk that name the place."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from zoo.errors import DiskFull, WriteError
from zoo.watch import undoing

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def cache_folder() -> Path:
    """The folder of everything that can be fetched or computed again: $ZOO_CACHE or the user's."""
    chosen = os.environ.get("ZOO_CACHE", "").strip()
    if chosen:
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("zoo", appauthor=False)


@contextlib.contextmanager
def replacing(path: Path, mode: int = 0o666, keep: Path | None = None) -> Iterator[Path]:
    """Yield a new empty file beside `path`, which takes its place or vanishes on any error.

    mode: as for `open`, less the umask. keep: what the file that is replaced is called from then
    on. A reader sees the old file or the new one.
    """
    temporary = path.with_name(f".{path.name[:80]}.{secrets.token_hex(6)}.partial")
    with unfinished(temporary):
        with writing(path):
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
        yield temporary
        with writing(path):
            sync(temporary, os.O_RDWR)  # Windows flushes only what is open for writing
            if keep is not None:
                _keep(path, keep)
            os.replace(temporary, path)
        with contextlib.suppress(OSError):  # not every file system syncs a folder
            sync(path.parent, os.O_RDONLY)


@contextlib.contextmanager
def unfinished(path: Path) -> Iterator[None]:
    """What is still called so when the block is left is removed, file or folder.

    Also where the process is ended by a signal (see `zoo.watch`).
    """
    with undoing(lambda: remove(path)):
        try:
            yield
        finally:
            remove(path)


@contextlib.contextmanager
def scratch(name: str) -> Iterator[Path]:
    """Yield a new folder where the system keeps what is temporary; it is gone at the end."""
    from tempfile import mkdtemp

    folder = Path(mkdtemp(prefix=f"zoo-{name}-"))
    with unfinished(folder):
        yield folder


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it; what cannot be removed stays."""
    if not path.is_dir():
        with contextlib.suppress(OSError):
            path.unlink()
    for _ in range(3):  # another thread may still be writing into it
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """An open file that appears whole under its name, or not at all."""
    with replacing(path) as temporary, writing(path), open(temporary, "wb") as file:
        yield file


def sweep(folder: Path) -> None:
    """Removes what a process that was killed had not finished; nobody else may be writing here."""
    for path in folder.glob(".*.partial"):
        with contextlib.suppress(OSError):
            path.unlink()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure of the disk into a WriteError that names `path`."""
    try:
        yield
    except OSError as error:
        raise no_room(path, error.strerror or str(error), error.errno) from error


def no_room(path: Path, why: str, number: int | None = None) -> WriteError:
    full = number in FULL
    first = f"free some space in {path.parent}" if full else f"is {path.parent} yours to write to?"
    kind = DiskFull if full else WriteError
    return kind(f"cannot write {path}: {why}", f"{first}, or choose another place")


def _keep(path: Path, other: Path) -> None:
    """`path`, where it is there, is found under the other name as well."""
    second = other.with_name(f".{other.name[:80]}.{secrets.token_hex(6)}.partial")
    try:
        os.link(path, second)
        os.replace(second, other)
    except FileNotFoundError:
        return
    except OSError:  # no hard links here: it moves, and has one name at every moment
        os.replace(path, other)
    finally:  # of two names for one file, replace keeps both
        second.unlink(missing_ok=True)


def sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
