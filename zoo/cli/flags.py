"""The flags of a command that makes a plan: of the table of settings, and of what becomes of it."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from zoo.cli.completion import offer
from zoo.cli.options import flag as option
from zoo.cli.options import output, parameters, shared
from zoo.settings import table
from zoo.settings.setting import Setting


@dataclass(frozen=True)
class Way:
    """What becomes of a plan, and where else its settings are from."""

    output: Path | None = output("Run folder to make. Default: runs/MODEL-PHOTOS.")
    recipe: Path | None = shared("recipe")
    resume: Path | None = option("Finish this run with the settings that it has.")
    dry_run: bool = option("Print the plan and stop; nothing is written.", default=False)
    sheet: Path | None = option(
        "PNG of what the network is fed, drawn before training, as fed.png: some photos with "
        "their crop, and their views."
    )
    force: bool = option(
        "Overwrite the file of --sheet where it exists.", default=False, names=("-f", "--force")
    )
    no_report: bool = option("Leave out the page RUN/report.html.", default=False)
    ray: str | None = option(
        "Solve the head of a job's features with the nodes of the Ray cluster whose head is "
        "there. Default: here.",
        metavar="HOST:PORT",
    )
    json: bool = shared("json")


def named(record: Any) -> list[str]:
    """Return the names of the flags of a record that were given."""
    return [one.name for one in fields(record) if getattr(record, one.name) != one.default]


ARGUMENTS = ("model", "data")
Function = Callable[..., Any]


def settings(
    command: str, *records: type, without: Collection[str] = ()
) -> Callable[[Function], Function]:
    """Give a function a flag for each setting of this command, and for each field of records.

    It is called with the settings that were given, by name, and with the records. A name that both
    have is a record's. without: fields of records that are no flags here.
    """
    more = [each for record in records for each in parameters(record) if each.name not in without]
    names = {each.name for each in more}

    def add(function: Function) -> Function:
        @functools.wraps(function)
        def run(**typed: object) -> object:
            ours = [
                record(**{one.name: typed[one.name] for one in fields(record) if one.name in names})
                for record in records
            ]
            return function(given({key: typed[key] for key in typed if key not in names}), *ours)

        taken = [one for one in table().values() if command in one.commands]
        theirs = [
            inspect.Parameter(
                one.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=flag(one, command),
            )
            for one in taken
            if one.name not in names
        ]
        signature = inspect.Signature([*theirs, *more])
        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in signature.parameters.values()}
        return run

    return add


def flag(one: Setting, command: str) -> object:
    """Return how typer is told of a setting: what is not given is None: a file can say it."""
    if one.name in ARGUMENTS:
        told = typer.Argument(help=one.help_in(command), autocompletion=offer(one.name))
        return Annotated[str | None, told]
    name = "--" + one.name.replace("_", "-")
    kind = list[str] if one.name == "variant" else plain(one.kind)
    names = one.flags or (name,)
    if kind is bool and one.default is not False:
        names = (f"{name}/--no-{name[2:]}",)
    about: Any = {"help": one.help_in(command), "rich_help_panel": one.section}
    about["autocompletion"] = offer(one.name, one.choices)
    return Annotated[kind | None, typer.Option(*names, **about)]


def plain(kind: object) -> type:
    """Return the type that the command line reads.

    It is text for a list of choices, which the table checks.
    """
    if typing.get_origin(kind) is Literal:
        return str
    if typing.get_origin(kind) in (types.UnionType, typing.Union):  # with None
        return plain(typing.get_args(kind)[0])
    assert isinstance(kind, type)
    return kind


def given(flags: Mapping[str, object]) -> dict[str, object]:
    """Return the settings among a command's flags that were given."""
    chosen = {name: value for name, value in flags.items() if value not in (None, [])}
    if isinstance(words := chosen.get("variant"), list):
        from zoo.recipe import variants

        chosen["variant"] = variants(words)
    return chosen
