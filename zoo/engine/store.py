"""Folders that appear whole under their name, stay while they are in use, and are swept when old.

Each has an about.json, written last, that names the other files with length and sha256, and has a
sha256 of itself. One whose files are not as it says is not there, and that is told: their content
is read before it is used, once in a process. Nothing here knows what the files are.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from zoo import disk
from zoo.disk import cache_folder, hidden, sha256_of, sync, warn, writing
from zoo.errors import CacheError, DiskFull, UsageError, WriteError
from zoo.machine import cores

ABOUT = "about.json"
Record = dict[str, Any]  # what an about.json says
LIMIT = 5.0  # GB of all of them; $ZOO_ENGINE_CACHE says otherwise
_SLACK = 1 << 20  # bytes of a graph besides its weights
STALE = 3600.0  # seconds after which what is unfinished belongs to nobody


@contextlib.contextmanager
def unfinished(place: Path) -> Iterator[Path]:
    """Yield a new folder beside `place`, gone at the end unless it has moved."""
    temporary = hidden(place)
    with disk.unfinished(temporary):
        with elsewhere(), writing(temporary):
            temporary.mkdir(parents=True)
        yield temporary


def must_hold(place: Path, size: int) -> None:
    """Raise OSError where there is no room for so many bytes, and a little more."""
    if shutil.disk_usage(place).free < size + _SLACK:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(place))


def seal(
    place: Path, names: Sequence[str], record: Record, hashed: Mapping[str, str] | None = None
) -> None:
    """Write about.json: the record, and what the files with these names are now.

    hashed: the sha256 of those that were hashed as they were written.
    """
    known = hashed or {}

    def facts_of(name: str) -> tuple[int, str]:
        with elsewhere(), writing(place / name):
            sync(place / name, os.O_RDWR)
            status = (place / name).stat()
            found = known.get(name) or sha256_of(place / name)
        _read[place / name] = _now(status), found
        return status.st_size, found

    with ThreadPoolExecutor(len(names)) as pool:
        files = dict(zip(names, pool.map(facts_of, names), strict=True))
    whole = {**record, "files": files}
    with elsewhere(), writing(place / ABOUT):
        text = json.dumps({**whole, "seal": _seal_of(whole)}, indent=2) + "\n"
        (place / ABOUT).write_text(text, encoding="utf-8")
        sync(place / ABOUT, os.O_RDWR)


def _seal_of(record: Record) -> str:
    text = json.dumps({key: value for key, value in record.items() if key != "seal"})
    return hashlib.sha256(text.encode()).hexdigest()


def settle(temporary: Path, place: Path) -> None:
    """Give the folder its name; where another process was quicker, theirs is as good.

    Raises CacheError where neither is there in the end.
    """
    read = {path.name: _read.pop(path) for path in [*_read] if path.parent == temporary}
    for _ in range(10):
        with contextlib.suppress(OSError):
            os.rename(temporary, place)
            _read.update({place / name: known for name, known in read.items()})
        if whole(place) is not None:
            return
        discard(place)  # what lies there is damaged
    raise CacheError(f"cannot write {place}", "set ZOO_CACHE to a folder that can be written")


def whole(place: Path, later: Sequence[str] = ()) -> Record | None:
    """Return the record of a folder whose files are as they were written, else None.

    Reads all of them, a core each: a bit that has changed on the disk changes no time. later:
    files that are not, since `unchanged` is asked before they are used.
    """
    try:
        text = (place / ABOUT).read_bytes()
    except OSError:
        return None
    try:
        record: Record = json.loads(text)
        files = dict(record["files"])
        good = bool(files) and record["seal"] == _seal_of(record)
        good = good and all((place / name).stat().st_size == files[name][0] for name in files)
        if good:
            now = [name for name in files if name not in later]
            with ThreadPoolExecutor(min(len(now), cores())) as pool:
                good = all(pool.map(lambda name: unchanged(place / name, files[name]), now))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        good = False
    if not good:
        warn(f"{place} is damaged: it is made anew")
    return record if good else None


# What was read in this process and found as it was written: the file as it was then, its sha256.
_read: dict[Path, tuple[tuple[int, ...], str]] = {}


def unchanged(path: Path, facts: Sequence[int | str]) -> bool:
    """Whether a file has the length and the sha256 that `seal` has written down of it."""
    status = path.stat()
    if status.st_size != facts[0]:
        return False
    now = _now(status)
    if _read.get(path) != (now, facts[1]):
        if sha256_of(path) != facts[1]:
            return False
        _read[path] = now, facts[1]
    return True


def _now(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def discard(place: Path) -> None:
    """Remove a folder: out of sight at once, then file by file."""
    away = hidden(place)
    with contextlib.suppress(OSError):
        os.rename(place, away)
        shutil.rmtree(away, ignore_errors=True)


# Who uses a folder, and which are too many.


NO_LOCKS = -1


def lock(place: Path, *, exclusive: bool = False) -> int | None:
    """Say to other processes that a folder is in use, until `unlock`; it follows a rename.

    None where there is no such folder, or another process has a lock that forbids this one.
    Where the system has no locks, the folder may be removed while it is in use.
    """
    try:
        descriptor = os.open(place / ABOUT, os.O_RDONLY)
    except OSError:
        return None
    try:
        import fcntl

        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
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
    """Remove the longest unused folders above `most` bytes, but not `keep` nor one in use."""
    found = []
    for place in folder.iterdir():
        with contextlib.suppress(OSError):
            if not place.name.startswith("."):
                found.append((_used(place), size(place), place))
            elif time.time() - place.stat().st_mtime > STALE:
                shutil.rmtree(place, ignore_errors=True)
    total = sum(each for _, each, _ in found)
    for _, each, place in sorted(found):
        if total <= most:
            return
        if place != keep and remove(place):
            total -= each


def remove(place: Path) -> bool:
    """Remove a folder unless it is in use; without its about.json it cannot be."""
    lease = lock(place, exclusive=True) if os.path.exists(place / ABOUT) else NO_LOCKS
    if lease is None:
        return False
    discard(place)
    unlock(lease)
    return True


def limit() -> float:
    """Return the bytes that all may have. Raises UsageError for $ZOO_ENGINE_CACHE that is no GB."""
    said = os.environ.get("ZOO_ENGINE_CACHE", "").strip()
    try:
        size = float(said or LIMIT)
    except ValueError:
        size = -1.0
    if not size >= 0:
        raise UsageError(f"ZOO_ENGINE_CACHE={said}", "give a number of GB from 0, as in 2.5")
    return size * 1e9


def _used(place: Path) -> float:
    """Return when it was used, in seconds; 0 where it is not a folder of these."""
    about = place / ABOUT
    return about.stat().st_mtime if about.exists() else 0.0


def touch(place: Path) -> None:
    """Note that it is used now; a store that cannot be written has no order."""
    with contextlib.suppress(OSError):
        os.utime(place / ABOUT)


def size(place: Path) -> int:
    return sum(file.stat().st_size for file in place.iterdir())


@contextlib.contextmanager
def elsewhere() -> Iterator[None]:
    """Raise a failure to write as one of the cache, which says where else there may be room."""
    try:
        yield
    except WriteError as error:
        kind = DiskFull if isinstance(error, DiskFull) else CacheError
        room = "with room" if kind is DiskFull else "that can be written"
        raise kind(error.what, f"set ZOO_CACHE to a folder {room}") from error


def instead(error: WriteError, name: str) -> tuple[Path, contextlib.ExitStack]:
    """Return a folder of this process for what the cache cannot take, and what removes it.

    That is told. Raises the error where there is no other room either.
    """
    until_the_end = contextlib.ExitStack()
    try:
        folder = until_the_end.enter_context(disk.scratch(name))
    except OSError:
        raise error from None
    disk.tell_not_kept(error)
    return folder, until_the_end


def known_at(kind: str, facts: object) -> Path:
    """Return where something small is kept that follows from these facts, which JSON can hold."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return cache_folder() / "known" / f"{kind}{digest[:32]}"
