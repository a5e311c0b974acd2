"""The rows of a manifest, from CSV or Parquet, with the line that each stands in.

CSV: text in UTF-8, or in UTF-16 or UTF-32 with their marks; a header, fields separated by comma,
semicolon or tab, whichever the header has, or as Excel's first line `sep=;` says.

Multi-label data have several labels in a cell, with | between them, or no column label but one
column for each class, of 0 and 1.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo import extras
from zoo.data import path_lists
from zoo.data.names import plain
from zoo.data.samples import SEPARATOR
from zoo.disk import opened
from zoo.errors import DataError, nearest
from zoo.text import listed

SUFFIXES = (".csv", ".parquet")
NEEDED, OPTIONAL = ("path", "label"), ("split", "group")
# What others call a column that is needed, where there is none of our name.
THEIRS = {"path": ("file", "filename", "file_name", "filepath", "image"), "label": ("class",)}
COLUMNS = (
    "a manifest has the columns path (or file, filename, image) and label (or class), and "
    "optionally split and group"
)
# Cells of a column that is a class, as a person, pandas or Parquet writes them.
YES, NO = ("1", "1.0", "true"), ("0", "0.0", "false")
MARKS = "without a column label, each column of 0 and 1 is a class"

Cells = dict[str, str]


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
    """The rows of a manifest. extra: columns that are not used.

    several: a photo may have several labels, or none; classes: the columns that are classes.
    """

    rows: list[Row]
    extra: tuple[str, ...]
    several: bool = False
    classes: tuple[str, ...] = ()


def read(path: Path) -> Table:
    """Read a manifest. Raises DataError."""
    try:
        return _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{path} cannot be read: {reason}", "check its permissions") from None


def _read_csv(path: Path) -> Table:
    comma, text = path_lists.separator(_decoded(path))
    above = int(bool(comma))  # the line that says so
    comma = comma or max(",;\t", key=text.split("\n", 1)[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=comma, strict=True)
    rows: list[tuple[str, Cells]] = []
    places: dict[str, int] = {}
    names: list[str] = []
    try:
        for fields in reader:
            where = f"line {reader.line_num + above}"
            if not any(field.strip() for field in fields):
                continue
            if not places:
                names, places = fields, columns(path, fields)
                continue
            if len(fields) != len(names):
                raise DataError(
                    f"{path}, {where}: {len(fields)} fields, the header has {len(names)}",
                    f"put a field that contains {comma!r} in quotes",
                )
            rows.append((where, {name: fields[place] for name, place in places.items()}))
    except csv.Error as error:
        where = f"line {reader.line_num + above}"
        raise DataError(f"{path}, {where}: {error}", "is a quotation mark not closed?") from None
    return table(path, rows, names, places)


def _decoded(path: Path) -> str:
    """Return the text of a CSV. Raises DataError with the line that is none."""
    with opened(path) as file:
        data = file.read()
    hint = "save it as CSV in UTF-8"
    encoding = path_lists.encoding_of(data)
    try:
        text = data.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not {encoding.upper()}", hint
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{path}, line {line}: a zero byte; is this a text file?", hint)
    return text


def _read_parquet(path: Path) -> Table:
    extras.need(str(path), "pyarrow", instead="or give a .csv")
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            names = list(file.schema_arrow.names)
            places = columns(path, names)
            kinds = file.schema_arrow
            for name, place in list(places.items()):
                kind = kinds.field(place).type
                if pyarrow.types.is_nested(kind) or pyarrow.types.is_binary(kind):
                    if name not in (*NEEDED, *OPTIONAL):
                        del places[name]
                        continue
                    raise DataError(
                        f"{path}: column {name!r} holds {kind}",
                        "text is needed: paths of files, names of classes, several in one cell as "
                        f"sea{SEPARATOR}sun",
                    )
            picked = [names[place] for place in places.values()]
            content = file.read(columns=picked)
            lists = [content.column(name).to_pylist() for name in picked]
    except pyarrow.ArrowException as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path} is no Parquet file: {reason}", "write it again") from None
    rows = [
        (f"row {number}", dict(zip(places, map(_text_of, values), strict=True)))
        for number, values in enumerate(zip(*lists, strict=True), start=1)
    ]
    return table(path, rows, names, places)


def _text_of(value: object) -> str:
    """Return a cell as text; nothing, and pandas' NaN for it, are empty."""
    return "" if value is None or value != value else str(value)


def row(where: str, values: Cells) -> Row:
    """Make a row; the path keeps its blanks, in case the file has them too."""
    others = {name: values[name].strip() for name in ("label", *OPTIONAL) if name in values}
    others |= {name: plain(others[name]) for name in OPTIONAL if name in others}
    return Row(where, values["path"], **others)


def columns(path: Path, names: Sequence[str]) -> dict[str, int]:
    """Return where the columns are that are used, whatever the case of their names.

    Without a column label also all others that have a name: they may be classes.
    """
    bare = _in_ours([plain(name).lower() for name in names])
    known = (*NEEDED, *OPTIONAL)
    others = [at for at, name in enumerate(bare) if name and name not in known]
    if "path" not in bare or ("label" not in bare and not others):
        raise missing(path, "label" if "path" in bare else "path", names)
    twice = [name for name in known if Counter(bare)[name] > 1]
    places = {name: bare.index(name) for name in known if name in bare}
    if "label" not in bare:
        marks = [names[at].strip() for at in others]
        twice += [name for name, count in Counter(marks).items() if count > 1]
        places |= dict(zip(marks, others, strict=True))
    if twice:
        raise DataError(f"{path} has the column {twice[0]!r} more than once", "rename all but one")
    return places


def _in_ours(names: list[str]) -> list[str]:
    """Return names of columns with the first that others give to a needed one in its place."""
    for ours, theirs in THEIRS.items():
        found = next((name for name in theirs if name in names), "")
        if found and ours not in names:
            names = [ours if name == found else name for name in names]
    return names


def missing(path: Path, name: str, names: Sequence[str]) -> DataError:
    """Return the error of a table without a column that is needed."""
    bare = [plain(other).lower() for other in names]
    close = nearest(name, [other for other in bare if other not in NEEDED])
    marks = f"; {MARKS}" if name == "label" else ""
    return DataError(
        f"{path} has no column {name!r}; it has {listed(names, 20) or 'none'}",
        f"{close} {COLUMNS}, named in its first line{marks}".lstrip(),
    )


def table(
    path: Path, found: list[tuple[str, Cells]], names: Sequence[str], places: dict[str, int]
) -> Table:
    if not found:
        raise DataError(f"{path} lists no photos", f"{COLUMNS}, and a line for each photo")
    classes: tuple[str, ...] = ()
    if "label" not in places:
        classes = _marked(path, found, names)
    rows = [row(*each) for each in found]
    used = [name for name in places if name in (*NEEDED, *OPTIONAL, *classes)]
    taken = {places[name] for name in used}
    extra = tuple(name for place, name in enumerate(names) if place not in taken)
    several = bool(classes) or any(SEPARATOR in each.label for each in rows)
    return Table(rows, extra, several, classes)


def _marked(path: Path, found: list[tuple[str, Cells]], names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that are classes; a row's labels become those that are 1 there."""
    known = (*NEEDED, *OPTIONAL)
    others = [name for name in found[0][1] if name not in known]
    classes = [
        name
        for name in others
        if any(values[name].strip().lower() in (*YES, *NO) for _, values in found)
    ]
    if not classes:
        raise missing(path, "label", names)
    for name in classes:
        if SEPARATOR in name:
            raise DataError(
                f"{path}: the class {name!r} has a {SEPARATOR} in its name",
                f"rename the column: {SEPARATOR} stands between labels",
            )
    for where, values in found:
        here = []
        for name in classes:
            text = values[name].strip().lower()
            if text not in (*YES, *NO):
                raise DataError(
                    f"{path}, {where}: column {name!r} is {text!r}, in other lines 0 or 1",
                    f"{MARKS}: put 0 or 1 there, or remove the column",
                )
            if text in YES:
                here.append(name)
        values["label"] = SEPARATOR.join(here)
    return tuple(classes)
