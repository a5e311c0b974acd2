"""The flags of a command, made from the table of settings, and help in sections."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from zoo.cli.completion import offer
from zoo.cli.options import SHARED, parameters
from zoo.settings import table
from zoo.settings.setting import Setting

# Flags that are no settings of a recipe.
RunFolder = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="Run folder to make. Default: runs/MODEL-PHOTOS."),
]
RecipeFile = Annotated[
    Path | None,
    typer.Option(
        help="TOML file of settings, or a name of `zoo recipes`; flags win over it.",
        autocompletion=offer("recipe"),
    ),
]
Resume = Annotated[
    Path | None,
    typer.Option(
        help="Finish this run with the settings that it has.", autocompletion=offer("resume")
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Solve the head of a job's features with the nodes of the Ray cluster whose head is "
        "there. Default: here.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan and stop; nothing is written.")
]
Sheet = Annotated[
    Path | None,
    typer.Option(
        help="PNG of what the network is fed, drawn before training, as fed.png: some photos with "
        "their crop, and their views."
    ),
]
Force = Annotated[
    bool, typer.Option("-f", "--force", help="Overwrite the file of --sheet where it exists.")
]
NoReport = Annotated[bool, typer.Option("--no-report", help="Leave out the page RUN/report.html.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
TrustChanged = Annotated[bool, typer.Option("--trust-changed", help=SHARED["trust_changed"][0])]


@dataclass(frozen=True)
class Way:
    """What becomes of a plan. output: the run folder, None for one with a name of ours. dry_run:
    it is printed only. sheet: where to draw what the network is fed. json: the record goes to
    stdout. report: a page is written at the end. ray: the address of a cluster that helps.
    """

    output: Path | None = None
    dry_run: bool = False
    sheet: Path | None = None
    json: bool = False
    report: bool = True
    ray: str | None = None


ARGUMENTS = ("model", "data")
Function = Callable[..., Any]


def settings(command: str, *records: type) -> Callable[[Function], Function]:
    """Give a function a flag for each setting of this command, in the place of its `**flags`.

    records: of further flags, as `options` takes them; theirs is a name that both have.
    """
    more = [one for record in records for one in parameters(record)]
    names = {one.name for one in more}

    def add(function: Function) -> Function:
        own = inspect.signature(function, eval_str=True).parameters.values()
        all_of_it = [one for one in table().values() if command in one.commands]
        taken = [one for one in all_of_it if one.name not in names]
        keyword = inspect.Parameter.KEYWORD_ONLY
        ours = [one.replace(kind=keyword) for one in own if one.kind is not one.VAR_KEYWORD]
        theirs = [
            inspect.Parameter(one.name, keyword, default=None, annotation=flag(one, command))
            for one in taken
        ]
        signature = inspect.Signature([*theirs, *more, *ours])
        function.__signature__ = signature  # type: ignore[attr-defined]
        function.__annotations__ = {
            one.name: one.annotation for one in signature.parameters.values()
        }
        return function

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
