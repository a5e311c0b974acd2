"""What has arrived of a file so far, so that a later try, or a later process, goes on from there.

It lies beside the file as `.NAME~VALIDATOR~X.partial`: the validator says which version of the
file it is a part of. Whoever fetches a file holds its lock (`zoo.lock.in_turn`), so a part that
lies there is nobody's, and is taken over under a name of one's own.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import secrets
from pathlib import Path
from typing import IO

from zoo.disk import sync, writing

WORTH = 1 << 20  # bytes; less is fetched again rather than kept
BLOCK = 1 << 20


class Partial:
    """What has arrived of one file; its bytes are hashed as they come.

    known: the file's full hash is, so that a part of unknown version will do.
    """

    def __init__(self, destination: Path, *, known: bool) -> None:
        self.destination, self.known = destination, known
        self._forget()
        with contextlib.suppress(OSError):
            self._take_over()

    def _forget(self) -> None:
        self.path: Path | None = None
        self.file: IO[bytes] | None = None
        self.validator, self.size, self.resumed = "", 0, False
        self.sha256, self.md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)

    def _take_over(self) -> None:
        """Go on with the largest part that is left of the file, and remove the others."""
        start = _start(self.destination)
        parts = [
            path
            for path in self.destination.parent.iterdir()
            if path.name.startswith(start) and path.suffix == ".partial"
        ]
        sizes = {path: path.stat().st_size for path in parts if self.known or _validator(path)}
        best = max(sizes, key=sizes.__getitem__, default=None)
        for path in parts:
            if path != best or sizes[path] < WORTH:
                path.unlink()
        if best is not None:
            self._open(best.rename(_name(self.destination, _validator(best))))
            self.resumed = True

    def begin(self, validator: str) -> None:
        """Make a place for a file that starts anew; one that goes on has it."""
        if self.file is None:
            path = _name(self.destination, validator)
            with writing(self.destination):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
                self._open(path)

    def _open(self, path: Path) -> None:
        self.path, self.validator, self.file = path, _validator(path), path.open("r+b")
        while block := self.file.read(BLOCK):
            self._count(block)

    def write(self, block: bytes) -> None:
        assert self.file is not None
        with writing(self.destination):
            self.file.write(block)
        self._count(block)

    def _count(self, block: bytes) -> None:
        self.sha256.update(block)
        self.md5.update(block)
        self.size += len(block)

    def become(self) -> None:
        """Take the name of the file, on the disk for good."""
        assert self.file is not None
        assert self.path is not None
        try:
            with writing(self.destination):
                self.file.flush()
                os.fsync(self.file.fileno())
                self.file.close()
                os.replace(self.path, self.destination)
        finally:
            self.drop()
        with contextlib.suppress(OSError):  # not every file system syncs a folder
            sync(self.destination.parent, os.O_RDONLY)

    def drop(self) -> None:
        with contextlib.suppress(OSError):
            if self.file is not None:
                self.file.close()
        with contextlib.suppress(OSError):
            if self.path is not None:
                self.path.unlink()
        self._forget()

    def leave(self) -> None:
        """Keep it for a later process, if that can tell that it is of the same file."""
        if self.size < WORTH or not (self.known or self.validator):
            self.drop()
        with contextlib.suppress(OSError):
            if self.file is not None:
                self.file.close()


def _start(destination: Path) -> str:
    return f".{destination.name[:80]}~"


def _name(destination: Path, validator: str) -> Path:
    code = base64.urlsafe_b64encode(validator.encode()).decode().rstrip("=")
    return destination.with_name(f"{_start(destination)}{code}~{secrets.token_hex(6)}.partial")


def _validator(path: Path) -> str:
    code = path.name.rsplit("~", 2)[1]
    try:
        return base64.urlsafe_b64decode(code + "=" * (-len(code) % 4)).decode("ascii")
    except (binascii.Error, ValueError):
        return ""
