"""FeatureCache: the frozen part's output for (content of a photo, view), on disk, computed once.

A folder per frozen part, named by a hash of everything its output depends on. In it, pairs of
files: NAME.rows.npy (rows x feature shape, float32) and NAME.keys.npy (rows x 40 bytes: sha256 of
the photo's bytes, view). The keys are written last and so say that the pair is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL

from zoo.catalog import Preprocess
from zoo.disk import atomic, writing
from zoo.engine import Array, Engine
from zoo.errors import WriteError
from zoo.run import write_json

if TYPE_CHECKING:
    from torch import nn

PART_BYTES = 64 << 20
VERSION = f"features-1 pillow-{PIL.__version__}"  # count up when decode, views or resize change


def fingerprint(frozen: nn.Module, model: str, preprocess: Preprocess, engine: Engine) -> str:
    """Hash of all that features depend on: parameters, structure, Preprocess, engine."""
    digest = hashlib.sha256()
    about = [VERSION, model, repr(frozen), engine.name, preprocess.to_dict()]
    digest.update(json.dumps(about).encode())
    for name, tensor in frozen.state_dict().items():
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().reshape(-1).data)
    return digest.hexdigest()


@contextmanager
def elsewhere() -> Iterator[None]:
    """The hint of a cache that cannot be written."""
    try:
        yield
    except WriteError as error:
        raise type(error)(error.what, "set ZOO_CACHE to a folder with room") from error


def view_key(number: int, seed: int, flip: bool) -> bytes:
    """8 bytes; the plain view is the same under every seed."""
    if number == 0:
        return bytes(8)
    return hashlib.sha256(f"{number}:{seed}:{flip}".encode()).digest()[:8]


class FeatureCache:
    """The rows kept for one frozen part; adds new ones, hands them out by key."""

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self.folder = folder
        self.where: dict[bytes, tuple[int, int]] = {}  # key -> number of the part, row in it
        self.parts: list[Array] = []
        self.new_keys: list[bytes] = []
        self.new_rows: list[Array] = []
        with elsewhere(), writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "about.json").exists():
                write_json(folder / "about.json", about)
        for path in sorted(folder.glob("*.keys.npy")):
            self.read_part(path)

    def read_part(self, path: Path) -> None:
        """A pair of files that does not fit together counts as not there."""
        try:
            keys = np.load(path, allow_pickle=False)
            rows = np.load(str(path).replace(".keys.npy", ".rows.npy"), "r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return
        if keys.dtype != np.uint8 or keys.ndim != 2 or keys.shape[1] != 40 or rows.ndim < 2:
            return
        if len(keys) == len(rows) and rows.dtype == np.float32:
            self.attach([bytes(key) for key in keys], rows)

    def attach(self, keys: Sequence[bytes], rows: Array) -> None:
        for row, key in enumerate(keys):
            self.where[key] = (len(self.parts), row)
        self.parts.append(rows)

    def __contains__(self, key: bytes) -> bool:
        return key in self.where

    def add(self, key: bytes, row: Array) -> None:
        """Keeps a row; on disk once enough have come together, or at `flush`."""
        self.new_keys.append(key)
        self.new_rows.append(row)
        if len(self.new_rows) * row.nbytes >= PART_BYTES:
            self.flush()

    def flush(self) -> None:
        if not self.new_rows:
            return
        name = self.folder / f"{uuid.uuid4().hex}.rows.npy"
        keys = np.frombuffer(b"".join(self.new_keys), np.uint8).reshape(-1, 40)
        with elsewhere(), atomic(name) as file:
            np.save(file, np.stack(self.new_rows), allow_pickle=False)
        with elsewhere(), atomic(Path(str(name).replace(".rows.npy", ".keys.npy"))) as file:
            np.save(file, keys, allow_pickle=False)
        self.attach(self.new_keys, np.load(name, "r", allow_pickle=False))
        self.new_keys, self.new_rows = [], []

    def rows(self, keys: Sequence[bytes]) -> Features:
        return Features(self.parts, [self.where[key] for key in keys])


class Features:
    """Rows in the order of the photos: in memory where they fit, else read from the files."""

    def __init__(self, parts: list[Array], table: list[tuple[int, int]]) -> None:
        self.parts = parts
        self.table = table
        self.shape: tuple[int, ...] = parts[table[0][0]].shape[1:]
        bytes_each = 4 * int(np.prod(self.shape))
        self.dense: Array | None = None
        if len(table) * bytes_each <= memory() // 4:
            self.dense = self.gather(range(len(table)))

    def __len__(self) -> int:
        return len(self.table)

    def gather(self, indices: Sequence[int]) -> Array:
        """float32, len(indices) x feature shape."""
        if self.dense is not None:
            return np.asarray(self.dense[np.asarray(indices)])
        rows = np.empty((len(indices), *self.shape), np.float32)
        for place, index in enumerate(indices):
            part, row = self.table[index]
            rows[place] = self.parts[part][row]
        return rows


def memory() -> int:
    """Bytes of memory of this machine; 4 GB where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 4 << 30
