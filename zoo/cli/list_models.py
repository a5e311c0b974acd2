"""zoo list: the catalogue, at once; and what torchvision and timm have beside it."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields

from zoo import catalog, text
from zoo.catalog import ModelSpec, Wanted
from zoo.cli.console import Screen, out, print_json, table, talk
from zoo.cli.options import argument, flag, options, shared
from zoo.errors import UnknownModel, UsageError, nearest

WHICH = "Which models"
LIBRARIES = ("torchvision", "timm")
TASKS = ("classify", "reconstruct")
MOST_MEASURED = 100  # models of a library that are built, without data, to be measured
NUMBER = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)\s*([kMGB]?)", re.IGNORECASE)
BYTES = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)\s*([kMG]?)B?", re.IGNORECASE)
UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9}
AMOUNTS = {
    "max_params": (NUMBER, "30M, 500k or 25600000"),
    "max_macs": (NUMBER, "5G, 300M or 4089184256"),
    "max_memory": (BYTES, "100MB, 1.5GB or 104857600"),
}


@dataclass(frozen=True)
class Flags:
    pattern: str | None = argument(
        "Part of a name or a glob, as 'resnet*'; timm/… and torchvision/… list theirs.", None
    )
    family: str | None = flag("Models of this family, as resnet.", WHICH)
    task: str | None = flag("Models for this task: classify or reconstruct.", WHICH)
    max_params: str | None = flag("Most parameters, as 30M or 500k.", WHICH)
    max_macs: str | None = flag("Most multiply-adds for a picture, as 5G.", WHICH)
    max_memory: str | None = flag("Most memory to run a picture, as 100MB.", WHICH)
    min_acc1: float | None = flag("Least ImageNet top-1 accuracy in percent, as 75.", WHICH)
    licence: str | None = flag(
        "Licence of the weights: permissive, or how its name begins, as MIT.", WHICH
    )
    trained: bool = flag("Models with published weights.", WHICH, False)
    sort: str | None = flag(f"Order by {', '.join(catalog.SORT_KEYS)}.")
    wide: bool = flag("Show all columns.", default=False)
    timm: str | None = flag("The pattern timm/….", hidden=True)
    torchvision: str | None = flag("The pattern torchvision/….", hidden=True)
    json: bool = shared("json")


@options
def command(flags: Flags) -> None:
    """List the catalogue: networks with their size, memory, accuracy, weights and licence."""
    wanted = _conditions(flags)
    rows, found = _select(wanted, flags.sort)
    column = SORTED.get(flags.sort or "")
    if column and found and all(cells(row, [column]) == ("-",) for row in found):
        talk(f"not sorted: {column} of none of these models is known; --sort params is measured")
    if flags.json:
        print_json([record(row) for row in found])
    elif found:
        _show(found, flags.wide, is_library=wanted.pattern is not None and "/" in found[0].name)
    else:
        raise _nothing(wanted, rows)


def _conditions(flags: Flags) -> Wanted:
    """Return what the flags ask of a row. Raises UsageError."""
    if flags.task is not None and flags.task.lower() not in TASKS:
        raise UsageError(f"--task {flags.task}: no such task", f"one of: {', '.join(TASKS)}")
    pattern = flags.pattern
    for name, like in (("timm", flags.timm), ("torchvision", flags.torchvision)):
        pattern = pattern if like is None else f"{name}/{like}"
    given = {one.name: getattr(flags, one.name) for one in fields(Wanted)}
    for name, (form, right) in AMOUNTS.items():
        given[name] = amount("--" + name.replace("_", "-"), given[name], form, right)
    return Wanted(**given | {"pattern": pattern})


def amount(flag: str, text: str | None, form: re.Pattern[str], right: str) -> int | None:
    """Return 30,000,000 for `30M`. Raises UsageError."""
    if text is None:
        return None
    match = form.fullmatch(text.strip())
    if not match:
        raise UsageError(f"{flag} {text}: not a number", f"write {right}")
    return int(float(match[1]) * UNITS[match[2].lower()])


# Which rows


def _library(pattern: str | None) -> str:
    """Return the library whose models a pattern names, or nothing."""
    library, slash, _ = (pattern or "").partition("/")
    return library if slash and library in LIBRARIES else ""


def _select(wanted: Wanted, sort: str | None) -> tuple[list[ModelSpec], list[ModelSpec]]:
    """Return all rows that were looked at, and those that are wanted."""
    catalog.search([], sort)  # a wrong key is told before seconds are spent
    library, pattern = _library(wanted.pattern), wanted.pattern or ""
    if not library:
        rows = list(catalog.ROWS.values())
        return rows, catalog.search(rows, sort, **asdict(wanted))
    from zoo.models import library as libraries

    talk(f"asking {library} …")
    rows = libraries.rows(library, pattern.partition("/")[2])
    conditions = asdict(wanted) | {"pattern": None}
    if fields := wanted.measures(sort):
        free = {**conditions, **{f"max_{field}": None for field in fields}}
        rows = _measured(pattern, catalog.search(rows, **free), fields)
    return rows, catalog.search(rows, sort, **conditions)


def _measured(pattern: str, rows: list[ModelSpec], fields: Sequence[str]) -> list[ModelSpec]:
    """Return the rows with these fields filled in, without the models that cannot be a chain.

    Raises UsageError where too many would have to be built.
    """
    from zoo.models import library

    lacking = [row for row in rows if not all(getattr(row, field) for field in fields)]
    if len(lacking) > MOST_MEASURED:
        raise UsageError(
            f"{' and '.join(fields)} of {len(lacking)} models like '{pattern}' are known "
            f"only once each is built; at most {MOST_MEASURED} are, for one list",
            "narrow the pattern or add a condition, as in `zoo list 'timm/resnet18*' …`",
        )
    measured, refused = {}, []
    with Screen() as screen:
        for count, row in enumerate(lacking):
            screen.progress("measured", count, len(lacking))
            try:
                measured[row.name] = library.measured(row)
            except UnknownModel:
                refused.append(row.name)
    if refused:
        talk(f"left out, since `zoo` cannot use them: {', '.join(refused)}")
    return [measured.get(row.name, row) for row in rows if row.name not in refused]


def _nothing(wanted: Wanted, rows: Sequence[ModelSpec]) -> UsageError:
    """Return the error that says why no row is wanted, with the nearest words."""
    pattern = wanted.pattern
    if pattern is not None and not catalog.search(rows, pattern=pattern):
        close = nearest(re.sub(r"[*?\[\]]", "", pattern.lower()), _known_names(pattern))
        return UsageError(
            f"no model is like '{pattern}'" + (f"; {close}" if close else ""),
            "give a part of a name or a glob: `zoo list 'resnet*'`, `zoo list 'timm/*mobile*'`",
        )
    licences = {each.licence for row in rows for each in row.weights if each.licence}
    for what, value, known in (
        ("family", wanted.family, {row.family for row in rows}),
        ("licence", wanted.licence, {"permissive", *licences}),
    ):
        if value is not None and not any(one.lower().startswith(value.lower()) for one in known):
            close = nearest(value, known)
            return UsageError(
                f"no model fits: no {what} here is '{value}'" + (f"; {close}" if close else ""),
                f"one of: {', '.join(sorted(known))}",
            )
    return UsageError("no model fits these conditions", "leave one out; `zoo list` shows all")


def _known_names(pattern: str) -> list[str]:
    if not (library := _library(pattern)):
        return list(catalog.ROWS)
    from zoo.models import library as libraries

    return libraries.names(library)


# What is shown of a row


def size(number: int | None) -> str:
    """Return bytes in words, 102,530,000 as 103 MB; a dash where they are not known."""
    return text.size(number) if number else "-"


def accuracy(value: float | None) -> str:
    return f"{value:.2f}" if value else "-"


def _of_weights(show: Callable[[catalog.Weights], str]) -> Callable[[ModelSpec], str]:
    return lambda row: (show(row.default_weights) if row.default_weights else "") or "-"


COLUMNS: dict[str, Callable[[ModelSpec], str]] = {
    "model": lambda row: row.name,
    "family": lambda row: row.family,
    "task": lambda row: row.task,
    "year": lambda row: str(row.year or "-"),
    "params": lambda row: text.short(row.params or None),
    "mult-adds": lambda row: text.short(row.macs or None),
    "memory": lambda row: size(row.memory),
    "input": lambda row: f"{row.preprocess.size} px",  # always square
    "classes": lambda row: str(
        row.num_classes or ("-" if row.task == "reconstruct" else "features")
    ),
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


def _lines(rows: Sequence[ModelSpec], columns: Sequence[str]) -> list[str]:
    right = "".join(" " if column in TEXT else "r" for column in columns)
    return table([cells(row, columns) for row in rows], columns, right)


def _show(rows: Sequence[ModelSpec], wide: bool, is_library: bool) -> None:
    """Print the table; on a narrow terminal without the columns that are least wanted.

    A library's rows get only the columns of which something is known.
    """
    columns = list(COLUMNS) if wide else [*HEADER, *(["classes"] if is_library else [])]
    if is_library:
        columns = [name for name in columns if any(cells(row, [name]) != ("-",) for row in rows)]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    drop = [] if wide else [column for column in DROPPED if column in columns]
    left_out = []
    while drop and len(max(_lines(rows, columns), key=len)) > width:
        left_out.append(drop.pop(0))
        columns.remove(left_out[-1])
    out("\n".join(_lines(rows, columns)))
    if left_out:
        talk(f"left out: {', '.join(left_out)}; --wide shows all columns")
    if is_library and not all(row.activations for row in rows):
        talk("what is not shown is known once a model is built: zoo info MODEL")


def record(row: ModelSpec) -> dict[str, object]:
    """Return everything about a row for JSON; what is not known is None."""
    return {
        **asdict(row),
        **{key: getattr(row, key) or None for key in ("year", "params", "macs", "activations")},
        "weights": [weights_record(each) for each in row.weights],
        "memory": row.memory or None,
    }


def weights_record(weights: catalog.Weights) -> dict[str, object]:
    return {**asdict(weights), "size": weights.size}
