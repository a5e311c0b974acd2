"""FeatureCache: the frozen part's output for (content of a photo, view), on disk, computed once.

A folder per frozen part, named by a hash of everything its output depends on. In it, pairs of
files: NAME.rows.npy (rows x feature shape, float32) and NAME.keys.npy (rows x 40 bytes: sha256 of
the photo's bytes, view), and NAME.sha256, of both. The keys are written last and so say that the
part is whole; one whose bytes are not those that were written is not there.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import uuid
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL

from zoo.catalog import Preprocess
from zoo.disk import atomic, unfinished, writing
from zoo.engine import Array, Engine
from zoo.errors import DiskFull, WriteError
from zoo.run import write_json

if TYPE_CHECKING:
    from torch import nn

PART_BYTES = 64 << 20
MANY = 16  # parts of less than half of that; with more, all are merged
CHUNK = 1024  # rows copied at once
KEYS, KEY_BYTES = "*.keys.npy", 40
Part = tuple[list[bytes], Array]  # keys and rows
VERSION = f"features-2 pillow-{PIL.__version__}"  # count up when decode, views or resize change


def fingerprint(frozen: nn.Module, model: str, preprocess: Preprocess, engine: Engine) -> str:
    """Hash of all that features depend on: parameters, structure, Preprocess, engine."""
    digest = hashlib.sha256()
    about = [VERSION, model, repr(frozen), engine.name, preprocess.to_dict()]
    digest.update(json.dumps(about).encode())
    for name, tensor in frozen.state_dict().items():
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().reshape(-1).data)
    return digest.hexdigest()


@contextlib.contextmanager
def elsewhere() -> Iterator[None]:
    """The hint of a cache that cannot be written."""
    try:
        yield
    except WriteError as error:
        room = "with room" if isinstance(error, DiskFull) else "that can be written"
        raise type(error)(error.what, f"set ZOO_CACHE to a folder {room}") from error


def view_key(number: int, seed: int, flip: bool) -> bytes:
    """8 bytes; the plain view is the same under every seed."""
    if number == 0:
        return bytes(8)
    return hashlib.sha256(f"{number}:{seed}:{flip}".encode()).digest()[:8]


class FeatureCache:
    """The rows kept for one frozen part; adds new ones, hands them out by key.

    note: why new rows are kept in a folder that goes with this process; "" where they stay.
    """

    def __init__(self, folder: Path, about: dict[str, Any], alone: bool = True) -> None:
        """alone: nobody else is to read them, so they may be kept elsewhere."""
        self.folder, self.place, self.note = folder, folder, ""
        self.where: dict[bytes, int] = {}  # key -> number of its row, counted through all parts
        self.parts: list[Array] = []
        self.starts = [0]  # number of each part's first row, and of the next one's
        self.new_keys: list[bytes] = []
        self.new_rows: list[Array] = []
        try:
            self.make(about)
        except WriteError as error:
            if isinstance(error, DiskFull) or not alone:
                raise
            self.place = Path(mkdtemp(prefix="zoo-features-"))
            until_the_end = contextlib.ExitStack()
            until_the_end.enter_context(unfinished(self.place))
            weakref.finalize(self, until_the_end.close)
            self.note = f"{error.what}: features are kept for this command alone"
        self.read_parts()

    def make(self, about: dict[str, Any]) -> None:
        with elsewhere(), writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self.folder, os.W_OK):
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
            if not (self.folder / "about.json").exists():
                write_json(self.folder / "about.json", about)

    def read_parts(self) -> None:
        """Attaches all; looks again where another process has merged some of them meanwhile."""
        known: set[Path] = set()
        small: dict[Path, Part] = {}
        while new := [path for path in sorted(self.folder.glob(KEYS)) if path not in known]:
            for path in new:
                part = read_part(path)
                if part is not None and part[1].nbytes < PART_BYTES // 2:
                    small[path] = part
                elif part is not None:
                    self.attach(*part)
            known.update(new)
        if len(small) > MANY and not self.note:
            with contextlib.suppress(WriteError):  # they can be read as they are
                small = self.merged(small)
        for part in small.values():
            self.attach(*part)

    def merged(self, parts: dict[Path, Part]) -> dict[Path, Part]:
        """The same rows in few parts; the files of the old ones are gone.

        Another process may read or merge at the same time: the new parts are whole before an old
        one goes, and the same rows twice do no harm.
        """
        there: set[bytes] = set()
        few: dict[Path, Part] = {}
        keys: list[bytes] = []
        rows: list[Array] = []
        for number, (own, values) in enumerate(parts.values(), start=1):
            fresh = [place for place, key in enumerate(own) if key not in there]
            there.update(own)
            keys += [own[place] for place in fresh]
            rows.append(values[fresh])
            if sum(some.nbytes for some in rows) >= PART_BYTES or number == len(parts):
                if keys:
                    few[self.folder / str(number)] = keys, self.write(keys, np.concatenate(rows))
                keys, rows = [], []
        for path in parts:
            with contextlib.suppress(OSError):  # the keys first: they say that the pair is whole
                path.unlink()
                rows_beside(path).unlink()
                digest_beside(path).unlink()
        return few

    def attach(self, keys: Sequence[bytes], rows: Array) -> None:
        first = self.starts[-1]
        self.where.update(zip(keys, range(first, first + len(rows)), strict=True))
        self.parts.append(rows)
        self.starts.append(first + len(rows))

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
        self.attach(self.new_keys, self.write(self.new_keys, np.stack(self.new_rows)))
        self.new_keys, self.new_rows = [], []

    def write(self, keys: Sequence[bytes], rows: Array) -> Array:
        """A new part; its rows as they lie on disk."""
        name = self.place / f"{uuid.uuid4().hex}.rows.npy"
        table = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES)
        with elsewhere(), atomic(name) as file:
            np.save(file, rows, allow_pickle=False)
        with elsewhere(), atomic(digest_beside(keys_beside(name))) as file:
            file.write(digest_of(table, rows))
        with elsewhere(), atomic(keys_beside(name)) as file:
            np.save(file, table, allow_pickle=False)
        return np.load(name, "r", allow_pickle=False)  # type: ignore[no-any-return]

    def rows(self, keys: Sequence[bytes]) -> Features:
        numbers = np.array([self.where[key] for key in keys], np.int64)
        part = np.searchsorted(self.starts, numbers, side="right") - 1
        table = np.stack([part, numbers - np.array(self.starts)[part]], axis=1)
        return Features(self.parts, table)


def read_part(path: Path) -> Part | None:
    """Keys and rows; a pair of files that does not fit together counts as not there."""
    try:
        keys = np.load(path, allow_pickle=False)
        rows = np.load(rows_beside(path), "r", allow_pickle=False)
        written = digest_beside(path).read_bytes()
    except (OSError, ValueError, EOFError):
        return None
    if keys.dtype != np.uint8 or keys.ndim != 2 or keys.shape[1] != KEY_BYTES or rows.ndim < 2:
        return None
    if len(keys) != len(rows) or rows.dtype != np.float32 or written != digest_of(keys, rows):
        return None
    return np.ascontiguousarray(keys).view(f"V{KEY_BYTES}").reshape(-1).tolist(), rows


def rows_beside(path: Path) -> Path:
    return path.with_name(path.name.replace(".keys.npy", ".rows.npy"))


def digest_beside(path: Path) -> Path:
    return path.with_name(path.name.replace(".keys.npy", ".sha256"))


def digest_of(keys: Array, rows: Array) -> bytes:
    """sha256, in hex: a bit that has changed on the disk is not taken for a feature."""
    digest = hashlib.sha256(f"{rows.shape}".encode())
    digest.update(np.ascontiguousarray(keys).reshape(-1).data)
    for first in range(0, len(rows), CHUNK):
        digest.update(np.ascontiguousarray(rows[first : first + CHUNK]).reshape(-1).data)
    return digest.hexdigest().encode()


def keys_beside(path: Path) -> Path:
    return path.with_name(path.name.replace(".rows.npy", ".keys.npy"))


class Features:
    """Rows in the order of the photos: in memory where they fit, else read from the files."""

    def __init__(self, parts: list[Array], table: Array) -> None:
        """table: N x 2, the number of the part and of the row in it."""
        self.parts, self.table = list(parts), table
        self.shape: tuple[int, ...] = parts[table[0, 0]].shape[1:]
        bytes_each = 4 * int(np.prod(self.shape))
        self.dense: Array | None = None
        if len(table) * bytes_each <= memory() // 4:
            self.dense = self.gather(range(len(table)))

    def __len__(self) -> int:
        return len(self.table)

    def gather(self, indices: Sequence[int]) -> Array:
        """float32, len(indices) x feature shape. Of a range in memory no copy: read only."""
        whole = isinstance(indices, range) and indices.step == 1
        chosen = (
            slice(indices[0], indices[-1] + 1) if whole and indices else np.asarray(indices, int)
        )
        if self.dense is not None:
            return np.asarray(self.dense[chosen])
        table = self.table[chosen]
        rows = np.empty((len(table), *self.shape), np.float32)
        for number in np.unique(table[:, 0]):
            places = np.flatnonzero(table[:, 0] == number)
            for some in np.split(places, range(CHUNK, len(places), CHUNK)):
                rows[some] = self.parts[number][table[some, 1]]
        return rows


def memory() -> int:
    """Bytes of memory of this machine; 4 GB where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 4 << 30
