"""safetensors to numpy arrays and back, where nothing else of torch is needed.

The bytes of a file are the same as those that torch tensors are written to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from zoo.disk import replacing, writing
from zoo.errors import WeightsError
from zoo.machine import cores
from zoo.weights.hashes import Hashing, Reader, digest_of_lines, let_go, line_of
from zoo.weights.header import HINT, Entry, Shape, check_truths, fill, reading, write
from zoo.weights.tensors import shown

if TYPE_CHECKING:
    import numpy as np

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2"}
TYPES |= {"I8": "|i1", "U8": "|u1", "BOOL": "|b1"}


def read_arrays(path: Path, names: Collection[str] | None = None) -> dict[str, Array]:
    """Return the tensors of a safetensors file, or those of these names. Raises WeightsError.

    NaN, infinity and types that numpy has not (bfloat16) are refused.
    """
    with reading(path) as (file, found):
        wanted = [one for one in found if names is None or one.name in names]
        whole = let_go(path, file)
        arrays = {one.name: array_of(file, one, path, whole) for one in wanted}
    missing = sorted(set(names or ()) - set(arrays))
    if missing:
        raise WeightsError(f"{path} has no {shown(missing[0])}", HINT)
    return arrays


def shapes(path: Path) -> dict[str, Shape]:
    """Return the shape of each tensor of a safetensors file, by its header. Raises WeightsError."""
    with reading(path) as (_, found):
        return {one.name: one.shape for one in found}


def array_of(file: Reader, entry: Entry, path: Path, whole: memoryview | None = None) -> Array:
    """Return one tensor of an open file. Raises WeightsError, see `read_arrays`.

    whole: the bytes of the file, where they are in memory already; the array is a part of them.
    """
    import numpy as np

    if entry.dtype not in TYPES:
        raise WeightsError(f"{path}: {shown(entry.name)} is {entry.dtype}", HINT)
    if whole is None:
        raw = memoryview(bytearray(entry.end - entry.begin))
        fill(file, entry, raw)
    else:
        raw = whole[entry.begin : entry.end]
        check_truths(entry, raw)
    array = np.frombuffer(raw, TYPES[entry.dtype]).reshape(entry.shape)
    if array.dtype.kind == "f" and not _is_finite(array):
        what = f"{path}: {shown(entry.name)} holds NaN or infinity"
        raise WeightsError(what, "the file is damaged")
    return array


def _is_finite(array: Array) -> bool:
    """Return whether no number is NaN or infinite: then neither is their sum, in one quick pass."""
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.sum()) or np.isfinite(array).all())


def digest_of_arrays(arrays: Mapping[str, Array]) -> str:
    """Return the hash of named arrays, which is that of `tensors.digest_of_state`."""
    import numpy as np

    codes = {np.dtype(dtype): code for code, dtype in TYPES.items()}

    def line(named: tuple[str, Array]) -> str:
        name, array = named
        digest = hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return line_of(name, codes[array.dtype], array.shape, digest.hexdigest())

    with ThreadPoolExecutor(cores()) as pool:
        return digest_of_lines(pool.map(line, arrays.items()))


def digest_of_file(path: Path, without: Collection[str] = ()) -> str:
    """Return the hash of what a safetensors file holds, but for the tensors of these names.

    It is that of `tensors.digest_of_state`. Raises WeightsError.
    """
    lines = []
    with reading(path) as (file, found):
        for entry in found:
            if entry.name in without:
                continue
            file.seek(entry.begin)
            digest, left = hashlib.sha256(), entry.end - entry.begin
            while left and (some := file.read(min(left, 1 << 20))):
                digest.update(some)
                left -= len(some)
            lines.append(line_of(entry.name, entry.dtype, entry.shape, digest.hexdigest()))
    return digest_of_lines(lines)


def save_arrays(
    arrays: Mapping[str, Array], path: Path, metadata: Mapping[str, str] | None = None
) -> str:
    """Write a state dict as `save` does: whole or not at all. Raises WriteError.

    Returns the sha256 of the file, which is made beside the writing.
    """
    import numpy as np

    codes = {np.dtype(dtype): code for code, dtype in TYPES.items()}
    own = {
        name: (codes[a.dtype], a.shape, np.ascontiguousarray(a).reshape(-1).view(np.uint8).data)
        for name, a in arrays.items()
    }
    with (
        replacing(path) as temporary,
        writing(path),
        temporary.open("wb") as file,
        Hashing(file) as hashing,
    ):
        write(hashing, own, metadata)
    return hashing.digest.hexdigest()
