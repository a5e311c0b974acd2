"""Parquet with the photos inside, the layout of Hugging Face's data sets.

A column of pictures holds {bytes, path} in each cell, a column `label` names, or numbers whose
names are in the schema's metadata (`huggingface`, type ClassLabel). The bytes are those of a file,
and are decoded as any photo is: what is damaged costs its own row.
https://huggingface.co/docs/datasets/image_dataset
"""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import extras
from zoo.data.samples import Stat, status_of
from zoo.errors import DataError, ImageError
from zoo.text import listed

if TYPE_CHECKING:
    import pyarrow

MAGIC = b"PAR1"
GROUP_BYTES = 2**30  # of one row group, unpacked
KEPT_BYTES = 2**30  # of the row groups that stay in memory; the last one read always does
LAYOUT = "a column `image` of {bytes, path} and a column `label`, as Hugging Face's data sets have"

Key = tuple[str, Stat, int]  # path, what its file was like, row group
_kept: OrderedDict[Key, pyarrow.Array] = OrderedDict()
_lock = threading.Lock()


def holds_photos(path: Path | str) -> bool:
    """Return whether a Parquet file has a column of pictures; without pyarrow, if it is one."""
    try:
        with open(path, "rb") as file:
            if file.read(4) != MAGIC:
                return False
        if not extras.has("pyarrow"):
            return True
        with _opened(os.fspath(path)) as opened:
            return _column(opened.schema_arrow) is not None
    except (OSError, DataError):
        return False


class Photos:
    """The photos of one file. labels: a name or number for each row, None where it has none."""

    def __init__(self, path: str) -> None:
        """Raises DataError for a file that is damaged, or has no column of pictures."""
        self.path = path
        status = os.stat(path)
        self.key = (path, status_of(status))
        with _opened(path) as file:
            schema, about = file.schema_arrow, file.metadata
            column = _column(schema)
            if column is None:
                what = f"{path} has no column of pictures; it has {listed(schema.names, 20)}"
                raise DataError(what, f"expected {LAYOUT}")
            self.column: str = column
            groups = [about.row_group(number) for number in range(about.num_row_groups)]
            self.starts = [0]
            for group in groups:
                self.starts.append(self.starts[-1] + group.num_rows)
                if group.total_byte_size > GROUP_BYTES:
                    what = f"{path} has a row group of {group.total_byte_size:,} bytes"
                    raise DataError(what, f"write it anew with groups of at most {GROUP_BYTES:,}")
            self.labels = _labels(path, file)
        self.bytes = status.st_size // max(1, len(self))

    def __len__(self) -> int:
        return self.starts[-1]

    def content(self, number: int) -> bytes:
        """Return the bytes in a cell, as a file would have them. Raises ImageError, DataError."""
        if number >= len(self):
            raise DataError(
                f"there is no picture #{number} in {self.path}", f"they end at #{len(self) - 1}"
            )
        group = next(at for at, end in enumerate(self.starts[1:]) if number < end)
        with _lock:  # also while a group is read: the others want the same one
            cells = self._group(group)
        data: bytes | None = cells[number - self.starts[group]].as_py()
        if data is None:
            raise ImageError("the cell has no bytes of a picture")
        return data

    picture = content

    def _group(self, number: int) -> pyarrow.Array:
        """Return the bytes of a row group, and let those go that were not used for the longest."""
        key = (*self.key, number)
        if key not in _kept:
            with _opened(self.path) as file:
                column = file.read_row_group(number, columns=[f"{self.column}.bytes"]).column(0)
            _kept[key] = column.combine_chunks().flatten()[0]
        _kept.move_to_end(key)
        while len(_kept) > 1 and sum(cells.nbytes for cells in _kept.values()) > KEPT_BYTES:
            _kept.popitem(last=False)
        return _kept[key]


@contextmanager
def _opened(path: str) -> Iterator[pyarrow.parquet.ParquetFile]:
    """Raises DataError for what is no Parquet file, MissingPackage."""
    extras.need(str(path), "pyarrow", instead="or give a .csv, or a folder")
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path} cannot be read as Parquet: {reason}", "write it again") from None


def _column(schema: pyarrow.Schema) -> str | None:
    """Return the name of the first column of pictures."""
    import pyarrow

    for field in schema:
        kind = field.type
        if pyarrow.types.is_struct(kind) and {"bytes", "path"} <= {each.name for each in kind}:
            inside = kind.field("bytes").type
            if pyarrow.types.is_binary(inside) or pyarrow.types.is_large_binary(inside):
                return str(field.name)
    return None


def _labels(path: str, file: pyarrow.parquet.ParquetFile) -> list[int | str | None]:
    """Return the names in the column label; None of each row where there is no such column."""
    if "label" not in file.schema_arrow.names:
        return [None] * file.metadata.num_rows
    names = _names(file.schema_arrow.metadata or {})
    labels: list[int | str | None] = []
    for value in file.read(columns=["label"]).column(0).to_pylist():
        if isinstance(value, int) and names is not None:
            if value >= len(names):
                what = f"{path}: label {value}, and the schema names {len(names)} classes"
                raise DataError(what, "its labels and its metadata are not of one data set")
            labels.append(names[value] if value >= 0 else None)  # -1: of a test part without any
        elif value is None or isinstance(value, int | str):
            labels.append(None if value == "" else value)
        else:
            what = f"{path}: column `label` holds {type(value).__name__}"
            raise DataError(what, f"a name or a number is needed: {LAYOUT}")
    return labels


def _names(metadata: dict[bytes, bytes]) -> list[str] | None:
    """Return the names of the numbers in column label, where the metadata have them."""
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"]["label"]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    whole = isinstance(names, list) and all(isinstance(name, str) and name for name in names)
    return names if whole else None
