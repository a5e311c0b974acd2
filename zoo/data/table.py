"""The rows of a manifest, from CSV or Parquet, with the line that each stands in.

CSV: UTF-8, a header, fields separated by comma, semicolon or tab, whichever the header has.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import DataError, nearest

SUFFIXES = (".csv", ".parquet")
NEEDED, OPTIONAL = ("path", "label"), ("split", "group")
COLUMNS = "a manifest has the columns path and label, and optionally split and group"


@dataclass(frozen=True, slots=True)
class Row:
    """where: `line 4` of a CSV, `row 3` of a Parquet file. split, group: empty where not given."""

    where: str
    path: str
    label: str
    split: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """columns: those that are used. extra: those that are not."""

    rows: list[Row]
    columns: tuple[str, ...]
    extra: tuple[str, ...]


def read(path: Path) -> Table:
    """Raises DataError."""
    try:
        return read_parquet(path) if path.suffix.lower() == ".parquet" else read_csv(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{path} cannot be read: {reason}", "check its permissions") from None


def read_csv(path: Path) -> Table:
    text = decoded(path)
    head = text.split("\n", 1)[0]
    comma = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=comma, strict=True)
    rows: list[Row] = []
    places: dict[str, int] = {}
    names: list[str] = []
    try:
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            if not places:
                names, places = fields, columns(path, fields)
                continue
            if len(fields) != len(names):
                raise DataError(
                    f"{path}, line {reader.line_num}: {len(fields)} fields, the header has "
                    f"{len(names)}",
                    f"put a field that contains {comma!r} in quotes",
                )
            values = {name: fields[place] for name, place in places.items()}
            rows.append(row(f"line {reader.line_num}", values))
    except csv.Error as error:
        raise DataError(
            f"{path}, line {reader.line_num}: {error}", "is a quotation mark not closed?"
        ) from None
    return table(path, rows, names, places)


def decoded(path: Path) -> str:
    """The text of a CSV, which must be UTF-8. Raises DataError with the line that is not."""
    data = path.read_bytes()
    hint = "save it as CSV in UTF-8"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{path} is in UTF-16", hint)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8", hint
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{path}, line {line}: a zero byte; is this a text file?", hint)
    return text


def read_parquet(path: Path) -> Table:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise DataError(
            f"{path} is Parquet, and pyarrow is not installed",
            "`pip install 'zoo-transfer[parquet]'`, or give a .csv",
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            names = list(file.schema_arrow.names)
            places = columns(path, names)
            picked = [names[place] for place in places.values()]
            content = file.read(columns=picked)
            for name, place in places.items():
                kind = content.schema.field(names[place]).type
                if pyarrow.types.is_nested(kind) or pyarrow.types.is_binary(kind):
                    raise DataError(
                        f"{path}: column {name!r} holds {kind}",
                        "text is needed: paths of files, names of classes",
                    )
            lists = [content.column(name).to_pylist() for name in picked]
    except pyarrow.ArrowException as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path} is no Parquet file: {reason}", "write it again") from None
    rows = [
        row(f"row {number}", dict(zip(places, map(text_of, values), strict=True)))
        for number, values in enumerate(zip(*lists, strict=True), start=1)
    ]
    return table(path, rows, names, places)


def text_of(value: Any) -> str:
    """A cell as text; nothing, and pandas' NaN for it, are empty."""
    return "" if value is None or value != value else str(value)


def row(where: str, values: dict[str, str]) -> Row:
    """The path keeps its blanks, in case the file has them too."""
    plain = {name: value.strip() for name, value in values.items() if name != "path"}
    return Row(where, values["path"], **plain)


def columns(path: Path, names: Sequence[str]) -> dict[str, int]:
    """Where the columns are that are used, whatever the case of their names. Raises DataError."""
    plain = [name.strip().lower() for name in names]
    for name in NEEDED:
        if name not in plain:
            close = nearest(name, [other for other in plain if other not in NEEDED])
            raise DataError(
                f"{path} has no column {name!r}; it has {', '.join(names[:20]) or 'none'}",
                f"{close} {COLUMNS}, named in its first line".lstrip(),
            )
    twice = [name for name in (*NEEDED, *OPTIONAL) if Counter(plain)[name] > 1]
    if twice:
        raise DataError(f"{path} has the column {twice[0]!r} more than once", "rename all but one")
    return {name: plain.index(name) for name in (*NEEDED, *OPTIONAL) if name in plain}


def table(path: Path, rows: list[Row], names: Sequence[str], places: dict[str, int]) -> Table:
    if not rows:
        raise DataError(f"{path} lists no photos", f"{COLUMNS}, and a line for each photo")
    extra = tuple(name for place, name in enumerate(names) if place not in places.values())
    return Table(rows, tuple(places), extra)
