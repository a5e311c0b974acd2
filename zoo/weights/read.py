"""A weights file to named tensors and back. Nothing in a file is ever run.

Which reader a file gets is decided by its first bytes, never by its name: a pickle that is named
`.safetensors` is refused, not unpickled. A torch file is turned into safetensors in a process of
its own (convert.py); only safetensors is read here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.disk import opened, replacing, writing
from zoo.errors import WeightsError
from zoo.weights.convert import HINT, Reader, converted
from zoo.weights.hashes import hash_of_open, must_be_as_hashed
from zoo.weights.header import BadHeader, Entry, entries, looks_like_safetensors
from zoo.weights.pickles import LEGACY, ZIP
from zoo.weights.tensors import INSIDE, shown, types, write

if TYPE_CHECKING:
    import torch


def read(path: Path, *, finite: bool = True) -> dict[str, torch.Tensor]:
    """Return the tensors of a `.safetensors`, `.pth` or `.pt` file, on the CPU.

    Of a torch file with dicts in it: those of its only dict with tensors, or of its `state_dict`
    or `model`. finite: NaN and infinity are refused. A `module.` before every name (DataParallel)
    is taken off. Raises WeightsError.
    """
    tensors = _read(path)
    if finite:
        must_be_finite(tensors, path)
    keys = {name.rpartition(INSIDE)[0] for name in tensors}
    key = next((key for key in ("state_dict", "model") if key in keys), "")
    if len(keys) == 1 or key:
        start = (key or keys.pop()) + INSIDE
        tensors = {
            name.removeprefix(start): tensor
            for name, tensor in tensors.items()
            if name.startswith(start) or start == INSIDE
        }
    return _without_prefix(tensors, "module.")


def read_all(path: Path) -> dict[str, torch.Tensor]:
    """Return all tensors, called by all keys that lead to them, with dots between.

    What they hold is not looked at: see `must_be_finite`. Raises WeightsError.
    """
    tensors = _read(path)
    joined = {name.replace(INSIDE, "."): tensor for name, tensor in tensors.items()}
    if len(joined) < len(tensors):
        raise _foreign(path, "has two tensors of the same name")
    return joined


def must_be_finite(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    for name, tensor in tensors.items():
        if not _is_finite(tensor):
            raise WeightsError(
                f"{path}: {shown(name)} holds NaN or infinity", "the file is damaged"
            )


def _read(path: Path) -> dict[str, torch.Tensor]:
    with closing(_open(path, path.suffix)) as file:
        return _tensors(file, path)


def check(path: Path, suffix: str = "") -> None:
    """Refuse what `read` would refuse, short of looking at the numbers. Converts a torch file.

    suffix: of the name it is going to have, where that is another.
    """
    with closing(_open(path, suffix or path.suffix)) as file:
        _entries(file, path)


def save(
    tensors: Mapping[str, torch.Tensor],
    path: Path,
    metadata: Mapping[str, str] | None = None,
    *,
    keep: Path | None = None,
) -> None:
    """Write a state dict as safetensors, whole or not at all: equal input, equal bytes.

    keep: what the file that is replaced is called from then on. Raises WriteError.
    """
    with replacing(path, keep=keep) as temporary, writing(path), temporary.open("wb") as file:
        write(file, tensors, metadata)


def _open(path: Path, suffix: str) -> Reader:
    """The file as safetensors: itself, or what a torch file was converted to."""
    try:
        file = opened(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        if _is_safetensors(file, path, suffix):
            must_be_as_hashed(file, path)
            return file
        result = converted(file, path, hash_of_open(file, path))
    except OSError as error:
        file.close()
        raise _unreadable(path, error) from error
    except BaseException:
        file.close()
        raise
    file.close()
    return result


def _is_safetensors(file: BufferedReader, path: Path, suffix: str) -> bool:
    """Whether it is; False for a torch file, WeightsError for any other."""
    start = file.read(64)
    file.seek(0)
    if looks_like_safetensors(start):
        return True
    if not start:
        raise _foreign(path, "is empty")
    if suffix.lower() == ".safetensors":
        raise _foreign(path, "is not a safetensors file, whatever its name says")
    if not start.startswith((ZIP, LEGACY)):
        raise _foreign(path, f"is not a weights file: it is {_kind(start)}")
    return False


def _entries(file: Reader, path: Path) -> list[Entry]:
    try:
        return entries(file, os.fstat(file.fileno()).st_size)
    except BadHeader as error:
        raise _foreign(path, f"is not a good safetensors file: {error}") from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _tensors(file: Reader, path: Path) -> dict[str, torch.Tensor]:
    """Straight from the file that was checked: no second open, no copy."""
    import torch

    known, tensors = types(), {}
    for entry in _entries(file, path):
        raw = torch.empty(entry.end - entry.begin, dtype=torch.uint8)
        if file.readinto(raw.numpy().data) != raw.numel():
            raise _foreign(path, "was cut short while it was read")
        if entry.dtype == "BOOL" and raw.numel() and raw.max() > 1:
            raise _foreign(path, f"holds a truth that is neither 0 nor 1: {shown(entry.name)}")
        tensors[entry.name] = raw.view(known[entry.dtype]).reshape(entry.shape)
    return tensors


def _is_finite(tensor: torch.Tensor) -> bool:
    import torch

    if not tensor.is_floating_point() or not tensor.numel():
        return True
    return bool(torch.isfinite(torch.stack(torch.aminmax(tensor))).all())


def _without_prefix(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    if not all(name.startswith(prefix) for name in tensors):
        return tensors
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def _kind(start: bytes) -> str:
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, the file itself was not fetched"
    return "a bare pickle, which may hold code" if start[:1] == b"\x80" else "of an unknown kind"


def _foreign(path: Path, why: str) -> WeightsError:
    return WeightsError(f"{path} {why}", HINT)


def _unreadable(path: Path, error: OSError) -> WeightsError:
    what = f"cannot read {path}: {error.strerror or error}"
    return WeightsError(what, "is it the file of the weights?")
