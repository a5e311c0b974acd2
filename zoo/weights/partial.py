"""What has arrived of a file so far, so that a later try, or a later process, goes on from there.

It lies beside the file as `.NAME~VALIDATOR~HOST-PID-X.partial`: whose it is and which version of
the file it is a part of. A process writes to a partial of its own alone. One whose owner is gone
is taken over by renaming it, which only one can do. No lock is needed for this: locks silently do
nothing on some shared file systems.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import platform
import re
import secrets
import time
from pathlib import Path

from zoo.disk import writing

WORTH = 1 << 20  # bytes; less is fetched again rather than kept
FORGOTTEN = 600.0  # seconds without a byte: longer than any live download is silent
BLOCK = 1 << 20

_mine: set[Path] = set()  # of this process, being written


class Partial:
    """An open partial file: its bytes are hashed as they come."""

    def __init__(self, path: Path, validator: str) -> None:
        self.path, self.validator = path, validator
        self.file = path.open("r+b")
        self.sha256, self.md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        self.size, self.resumed = 0, False
        while block := self.file.read(BLOCK):
            self._count(block)
        self.resumed = self.size > 0

    @classmethod
    def new(cls, destination: Path, validator: str) -> Partial:
        path = _name(destination, validator)
        with writing(destination):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            _mine.add(path)
            return cls(path, validator)

    def write(self, block: bytes) -> None:
        self.file.write(block)
        self._count(block)

    def _count(self, block: bytes) -> None:
        self.sha256.update(block)
        self.md5.update(block)
        self.size += len(block)

    def become(self, destination: Path) -> None:
        """Take the name of the file, on the disk for good."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        os.replace(self.path, destination)
        _mine.discard(self.path)
        with contextlib.suppress(OSError):  # not every file system syncs a folder
            folder = os.open(destination.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def drop(self) -> None:
        with contextlib.suppress(OSError):
            self.file.close()
        with contextlib.suppress(OSError):
            self.path.unlink()
        _mine.discard(self.path)

    def leave(self, *, known: bool) -> None:
        """Keep it for a later process, if that can tell that it is of the same file."""
        if self.size < WORTH or not (known or self.validator):
            return self.drop()
        with contextlib.suppress(OSError):
            self.file.close()
        _mine.discard(self.path)


def adopt(destination: Path, *, known: bool) -> Partial | None:
    """The largest part that nobody is writing any more; the others are removed.

    known: the file's full hash is, so that a part of unknown version will do.
    """
    left = [path for path in orphans(destination.parent) if _is_of(path, destination)]
    usable = [path for path in left if known or _validator(path)]
    best = max(usable, key=_size, default=None)
    for path in left:
        if path != best or _size(path) < WORTH:
            with contextlib.suppress(OSError):
                path.unlink()
    if best is None:
        return None
    own = _name(destination, _validator(best))
    try:
        os.rename(best, own)  # exactly one process can
    except OSError:
        return None
    _mine.add(own)
    with contextlib.suppress(OSError):
        return Partial(own, _validator(own))
    return None


def orphans(folder: Path) -> list[Path]:
    """The partial files in a folder that no process is writing."""
    try:
        found = [path for path in folder.iterdir() if path.name.endswith(".partial")]
    except OSError:
        return []
    return [path for path in found if path not in _mine and _is_orphan(path)]


def _is_orphan(path: Path) -> bool:
    owner = re.search(r"~(\w*)-(\d+)-\w+\.partial$", path.name)
    if owner is not None and owner[1] == _host() and not _lives(int(owner[2])):
        return True
    try:
        return time.time() - path.stat().st_mtime > FORGOTTEN
    except OSError:
        return False


def _lives(pid: int) -> bool:
    if pid == os.getpid():
        return False  # of ours, and not among those being written
    if os.name != "posix":  # os.kill would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _host() -> str:
    return re.sub(r"\W", "", platform.node())[:24]


def _start(destination: Path) -> str:
    return f".{destination.name[:80]}~"


def _is_of(path: Path, destination: Path) -> bool:
    return path.name.startswith(_start(destination)) and path.name.count("~") >= 2


def _name(destination: Path, validator: str) -> Path:
    code = base64.urlsafe_b64encode(validator.encode()).decode().rstrip("=")
    owner = f"{_host()}-{os.getpid()}-{secrets.token_hex(3)}"
    return destination.with_name(f"{_start(destination)}{code}~{owner}.partial")


def _validator(path: Path) -> str:
    code = path.name.rsplit("~", 2)[1]
    try:
        return base64.urlsafe_b64decode(code + "=" * (-len(code) % 4)).decode("ascii")
    except (binascii.Error, ValueError):
        return ""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
