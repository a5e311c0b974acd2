"""Tensors and the words of the safetensors format: types and bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import IO, TYPE_CHECKING

from zoo.machine import cores
from zoo.weights import header
from zoo.weights.hashes import digest_of_lines, line_of

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

COUNTER = "num_batches_tracked"  # of BatchNorm; files from before torch 0.4.1 lack it


def types() -> dict[str, torch.dtype]:
    """Return the types a network is made of, by the format's names."""
    import torch

    types = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16}
    types |= {"BF16": torch.bfloat16, "I64": torch.int64, "I32": torch.int32, "BOOL": torch.bool}
    return types | {"I16": torch.int16, "I8": torch.int8, "U8": torch.uint8}


def write(file: IO[bytes], tensors: Tensors, metadata: Mapping[str, str] | None = None) -> None:
    """Write a state dict as safetensors: equal input, equal bytes."""
    codes = {dtype: code for code, dtype in types().items()}
    # The format knows no strides and no ties: each tensor becomes one run of bytes of its own.
    own = {name: (codes[t.dtype], tuple(t.shape), _bytes_of(t)) for name, t in tensors.items()}
    header.write(file, own, metadata)


def digest_of_state(tensors: Tensors) -> str:
    """Return the sha256 of a state dict: names, types, shapes and bytes, whatever their order."""
    codes = {dtype: code for code, dtype in types().items()}

    def line(named: tuple[str, torch.Tensor]) -> str:
        name, tensor = named
        digest = hashlib.sha256(_bytes_of(tensor)).hexdigest()
        return line_of(name, codes.get(tensor.dtype, str(tensor.dtype)), tensor.shape, digest)

    with ThreadPoolExecutor(cores()) as pool:
        return digest_of_lines(pool.map(line, tensors.items()))


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    import torch

    own = tensor.detach().cpu().contiguous()
    return own.reshape(-1).view(torch.uint8).numpy().data


def shown(name: object, length: int = 80) -> str:
    """Return a name from a stranger's file, fit for one line on a terminal."""
    text = str(name)[:length].encode("ascii", "backslashreplace").decode()
    return text.translate(_CONTROLS)


_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), 127)}
