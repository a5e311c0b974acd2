"""FeatureCache: the frozen part's output for (content of a photo, view), on disk, computed once.

A folder per frozen part, named by a hash of everything its output depends on. In it are parts (see
`parts`), and tables of where the keys of many of them are (see `tables`). Opening it reads the keys
of the parts that are in no table yet, LOOSE at most or small parts; whatever is there besides, it
takes as long and as much memory. A part whose bytes are not those that were written is not there,
and that is told: it is read and checked when the first of its rows is asked for.
"""

from __future__ import annotations

import bisect
import contextlib
import errno
import functools
import hashlib
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from zoo import weights
from zoo.disk import write_json, writing
from zoo.engine import Array
from zoo.engine.open import NetworkRef, Opened, feature_key
from zoo.engine.store import elsewhere, instead
from zoo.errors import WriteError
from zoo.features import parts, tables
from zoo.features.parts import KEYS, Part
from zoo.features.tables import Table

PART_BYTES, PART_ROWS = 64 << 20, 1 << 16  # of a part at most, or little more
MANY = 16  # small parts, which have less than half of the first and an eighth of the second
LOOSE = 100_000  # keys of other parts; with more, they are put into a table
CHUNK = 1024  # rows copied at once


@functools.cache
def view_key(number: int, seed: int, flip: bool) -> bytes:
    """Return 8 bytes; the plain view is the same under every seed."""
    if number == 0:
        return bytes(8)
    return hashlib.sha256(f"{number}:{seed}:{flip}".encode()).digest()[:8]


class FeatureCache:
    """The rows kept for one frozen part; adds new ones, hands them out by key.

    New rows are in `folder` or, where it cannot be written, in a `place` that goes with this.
    """

    def __init__(self, folder: Path, about: Mapping[str, object], alone: bool = True) -> None:
        """alone: nobody else is to read them, so they may be kept elsewhere."""
        self.folder, self.place, self.alone = folder, folder, alone
        # Key -> number of its row, counted through all parts that are open: of the parts in no
        # table, and of what was found in others.
        self.where: dict[bytes, int] = {}
        self.parts: list[Array] = []
        self.unchecked: dict[int, Part] = {}  # by their number, until a row of them is asked for
        self.changing = threading.RLock()
        self.starts = [0]  # number of each part's first row, and of the next one's
        self.tables: list[Table] = []
        self.opened: dict[str, tuple[int, Part] | None] = {}  # of those in tables; None: no part
        self.new_keys: list[bytes] = []
        self.new_rows: list[Array] = []
        try:
            self.make(about)
        except WriteError as error:
            self.keep_elsewhere(error)
        self.read_parts()

    def make(self, about: Mapping[str, object]) -> None:
        with elsewhere(), writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self.folder, os.W_OK):
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
            if not (self.folder / "about.json").exists():
                write_json(self.folder / "about.json", about)

    def keep_elsewhere(self, error: WriteError) -> None:
        """Keep new rows in a folder that goes with this object. Raises the error where none can."""
        if not self.alone or self.place != self.folder:
            raise error
        self.place, until_the_end = instead(error, "features")
        weakref.finalize(self, until_the_end.close)

    def read_parts(self) -> None:
        """Attach what is in no table; look again where another process has merged meanwhile."""
        self.tables = tables.read_all(self.folder)
        known = {f"{name}.keys.npy" for table in self.tables for name in table.names}
        small: dict[Path, Part] = {}
        large: list[Path] = []
        while new := [p for p in parts.matching(self.folder, KEYS) if p.name not in known]:
            for path in new:
                if _is_large(path):
                    large.append(path)
                elif (part := parts.read(path)) is not None:
                    small[path] = part
            known.update(path.name for path in new)
        if len(small) > MANY and self.place == self.folder:
            with contextlib.suppress(WriteError):  # they can be read as they are
                small = self.merged(small)
        for part in small.values():
            self.attach(part)
        if sum(parts.sizes(path).rows for path in large) > LOOSE:
            self.tabulate(large)
        else:
            for path in large:
                if (part := parts.read(path)) is not None:
                    self.attach(part)

    def tabulate(self, large: list[Path]) -> None:
        """Put parts into a table, together with those of tables that are not much larger.

        So each table has more than twice the keys of all smaller ones, and there are few.
        """
        total, old = sum(parts.sizes(path).rows for path in large), []
        for table in sorted(self.tables, key=len):
            if len(table) > 2 * total:
                break
            old.append(table)
            total += len(table)
        made = tables.made(self.folder, large, old)
        self.tables = [table for table in self.tables if table not in old]
        self.tables += [made] if made else []

    def merged(self, some: dict[Path, Part]) -> dict[Path, Part]:
        """Return the same rows in few parts; the files of the old ones are gone.

        Another process may read or merge at the same time: the new parts are whole before an old
        one goes, and the same rows twice do no harm.
        """
        there: set[bytes] = set()
        few: dict[Path, Part] = {}
        keys: list[bytes] = []
        rows: list[Array] = []
        for number, part in enumerate(some.values(), start=1):
            own = part.keys.tolist() if parts.is_whole(part) else []
            fresh = [place for place, key in enumerate(own) if key not in there]
            there.update(own)
            keys += [own[place] for place in fresh]
            rows.append(part.rows[fresh])
            full = sum(each.nbytes for each in rows) >= PART_BYTES or len(keys) >= PART_ROWS
            if full or number == len(some):
                if keys:
                    whole = np.concatenate(rows)
                    few[self.folder / str(number)] = parts.write(self.folder, keys, whole)
                keys, rows = [], []
        for path in some:
            parts.forget(path)
        return few

    def attach(self, part: Part) -> None:
        """Make the rows of a part known by their keys."""
        with self.changing:
            number = self._append(part)
            if part.digest:
                self.unchecked[number] = part
            first = self.starts[number]
            self.where.update(zip(part.keys.tolist(), range(first, self.starts[-1]), strict=True))

    def _append(self, part: Part) -> int:
        self.parts.append(part.rows)
        self.starts.append(self.starts[-1] + len(part.rows))
        return len(self.parts) - 1

    def __contains__(self, key: bytes) -> bool:
        return self._number(key) is not None

    def _number(self, key: bytes) -> int | None:
        """Return the number of a row, whose part is as it was written; None where there is none."""
        row = self.where.get(key)
        if row is None:
            return self._look_up(key) if self.tables else None
        number = bisect.bisect_right(self.starts, row) - 1
        return row if number not in self.unchecked or self.check(number) else None

    def _look_up(self, key: bytes) -> int | None:
        """Look into the tables, and open and check the part that one of them names."""
        for table in self.tables:
            for name, row in table.at(key):
                found = self._open(name)
                if found and row < len(found[1].keys) and found[1].keys[row].tobytes() == key:
                    self.where[key] = self.starts[found[0]] + row
                    return self.where[key]
        return None

    def _open(self, name: str) -> tuple[int, Part] | None:
        """Return a part that a table names, and its number; None where it is gone, or damaged."""
        with self.changing:
            if name not in self.opened:
                path = self.folder / f"{name}.keys.npy"
                part = parts.read(path)
                if part is not None and not parts.is_whole(part):
                    parts.forget(path)
                    part = None
                self.opened[name] = None if part is None else (self._append(part), part)
            return self.opened[name]

    def check(self, number: int) -> bool:
        """Whether a part is as it was written; one that is not is forgotten."""
        with self.changing:
            part = self.unchecked.get(number)
            if part is None or parts.is_whole(part):
                self.unchecked.pop(number, None)
            else:
                first, behind = self.starts[number], self.starts[number + 1]
                self.where = {k: row for k, row in self.where.items() if not first <= row < behind}
                if part.path:
                    parts.forget(part.path)
            return number not in self.unchecked

    def seems_to_have(self, key: bytes) -> bool:
        """Whether a row is kept, as far as can be said without reading its part."""
        return key in self.where or any(True for table in self.tables for _ in table.at(key))

    def shape(self) -> tuple[int, ...]:
        """Return the shape of a row; nothing where no part is there."""
        names = (name for table in self.tables for name in table.names)
        while not self.parts and (name := next(names, None)):
            self._open(name)
        return self.parts[0].shape[1:] if self.parts else ()

    def add(self, key: bytes, row: Array) -> None:
        """Keeps a row; on disk once enough have come together, or at `flush`."""
        self.new_keys.append(key)
        self.new_rows.append(row)
        if len(self.new_rows) * row.nbytes >= PART_BYTES or len(self.new_rows) >= PART_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what is new. Raises CacheError, DiskFull."""
        if not self.new_rows:
            return
        rows = np.stack(self.new_rows)
        try:
            part = parts.write(self.place, self.new_keys, rows)
        except WriteError as error:
            self.keep_elsewhere(error)
            part = parts.write(self.place, self.new_keys, rows)
        self.attach(part)
        self.new_keys, self.new_rows = [], []

    def rows(self, keys: Sequence[bytes]) -> Features:
        """Return the rows of these keys, which are all in it."""
        found = [row for key in keys if (row := self._number(key)) is not None]
        assert len(found) == len(keys), "rows that were not computed"
        numbers = np.array(found, np.int64)
        part = np.searchsorted(self.starts, numbers, side="right") - 1
        table = np.stack([part, numbers - np.array(self.starts)[part]], axis=1)
        return Features(self.parts, table)


def _is_large(path: Path) -> bool:
    """Whether a part stays as it is; small ones are merged when there are many."""
    rows, size = parts.sizes(path)
    return size >= PART_BYTES // 2 or rows >= PART_ROWS // 8


class Features:
    """Rows in the order of the photos: in memory where they fit, else read from the files."""

    def __init__(self, rows: list[Array], table: Array) -> None:
        """rows: of each part. table: N x 2, the number of the part and of the row in it."""
        self.parts, self.table = list(rows), table
        self.shape: tuple[int, ...] = rows[table[0, 0]].shape[1:]
        bytes_each = 4 * int(np.prod(self.shape))
        self.dense: Array | None = None
        if len(table) * bytes_each <= memory() // 4:
            self.dense = self.gather(range(len(table)))

    def __len__(self) -> int:
        return len(self.table)

    def flat(self) -> Array:
        """All rows, N x D."""
        rows = self.gather(range(len(self)))
        return rows.reshape(len(rows), -1)

    def gather(self, indices: Sequence[int]) -> Array:
        """Return float32, len(indices) x feature shape. Of a range in memory no copy: read only."""
        whole = isinstance(indices, range) and indices.step == 1
        chosen = (
            slice(indices[0], indices[-1] + 1) if whole and indices else np.asarray(indices, int)
        )
        if self.dense is not None:
            return np.asarray(self.dense[chosen])
        table = self.table[chosen]
        rows = np.empty((len(table), *self.shape), np.float32)
        for number in np.flatnonzero(np.bincount(table[:, 0])):
            places = np.flatnonzero(table[:, 0] == number)
            for some in np.split(places, range(CHUNK, len(places), CHUNK)):
                rows[some] = self.parts[number][table[some, 1]]
            if len(table) == len(self.table):  # all of them are in memory now, and not twice
                parts.let_go(self.parts[number])
        return rows


def memory() -> int:
    """Return the bytes of memory of this machine; 4 GB where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 4 << 30


def cache_of(part: NetworkRef, ready: Opened, *, alone: bool = True) -> FeatureCache:
    """Open where the features are kept that this engine gives.

    alone: False in a team, whose processes share them. Raises WriteError for a team, and where no
    other place has room.
    """
    about = {
        "model": part.model,
        "after": part.boundary,
        "engine": ready.engine.name,
        "preprocess": part.preprocess.to_dict(),
    }
    folder = weights.cache_folder() / "features" / feature_key(part, ready)[:32]
    return FeatureCache(folder, about, alone)
