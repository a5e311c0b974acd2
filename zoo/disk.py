"""Writing that is whole or not at all, and errors of the disk that name the place."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import time
from collections.abc import Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from typing import IO

from zoo import config
from zoo.errors import DiskFull, RunError, WriteError
from zoo.text import TEXT, printable
from zoo.watch import undoing

_told: set[str] = set()  # what this process has said already
HELD, YOUNG = ".zoo-holds-this", 60.0  # a younger folder may be about to be held
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def cache_folder() -> Path:
    """Return the folder of what can be fetched or computed again: `zoo config`'s or the user's."""
    chosen = config.value("cache")
    return Path(chosen).expanduser().absolute() if chosen else config.user_folder("cache")


def make_private(folder: Path) -> None:
    """Create `folder`, and what is missing above it, for this user alone."""
    with writing(folder):
        missing = [one for one in (folder, *folder.parents) if not one.exists()]
        for one in reversed(missing):
            one.mkdir(mode=0o700, exist_ok=True)


def opened(path: Path | str, most: int | None = None) -> BufferedReader:
    """Return an open file, which is a regular one: a pipe would wait for ever, a device never end.

    most: bytes that it may have. Raises OSError that says what it is instead.
    """

    def without_waiting(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    _must_be_regular(os.stat(path), path, most)  # first: to open a device may move it
    file = open(path, "rb", opener=without_waiting)  # noqa: SIM115
    try:
        _must_be_regular(os.fstat(file.fileno()), path, most)
    except OSError:
        file.close()
        raise
    return file


def _must_be_regular(status: os.stat_result, path: Path | str, most: int | None) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise OSError(errno.EINVAL, f"it is {kind}, not a file", os.fspath(path))
    if most is not None and status.st_size > most:
        what = f"it has {status.st_size / 1e6:,.0f} MB, and {most / 1e6:,.0f} MB are the most"
        raise OSError(errno.EINVAL, what, os.fspath(path))


def refuse_links(folder: Path) -> None:
    """Raise RunError where a folder that is to be written in holds a link, at any depth.

    Through a link a file that lies elsewhere would be written to, or removed.
    """
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(place, name)
            if os.path.islink(path):
                raise RunError(
                    f"{path} is a link, and nothing is written through a link in a run folder",
                    "put what it points to in its place, or remove it",
                )


def hidden(path: Path) -> Path:
    """Return a new name beside `path`, for what is not finished; `sweep` knows it by that."""
    return path.with_name(f".{path.name[:80]}.{os.urandom(6).hex()}.partial")


@contextlib.contextmanager
def replacing(path: Path, mode: int = 0o666, keep: Path | None = None) -> Iterator[Path]:
    """Yield a new empty file beside `path`, which takes its place or vanishes on any error.

    mode: as for `open`, less the umask. keep: what the file that is replaced is called from then
    on. A reader sees the old file or the new one.
    """
    temporary = hidden(path)
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
def replacing_all(path: Path) -> Iterator[Path]:
    """Yield the name of `path` in a new folder beside it; what is written there takes its place.

    For a folder, and for a file with others that belong to it, which come first. On any error
    nothing is left. Raises WriteError where a folder is there with files of other names.
    """
    folder = hidden(path)
    with unfinished(folder):
        with writing(path):
            folder.mkdir()
        yield folder / path.name
        with writing(path):
            files = [one for one in folder.rglob("*") if one.is_file()]
            for file in files:
                sync(file, os.O_RDWR)
            for one in sorted(folder.iterdir(), key=lambda one: one.name == path.name):
                _move(one, path.with_name(one.name), folder)
        with contextlib.suppress(OSError):  # not every file system syncs a folder
            sync(path.parent, os.O_RDONLY)


def _move(source: Path, place: Path, folder: Path) -> None:
    """Give a file or a folder its place; a folder that was there goes into `folder`."""
    if source.is_dir() and place.is_dir():
        foreign = sorted(
            {one.name for one in place.iterdir()} - {one.name for one in source.iterdir()}
        )
        if foreign:
            raise WriteError(
                f"{place} holds {printable(foreign[0])}, which is not of such a folder",
                "give another place with -o, or remove what is there",
            )
        os.replace(place, folder / f"{place.name}.old")
    os.replace(source, place)


def bytes_of(path: Path) -> int:
    """Return the bytes of a file, or of all that is in a folder."""
    if path.is_dir():
        return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
    return path.stat().st_size


@contextlib.contextmanager
def unfinished(path: Path) -> Iterator[None]:
    """Remove what is still called so when the block is left, file or folder.

    Also where the process is ended by a signal (see `zoo.watch`).
    """
    with undoing(lambda: remove(path)):
        try:
            yield
        finally:
            remove(path)


@contextlib.contextmanager
def scratch(name: str) -> Iterator[Path]:
    """Yield a new folder where the system keeps what is temporary; it is gone at the end.

    So are those of processes that were killed: nobody holds the lock in them any more.
    """
    from glob import glob
    from tempfile import mkdtemp

    from filelock import FileLock, Timeout

    outer = Path(mkdtemp(prefix="zoo-"))
    with unfinished(outer), FileLock(outer / HELD):
        # Path's glob fails where one folder may not be looked into, as those of others
        for other in map(outer.parent.joinpath, glob(f"zoo-*/{HELD}", root_dir=outer.parent)):
            with contextlib.suppress(OSError, Timeout):
                ours = other.parent.lstat().st_uid == outer.stat().st_uid
                if ours and time.time() - other.lstat().st_mtime > YOUNG:
                    with FileLock(other, blocking=False):
                        remove(other.parent)
        folder = outer / name
        folder.mkdir()
        yield folder


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it; what cannot be removed stays."""
    import shutil

    if not os.path.isdir(path):  # Path.is_dir fails where a folder may not be looked into
        with contextlib.suppress(OSError):
            path.unlink()
    for _ in range(3):  # another thread may still be writing into it
        if os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that appears whole under its name, or not at all."""
    with replacing(path) as temporary, writing(path), open(temporary, "wb") as file:
        yield file


def warn(text: str) -> None:
    """Warn of it once, by the logger `zoo`; where nobody listens to that it is a line on stderr."""
    import logging  # not for `zoo list`

    if text not in _told:
        _told.add(text)
        logging.getLogger("zoo").warning("warning: %s", printable(text))


def tell_not_kept(error: BaseException) -> None:
    """Warn, once for each reason, that nothing can be kept in the cache."""
    while error.__cause__ is not None:
        error = error.__cause__
    why = getattr(error, "strerror", None) or str(error)
    warn(f"{cache_folder()} cannot be written ({why}): nothing is kept there for the next command")


def write_sealed(path: Path, content: bytes) -> None:
    """Keep what can be computed again, behind a line with its sha256; see `read_sealed`.

    Makes the folder. Where it cannot be written, that is told, and no more.
    """
    import hashlib

    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as file:
            file.write(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
    except WriteError as error:
        tell_not_kept(error)


def read_sealed(path: Path) -> bytes | None:
    """Return what `write_sealed` has kept; None where there is nothing, or it is damaged.

    Damage is told: what was kept is computed again.
    """
    import hashlib

    try:
        digest, _, content = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    if digest != hashlib.sha256(content).hexdigest().encode():
        warn(f"{path} is damaged: it is made anew")
        return None
    return content


def sweep(folder: Path) -> None:
    """Remove what a process that was killed had not finished; nobody else may be writing here."""
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
    what, hint = f"cannot write {path}: {why}", f"{first}, or choose another place"
    return DiskFull(what, hint, first) if full else WriteError(what, hint)


def _keep(path: Path, other: Path) -> None:
    """Have `path`, where it is there, found under the other name as well."""
    second = hidden(other)
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


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hex. Raises OSError."""
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(photos: Sequence[Path]) -> str:
    """Return the hash of the content of files, in their order; one that cannot be read has none."""
    import hashlib

    digest = hashlib.sha256()
    for path in photos:
        try:
            digest.update(bytes.fromhex(sha256_of(path)))
        except OSError:
            digest.update(b"unreadable")
    return digest.hexdigest()


def write_json(path: Path, record: object) -> None:
    with atomic(path) as file:
        try:
            data = json.dumps(record, indent=2, ensure_ascii=False).encode(**TEXT)
        except UnicodeEncodeError:  # half a surrogate pair, which no file name has
            data = json.dumps(record, indent=2).encode()
        file.write(data + b"\n")
