"""zoo list: the catalogue, at once."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from zoo import catalog
from zoo.catalog import ModelSpec
from zoo.cli.screen import print_json, short, table
from zoo.errors import UsageError

HEADER = ("model", "family", "year", "params", "mult-adds", "input", "top-1", "weights", "licence")
SIZE = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)\s*([kMGB]?)", re.IGNORECASE)
UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9}


def command(
    pattern: Annotated[str | None, typer.Argument(help="Part of a name, or a glob.")] = None,
    family: Annotated[str | None, typer.Option(help="One family, as in the table.")] = None,
    max_params: Annotated[str | None, typer.Option(help="At most so many, as 30M.")] = None,
    min_acc1: Annotated[float | None, typer.Option(help="ImageNet top-1, percent.")] = None,
    licence: Annotated[str | None, typer.Option(help="`permissive`, or a name.")] = None,
    sort: Annotated[str | None, typer.Option(help="Column: params, acc1, year, …")] = None,
    timm: Annotated[str | None, typer.Option(help="List timm's models like PATTERN.")] = None,
    torchvision: Annotated[str | None, typer.Option(help="List torchvision's models.")] = None,
    json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """The catalogue: networks with their size, accuracy, weights and licence."""
    if timm is not None or torchvision is not None:
        show_library(timm, torchvision, json)
        return
    limit = None if max_params is None else number(max_params)
    rows = catalog.search(pattern, family, limit, min_acc1, licence, sort)
    if json:
        print_json([record(row) for row in rows])
        return
    if not rows:
        raise UsageError(
            "no model fits these conditions", "run `zoo list` for all; --timm PATTERN for timm's"
        )
    print("\n".join(table([cells(row) for row in rows], HEADER, right="  rrrrr")))


def number(text: str) -> int:
    """`30M` as 30,000,000. Raises UsageError."""
    match = SIZE.fullmatch(text.strip())
    if not match:
        raise UsageError(f"--max-params {text}: not a number", "write 30M, 500k or 25600000")
    return int(float(match[1]) * UNITS[match[2].lower()])


def cells(row: ModelSpec) -> tuple[str, ...]:
    weights, size = row.default_weights, row.preprocess.size
    return (
        row.name,
        row.family,
        str(row.year),
        short(row.params),
        short(row.macs),
        f"{size} x {size}",
        f"{weights.acc1:.2f}" if weights and weights.acc1 else "-",
        ", ".join(each.tag for each in row.weights) or "-",
        weights.licence if weights else "-",
    )


def record(row: ModelSpec) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(row)


def show_library(timm: str | None, torchvision: str | None, as_json: bool) -> None:
    from zoo.models import library

    if timm is not None:
        rows = library.timm_list(timm)
        header: tuple[str, ...] = ("model", "input", "classes", "licence")
        lines = [(r["name"], str(r["size"]), str(r["classes"]), r["licence"]) for r in rows]
    else:
        rows = library.torchvision_list(torchvision or "*")
        header = ("model", "params", "top-1", "weights")
        lines = [
            (r["name"], short(r["params"]), f"{r['acc1']:.2f}", ", ".join(r["weights"]))
            for r in rows
        ]
    if as_json:
        print_json(rows)
        return
    if not rows:
        wanted = timm if timm is not None else torchvision
        raise UsageError(f"no model is like '{wanted}'", "patterns are globs: '*mobile*'")
    print("\n".join(table(lines, header, right=" rr")))
