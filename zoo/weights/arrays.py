"""safetensors to numpy arrays and back, where nothing else of torch is needed.

The bytes of a file are the same as those that torch tensors are written to.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.disk import opened, replacing, writing
from zoo.errors import WeightsError
from zoo.weights.hashes import digest_of_lines, line_of, must_be_as_hashed
from zoo.weights.header import BadHeader, entries, header
from zoo.weights.tensors import shown

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2"}
TYPES |= {"I8": "|i1", "U8": "|u1", "BOOL": "|b1"}
HINT = "make the file anew"


def read_arrays(path: Path, names: Collection[str] | None = None) -> dict[str, Array]:
    """The tensors of a safetensors file, or those of these names. Raises WeightsError.

    NaN, infinity and types that numpy has not (bfloat16) are refused.
    """
    try:
        with closing(opened(path)) as file:
            must_be_as_hashed(file, path)
            found = entries(file, os.fstat(file.fileno()).st_size)
            start, arrays = file.tell(), {}
            for entry in found:
                if names is not None and entry.name not in names:
                    continue
                if entry.dtype not in TYPES:
                    raise WeightsError(f"{path}: {shown(entry.name)} is {entry.dtype}", HINT)
                raw = bytearray(entry.end - entry.begin)
                file.seek(start + entry.begin)
                if file.readinto(raw) != len(raw):
                    raise WeightsError(f"{path} was cut short while it was read", HINT)
                arrays[entry.name] = _array(raw, entry.dtype, entry.shape, path, entry.name)
    except BadHeader as error:
        raise WeightsError(f"{path} is not a good safetensors file: {error}", HINT) from error
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}", HINT) from error
    missing = sorted(set(names or ()) - set(arrays))
    if missing:
        raise WeightsError(f"{path} has no {shown(missing[0])}", HINT)
    return arrays


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a safetensors file, by its header. Raises WeightsError."""
    try:
        with closing(opened(path)) as file:
            return {one.name: one.shape for one in entries(file, os.fstat(file.fileno()).st_size)}
    except BadHeader as error:
        raise WeightsError(f"{path} is not a good safetensors file: {error}", HINT) from error
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}", HINT) from error


def _array(raw: bytearray, dtype: str, shape: tuple[int, ...], path: Path, name: str) -> Array:
    import numpy as np

    if dtype == "BOOL" and any(value > 1 for value in set(raw)):
        raise WeightsError(f"{path} holds a truth that is neither 0 nor 1: {shown(name)}", HINT)
    array = np.frombuffer(raw, TYPES[dtype]).reshape(shape)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise WeightsError(f"{path}: {shown(name)} holds NaN or infinity", "the file is damaged")
    return array


def digest_of_file(path: Path, without: Collection[str] = ()) -> str:
    """Return the hash of what a safetensors file holds, but for the tensors of these names.

    It is that of `tensors.digest_of_state`. Raises WeightsError.
    """
    try:
        with closing(path.open("rb")) as file:
            must_be_as_hashed(file, path)
            found = entries(file, os.fstat(file.fileno()).st_size)
            lines = []
            for entry in found:
                digest, left = hashlib.sha256(), entry.end - entry.begin
                while left and (some := file.read(min(left, 1 << 20))):
                    digest.update(some)
                    left -= len(some)
                if entry.name not in without:
                    lines.append(line_of(entry.name, entry.dtype, entry.shape, digest.hexdigest()))
    except BadHeader as error:
        raise WeightsError(f"{path} is not a good safetensors file: {error}", HINT) from error
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}", HINT) from error
    return digest_of_lines(lines)


def save_arrays(
    arrays: Mapping[str, Array], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a state dict as `save` does: whole or not at all. Raises WriteError."""
    import numpy as np

    codes = {np.dtype(dtype): code for code, dtype in TYPES.items()}
    own = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    # ascontiguousarray makes a vector of a number, which the header must not say.
    start, order = header({n: (codes[own[n].dtype], arrays[n].shape) for n in own}, metadata)
    with replacing(path) as temporary, writing(path), temporary.open("wb") as file:
        file.write(start)
        for name in order:
            file.write(own[name].reshape(-1).view(np.uint8).data)
