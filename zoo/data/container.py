"""Many pictures in one file: IDX (the format of MNIST) and the binary batches of CIFAR-10.

A picture in such a file has the address FILE#N, as `t10k-images-idx3-ubyte.gz#17`, counted from 0;
its bytes are those of a small PGM or PPM, so whatever reads a picture reads it too. A file is
checked to the last byte when it is opened: what its header promises is what must be there.

IDX: 2 zero bytes, the type (8: unsigned bytes), the number of dimensions, each of them as 4
bytes, then the values. http://yann.lecun.com/exdb/mnist/
CIFAR-10: records of a label (1 byte) and 32 x 32 pixels (3072 bytes: red, green, blue).
https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import builtins
import gzip
import math
import os
import re
import stat
import struct
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from zoo.errors import DataError

Bytes = NDArray[np.uint8]

MAX_BYTES = 2**30  # of the pictures of one file, unpacked
KEPT_BYTES = 2**30  # of the files that stay in memory; the last one read always does
TYPES = {
    0x08: "unsigned bytes", 0x09: "signed bytes", 0x0B: "16-bit integers",
    0x0C: "32-bit integers", 0x0D: "32-bit floats", 0x0E: "64-bit floats",
}  # fmt: skip
BATCH = re.compile(r"(data_batch_[0-9]{1,3}|test_batch)\.bin")
RECORD, SIDE = 3073, 32
NUMBER = re.compile(r"0|[1-9][0-9]{0,9}")
AGAIN = "copy or download it again"


@dataclass(frozen=True, slots=True)
class Container:
    """The pictures of one file. pixels: N H W, N H W 3, or N 3 H W where planar."""

    path: str
    pixels: Bytes
    planar: bool = False
    labels: Bytes | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def bytes(self) -> int:
        """Return the bytes of one picture."""
        return self.pixels.nbytes // len(self.pixels)

    def picture(self, number: int) -> builtins.bytes:
        """Return picture `number` as the bytes of a PGM (grey) or PPM (RGB). Raises DataError."""
        if number >= len(self.pixels):
            last = len(self.pixels) - 1
            raise DataError(f"there is no picture #{number} in {self.path}", f"they end at #{last}")
        pixels = self.pixels[number]
        if self.planar:
            pixels = pixels.transpose(1, 2, 0)
        kind = b"P5" if pixels.ndim == 2 else b"P6"
        return b"%b\n%d %d\n255\n%b" % (kind, pixels.shape[1], pixels.shape[0], pixels.tobytes())


# Files that were opened stay in memory: (path, time, size) -> what is in it, or what is wrong.
_kept: OrderedDict[tuple[str, int, int], Container | DataError] = OrderedDict()
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
            f"{path} is no file of pictures in IDX or CIFAR-10's binary format",
            "IDX begins with the bytes 00 00 08 03, unpacked; " + AGAIN,
        )
    return box


def find(path: str) -> Container | None:
    """Return the pictures of a file, None where it is no container. Raises DataError."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    key = (path, status.st_mtime_ns, status.st_size)
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


def _keep(key: tuple[str, int, int]) -> Container | DataError:
    """Read a file, and let the files go that were not asked for the longest."""
    found: Container | DataError
    try:
        batch = BATCH.fullmatch(os.path.basename(key[0]))
        found = _read_batch(key[0]) if batch else Container(key[0], read_images(key[0]))
    except DataError as error:
        found = error
    _kept[key] = found
    while len(_kept) > 1 and sum(map(_weight, _kept.values())) > KEPT_BYTES:
        _kept.popitem(last=False)
    return found


def _weight(found: Container | DataError) -> int:
    return found.pixels.nbytes if isinstance(found, Container) else 0


def is_container(path: Path | str) -> bool:
    """Return whether a file holds many pictures, by its first bytes or CIFAR-10's names."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        if BATCH.fullmatch(os.path.basename(path)):
            return True
        with _unpacked(path) as file:
            head = file.read(4)
    except (OSError, EOFError, zlib.error, ValueError):
        return False
    return len(head) == 4 and head[:2] == b"\0\0" and head[2] in TYPES and head[3] in (3, 4)


# The formats


def read_images(path: Path | str) -> Bytes:
    """Return the pictures of an IDX file: N H W or N H W 3. Raises DataError."""
    pixels = _read_idx(path, (3, 4))
    if pixels.ndim == 4 and pixels.shape[3] == 1:
        return pixels[..., 0]
    if pixels.ndim == 4 and pixels.shape[3] != 3:
        raise DataError(
            f"{path} has pictures with {pixels.shape[3]} channels (shape {_shown(pixels.shape)})",
            "give 1 channel (grey) or 3 (RGB), as the last dimension",
        )
    return pixels


def read_labels(path: Path | str) -> Bytes:
    """Return the labels of an IDX file: N. Raises DataError."""
    return _read_idx(path, (1,))


def _read_batch(path: Path | str) -> Container:
    """Return a binary batch of CIFAR-10, with its labels. Raises DataError."""
    try:
        size = os.path.getsize(path)
        if size == 0 or size % RECORD or size > MAX_BYTES:
            raise DataError(
                f"{path} has {size:,} bytes, which is no number of records of {RECORD} bytes",
                f"CIFAR-10's own batches have 10,000 records, {RECORD * 10_000:,} bytes; {AGAIN}",
            )
        records = np.fromfile(path, np.uint8).reshape(-1, RECORD)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", AGAIN) from None
    pixels = records[:, 1:].reshape(-1, 3, SIDE, SIDE)
    return Container(os.fspath(path), pixels, True, records[:, 0].copy())


def _read_idx(path: Path | str, dimensions: tuple[int, ...]) -> Bytes:
    """Return the values of an IDX file, plain or gzipped, with that many dimensions."""
    try:
        with _unpacked(path) as file:
            shape = _header(path, file.read(4 + 4 * max(dimensions)), dimensions)
            count, shown = math.prod(shape), _shown(shape)
            if not 0 < count <= MAX_BYTES:
                raise DataError(
                    f"{path} says that it holds {shown} = {count:,} bytes",
                    f"1 to {MAX_BYTES:,} are read: {AGAIN}, or split it into class folders",
                )
            file.seek(4 + 4 * len(shape))
            values = np.empty(count, np.uint8)  # takes memory once it is filled
            done = _fill(file, values)
            more = file.read(1)  # at the end gzip has compared its checksum, too
    except EOFError:
        raise DataError(f"{path} is cut off: its gzip stream does not end", AGAIN) from None
    except (OSError, zlib.error, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path} cannot be read: {reason}", AGAIN) from None
    promised = f"the {count:,} bytes that its header promises ({shown})"
    if done < count:
        raise DataError(f"{path} is cut off: {done:,} of {promised}", AGAIN)
    if more:
        hint = f"its header and its content disagree: {AGAIN}"
        raise DataError(f"{path} goes on after {promised}", hint)
    return values.reshape(shape)


def _header(path: Path | str, head: bytes, dimensions: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that the header promises."""
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in TYPES:
        wanted = f"00 00 08 {dimensions[0]:02x}"
        raise DataError(
            f"{path} is no IDX file: it begins with {head[:4].hex(' ') or 'nothing'}",
            f"an IDX file begins with {wanted} (inside its gzip, if any); {AGAIN}",
        )
    if head[2] != 0x08:
        raise DataError(
            f"{path} holds {TYPES[head[2]]} (type 0x{head[2]:02x})",
            "write unsigned bytes (type 0x08): 0 to 255",
        )
    if head[3] not in dimensions:
        what = "labels have 1 dimension" if dimensions == (1,) else "pictures have 3 or 4"
        raise DataError(f"{path} has {head[3]} dimensions", f"{what}; were two files exchanged?")
    if len(head) < 4 + 4 * head[3]:
        raise DataError(f"{path} is cut off inside its header ({len(head)} bytes)", AGAIN)
    return struct.unpack(f">{head[3]}I", head[4 : 4 + 4 * head[3]])


def _shown(shape: tuple[int, ...]) -> str:
    return " x ".join(f"{length:,}" for length in shape)


@contextmanager
def _unpacked(path: Path | str) -> Iterator[IO[bytes]]:
    """Yield an open file, unpacked if it is a gzip."""
    with open(path, "rb") as raw:
        if raw.peek(2)[:2] != b"\x1f\x8b":
            yield raw
            return
        with gzip.GzipFile(fileobj=raw) as file:
            yield cast(IO[bytes], file)


def _fill(file: IO[bytes], values: Bytes) -> int:
    """Read into `values`; return how many bytes there were."""
    view, done = values.data, 0
    while done < len(view):
        count = file.readinto(view[done : done + 2**22])  # type: ignore[attr-defined]
        if not count:
            break
        done += count
    return done
