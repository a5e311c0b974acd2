"""A folder, or the prefix of a bucket: files appear in it whole, and are never replaced.

obstore does both. In a folder a file gets its name by a hard link from a temporary one, in a bucket
by a request with `If-None-Match: *`: of several writers one succeeds, and the others learn of it.
"""

from __future__ import annotations

import io
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

from zoo import extras
from zoo.disk import sync, writing
from zoo.errors import DiskFull, InputError, UsageError, WriteError
from zoo.weights.store import is_offline

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from obstore import ReadableFile
    from obstore.store import ObjectStore

T = TypeVar("T")
PAUSES = (0.1, 1.0, 5.0)  # seconds
PIECE = 1 << 18  # bytes of a tar in a bucket that are read at once, to find its members
SCHEMES = ("s3", "gs", "az")


def is_url(place: str) -> bool:
    """Return whether this names a place in a bucket, as s3://BUCKET/PREFIX."""
    return "://" in place and place.partition("://")[0] in SCHEMES


def check_installed() -> None:
    """Raise MissingPackage where one is not installed that every job needs."""
    extras.need("a job", *extras.EXTRAS["scale"], extra="scale")


def again(call: Callable[[], T]) -> T:
    """Return what a call returns, tried anew where a connection breaks: obstore does not always."""
    from obstore.exceptions import GenericError

    for pause in PAUSES:
        try:
            return call()
        except GenericError:
            time.sleep(pause)
    return call()


class _Pieces(io.RawIOBase):
    """A file of obstore's as Python has them."""

    def __init__(self, file: ReadableFile) -> None:
        self.file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, place: int, whence: int = 0) -> int:
        return int(self.file.seek(place, whence))

    def tell(self) -> int:
        return int(self.file.tell())

    def readinto(self, buffer: WriteableBuffer) -> int:
        found = bytes(again(lambda: self.file.read(memoryview(buffer).nbytes)))
        memoryview(buffer)[: len(found)] = found
        return len(found)


def opened(place: str) -> ObjectStore:
    """Return obstore's store of a folder or of s3://BUCKET/PREFIX. Raises UsageError."""
    if is_url(place) and is_offline():
        what = f"{place} cannot be opened: the network is forbidden (ZOO_OFFLINE, --offline)"
        raise UsageError(what, "allow it, or give a folder")
    return _opened(place)


@lru_cache(maxsize=64)
def _opened(place: str) -> ObjectStore:
    check_installed()
    from obstore.exceptions import BaseError
    from obstore.store import LocalStore, from_url

    try:
        return from_url(place) if is_url(place) else LocalStore(Path(place), mkdir=True)
    except (BaseError, OSError, ValueError) as error:
        raise UsageError(f"{place} cannot be opened: {said(error)}", "see docs/scale.md") from None


def said(error: BaseException) -> str:
    """Return what an error of a store says, in a line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


class Store:
    """The files of a job, by names with / in them. place: a folder or a URL."""

    def __init__(self, place: str, make: bool = False) -> None:
        """make: the folder, where it is not there. Raises UsageError, InputError, WriteError."""
        self.place = place if is_url(place) else os.path.abspath(place)
        self.local = None if is_url(place) else Path(self.place)
        if self.local is not None and self.local.exists() and not self.local.is_dir():
            raise UsageError(f"{place} is no folder", "a job is a folder, or s3://BUCKET/PREFIX")
        if self.local is not None and not make and not self.local.is_dir():
            raise InputError(f"there is no job {place}", "`zoo plan SOURCE -o JOB` makes one")
        if self.local is not None:
            with writing(self.local):
                self.local.mkdir(parents=True, exist_ok=True)
        self.files = opened(self.place)

    def create(self, name: str, content: bytes) -> bool:
        """Write a file that is not there yet; return whether it is this call that has done it.

        Raises WriteError, DiskFull.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError

        try:
            with self._writing(name, len(content)):
                again(lambda: obstore.put(self.files, name, content, mode="create"))
        except AlreadyExistsError:
            return False
        if self.local is not None:  # a part that is told to be done outlasts a loss of power
            with suppress(OSError):
                sync(self.local / name, os.O_RDONLY)
                sync((self.local / name).parent, os.O_RDONLY)
        return True

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None where there is none. Raises InputError."""
        import obstore
        from obstore.exceptions import BaseError, NotFoundError

        try:
            return again(lambda: bytes(obstore.get(self.files, name).bytes()))
        except (NotFoundError, FileNotFoundError):
            return None
        except (BaseError, OSError) as error:
            raise self._unread(name, error) from None

    def reader(self, name: str) -> IO[bytes]:
        """Return a file that is read in pieces."""
        import obstore

        return io.BufferedReader(_Pieces(obstore.open_reader(self.files, name)), PIECE)

    def etag(self, name: str) -> str:
        """Return what changes with the content of a file in a bucket, where the bucket says it."""
        import obstore

        return again(lambda: obstore.head(self.files, name))["e_tag"] or ""

    @contextmanager
    def in_pieces(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file of which what is asked for is read. Raises FileNotFoundError, InputError."""
        from obstore.exceptions import BaseError, NotFoundError

        try:
            with self._open(name) as file:
                yield file
        except NotFoundError as error:
            raise FileNotFoundError(name) from error
        except BaseError as error:
            raise self._unread(name, error) from None

    def _open(self, name: str) -> IO[bytes]:
        if self.local is None:
            return self.reader(name)
        try:
            return (self.local / name).open("rb")
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self._unread(name, error) from None

    def _unread(self, name: str, error: BaseException) -> InputError:
        what = f"{self.place}/{name} cannot be read: {said(error)}"
        return InputError(what, "try again; what is done is kept")

    def there(self, name: str) -> bool:
        """Return whether there is such a file."""
        import obstore
        from obstore.exceptions import BaseError, NotFoundError

        try:
            again(lambda: obstore.head(self.files, name))
        except (NotFoundError, FileNotFoundError):
            return False
        except (BaseError, OSError) as error:
            what = f"{self.place}/{name} cannot be looked for: {said(error)}"
            raise InputError(what, "try again; what is done is kept") from None
        return True

    def remove(self, name: str) -> None:
        """Remove a file, if it is there and that can be done."""
        import obstore
        from obstore.exceptions import BaseError

        with suppress(BaseError, OSError):
            obstore.delete(self.files, name)

    @contextmanager
    def _writing(self, name: str, size: int) -> Iterator[None]:
        from obstore.exceptions import AlreadyExistsError, BaseError

        try:
            yield
        except AlreadyExistsError:
            raise
        except (BaseError, OSError) as error:
            what = f"cannot write {self.place}/{name}: {said(error)}"
            if self.local is not None and shutil.disk_usage(self.local).free < 2 * size:
                raise DiskFull(
                    what, f"free some space in {self.local}, then run it again"
                ) from None
            hint = "is it yours to write to? What is done is kept: run it again"
            raise WriteError(what, hint) from None
