"""Features to Parquet, CSV or npz, by suffix; a file appears when it is complete.

Parquet has a column `features` with a list of D numbers, CSV the columns f0 … fD-1, npz arrays
(features: rows x D, NaN where a picture cannot be read). Memory does not grow with the rows, but
for the paths of an npz.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy as np

from zoo.disk import replacing, writing
from zoo.predict.embed import Embedding
from zoo.predict.writers import in_groups
from zoo.text import as_data, csv_line, show_name

SUFFIXES = (".parquet", ".csv", ".npz")
COLUMNS = ("path", "status", "label", "error")
GROUP_VALUES = 4_000_000  # of a row group: 16 MB

Put = Callable[[Embedding], None]


def write(
    rows: Iterable[Embedding], path: Path | None, width: int, stdout: IO[str], safe: bool = False
) -> None:
    """Write every row; without a path as CSV to stdout. width: numbers of a row."""
    if path is None:
        with _csv_rows(stdout, width, safe) as put:
            for row in rows:
                put(row)
        return
    formats: dict[str, Callable[[Path, int], AbstractContextManager[Put]]] = {
        ".parquet": _parquet_rows,
        ".csv": partial(_csv_file, safe=safe),
        ".npz": _npz_rows,
    }
    with (
        replacing(path) as temporary,
        writing(path),
        formats[path.suffix.lower()](temporary, width) as put,
    ):
        for row in rows:
            put(row)


def _texts(row: Embedding) -> list[str]:
    """Return the texts in the order of COLUMNS, as any encoding can hold them."""
    return [show_name(text) for text in (row.path, row.status, row.label, row.error)]


@contextmanager
def _csv_file(path: Path, width: int, safe: bool) -> Iterator[Put]:
    with (
        open(path, "w", newline="", encoding="utf-8") as file,
        _csv_rows(file, width, safe) as put,
    ):
        yield put


@contextmanager
def _csv_rows(file: IO[str], width: int, safe: bool) -> Iterator[Put]:
    """Write nine digits, from which a float32 is read back exactly."""
    how = {"safe": safe, "screen": as_data(file)}
    file.write(csv_line([*COLUMNS, *(f"f{number}" for number in range(width))]))

    def put(row: Embedding) -> None:
        values = [""] * width if row.features is None else [f"{v:.9g}" for v in row.features]
        words = csv_line((row.path, row.status, row.label, row.error), **how)
        file.write(",".join([words[:-1], *values]) + "\n")

    yield put


@contextmanager
def _parquet_rows(path: Path, width: int) -> Iterator[Put]:
    """Write row groups of about GROUP_VALUES numbers; what is not known is null."""
    import pyarrow as pa

    fields = [pa.field(name, pa.string()) for name in COLUMNS]
    schema = pa.schema([*fields, pa.field("features", pa.list_(pa.float32()))])

    def cells(row: Embedding) -> dict[str, object]:
        texts = dict(zip(COLUMNS, _texts(row), strict=True))
        return {name: text or None for name, text in texts.items()} | {"features": row.features}

    with in_groups(path, schema, -(-GROUP_VALUES // max(1, width))) as put:
        yield lambda row: put(cells(row))


@contextmanager
def _npz_rows(path: Path, width: int) -> Iterator[Put]:
    """Write numbers by way of a temporary file: the header must state how many there are."""
    names: list[list[str]] = []
    nothing = np.full(width, np.nan, "<f4")
    with TemporaryFile(dir=path.parent) as numbers:

        def put(row: Embedding) -> None:
            names.append(_texts(row))
            values = nothing if row.features is None else row.features
            numbers.write(np.asarray(values, "<f4").tobytes())

        yield put
        numbers.seek(0)
        with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
            for at, name in enumerate(COLUMNS):
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    column = np.array([row[at] for row in names], np.str_)
                    np.lib.format.write_array(member, column, allow_pickle=False)
            with archive.open("features.npy", "w", force_zip64=True) as member:
                header = {"descr": "<f4", "fortran_order": False, "shape": (len(names), width)}
                np.lib.format.write_array_header_2_0(member, header)
                while chunk := numbers.read(2**22):
                    member.write(chunk)
