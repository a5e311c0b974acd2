"""Where the rows of many keys are, sorted in a file that is looked into and never read whole.

NAME.table: a line of JSON with the names of the parts that it covers, then for each of their rows
16 bytes, sorted by the first: 8 bytes made of the key, the number of the part, the row in it. It
only says where to look. The key itself stands in the part, whose digest covers it, so a table that
is damaged or out of date costs a row that is computed anew, and never gives a wrong one.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from zoo.disk import atomic
from zoo.engine import Array
from zoo.engine.store import elsewhere
from zoo.errors import WriteError
from zoo.features import parts
from zoo.features.parts import KEY_BYTES

TABLES, _HEAD = "*.table", 1 << 20  # bytes of its line at most
_VERSION = 1
ENTRY = np.dtype([("hash", "<u8"), ("part", "<u4"), ("row", "<u4")])


class Table:
    """names: of the parts. Their keys are found by `at`."""

    def __init__(self, names: Sequence[str], entries: Array, path: Path | None = None) -> None:
        self.names, self.entries, self.path = names, entries, path
        self._hashes = memoryview(np.asarray(entries["hash"]))  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.entries)

    def at(self, key: bytes) -> Iterator[tuple[str, int]]:
        """Yield the part and the row of what may be this key: it or, hardly ever, another."""
        number = _hash(key)
        first = bisect_left(self._hashes, number)
        while first < len(self.entries) and self._hashes[first] == number:
            entry = self.entries[first]
            if entry["part"] < len(self.names):  # else it is damaged
                yield self.names[entry["part"]], int(entry["row"])
            first += 1


def read_all(folder: Path) -> list[Table]:
    """Return the tables of a folder. One that is no table is removed, and made again when due."""
    found = []
    for path in parts.matching(folder, TABLES):
        try:
            with path.open("rb") as file:
                about = json.loads(file.readline(_HEAD))
                start, rows, names = file.tell(), int(about["rows"]), list(about["parts"])
            if about["version"] != _VERSION or not all(isinstance(name, str) for name in names):
                raise ValueError("not a table of ours")
            if path.stat().st_size != start + rows * ENTRY.itemsize or start % 16 or not rows:
                raise ValueError("it has another length")
            found.append(Table(names, np.memmap(path, ENTRY, "r", start, (rows,)), path))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            with contextlib.suppress(OSError):
                path.unlink()
    return found


def made(folder: Path, loose: Iterable[Path], old: Sequence[Table]) -> Table | None:
    """Return one table of parts that are in none yet, and of those of others, which go.

    loose: the files of the keys. It is on disk where that can be written, else in memory. None
    where no part is left.
    """
    names: list[str] = []
    pieces: list[Array] = []
    for path in loose:
        if (part := parts.read(path)) is not None:
            some = np.empty(len(part.keys), ENTRY)
            some["hash"], some["part"] = _hashes(part.keys), len(names)
            some["row"] = np.arange(len(some))
            names.append(path.name.partition(".")[0])
            pieces.append(some)
    for table in old:
        there = np.array([(folder / f"{name}.keys.npy").exists() for name in table.names])
        of = np.minimum(table.entries["part"], len(there) - 1)  # as large as it likes if damaged
        some = table.entries[there[of]]
        some["part"] = (np.cumsum(there) - 1)[of[there[of]]] + len(names)
        names += [name for name, stays in zip(table.names, there, strict=True) if stays]
        pieces.append(some)
    if not (total := sum(map(len, pieces))):
        return None
    entries = np.concatenate(pieces)
    entries = entries[np.argsort(entries["hash"], kind="stable")]
    path = folder / f"{uuid.uuid4().hex}.table"
    try:
        with elsewhere(), atomic(path) as file:
            line = json.dumps({"version": _VERSION, "rows": total, "parts": names})
            file.write((line + " " * (-len(line) - 1 & 15) + "\n").encode())
            file.write(entries.data)
    except WriteError:  # the next opening makes it again
        return Table(names, entries)
    for table in old:
        if table.path:
            with contextlib.suppress(OSError):
                table.path.unlink()
    return Table(names, entries, path)


def _hash(key: bytes) -> int:
    """Return 8 bytes of a key: of the photo's sha256, other ones for each of its views."""
    return int.from_bytes(key[:8], "little") ^ int.from_bytes(key[-8:], "little")


def _hashes(keys: Array) -> Array:
    """Return the same of many keys."""
    rows = keys.view(np.uint8).reshape(-1, KEY_BYTES)
    first, last = (np.ascontiguousarray(each).view("<u8") for each in (rows[:, :8], rows[:, -8:]))
    return np.asarray(first ^ last).reshape(-1)
