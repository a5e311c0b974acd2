"""zoo list: the catalogue, at once; and what torchvision and timm have beside it."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from zoo import catalog
from zoo.catalog import ModelSpec, Wanted
from zoo.cli.console import Screen, out, print_json, table, talk
from zoo.errors import UnknownModel, UsageError, nearest
from zoo.text import short

LIBRARIES = ("torchvision", "timm")
TASKS = ("classify", "reconstruct")
MOST_MEASURED = 100  # models of a library that are built, without data, to be measured
NUMBER = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)\s*([kMGB]?)", re.IGNORECASE)
BYTES = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)\s*([kMG]?)B?", re.IGNORECASE)
UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9}


def command(
    pattern: Annotated[
        str | None, typer.Argument(help="Part of a name, or a glob; torchvision/… or timm/….")
    ] = None,
    family: Annotated[str | None, typer.Option(help="One family, as resnet.")] = None,
    task: Annotated[str | None, typer.Option(help="classify, or reconstruct.")] = None,
    max_params: Annotated[str | None, typer.Option(help="At most so many, as 30M.")] = None,
    max_macs: Annotated[str | None, typer.Option(help="Multiply-adds of a picture, as 5G.")] = None,
    max_memory: Annotated[
        str | None, typer.Option(help="Most memory of a forward pass, as 100MB.")
    ] = None,
    min_acc1: Annotated[float | None, typer.Option(help="ImageNet top-1, percent.")] = None,
    licence: Annotated[str | None, typer.Option(help="`permissive`, or a name.")] = None,
    trained: Annotated[bool, typer.Option("--trained", help="Only with weights.")] = False,
    sort: Annotated[str | None, typer.Option(help="By params, macs, memory, acc1, year, …")] = None,
    wide: Annotated[bool, typer.Option("--wide", help="All columns.")] = False,
    timm: Annotated[str | None, typer.Option(hidden=True)] = None,
    torchvision: Annotated[str | None, typer.Option(hidden=True)] = None,
    json: Annotated[bool, typer.Option("--json", help="For machines: everything.")] = False,
) -> None:
    """The catalogue: networks with their size, memory, accuracy, weights and licence."""
    for name, like in (("timm", timm), ("torchvision", torchvision)):
        pattern = pattern if like is None else f"{name}/{like}"
    wanted = Wanted(
        pattern=pattern,
        family=family,
        task=task,
        max_params=amount("--max-params", max_params, NUMBER, "30M, 500k or 25600000"),
        max_macs=amount("--max-macs", max_macs, NUMBER, "5G, 300M or 4089184256"),
        max_memory=amount("--max-memory", max_memory, BYTES, "100MB, 1.5GB or 104857600"),
        min_acc1=min_acc1,
        licence=licence,
        trained=trained,
    )
    if task is not None and task.lower() not in TASKS:
        raise UsageError(f"--task {task}: no such task", f"one of: {', '.join(TASKS)}")
    rows, found = select(wanted, sort)
    column = SORTED.get(sort or "")
    if column and found and all(cells(row, [column]) == ("-",) for row in found):
        talk(f"not sorted: {column} of none of these models is known; --sort params is measured")
    if json:
        print_json([record(row) for row in found])
    elif found:
        show(found, wide, is_library=wanted.pattern is not None and "/" in found[0].name)
    else:
        raise nothing(wanted, rows)


def amount(flag: str, text: str | None, form: re.Pattern[str], right: str) -> int | None:
    """`30M` as 30,000,000. Raises UsageError."""
    if text is None:
        return None
    match = form.fullmatch(text.strip())
    if not match:
        raise UsageError(f"{flag} {text}: not a number", f"write {right}")
    return int(float(match[1]) * UNITS[match[2].lower()])


# Which rows


def select(wanted: Wanted, sort: str | None) -> tuple[list[ModelSpec], list[ModelSpec]]:
    """All rows that were looked at, and those that are wanted."""
    from dataclasses import asdict

    catalog.search([], sort)  # a wrong key is told before seconds are spent
    library, slash, rest = (wanted.pattern or "").partition("/")
    if not slash or library not in LIBRARIES:
        rows = list(catalog.ROWS.values())
        return rows, catalog.search(rows, sort, **asdict(wanted))
    talk(f"asking {library} …")
    rows = library_rows(library, rest)
    conditions = asdict(wanted) | {"pattern": None}
    if fields := wanted.measures(sort):
        free = {**conditions, **{f"max_{field}": None for field in fields}}
        rows = measured(wanted.pattern or "", catalog.search(rows, **free), fields)
    return rows, catalog.search(rows, sort, **conditions)


def library_rows(library: str, pattern: str) -> list[ModelSpec]:
    from zoo.models import library as libraries

    return libraries.rows(library, pattern)


def measured(pattern: str, rows: list[ModelSpec], fields: Sequence[str]) -> list[ModelSpec]:
    """The rows with these fields filled in; a model that cannot be a chain is left out, and told.

    Raises UsageError where that would mean to build too many.
    """
    from zoo.models import library

    lacking = [row for row in rows if not all(getattr(row, field) for field in fields)]
    if len(lacking) > MOST_MEASURED:
        raise UsageError(
            f"{' and '.join(fields)} of {len(lacking)} models like '{pattern}' are known "
            f"only once each is built; at most {MOST_MEASURED} are, for one list",
            "narrow the pattern or add a condition, as in `zoo list 'timm/resnet18*' …`",
        )
    made, refused = {}, []
    with Screen() as screen:
        for count, row in enumerate(lacking):
            screen.progress("measured", count, len(lacking))
            try:
                made[row.name] = library.measured(row)
            except UnknownModel:
                refused.append(row.name)
    if refused:
        talk(f"left out, since `zoo` cannot use them: {', '.join(refused)}")
    return [made.get(row.name, row) for row in rows if row.name not in refused]


def nothing(wanted: Wanted, rows: Sequence[ModelSpec]) -> UsageError:
    """Why no row is wanted, with the nearest words."""
    pattern, names = wanted.pattern, known_names(wanted.pattern)
    if pattern is not None and not catalog.search(rows, pattern=pattern):
        close = nearest(re.sub(r"[*?\[\]]", "", pattern.lower()), names)
        return UsageError(
            f"no model is like '{pattern}'" + (f"; {close}" if close else ""),
            "give a part of a name or a glob: `zoo list 'resnet*'`, `zoo list 'timm/*mobile*'`",
        )
    for flag, value, known in (
        ("family", wanted.family, {row.family for row in rows}),
        ("licence", wanted.licence, licences(rows)),
    ):
        if value is not None and not any(one.lower().startswith(value.lower()) for one in known):
            close = nearest(value, known)
            return UsageError(
                f"no model fits: no {flag} here is '{value}'" + (f"; {close}" if close else ""),
                f"one of: {', '.join(sorted(known))}",
            )
    return UsageError("no model fits these conditions", "leave one out; `zoo list` shows all")


def known_names(pattern: str | None) -> list[str]:
    library, slash, _ = (pattern or "").partition("/")
    if slash and library in LIBRARIES:
        from zoo.models import library as libraries

        return libraries.names(library)
    return list(catalog.ROWS)


def licences(rows: Sequence[ModelSpec]) -> set[str]:
    return {"permissive", *(each.licence for row in rows for each in row.weights if each.licence)}


# What is shown of a row


def size(number: int | None) -> str:
    """Bytes: 102,530,000 as 103 MB."""
    if not number:
        return "-"
    text = short(number)
    return f"{text[:-1]} {text[-1]}B" if text[-1].isalpha() else f"{text} B"


def accuracy(value: float | None) -> str:
    return f"{value:.2f}" if value else "-"


def _of_weights(show: Callable[[catalog.Weights], str]) -> Callable[[ModelSpec], str]:
    return lambda row: (show(row.default_weights) if row.default_weights else "") or "-"


COLUMNS: dict[str, Callable[[ModelSpec], str]] = {
    "model": lambda row: row.name,
    "family": lambda row: row.family,
    "task": lambda row: row.task,
    "year": lambda row: str(row.year or "-"),
    "params": lambda row: short(row.params or None),
    "mult-adds": lambda row: short(row.macs or None),
    "memory": lambda row: size(row.memory),
    "input": lambda row: f"{row.preprocess.size} px",  # always square
    "classes": lambda row: str(row.num_classes or "-"),
    "top-1": _of_weights(lambda weights: accuracy(weights.acc1)),
    "top-5": _of_weights(lambda weights: accuracy(weights.acc5)),
    "file": _of_weights(lambda weights: size(weights.size)),
    "licence": _of_weights(lambda weights: weights.licence),
    "weights": lambda row: ", ".join(each.tag for each in row.weights) or "-",
    "paper": lambda row: row.paper or "-",
}
HEADER = ("model", "year", "params", "mult-adds", "memory", "input", "top-1", "top-5", "file",
          "licence")  # fmt: skip
TEXT = ("model", "family", "task", "licence", "weights", "paper")
SORTED = {"acc1": "top-1", "acc5": "top-5", "size": "file", "year": "year"}  # may be unknown
DROPPED = ("top-5", "file", "year", "mult-adds", "licence", "input")  # first to last


def cells(row: ModelSpec, columns: Sequence[str] = HEADER) -> tuple[str, ...]:
    return tuple(COLUMNS[column](row) for column in columns)


def lines(rows: Sequence[ModelSpec], columns: Sequence[str]) -> list[str]:
    right = "".join(" " if column in TEXT else "r" for column in columns)
    return table([cells(row, columns) for row in rows], columns, right)


def show(rows: Sequence[ModelSpec], wide: bool, is_library: bool) -> None:
    """The table; on a terminal too narrow for it, without the columns that are least wanted.

    Of a library only the columns are shown of which it knows something.
    """
    columns = list(COLUMNS) if wide else [*HEADER, *(["classes"] if is_library else [])]
    if is_library:
        columns = [name for name in columns if any(cells(row, [name]) != ("-",) for row in rows)]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    drop = [] if wide else [column for column in DROPPED if column in columns]
    left_out = []
    while drop and len(max(lines(rows, columns), key=len)) > width:
        left_out.append(drop.pop(0))
        columns.remove(left_out[-1])
    out("\n".join(lines(rows, columns)))
    if left_out:
        talk(f"left out: {', '.join(left_out)}; --wide shows all columns")
    if is_library and not all(row.activations for row in rows):
        talk("what is not shown is known once a model is built: zoo info MODEL")


def record(row: ModelSpec) -> dict[str, Any]:
    """Everything, as JSON; what is not known is null."""
    from dataclasses import asdict

    made = asdict(row)
    for key in ("year", "params", "macs", "activations"):
        made[key] = made[key] or None
    made["memory"] = row.memory or None
    for weights, shown in zip(row.weights, made["weights"], strict=True):
        shown["size"] = weights.size
    return made
