"""zoo list: the catalogue and what is known of torchvision's and timm's models, at once."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import cache

from zoo import catalog, config, text
from zoo.catalog import ModelSpec, Wanted, shelves
from zoo.catalog.lectures import LECTURES
from zoo.catalog.spec import as_flag
from zoo.cli import layout
from zoo.cli.console import out, out_table, print_json, talk
from zoo.cli.options import argument, flag, options, shared
from zoo.errors import UsageError, or_nearest

WHICH = "Which models"
TASKS = ("classify", "reconstruct")
SOME = 30  # names that an error lists
UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
COUNTS = {**UNITS, "b": 1e9}
BYTES = {**UNITS, **{f"{unit}b": factor for unit, factor in UNITS.items()}}
AMOUNTS = {
    "max_params": (COUNTS, "30M, 500k or 25600000"),
    "max_macs": (COUNTS, "5G, 300M or 4089184256"),
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
    """List networks with their size, memory, accuracy, weights and licence.

    Alone it shows those worth trying and the catalogue's own. With a pattern, a condition or an
    order it looks into torchvision's and timm's as well, as this version knows them.
    """
    wanted = _conditions(flags)
    if wanted == Wanted() and flags.sort is None:
        _show_shelves(flags)
        return
    rows, found = _select(wanted, flags.sort)
    column = SORTED.get(flags.sort or "")
    if column and found and all(cells(row, [column]) == ("-",) for row in found):
        talk(f"not sorted: {column} of none of these models is known; --sort params is measured")
    if flags.json:
        print_json([record(row) for row in found])
    elif found:
        columns = _columns(found, flags.wide)
        out_table(_lines(found, columns, layout.width_of(sys.stdout)))
        if any(row.builder == "library" for row in found):
            talk(_freshness())
    else:
        raise _nothing(wanted, rows)


def shelved() -> list[tuple[str, list[ModelSpec]]]:
    """Return the rows of a plain list in groups, each with its heading."""
    others = catalog.libraries.read(shelves.WORTH_TRYING)
    teaching = [row.name for row in LECTURES]
    return shelves.shelves(catalog.ROWS, teaching, {row.name: row for row in others})


def _show_shelves(flags: Flags) -> None:
    """Print the rows of a plain list, with a heading above each group for the person."""
    groups = shelved()
    rows = [row for _, shelf in groups for row in shelf]
    if flags.json:
        print_json([record(row) for row in rows])
        return
    columns = _columns(rows, flags.wide)
    header, *lines = _lines(rows, columns)
    out(header, "title")
    for title, shelf in groups:
        sys.stdout.flush()
        talk(f"{title}:")
        for _ in shelf:
            out(lines.pop(0))
    sys.stdout.flush()
    more = len(catalog.libraries.names()) - len(groups[0][1])
    talk(f"{more:,} more: zoo list 'timm/*vit*', zoo list --max-params 5M --sort acc1")
    talk(_freshness())


def _freshness() -> str:
    """Return what the rows of the libraries were made from, and what an empty place means."""
    made = catalog.libraries.made_from()
    known = " and ".join(f"{name} {made[name]}" for name in catalog.LIBRARIES if name in made)
    return (
        f"made from {known}; - is not known. Of timm, accuracies are those that it publishes, at "
        "its test size, and a file is as large as its tensors in float32"
    )


def _conditions(flags: Flags) -> Wanted:
    """Return what the flags ask of a row. Raises UsageError."""
    if flags.task is not None and flags.task.lower() not in TASKS:
        raise UsageError(f"--task {flags.task}: no such task", f"one of: {', '.join(TASKS)}")
    pattern = flags.pattern
    for name, like in (("timm", flags.timm), ("torchvision", flags.torchvision)):
        pattern = pattern if like is None else f"{name}/{like}"
    given = {one.name: getattr(flags, one.name) for one in fields(Wanted)}
    for name, (units, right) in AMOUNTS.items():
        if (said := given[name]) is not None:
            number = text.amount(said.lower(), units)
            if number is None:
                flag = "--" + name.replace("_", "-")
                raise UsageError(f"{flag} {said}: not a number", f"write {right}")
            given[name] = int(number)
    return Wanted(**given | {"pattern": pattern})


# Which rows


def _select(wanted: Wanted, sort: str | None) -> tuple[list[ModelSpec], list[ModelSpec]]:
    """Return all rows that were looked at, and those that are wanted."""
    catalog.search([], sort)  # a wrong key is told first
    if library := catalog.library_of(wanted.pattern):
        rows = [row for row in catalog.libraries.read() if row.name.startswith(f"{library}/")]
        if not catalog.search(rows, pattern=wanted.pattern):
            rows = _ask(library, wanted.pattern or "")
    else:
        rows = catalog.everything(wanted.max_params)
    found = catalog.search(rows, sort, **asdict(wanted))
    if not found and not library:
        rows = catalog.everything()  # what is near to what is wanted
    return rows, found


def _ask(library: str, pattern: str) -> list[ModelSpec]:
    """Return what the installed library has: it may be newer than what is known of it."""
    from zoo.models import library as libraries

    talk(f"asking {library} …")
    return libraries.rows(library, pattern.partition("/")[2])


def _nothing(wanted: Wanted, rows: Sequence[ModelSpec]) -> UsageError:
    """Return the error that says why no row is wanted, with the nearest words."""
    pattern = wanted.pattern
    if pattern is not None and not catalog.search(rows, pattern=pattern):
        bare = re.sub(r"[*?\[\]]", "", pattern.lower())
        return UsageError(
            or_nearest(f"no model is like '{pattern}'", bare, _known_names(pattern)),
            "give a part of a name or a glob: `zoo list 'resnet*'`, `zoo list 'timm/*mobile*'`",
        )
    licences = {each.licence for row in rows for each in row.weights if each.licence}
    for what, value, known in (
        ("family", wanted.family, {row.family for row in rows}),
        ("licence", wanted.licence, {"permissive", *licences}),
    ):
        if value is not None and not any(one.lower().startswith(value.lower()) for one in known):
            some = f"one of: {', '.join(sorted(known))}" if len(known) <= SOME else ""
            return UsageError(
                or_nearest(f"no model fits: no {what} here is '{value}'", value, sorted(known)),
                some or f"`zoo list --wide` shows the {what} of each",
            )
    return UsageError("no model fits these conditions", "leave one out; `zoo list` shows all")


def _known_names(pattern: str) -> list[str]:
    if library := catalog.library_of(pattern):
        known = catalog.libraries.names()
        return list(dict.fromkeys(n.partition(".")[0] for n in known if n.startswith(library)))
    bare = (n.partition("/")[2].partition(".")[0] for n in catalog.libraries.names())
    return list(dict.fromkeys([*catalog.ROWS, *bare]))


# What is shown of a row


def size(number: int | None) -> str:
    """Return bytes in words, 102,530,000 as 103 MB; a dash where they are not known."""
    return text.size(number) if number else "-"


def accuracy(value: float | None) -> str:
    return f"{value:.2f}" if value else "-"


def _of_weights(show: Callable[[catalog.Weights], str]) -> Callable[[ModelSpec], str]:
    return lambda row: (show(row.default_weights) if row.default_weights else "") or "-"


def held() -> frozenset[str]:
    """Return the names of the files of weights that are on this machine; none of them is opened."""
    from zoo.disk import cache_folder

    folder = config.value("weights").removeprefix("file://")
    return _files(str(cache_folder() / "weights"), os.path.expanduser(folder))


@cache
def _files(*folders: str) -> frozenset[str]:
    """Return the names in folders, of which there may be none; asked for each row of a list."""
    found: set[str] = set()
    for folder in filter(None, folders):
        with suppress(OSError):
            found.update(os.listdir(folder))
    return frozenset(found)


def _outputs(row: ModelSpec) -> str:
    """Return how many classes a network tells apart; some give features and no classes."""
    return str(row.num_classes or ("features" if row.builder == "library" else "-"))


COLUMNS: dict[str, Callable[[ModelSpec], str]] = {
    "model": lambda row: row.name,
    "family": lambda row: row.family,
    "task": lambda row: row.task,
    "year": lambda row: str(row.year or "-"),
    "params": lambda row: text.short(row.params or None),
    "MACs": lambda row: text.short(row.macs or None),
    "memory": lambda row: size(row.memory),
    "input": lambda row: f"{as_flag(row.preprocess.size)} px",
    "classes": lambda row: _outputs(row),
    "top-1": _of_weights(lambda weights: accuracy(weights.acc1)),
    "top-5": _of_weights(lambda weights: accuracy(weights.acc5)),
    "file": _of_weights(lambda weights: size(weights.size)),
    "licence": _of_weights(lambda weights: weights.licence),
    "here": lambda row: "yes" if any(one.file in held() for one in row.weights) else "-",
    "weights": lambda row: ", ".join(each.tag for each in row.weights) or "-",
    "paper": lambda row: row.paper or "-",
}
HEADER = ("model", "year", "params", "MACs", "memory", "input", "top-1", "top-5", "file",
          "licence")  # fmt: skip
TEXT = ("model", "family", "task", "licence", "here", "weights", "paper")
SORTED = {"acc1": "top-1", "acc5": "top-5", "size": "file", "year": "year"}  # may be unknown
DROPPED = (
    "top-5",
    "file",
    "year",
    "MACs",
    "licence",
    "input",
    "memory",
    "classes",
    "params",
)  # fmt: skip; first to last


def cells(row: ModelSpec, columns: Sequence[str] = HEADER) -> tuple[str, ...]:
    return tuple(COLUMNS[column](row) for column in columns)


def _lines(
    rows: Sequence[ModelSpec], columns: Sequence[str], width: int | None = None
) -> list[str]:
    right = "".join(" " if column in TEXT else "r" for column in columns)
    return layout.table([cells(row, columns) for row in rows], columns, right, width)


def _columns(rows: Sequence[ModelSpec], wide: bool) -> list[str]:
    """Return the columns to show; on a narrow terminal without those that are least wanted.

    Some are shown only where they tell something: `classes` and `here`.
    """
    columns = list(COLUMNS) if wide else list(HEADER)
    if not wide:
        if any(row.builder == "library" and row.num_classes != 1000 for row in rows):
            columns.insert(columns.index("input") + 1, "classes")
        if any(cells(row, ["here"]) == ("yes",) for row in rows):
            columns.append("here")
    width = layout.width_of(sys.stdout) or sys.maxsize
    drop = [] if wide else [column for column in DROPPED if column in columns]
    left_out = []
    while drop and max(map(len, _lines(rows, columns))) > width:
        left_out.append(drop.pop(0))
        columns.remove(left_out[-1])
    if left_out:
        talk(f"left out: {', '.join(left_out)}; --wide shows all columns")
    return columns


def record(row: ModelSpec) -> dict[str, object]:
    """Return everything about a row for JSON; what is not known is None."""
    return {
        **asdict(row),
        **{key: getattr(row, key) or None for key in ("year", "params", "macs", "activations")},
        "features": _outputs(row) == "features",
        "weights": [weights_record(each) for each in row.weights],
        "memory": row.memory or None,
    }


def weights_record(weights: catalog.Weights) -> dict[str, object]:
    return {**asdict(weights), "size": weights.size, "here": weights.file in held()}
