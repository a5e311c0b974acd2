"""IDX, the format of MNIST: arrays of unsigned bytes, plain or gzipped.

2 zero bytes, the type (8: unsigned bytes), the number of dimensions, each of them as 4 bytes, then
the values. http://yann.lecun.com/exdb/mnist/ What the header promises is what must be there.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoo.errors import DataError

Bytes = NDArray[np.uint8]

MAX_BYTES = 2**30  # of one file, unpacked
TYPES = {
    0x08: "unsigned bytes", 0x09: "signed bytes", 0x0B: "16-bit integers",
    0x0C: "32-bit integers", 0x0D: "32-bit floats", 0x0E: "64-bit floats",
}  # fmt: skip
AGAIN = "copy or download it again"


def is_idx(head: bytes) -> bool:
    """Return whether a file that begins so, unpacked, holds pictures."""
    return len(head) >= 4 and head[:2] == b"\0\0" and head[2] in TYPES and head[3] in (3, 4)


def head_of(path: Path | str) -> bytes:
    """Return the first four bytes, unpacked; nothing where they cannot be read."""
    try:
        with open(path, "rb") as raw:
            packed = raw.peek(2)[:2] == b"\x1f\x8b"
            return gzip.GzipFile(fileobj=raw).read(4) if packed else raw.read(4)
    except (OSError, EOFError, zlib.error, ValueError):
        return b""


def read_images(path: Path | str) -> Bytes:
    """Return the pictures, N H W or N H W 3. Raises DataError."""
    pixels = _read(path, (3, 4), "pictures have 3 or 4")
    if pixels.ndim == 4 and pixels.shape[3] not in (1, 3):
        what = f"{path} has pictures with {pixels.shape[3]} channels (shape {pixels.shape})"
        raise DataError(what, "give 1 channel (grey) or 3 (RGB), as the last dimension")
    return pixels[..., 0] if pixels.shape[3:] == (1,) else pixels


def read_labels(path: Path | str) -> Bytes:
    """Return the labels, N. Raises DataError."""
    return _read(path, (1,), "labels have 1 dimension")


def _read(path: Path | str, dimensions: tuple[int, ...], wanted: str) -> Bytes:
    try:
        with open(path, "rb") as raw:
            packed = raw.peek(2)[:2] == b"\x1f\x8b"
            file = gzip.GzipFile(fileobj=raw) if packed else raw
            head = file.read(4)
            rank = head[3] if len(head) == 4 and head[:2] == b"\0\0" and head[2] in TYPES else 0
            if not rank:
                what = f"{path} is no IDX file: it begins with {head.hex(' ') or 'nothing'}"
                raise DataError(what, f"one begins with 00 00 08 0{dimensions[0]}; {AGAIN}")
            if head[2] != 0x08:
                what = f"{path} holds {TYPES[head[2]]} (type 0x{head[2]:02x})"
                raise DataError(what, "write unsigned bytes (type 0x08): 0 to 255")
            if rank not in dimensions:
                raise DataError(f"{path} has {rank} dimensions", f"{wanted}; were two exchanged?")
            shape = struct.unpack(f">{rank}I", file.read(4 * rank))
            count, said = math.prod(shape), " x ".join(f"{length:,}" for length in shape)
            if not 0 < count <= MAX_BYTES:
                what = f"{path} says that it holds {said} = {count:,} bytes"
                raise DataError(what, f"1 to {MAX_BYTES:,} are read; {AGAIN}")
            data = file.read(count + 1)  # at the end gzip has compared its checksum, too
    except (OSError, EOFError, zlib.error, ValueError, struct.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path} is cut off or cannot be read: {reason}", AGAIN) from None
    if len(data) != count:
        how = f"is cut off: {len(data):,} of" if len(data) < count else "goes on after"
        raise DataError(f"{path} {how} the {count:,} bytes that its header promises", AGAIN)
    return np.frombuffer(data, np.uint8).reshape(shape)
