"""A weights file to named tensors and back. Nothing in a file is ever run.

Which reader a file gets is decided by its first bytes, never by its name: a pickle that is named
`.safetensors` is refused, not unpickled. `weights_only=True` is said explicitly, because the
environment variable TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD turns the default off.
"""

from __future__ import annotations

import os
import re
import warnings
import zipfile
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.disk import replacing, writing
from zoo.errors import WeightsError
from zoo.weights.hashes import must_be_as_hashed
from zoo.weights.header import TENSORS, BadHeader, entries, header, looks_like_safetensors

if TYPE_CHECKING:
    import torch

ZIP = b"PK\x03\x04"
# torch.save before 1.6: its magic number, pickled with protocol 2.
LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
NESTED = ("state_dict", "model")
HINT = "give a .safetensors file, or a .pth file that holds a plain state dict"


def read(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a `.safetensors`, `.pth` or `.pt` file, on the CPU, all finite.

    A `module.` before every name (DataParallel) is taken off. Raises WeightsError.
    """
    try:
        with path.open("rb") as file:
            must_be_as_hashed(file, path)
            tensors = _by_content(file, path)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
    for name, tensor in tensors.items():
        if not _is_finite(tensor):
            raise WeightsError(
                f"{path}: {shown(name)} holds NaN or infinity", "the file is damaged"
            )
    return _without_prefix(tensors, "module.")


def _by_content(file: BufferedReader, path: Path) -> dict[str, torch.Tensor]:
    size = os.fstat(file.fileno()).st_size
    start = file.read(64)
    file.seek(0)
    if looks_like_safetensors(start):
        return _read_safetensors(file, size, path)
    if not start:
        raise _foreign(path, "is empty")
    if path.suffix.lower() == ".safetensors":
        raise _foreign(path, "is not a safetensors file, whatever its name says")
    if start.startswith(ZIP):
        _check_archive(file, size, path)
    elif not start.startswith(LEGACY):
        raise _foreign(path, f"is not a weights file: it is {_kind(start)}")
    return _read_torch(file, size, path)


def _read_safetensors(file: BufferedReader, size: int, path: Path) -> dict[str, torch.Tensor]:
    import torch

    types = _types()
    try:
        found = entries(file, size)
    except BadHeader as error:
        raise _foreign(path, f"is not a good safetensors file: {error}") from error
    tensors = {}
    for entry in found:  # straight from the file that was checked: no second open, no copy
        tensor = torch.empty(entry.shape, dtype=types[entry.dtype])
        view = tensor.reshape(-1).view(torch.uint8).numpy().data
        if file.readinto(view) != view.nbytes:
            raise _foreign(path, "was cut short while it was read")
        tensors[entry.name] = tensor
    return tensors


def _types() -> dict[str, torch.dtype]:
    import torch

    types = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16}
    types |= {"BF16": torch.bfloat16, "I64": torch.int64, "I32": torch.int32}
    return types | {"I16": torch.int16, "I8": torch.int8, "U8": torch.uint8}


def _check_archive(file: BufferedReader, size: int, path: Path) -> None:
    """Refuse what torch.save does not write: TorchScript, and anything compressed."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
        raise _foreign(path, "is damaged or cut short") from error
    names = [member.filename for member in members]
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise _foreign(path, "is a TorchScript program, not weights")
    if not any(name.endswith("/data.pkl") for name in names):
        raise _foreign(path, "is a zip archive, not weights")
    stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
    if not stored or sum(member.file_size for member in members) > size:
        raise _foreign(path, "is a compressed archive, which torch.save does not write")
    file.seek(0)


def _read_torch(file: BufferedReader, size: int, path: Path) -> dict[str, torch.Tensor]:
    import torch

    version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if version < (2, 10):  # CVE-2026-24747: memory corruption in weights_only itself
        raise WeightsError(
            f"{path}: .pth files need torch 2.10, this is {torch.__version__}",
            "upgrade torch, or give a .safetensors file",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old formats and TorchScript: refused anyway
            found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile file chooses which one
        raise _foreign(path, _why_not_loaded(error)) from None
    for key in NESTED:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    return _plain_tensors(found, size, path)


def _why_not_loaded(error: Exception) -> str:
    named = re.search(r"GLOBAL (\S+) (?:was not an allowed|whose module)", str(error))
    if named is not None:
        return f"asks for {shown(named[1])}, which is code: refused, nothing was run"
    return "cannot be read: it is damaged, cut short, or holds more than tensors"


def _plain_tensors(found: Any, size: int, path: Path) -> dict[str, torch.Tensor]:
    """Refuse all but a dict of ordinary tensors whose bytes really are in the file."""
    import torch

    if not isinstance(found, dict) or not found:
        raise _foreign(path, f"holds no state dict but a {type(found).__name__}")
    if len(found) > TENSORS:
        raise _foreign(path, f"holds {len(found)} tensors")
    allowed, total = {*_types().values(), torch.bool}, 0
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise _foreign(path, f"holds more than tensors: {shown(name)}")
        strided = value.layout is torch.strided and value.device.type == "cpu"
        if not strided or value.dtype not in allowed:
            raise _foreign(path, f"holds an unusual tensor: {shown(name)}")
        # An expanded tensor is a few bytes in the file and any number in memory.
        if value.nbytes > value.untyped_storage().nbytes():
            raise _foreign(path, f"claims more bytes than it has: {shown(name)}")
        total += value.nbytes
    if total > 4 * size:
        raise _foreign(path, f"claims {total} bytes of tensors in a file of {size}")
    return {name: value.detach() for name, value in found.items()}


def _is_finite(tensor: torch.Tensor) -> bool:
    import torch

    if not tensor.is_floating_point() or not tensor.numel():
        return True
    return bool(torch.isfinite(torch.stack(torch.aminmax(tensor))).all())


def _without_prefix(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    if not all(name.startswith(prefix) for name in tensors):
        return tensors
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def shown(name: object) -> str:
    """A name from a stranger's file, fit for one line on a terminal."""
    return str(name)[:80].encode("ascii", "backslashreplace").decode().translate(_CONTROLS)


_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), 127)}


def _kind(start: bytes) -> str:
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, the file itself was not fetched"
    return "a bare pickle, which may hold code" if start[:1] == b"\x80" else "of an unknown kind"


def _foreign(path: Path, why: str) -> WeightsError:
    return WeightsError(f"{path} {why}", HINT)


def save(
    tensors: Mapping[str, torch.Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a state dict as safetensors, whole or not at all: equal input, equal bytes.

    Not by the library, which (0.8.0) shuffles the metadata. Raises WriteError.
    """
    import torch

    codes = {dtype: code for code, dtype in _types().items()}
    # The format knows no strides and no ties: each tensor becomes one run of bytes of its own.
    own = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    start, order = header({n: (codes[t.dtype], tuple(t.shape)) for n, t in own.items()}, metadata)
    with replacing(path) as temporary, writing(path), temporary.open("wb") as file:
        file.write(start)
        for name in order:
            file.write(own[name].reshape(-1).view(torch.uint8).numpy().data)
