"""Tensors and the words of the safetensors format: types, order, bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import IO, TYPE_CHECKING

from zoo.machine import cores
from zoo.weights.hashes import digest_of_lines, line_of
from zoo.weights.header import header

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

INSIDE = "\x1f"  # in names: between the key of a dict in a torch file and what is in it


def types() -> dict[str, torch.dtype]:
    """The types a network is made of, by the format's names."""
    import torch

    types = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16}
    types |= {"BF16": torch.bfloat16, "I64": torch.int64, "I32": torch.int32, "BOOL": torch.bool}
    return types | {"I16": torch.int16, "I8": torch.int8, "U8": torch.uint8}


def write(file: IO[bytes], tensors: Tensors, metadata: Mapping[str, str] | None = None) -> None:
    """A state dict as safetensors: equal input, equal bytes.

    Not by the library, which (0.8.0) shuffles the metadata.
    """
    import torch

    codes = {dtype: code for code, dtype in types().items()}
    # The format knows no strides and no ties: each tensor becomes one run of bytes of its own.
    own = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    start, order = header({n: (codes[t.dtype], tuple(t.shape)) for n, t in own.items()}, metadata)
    file.write(start)
    for name in order:
        file.write(own[name].reshape(-1).view(torch.uint8).numpy().data)


def digest_of_state(tensors: Tensors) -> str:
    """Return the sha256 of a state dict: names, types, shapes and bytes, whatever their order."""
    import torch

    codes = {dtype: code for code, dtype in types().items()}

    def line(named: tuple[str, torch.Tensor]) -> str:
        own = named[1].detach().cpu().contiguous()
        digest = hashlib.sha256(own.reshape(-1).view(torch.uint8).numpy().data).hexdigest()
        return line_of(named[0], codes.get(own.dtype, str(own.dtype)), own.shape, digest)

    with ThreadPoolExecutor(cores()) as pool:
        return digest_of_lines(pool.map(line, tensors.items()))


def shown(name: object, length: int = 80) -> str:
    """A name from a stranger's file, fit for one line on a terminal."""
    return (
        str(name)
        .replace(INSIDE, ".")[:length]
        .encode("ascii", "backslashreplace")
        .decode()
        .translate(_CONTROLS)
    )


_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), 127)}
