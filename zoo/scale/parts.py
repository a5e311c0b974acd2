"""A part: the rows of one shard in Parquet, and whether it is what the plan says."""

from __future__ import annotations

import io
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from zoo.errors import IncompleteError
from zoo.scale.plan import Shards, key_hash
from zoo.text import count, read_name
from zoo.watch import Progress, check

if TYPE_CHECKING:
    import pyarrow

Cells = dict[str, Any]  # of a row, by the names of their columns
SHOWN = 5


def name_of(shard: int) -> str:
    return f"parts/{shard:06d}.parquet"


def written(rows: list[Cells], schema: pyarrow.Schema, about: dict[str, str]) -> bytes:
    """Return the rows as a Parquet file. about: goes beside the schema."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    table = pa.Table.from_pylist(rows, schema.with_metadata(about))
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


class DamagedError(Exception):
    """A part that is not what the plan says, and why."""


def read(shards: Shards, shard: int, columns: list[str] | None = None) -> pyarrow.Table | None:
    """Return the part of a shard, None where there is none. Raises DamagedError.

    columns: these and the path; nothing else of the file is read.
    """
    import pyarrow as pa

    try:
        if columns is None:
            if (content := shards.store.read(name_of(shard))) is None:
                return None
            table = _table(pa.BufferReader(content))
        else:
            with shards.store.in_pieces(name_of(shard)) as file:
                table = _table(file, ["path", *columns])
        keys = table.column("path").to_pylist()
    except FileNotFoundError:
        return None
    except (pa.ArrowException, KeyError, OSError, ValueError) as error:
        raise DamagedError(_unread(error)) from None
    rows, digest = shards.expected(shard)
    about = table.schema.metadata or {}
    theirs = about.get(b"plan_id", b"").decode("utf-8", "replace")
    if theirs != shards.plan.plan_id:
        raise DamagedError(f"it is of plan {theirs or 'unknown'}, not {shards.plan.plan_id}")
    if len(keys) != rows:
        raise DamagedError(f"it has {count(len(keys), 'row')}, and its shard {rows:,}")
    if key_hash(keys) != digest:
        raise DamagedError("its rows are not those of its shard")
    return table


def _unread(error: Exception) -> str:
    return f"it cannot be read: {' '.join(str(error).split())[:100]}"


def _table(
    file: IO[bytes] | pyarrow.BufferReader, columns: list[str] | None = None
) -> pyarrow.Table:
    """Return the columns of a Parquet file, as `read_table` does, without `pyarrow.dataset`.

    Raises KeyError, pa.ArrowException.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(file, page_checksum_verification=True) as opened:
        table = opened.read(columns)
    return table if columns is None else table.select(columns)


@dataclass(slots=True)
class Verified:
    """What is there. engines: how many parts each has computed. wrong: shard, and what is wrong."""

    rows: int = 0
    errors: int = 0
    engines: dict[str, int] = field(default_factory=dict)
    wrong: list[tuple[int, str]] = field(default_factory=list)

    def check(self, place: str) -> None:
        """Raise IncompleteError where something is missing or damaged."""
        if not self.wrong:
            return
        named = ", ".join(f"{name_of(shard)} ({why})" for shard, why in self.wrong[:SHOWN])
        more = f" and {len(self.wrong) - SHOWN:,} more" if len(self.wrong) > SHOWN else ""
        damaged = any(why != "missing" for _, why in self.wrong)
        first = "remove what is damaged, then " if damaged else ""
        raise IncompleteError(
            f"{place} is not complete: {count(len(self.wrong), 'part')}: {named}{more}",
            f"{first}`zoo work {shlex.quote(str(place))}` makes what is missing, and nothing twice",
        )


def verify(shards: Shards, progress: Progress) -> Verified:
    """Look at every part. progress(done, total) counts them."""
    found = Verified()
    for shard in range(shards.plan.shards):
        progress(shard, shards.plan.shards)
        try:
            table = read(shards, shard, ["status"])
        except DamagedError as error:
            found.wrong.append((shard, str(error)))
        else:
            if table is None:
                found.wrong.append((shard, "missing"))
            else:
                _count(table, found)
    return found


def _count(table: pyarrow.Table, found: Verified) -> None:
    engine = (table.schema.metadata or {}).get(b"engine", b"").decode("utf-8", "replace")
    found.engines[engine] = found.engines.get(engine, 0) + 1
    found.rows += len(table)
    found.errors += table.column("status").to_pylist().count("error")


def merged(shards: Shards) -> Iterator[Cells]:
    """Yield all rows in the plan's order, a part in memory at a time. Raises IncompleteError."""
    for shard in range(shards.plan.shards):
        check()
        for batch in needed(shards, shard).to_batches(max_chunksize=1000):
            for row in batch.to_pylist():
                yield {name: _as_named(value) for name, value in row.items()}


def needed(shards: Shards, shard: int, columns: list[str] | None = None) -> pyarrow.Table:
    """Return the part of a shard. Raises IncompleteError where it is missing or damaged."""
    try:
        table, why = read(shards, shard, columns), "missing"
    except DamagedError as error:
        table, why = None, str(error)
    if table is None:
        Verified(wrong=[(shard, why)]).check(shards.store.place)
    return table


def in_pieces(
    shards: Shards, shard: int, column: str, rows: int
) -> Iterator[pyarrow.FixedSizeListArray]:
    """Yield a column of lists of a part, so many rows of it at a time.

    Of the file no more is in memory than its column, as it is compressed. Raises IncompleteError.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    done, (many, _) = 0, shards.expected(shard)
    why = "missing"
    try:
        with (
            shards.store.in_pieces(name_of(shard)) as place,
            pq.ParquetFile(place, page_checksum_verification=True) as file,
        ):
            for batch in file.iter_batches(rows, columns=[column]):
                done += len(batch)
                yield batch.column(column)
        why = "" if done == many else f"it has {count(done, 'row')}, and its shard {many:,}"
    except FileNotFoundError:
        pass
    except (pa.ArrowException, KeyError, OSError, ValueError) as error:
        why = _unread(error)
    if why:
        Verified(wrong=[(shard, why)]).check(shards.store.place)


def _as_named(value: object) -> object:
    """Return a cell with its names as they are, and not as they are written down."""
    if isinstance(value, list) and value and isinstance(value[0], str):
        return [read_name(each) for each in value]
    return read_name(value) if isinstance(value, str) else value
