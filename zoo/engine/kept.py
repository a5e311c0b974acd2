"""Folders that appear whole under their name, stay while they are in use, and are swept when old.

Each has an about.json, written last, that names the other files with length, time and sha256. One
whose files are not as it says is not there. Nothing here knows what the files are.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from zoo import disk
from zoo.disk import sync, writing
from zoo.errors import CacheError, DiskFull, WriteError

ABOUT = "about.json"
STALE = 3600.0  # seconds after which what is unfinished belongs to nobody


@contextlib.contextmanager
def unfinished(place: Path) -> Iterator[Path]:
    """A new folder beside `place`, gone at the end unless it has moved."""
    temporary = hidden(place)
    with disk.unfinished(temporary):
        with elsewhere(), writing(temporary):
            temporary.mkdir(parents=True)
        yield temporary


def hidden(place: Path) -> Path:
    return place.with_name(f".{place.name}.{secrets.token_hex(6)}.partial")


def seal(place: Path, names: Sequence[str], record: dict[str, Any]) -> None:
    """Writes about.json: the record, and what the files with these names are now."""
    files = {}
    for name in names:
        with elsewhere(), writing(place / name):
            sync(place / name, os.O_RDWR)
            files[name] = facts_of(place / name)
    with elsewhere(), writing(place / ABOUT):
        text = json.dumps({**record, "files": files}, indent=2) + "\n"
        (place / ABOUT).write_text(text, encoding="utf-8")
        sync(place / ABOUT, os.O_RDWR)


def settle(temporary: Path, place: Path) -> None:
    """Gives the folder its name; where another process was quicker, theirs is as good.

    Raises CacheError where neither is there in the end.
    """
    for _ in range(10):
        with contextlib.suppress(OSError):
            os.rename(temporary, place)
        if whole(place) is not None:
            return
        discard(place)  # what lies there is damaged
    raise CacheError(f"cannot write {place}", "set ZOO_CACHE to a folder that can be written")


def whole(place: Path) -> dict[str, Any] | None:
    """The record of a folder whose files are as they were written, else None."""
    try:
        record = json.loads((place / ABOUT).read_text(encoding="utf-8"))
        files = record["files"].items()
        good = bool(files) and all(unchanged(place / name, facts) for name, facts in files)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return record if good else None


def facts_of(path: Path) -> list[Any]:
    """Length, time of the last change in nanoseconds, sha256."""
    status = path.stat()
    with path.open("rb") as file:
        return [status.st_size, status.st_mtime_ns, hashlib.file_digest(file, "sha256").hexdigest()]


def unchanged(path: Path, facts: list[Any]) -> bool:
    """Reads the file only where its time is another one, as that of a copy is."""
    status = path.stat()
    if [status.st_size, status.st_mtime_ns] == facts[:2]:
        return True
    return status.st_size == facts[0] and bool(facts_of(path)[2] == facts[2])


def discard(place: Path) -> None:
    """Out of sight at once, then file by file."""
    away = hidden(place)
    with contextlib.suppress(OSError):
        os.rename(place, away)
        shutil.rmtree(away, ignore_errors=True)


# Who uses a folder, and which are too many.


NO_LOCKS = -1


def lock(place: Path, *, alone: bool = False) -> int | None:
    """Says to other processes that a folder is in use, until `unlock`; it follows a rename.

    None where there is no such folder, or another process has a lock that forbids this one.
    Where the system has no locks, the folder may be removed while it is in use.
    """
    try:
        descriptor = os.open(place / ABOUT, os.O_RDONLY)
    except OSError:
        return None
    try:
        import fcntl

        fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except (ImportError, OSError):
        os.close(descriptor)
        return NO_LOCKS
    return descriptor


def unlock(descriptor: int) -> None:
    if descriptor != NO_LOCKS:
        os.close(descriptor)


def sweep(folder: Path, most: float, keep: Path) -> None:
    """Removes the longest unused folders above `most` bytes, but not `keep` nor one in use."""
    found = []
    for place in folder.iterdir():
        with contextlib.suppress(OSError):
            if not place.name.startswith("."):
                found.append((used(place), size(place), place))
            elif time.time() - place.stat().st_mtime > STALE:
                shutil.rmtree(place, ignore_errors=True)
    total = sum(each for _, each, _ in found)
    for _, each, place in sorted(found):
        if total <= most:
            return
        if place != keep and remove(place):
            total -= each


def remove(place: Path) -> bool:
    """Unless it is in use; without its about.json it cannot be."""
    lease = lock(place, alone=True) if (place / ABOUT).exists() else NO_LOCKS
    if lease is None:
        return False
    discard(place)
    unlock(lease)
    return True


def used(place: Path) -> float:
    """When, in seconds; 0 where it is not a folder of these."""
    about = place / ABOUT
    return about.stat().st_mtime if about.exists() else 0.0


def touch(place: Path) -> None:
    """It is used now. A store that cannot be written has no order."""
    with contextlib.suppress(OSError):
        os.utime(place / ABOUT)


def size(place: Path) -> int:
    return sum(file.stat().st_size for file in place.iterdir())


@contextlib.contextmanager
def elsewhere() -> Iterator[None]:
    """A failure to write is one of the cache, and says where else there may be room."""
    try:
        yield
    except WriteError as error:
        kind = DiskFull if isinstance(error, DiskFull) else CacheError
        room = "with room" if kind is DiskFull else "that can be written"
        raise kind(error.what, f"set ZOO_CACHE to a folder {room}") from error
