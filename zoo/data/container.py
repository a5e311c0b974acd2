"""Many pictures in one file: IDX (the format of MNIST), and Parquet with photos inside.

A picture in such a file has the address FILE#N, as `t10k-images-idx3-ubyte.gz#17`, counted from 0.
Of an IDX file its bytes are those of a small PGM or PPM, so whatever reads a picture reads it too.
"""

from __future__ import annotations

import builtins
import os
import re
import stat
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from zoo.data.idx import AGAIN, Bytes, head_of, is_idx, read_images
from zoo.data.parquet import MAGIC, Photos, holds_photos
from zoo.data.samples import Stat, status_of
from zoo.errors import DataError

KEPT_BYTES = 2**30  # of the IDX files that stay in memory; the last one read always does
NUMBER = re.compile(r"0|[1-9][0-9]{0,9}")


@dataclass(frozen=True, slots=True)
class Idx:
    """The pictures of one IDX file. pixels: N H W or N H W 3."""

    path: str
    pixels: Bytes

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def bytes(self) -> int:
        """Return the bytes of one picture."""
        return self.pixels.nbytes // len(self.pixels)

    def pixels_of(self, number: int) -> Bytes:
        """Raises DataError."""
        if number >= len(self.pixels):
            last = len(self.pixels) - 1
            raise DataError(f"there is no picture #{number} in {self.path}", f"they end at #{last}")
        pixels: Bytes = self.pixels[number]
        return pixels

    def content(self, number: int) -> builtins.bytes:
        """Return what makes a picture what it is: its pixels. Raises DataError."""
        return self.pixels_of(number).tobytes()

    def picture(self, number: int) -> builtins.bytes:
        """Return a picture as the bytes of a PGM (grey) or PPM (RGB). Raises DataError."""
        pixels = self.pixels_of(number)
        kind = b"P5" if pixels.ndim == 2 else b"P6"
        return b"%b\n%d %d\n255\n%b" % (kind, pixels.shape[1], pixels.shape[0], pixels.tobytes())


Container = Idx | Photos
# Files that were opened stay in memory: (path, time, size) -> what is in it, or what is wrong.
_kept: OrderedDict[tuple[str, Stat], Container | DataError] = OrderedDict()
_lock = threading.Lock()


def read(address: str) -> bytes | None:
    """Return the picture at FILE#N; None where FILE is no container. Raises DataError."""
    path, _, number = address.rpartition("#")
    if not path or NUMBER.fullmatch(number) is None:
        return None
    box = find(path)
    return None if box is None else box.picture(int(number))


def load(path: Path | str) -> Container:
    """Return the pictures of a file. Raises DataError for one that is damaged or no container."""
    box = find(os.fspath(path))
    if box is None:
        raise DataError(
            f"{path} is no file of pictures in IDX or Parquet",
            "IDX begins with the bytes 00 00 08 03, unpacked; " + AGAIN,
        )
    return box


def find(path: str) -> Container | None:
    """Return the pictures of a file, None where it is no container. Raises DataError."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    key = (path, status_of(status))
    with _lock:  # also while a file is read: the others want the same one
        found = _kept.get(key)
        if found is not None:
            _kept.move_to_end(key)
        elif not is_container(path):
            return None
        else:
            found = _keep(key)
    if isinstance(found, DataError):
        raise DataError(found.what, found.hint)
    return found


def _keep(key: tuple[str, Stat]) -> Container | DataError:
    """Read a file, and let the files go that were not asked for the longest."""
    path = key[0]
    found: Container | DataError
    try:
        is_parquet = head_of(path) == MAGIC
        found = Photos(path) if is_parquet else Idx(path, read_images(path))
    except DataError as error:
        found = error
    _kept[key] = found
    while len(_kept) > 1 and sum(map(_weight, _kept.values())) > KEPT_BYTES:
        _kept.popitem(last=False)
    return found


def _weight(found: Container | DataError) -> int:
    return found.pixels.nbytes if isinstance(found, Idx) else 0


def is_container(path: Path | str) -> bool:
    """Return whether a file says by its first bytes that it holds many pictures."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
    except (OSError, ValueError):
        return False
    head = head_of(path)
    return is_idx(head) or (head == MAGIC and holds_photos(path))
