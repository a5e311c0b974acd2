"""The header of a safetensors file, checked to the last byte before a tensor is made.

The library (0.8.0) accepts a header that names a tensor twice; two readers of such a file may see
two models. Here every byte of the file belongs to exactly one tensor, or the file is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

# Types a network is made of, and their sizes in bytes. No 8-bit floats: nothing here computes
# with them.
DTYPES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,  # the reader checks that its bytes are 0 and 1
}
HEADER_BYTES = 25_000_000
TENSORS = 100_000


class Entry(NamedTuple):
    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int  # from the start of the data
    end: int


class BadHeader(Exception):
    """Why a file is not well-formed safetensors, in a few words."""


def looks_like_safetensors(start: bytes) -> bool:
    """Whether the first 9 bytes are a header length and an opening brace."""
    return len(start) >= 9 and start[8:9] == b"{" and not any(start[5:8])


def entries(file: BinaryIO, size: int) -> list[Entry]:
    """Read the header of a file of `size` bytes; the tensors in the order of their bytes.

    Leaves the file at the first byte of the data. Raises BadHeader.
    """
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(HEADER_BYTES, size - 8):
        raise BadHeader(f"a header of {length} bytes in a file of {size}")
    try:
        read = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=no_twins)
    except (ValueError, RecursionError) as error:
        raise BadHeader("the header is not JSON") from error
    if not isinstance(read, dict):
        raise BadHeader("the header is not an object")
    read.pop("__metadata__", None)
    if len(read) > TENSORS:
        raise BadHeader(f"{len(read)} tensors")
    found = sorted((_entry(*item) for item in read.items()), key=lambda entry: entry[3:])
    _must_tile(found, size - 8 - length)
    return found


def header(
    tensors: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str] | None = None
) -> tuple[bytes, list[str]]:
    """The start of a file for tensors given by (type, shape), and the order of their bytes."""
    order = sorted(tensors, key=lambda name: (-DTYPES[tensors[name][0]], name))  # aligned
    values: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name in order:
        dtype, shape = tensors[name]
        end = at + math.prod(shape) * DTYPES[dtype]
        values[name] = {"dtype": dtype, "shape": shape, "data_offsets": (at, end)}
        at = end
    text = json.dumps(values, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, order


def no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise BadHeader("a name occurs twice in the header")
    return values


def _entry(name: str, value: Any) -> Entry:
    match value:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [begin, end], **rest}:
            numbers = [*shape, begin, end]
            if rest or not all(type(number) is int and number >= 0 for number in numbers):
                raise BadHeader(f"{name[:80]!a} is described wrongly")
            if dtype not in DTYPES:
                raise BadHeader(f"{name[:80]!a} has type {dtype[:20]!a}")
            if math.prod(shape) * DTYPES[dtype] != end - begin:
                raise BadHeader(f"{name[:80]!a} has another size than its shape")
            return Entry(name, dtype, tuple(shape), begin, end)
    raise BadHeader(f"{name[:80]!a} is described wrongly")


def _must_tile(found: list[Entry], size: int) -> None:
    at = 0
    for entry in found:
        if entry.begin != at:
            raise BadHeader(f"{entry.name[:80]!a} overlaps another tensor, or leaves a hole")
        at = entry.end
    if at != size:
        raise BadHeader(f"{size} bytes of data, {at} described")
