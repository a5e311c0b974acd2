"""A weights file to named tensors and back. Nothing in a file is ever run.

Which reader a file gets is decided by its first bytes, never by its name: a pickle that is named
`.safetensors` is refused, not unpickled. A torch file is turned into safetensors in a process of
its own (convert.py); only safetensors is read here.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.catalog.spec import ModelSpec, published_name
from zoo.disk import opened, replacing, writing
from zoo.errors import WeightsError
from zoo.weights.arrays import Array, array_of
from zoo.weights.convert import HINT, converted
from zoo.weights.hashes import Reader, hash_of_open, must_be_as_hashed
from zoo.weights.header import fill, looks_like_safetensors, reading
from zoo.weights.tensors import COUNTER, shown, types, write

if TYPE_CHECKING:
    import torch

# How a torch file begins; before 1.6 with torch's magic number, pickled with protocol 2.
ZIP, LEGACY = b"PK\x03\x04", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."


def read(path: Path, *, finite: bool = True) -> dict[str, torch.Tensor]:
    """Return the tensors of a `.safetensors`, `.pth` or `.pt` file, on the CPU.

    Those of dicts in a torch file are called by all keys that lead to them, with dots between.
    finite: NaN and infinity are refused. Raises WeightsError.
    """
    opened = _open(path)  # first: where there is no file, nobody needs torch
    import torch

    known, tensors = types(), {}
    with reading(path, opened, HINT) as (file, found):
        for entry in found:
            raw = torch.empty(entry.end - entry.begin, dtype=torch.uint8)
            fill(file, entry, raw.numpy().data)
            tensors[entry.name] = raw.view(known[entry.dtype]).reshape(entry.shape)
    if finite:
        must_be_finite(tensors, path)
    return tensors


def read_as(
    path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...]]], spec: ModelSpec
) -> dict[str, Array] | None:
    """Return a network's tensors where a file holds just them, without torch; else None.

    tensors: its names in order, with type and shape. The file may have the published names, and
    what the row ignores; then the tensors are those that `load` takes. Everything else (prefixes,
    other heads or types, numbers that are not finite) is for `load` to find out. Raises
    WeightsError.
    """
    import numpy as np

    with reading(path, _open(path), HINT) as (file, found):
        entries = {one.name: one for one in found}
        theirs = {name: name for name in tensors if name in entries}
        if len(theirs) < len(tensors):
            named = {name: published_name(name, spec.published) for name in tensors}
            renamed = {name: other for name, other in named.items() if other in entries}
            theirs = renamed if len(renamed) > len(theirs) else theirs
        lacking = [name for name in tensors if name not in theirs]
        rest = [n for n in entries.keys() - theirs.values() if not n.startswith(spec.ignore)]
        if not all(name.endswith(COUNTER) for name in [*lacking, *rest]):
            return None
        if any(entries[theirs[n]][1:3] != tensors[n] for n in theirs):
            return None
        taken = {name: array_of(file, entries[other], path) for name, other in theirs.items()}
    return {name: taken[name] if name in taken else np.zeros((), np.int64) for name in tensors}


def must_be_finite(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    for name, tensor in tensors.items():
        if not _is_finite(tensor):
            raise WeightsError(
                f"{path}: {shown(name)} holds NaN or infinity", "the file is damaged"
            )


def check(path: Path) -> None:
    """Refuse what `read` would refuse, short of looking at the numbers. Converts a torch file."""
    with reading(path, _open(path), HINT):
        pass


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


def _open(path: Path) -> Reader:
    """Open a file as safetensors: itself, or what a torch file was converted to."""
    file = None
    try:
        file = opened(path)
        start = file.read(64)
        file.seek(0)
        digest = _digest(file, path, start)
    except BaseException as error:
        if file is not None:
            file.close()
        if isinstance(error, OSError):
            what = f"cannot read {path}: {error.strerror or error}"
            raise WeightsError(what, "is it the file of the weights?") from error
        raise
    if not digest:
        return file
    with file:
        return converted(file, path, digest)


def _digest(file: BufferedReader, path: Path, start: bytes) -> str:
    """Return the sha256 of a torch file; nothing for safetensors, WeightsError for any other."""
    if looks_like_safetensors(start):
        must_be_as_hashed(file, path)
        return ""
    if not start:
        raise _foreign(path, "is empty")
    if path.suffix.lower() == ".safetensors":
        raise _foreign(path, "is not a safetensors file, whatever its name says")
    if not start.startswith((ZIP, LEGACY)):
        raise _foreign(path, f"is not a weights file: it is {_kind(start)}")
    return hash_of_open(file, path)


def _is_finite(tensor: torch.Tensor) -> bool:
    import torch

    if not tensor.is_floating_point() or not tensor.numel():
        return True
    return bool(torch.isfinite(torch.stack(torch.aminmax(tensor))).all())


def _kind(start: bytes) -> str:
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, the file itself was not fetched"
    return "a bare pickle, which may hold code" if start[:1] == b"\x80" else "of an unknown kind"


def _foreign(path: Path, why: str) -> WeightsError:
    return WeightsError(f"{path} {why}", HINT)
