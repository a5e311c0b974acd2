"""The safetensors format: a header that is checked to the last byte before a tensor is made.

Not by the library. Its reader (0.8.0) accepts a header that names a tensor twice, of which two
readers may see two models; here every byte of the file belongs to exactly one tensor, or the file
is refused. It also maps the file, so that what is read later is not what was hashed. Its writer
shuffles the metadata, so that equal input gives other bytes.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from zoo.disk import opened
from zoo.errors import WeightsError
from zoo.weights.hashes import Reader, must_be_as_hashed

Shape = tuple[int, ...]

# Types a network is made of, and their sizes in bytes. No 8-bit floats: nothing here computes
# with them.
DTYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
DTYPES |= {"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
HEADER_BYTES = 25_000_000
TENSORS = 100_000
HINT = "make the file anew"


class Entry(NamedTuple):
    """A tensor of a file. begin, end: of its bytes, from the start of the file."""

    name: str
    dtype: str
    shape: Shape
    begin: int
    end: int


class BadHeader(Exception):
    """Why a file is not well-formed safetensors, in a few words."""


def looks_like_safetensors(start: bytes) -> bool:
    """Return whether the first 9 bytes are a header length and an opening brace."""
    return len(start) >= 9 and start[8:9] == b"{" and not any(start[5:8])


@contextmanager
def reading(
    path: Path, file: Reader | None = None, hint: str = HINT
) -> Iterator[tuple[Reader, list[Entry]]]:
    """Yield a safetensors file, open, and its tensors in the order of their bytes.

    file: what is open already, of which `path` is only the name. Raises WeightsError for a file
    that is not one, cannot be read, or is another than `hash_of` saw.
    """
    try:
        with closing(file or opened(path)) as it:
            if file is None:
                must_be_as_hashed(it, path)
            yield it, entries(it)
    except BadHeader as error:
        raise WeightsError(f"{path} is not a good safetensors file: {error}", hint) from error
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}", hint) from error


def entries(file: Reader) -> list[Entry]:
    """Read the header of an open file. Raises BadHeader."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(HEADER_BYTES, size - 8):
        raise BadHeader(f"a header of {length} bytes in a file of {size}")
    try:
        read = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_no_twins)
    except (ValueError, RecursionError) as error:
        raise BadHeader("the header is not JSON") from error
    if not isinstance(read, dict):
        raise BadHeader("the header is not an object")
    read.pop("__metadata__", None)
    if len(read) > TENSORS:
        raise BadHeader(f"{len(read)} tensors")
    start = 8 + length
    found = sorted((_entry(*item, start) for item in read.items()), key=lambda one: one[3:])
    _must_tile(found, start, size)
    return found


def _no_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise BadHeader("a name occurs twice in the header")
    return values


def _entry(name: str, value: object, start: int) -> Entry:
    match value:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [begin, end], **rest}:
            numbers = [*shape, begin, end]
            if rest or not all(type(number) is int and number >= 0 for number in numbers):
                raise BadHeader(f"{name[:80]!a} is described wrongly")
            if dtype not in DTYPES:
                raise BadHeader(f"{name[:80]!a} has type {dtype[:20]!a}")
            if math.prod(shape) * DTYPES[dtype] != end - begin:
                raise BadHeader(f"{name[:80]!a} has another size than its shape")
            return Entry(name, dtype, tuple(shape), start + begin, start + end)
    raise BadHeader(f"{name[:80]!a} is described wrongly")


def _must_tile(found: list[Entry], at: int, size: int) -> None:
    for entry in found:
        if entry.begin != at:
            raise BadHeader(f"{entry.name[:80]!a} overlaps another tensor, or leaves a hole")
        at = entry.end
    if at != size:
        raise BadHeader(f"{size} bytes, {at} described")


def fill(file: Reader, entry: Entry, buffer: memoryview) -> None:
    """Read a tensor's bytes. Raises BadHeader where they are fewer, or no truths but said to be."""
    file.seek(entry.begin)
    if file.readinto(buffer) != entry.end - entry.begin:
        raise BadHeader("it was cut short while it was read")
    check_truths(entry, buffer)


def check_truths(entry: Entry, buffer: memoryview) -> None:
    """Raise BadHeader where the bytes of a tensor are no truths, but said to be."""
    if entry.dtype == "BOOL" and not set(buffer) <= {0, 1}:
        raise BadHeader(f"{entry.name[:80]!a} holds a truth that is neither 0 nor 1")


class Writes(Protocol):
    """What bytes can be written to."""

    def write(self, content: bytes | memoryview, /) -> object:
        """Take them."""


def write(
    file: Writes,
    tensors: Mapping[str, tuple[str, Shape, memoryview]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write tensors given by type, shape and bytes: equal input, equal bytes."""
    order = sorted(tensors, key=lambda name: (-DTYPES[tensors[name][0]], name))  # aligned
    values: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name in order:
        dtype, shape, raw = tensors[name]
        values[name] = {"dtype": dtype, "shape": shape, "data_offsets": (at, at + raw.nbytes)}
        at += raw.nbytes
    text = json.dumps(values, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in order:
        file.write(tensors[name][2])
