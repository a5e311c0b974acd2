"""FeatureCache: the frozen part's output for (content of a photo, view), on disk, computed once.

A folder per frozen part, named by a hash of everything its output depends on. In it, pairs of
files: NAME.rows.npy (rows x feature shape, float32) and NAME.keys.npy (rows x 40 bytes: sha256 of
the photo's bytes, view), and NAME.sha256, a line of each. The keys are written last and so say that
the part is whole. One whose bytes are not those that were written is not there, and that is told:
its keys are checked when the folder is opened, its rows when the first of them is asked for.
"""

from __future__ import annotations

import bisect
import contextlib
import errno
import hashlib
import io
import os
import threading
import uuid
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import NamedTuple

import numpy as np

from zoo import weights
from zoo.disk import atomic, unfinished, warn, write_json, writing
from zoo.engine import Array
from zoo.engine.open import NetworkRef, Opened, feature_key
from zoo.engine.store import elsewhere
from zoo.errors import DiskFull, WriteError

PART_BYTES = 64 << 20
MANY = 16  # parts of less than half of that; with more, all are merged
CHUNK = 1024  # rows copied at once
KEYS, KEY_BYTES = "*.keys.npy", 40


def view_key(number: int, seed: int, flip: bool) -> bytes:
    """Return 8 bytes; the plain view is the same under every seed."""
    if number == 0:
        return bytes(8)
    return hashlib.sha256(f"{number}:{seed}:{flip}".encode()).digest()[:8]


class Part(NamedTuple):
    """A pair of files. digest: what the file of the rows must hash to; empty where it did."""

    keys: list[bytes]
    rows: Array
    digest: str = ""
    path: Path | None = None


class FeatureCache:
    """The rows kept for one frozen part; adds new ones, hands them out by key.

    note: why new rows are kept in a folder that goes with this process; "" where they stay.
    """

    def __init__(self, folder: Path, about: Mapping[str, object], alone: bool = True) -> None:
        """alone: nobody else is to read them, so they may be kept elsewhere."""
        self.folder, self.place, self.note = folder, folder, ""
        self.where: dict[bytes, int] = {}  # key -> number of its row, counted through all parts
        self.parts: list[Array] = []
        self.unchecked: dict[int, Part] = {}  # by their number, until a row of them is asked for
        self.checking = threading.Lock()
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

    def make(self, about: Mapping[str, object]) -> None:
        with elsewhere(), writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self.folder, os.W_OK):
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
            if not (self.folder / "about.json").exists():
                write_json(self.folder / "about.json", about)

    def read_parts(self) -> None:
        """Attach all; look again where another process has merged some of them meanwhile."""
        known: set[Path] = set()
        small: dict[Path, Part] = {}
        while new := [path for path in sorted(self.folder.glob(KEYS)) if path not in known]:
            for path in new:
                part = read_part(path)
                if part is not None and part.rows.nbytes < PART_BYTES // 2:
                    small[path] = part
                elif part is not None:
                    self.attach(part)
            known.update(new)
        if len(small) > MANY and not self.note:
            with contextlib.suppress(WriteError):  # they can be read as they are
                small = self.merged(small)
        for part in small.values():
            self.attach(part)

    def merged(self, parts: dict[Path, Part]) -> dict[Path, Part]:
        """Return the same rows in few parts; the files of the old ones are gone.

        Another process may read or merge at the same time: the new parts are whole before an old
        one goes, and the same rows twice do no harm.
        """
        there: set[bytes] = set()
        few: dict[Path, Part] = {}
        keys: list[bytes] = []
        rows: list[Array] = []
        for number, part in enumerate(parts.values(), start=1):
            own = part.keys if is_whole(part) else []
            fresh = [place for place, key in enumerate(own) if key not in there]
            there.update(own)
            keys += [own[place] for place in fresh]
            rows.append(part.rows[fresh])
            if sum(some.nbytes for some in rows) >= PART_BYTES or number == len(parts):
                if keys:
                    few[self.folder / str(number)] = self.write(keys, np.concatenate(rows))
                keys, rows = [], []
        for path in parts:
            forget(path)
        return few

    def attach(self, part: Part) -> None:
        first = self.starts[-1]
        if part.digest:
            self.unchecked[len(self.parts)] = part
        self.where.update(zip(part.keys, range(first, first + len(part.rows)), strict=True))
        self.parts.append(part.rows)
        self.starts.append(first + len(part.rows))

    def __contains__(self, key: bytes) -> bool:
        row = self.where.get(key)
        if row is None:
            return False
        number = bisect.bisect_right(self.starts, row) - 1
        return number not in self.unchecked or self.check(number)

    def check(self, number: int) -> bool:
        """Whether a part is as it was written; one that is not is forgotten."""
        with self.checking:
            part = self.unchecked.get(number)
            if part is None or is_whole(part):
                self.unchecked.pop(number, None)
            else:
                first, behind = self.starts[number], self.starts[number + 1]
                self.where = {k: row for k, row in self.where.items() if not first <= row < behind}
                if part.path:
                    forget(part.path)
            return number not in self.unchecked

    def add(self, key: bytes, row: Array) -> None:
        """Keeps a row; on disk once enough have come together, or at `flush`."""
        self.new_keys.append(key)
        self.new_rows.append(row)
        if len(self.new_rows) * row.nbytes >= PART_BYTES:
            self.flush()

    def flush(self) -> None:
        if not self.new_rows:
            return
        self.attach(self.write(self.new_keys, np.stack(self.new_rows)))
        self.new_keys, self.new_rows = [], []

    def write(self, keys: list[bytes], rows: Array) -> Part:
        """Return a new part; its rows as they lie on disk."""
        name = self.place / f"{uuid.uuid4().hex}.rows.npy"
        table = io.BytesIO()
        np.save(table, np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES))
        with elsewhere(), atomic(name) as file:
            np.save(file, rows, allow_pickle=False)
        digests = hashlib.sha256(table.getvalue()).hexdigest(), digest_of(name)
        with elsewhere(), atomic(beside(name, "sha256")) as file:
            file.write("\n".join(digests).encode())
        with elsewhere(), atomic(beside(name, "keys.npy")) as file:
            file.write(table.getvalue())
        return Part(keys, np.load(name, "r", allow_pickle=False))

    def rows(self, keys: Sequence[bytes]) -> Features:
        """Return the rows of these keys, which are all in it."""
        numbers = np.array([self.where[key] for key in keys if key in self], np.int64)
        assert len(numbers) == len(keys), "rows that were not computed"
        part = np.searchsorted(self.starts, numbers, side="right") - 1
        table = np.stack([part, numbers - np.array(self.starts)[part]], axis=1)
        return Features(self.parts, table)


def read_part(path: Path) -> Part | None:
    """Return keys and rows; a pair of files that does not fit together counts as not there.

    The rows are looked at later, see `is_whole`.
    """
    try:
        content = path.read_bytes()
        digests = beside(path, "sha256").read_bytes().decode().split("\n")
        if hashlib.sha256(content).hexdigest() != digests[0]:
            raise ValueError("other keys than were written")
        keys = np.load(io.BytesIO(content), allow_pickle=False)
        rows = np.load(beside(path, "rows.npy"), "r", allow_pickle=False)
        if len(keys) != len(rows) or rows.dtype != np.float32 or rows.ndim < 2:
            raise ValueError("other rows than were written")
        (digest,) = digests[1:]
    except FileNotFoundError:  # another process has merged it meanwhile, or was ended
        return None
    except (OSError, ValueError, EOFError, OverflowError):
        warn_of(path)
        forget(path)
        return None
    listed = np.ascontiguousarray(keys).view(f"V{KEY_BYTES}").reshape(-1).tolist()
    return Part(listed, rows, digest, path)


def is_whole(part: Part) -> bool:
    """Whether the rows are those that were written; says so where they are not.

    Of the file as it was opened: another process may have merged it meanwhile, and removed it.
    """
    if not part.digest or part.path is None:
        return True
    mapped = getattr(part.rows, "_mmap")  # noqa: B009 - numpy has no public name for it
    whole = hashlib.sha256(mapped).hexdigest() == part.digest
    if not whole:
        warn_of(part.path)
    return whole


def warn_of(path: Path) -> None:
    name = path.name.partition(".")[0]
    warn(f"{path.parent / name} is damaged: its features are computed anew")


def forget(path: Path) -> None:
    """Remove a part: the keys first, since they say that the pair is whole."""
    for each in (path, beside(path, "rows.npy"), beside(path, "sha256")):
        with contextlib.suppress(OSError):
            each.unlink()


def beside(path: Path, kind: str) -> Path:
    """Return the other file of a part: `rows.npy`, `keys.npy` or `sha256`."""
    return path.with_name(f"{path.name.partition('.')[0]}.{kind}")


def digest_of(path: Path) -> str:
    """Return the sha256 of a file, in hex: a bit that has changed is not taken for a feature."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
        for number in np.unique(table[:, 0]):
            places = np.flatnonzero(table[:, 0] == number)
            for some in np.split(places, range(CHUNK, len(places), CHUNK)):
                rows[some] = self.parts[number][table[some, 1]]
        return rows


def memory() -> int:
    """Return the bytes of memory of this machine; 4 GB where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 4 << 30


def cache_of(part: NetworkRef, ready: Opened, *, alone: bool = True) -> FeatureCache:
    """Open where the features are kept that this engine gives. Raises DiskFull.

    alone: False in a team, whose processes share them; then WriteError too.
    """
    about = {
        "model": part.model,
        "after": part.boundary,
        "engine": ready.engine.name,
        "preprocess": part.preprocess.to_dict(),
    }
    folder = weights.cache_folder() / "features" / feature_key(part, ready)[:32]
    return FeatureCache(folder, about, alone)
