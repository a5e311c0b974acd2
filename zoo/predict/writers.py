"""Predictions to CSV, JSON lines or Parquet, by suffix; a file appears when it is complete.

Names are written as `zoo.text` says, the same in all three. A CSV quotes what needs it; `safe` puts
a ' before what a spreadsheet takes for a formula.

Of a multi-label network `label` and `probability` are those of every class that reaches its
threshold: lists, in CSV with | between them; with top > 1 the likeliest classes are class_1 ….
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from zoo import extras
from zoo.data.samples import SEPARATOR
from zoo.disk import writing
from zoo.errors import UsageError, ZooError
from zoo.predict.rows import Prediction
from zoo.text import as_data, csv_line, show_name
from zoo.watch import undoing

if TYPE_CHECKING:
    import pyarrow

SUFFIXES = (".csv", ".jsonl", ".parquet")
GROUP = 10_000
NUMBERS = ("probability", "distance")  # how the names of columns of numbers begin

Cell = str | float | list[str] | list[float] | None
Row = dict[str, Cell]
Write = Callable[[Row], None]


def check(path: Path | None, suffixes: tuple[str, ...] = SUFFIXES, flag: str = "-o") -> None:
    """Raise UsageError for a place or a suffix that is none, before anything is computed."""
    if path is None:
        return
    if path.is_dir():
        raise UsageError(f"{flag} {path} is a folder", "give a file name")
    if (suffix := path.suffix.lower()) not in suffixes:
        near = next((one for one in suffixes if suffix and one.startswith(suffix)), suffixes[0])
        stem = path.stem.strip("-") or "output"
        raise UsageError(
            f"{flag} {path}: the suffix '{path.suffix}' names no format"
            if path.suffix
            else f"{flag} {path}: it has no suffix, which names the format",
            f"use one of {', '.join(suffixes)}, as in {stem}{near}",
        )
    if not path.parent.is_dir():
        raise UsageError(
            f"{flag} {path}: there is no folder {path.parent}",
            f"make it: `mkdir -p {shlex.quote(str(path.parent))}`",
        )
    if suffix == ".parquet":
        extras.need(f"{flag} {path}", "pyarrow", instead="or write .csv")


def check_safe(safe: bool, path: Path | None, json: bool = False) -> None:
    """Raise UsageError where a CSV for a spreadsheet, or JSON on stdout, is wanted of another."""
    if json and (safe or path is not None):
        raise UsageError(
            f"--json with {'--csv-safe' if safe else f'-o {path}'}: JSON goes to stdout",
            "leave --json out: -o FILE.jsonl writes a file of JSON lines",
        )
    if safe and path is not None and path.suffix.lower() != ".csv":
        raise UsageError(
            f"--csv-safe with -o {path}: that is no CSV",
            "give -o FILE.csv, or leave --csv-safe out: no other format holds formulas",
        )


@dataclass(frozen=True, slots=True)
class Form:
    """What rows look like: so many classes, of a multi-label network where `several`.

    safe: for a spreadsheet. more: columns that a Policy adds.
    """

    top: int = 1
    several: bool = False
    safe: bool = False
    more: tuple[str, ...] = ()
    json: bool = False  # on stdout, a JSON array

    @property
    def columns(self) -> list[str]:
        names = ["path", "status", "label", "probability"]
        first, what = (1, "class") if self.several else (2, "label")
        for rank in range(first, self.top + 1 if self.top > 1 else 0):
            names += [f"{what}_{rank}", f"probability_{rank}"]
        return [*names, *self.more, "error"]


def as_row(prediction: Prediction, names: list[str]) -> Row:
    """Return the cells of a prediction, by the names of their columns."""
    values: Row = dict.fromkeys(names)
    values |= {"path": prediction.path, "status": prediction.status}
    values["error"] = prediction.error or None
    if "distance" in values:
        values["distance"] = prediction.distance
    if "set" in values:
        values["set"] = None if prediction.told is None else list(prediction.told)
    pairs = zip(prediction.labels, prediction.probabilities, strict=True)
    if prediction.reached is not None:
        values["label"] = [name for name, _ in prediction.reached]
        values["probability"] = [probability for _, probability in prediction.reached]
        for rank, pair in enumerate(pairs, start=1):
            if f"class_{rank}" in values:
                values[f"class_{rank}"], values[f"probability_{rank}"] = pair
        return values
    for rank, (label, probability) in enumerate(pairs, start=1):
        suffix = "" if rank == 1 else f"_{rank}"
        if "label" + suffix in values:
            values["label" + suffix], values["probability" + suffix] = label, probability
    if prediction.status in ("rejected", "unknown"):
        values["label"] = None
    return values


def write(rows: Iterable[Prediction], path: Path | None, stdout: IO[str], form: Form) -> int:
    """Write every row; return how many. What is unfinished stays behind as PATH.partial."""
    names = form.columns
    cells = (as_object(each, form) if form.json else as_row(each, names) for each in rows)
    return write_rows(cells, path, stdout, form)


def write_rows(rows: Iterable[Row], path: Path | None, stdout: IO[str], form: Form) -> int:
    """Write rows that have their cells already, as `write` does."""
    names, count = form.columns, 0
    if path is None:
        with _json_rows(stdout) if form.json else _csv_rows(stdout, names, form.safe) as put:
            for row in rows:
                put(row)
                count += 1
        return count
    partial = path.with_name(path.name + ".partial")
    try:
        with (
            undoing(lambda: partial.unlink(missing_ok=True)),  # its last line may be half a one
            writing(path),
            _opened(partial, names, form) as put,
        ):
            for row in rows:
                put(row)
                count += 1
        with writing(path):
            os.replace(partial, path)
    except ZooError as error:
        if path.suffix.lower() != ".parquet" and count and partial.exists():
            error.hint += f"; what was written so far is in {partial}"
        else:
            partial.unlink(missing_ok=True)
        raise
    return count


@contextmanager
def _opened(path: Path, names: list[str], form: Form) -> Iterator[Write]:
    suffix = path.with_suffix("").suffix.lower()  # behind it is .partial
    if suffix == ".parquet":
        with _parquet_rows(path, form) as put:
            yield put
        return
    with open(path, "w", newline="", encoding="utf-8") as file:
        if suffix == ".csv":
            with _csv_rows(file, names, form.safe) as put:
                yield put
        else:
            yield lambda values: print(json.dumps(shown(values)), file=file)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _csv_rows(file: IO[str], names: list[str], safe: bool) -> Iterator[Write]:
    how = {"safe": safe, "screen": as_data(file)}
    file.write(csv_line(names, **how))

    def put(values: Row) -> None:
        file.write(csv_line((_text(values[name]) for name in names), **how))

    yield put


@contextmanager
def _json_rows(file: IO[str]) -> Iterator[Write]:
    """Write an array, an object a line, while the rows come."""
    file.write("[")
    first = [""]

    def put(values: Row) -> None:
        file.write(f"{first[0]}\n  {json.dumps(shown(values))}")
        first[0] = ","

    yield put
    file.write("\n]\n")


def as_object(prediction: Prediction, form: Form) -> Row:
    """Return a row for JSON: the top classes are lists, the likeliest first."""
    values = as_row(prediction, ["path", "status", "label", "probability", *form.more, "error"])
    if form.top > 1:
        values["labels"] = list(prediction.labels[: form.top])
        values["probabilities"] = list(prediction.probabilities[: form.top])
    return values


def shown(values: Row) -> Row:
    """Return a row whose texts any encoding can hold."""
    return {name: _show(value) for name, value in values.items()}


def _show(value: Cell) -> Cell:
    if isinstance(value, list):
        return [show_name(each) if isinstance(each, str) else each for each in value]  # type: ignore[return-value]
    return show_name(value) if isinstance(value, str) else value


def _text(value: Cell) -> str | None:
    """Return a value as it stands in a CSV."""
    if isinstance(value, list):
        return SEPARATOR.join(_text(each) or "" for each in value)
    return f"{value:.6g}" if isinstance(value, float) else value


def parquet_schema(form: Form) -> pyarrow.Schema:
    """Return the types of the columns in Parquet."""
    import pyarrow as pa

    names = form.columns
    kinds = [pa.float64() if name.startswith(NUMBERS) else pa.string() for name in names]
    if "set" in names:
        kinds[names.index("set")] = pa.list_(pa.string())
    if form.several:
        kinds[2:4] = pa.list_(pa.string()), pa.list_(pa.float64())
    return pa.schema(list(zip(names, kinds, strict=True)))


@contextmanager
def _parquet_rows(path: Path, form: Form) -> Iterator[Write]:
    with in_groups(path, parquet_schema(form), GROUP) as put:
        yield lambda values: put(shown(values))


@contextmanager
def in_groups(path: Path, schema: pyarrow.Schema, rows: int) -> Iterator[Callable[[Any], None]]:
    """Write Parquet, in row groups of so many rows; each comes as a dictionary."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    waiting: list[Any] = []

    def put(values: Any) -> None:
        waiting.append(values)
        if len(waiting) >= rows:
            flush()

    def flush() -> None:
        if waiting:
            writer.write_table(pa.Table.from_pylist(waiting, schema))
            waiting.clear()

    with pq.ParquetWriter(path, schema) as writer:
        yield put
        flush()
