"""zoo as an application of typer, which parses the words of all commands."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.exceptions import Abort, Exit, TyperException
from typer.main import get_command

from zoo import watch
from zoo.cli import shells
from zoo.cli.commands import (
    ABOUT,
    HELP,
    NAMES,
    OPTIONS,
    WIDEST,
    help_text,
    module_of,
    version_text,
)
from zoo.cli.console import fail
from zoo.cli.sections import Grouped, Sectioned
from zoo.errors import RecipeError

SINGLE = ("lr", "rank", "sweep")  # train networks, and that not in several processes
VERSION, OFFLINE = "--version", "--offline"


class Lazy(Grouped):
    """All commands of zoo, each imported where it is typed."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(NAMES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return load(cmd_name) if cmd_name in NAMES else None

    def get_help(self, ctx: Any) -> str:
        return help_text()

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        one = type(super().shell_complete(ctx, "--help")[0])  # typer's class of what Tab offers
        return [one(name) for name in NAMES if name.startswith(incomplete)]


app = typer.Typer(
    name="zoo",
    help=ABOUT,
    cls=Lazy,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": list(HELP), "max_content_width": WIDEST},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(version_text())
        raise Exit


def _stay_offline(wanted: bool) -> None:
    if wanted:
        os.environ["ZOO_OFFLINE"] = "1"


@app.callback()
def zoo(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(VERSION, callback=_show_version, is_eager=True, help=OPTIONS[VERSION]),
    ] = False,
    offline: Annotated[
        bool, typer.Option(OFFLINE, callback=_stay_offline, help=OPTIONS[OFFLINE])
    ] = False,
) -> None:
    name = context.invoked_subcommand
    if name in SINGLE and watch.in_team():
        raise RecipeError(
            f"`zoo {name}` under torchrun: its work is not divided among processes",
            f"`zoo {name} …` without torchrun; finetune and train take it",
        )


@functools.cache
def load(name: str) -> Any:
    """Return a command for typer's group of all; its module is imported here."""
    module = importlib.import_module(module_of(name))
    alone = typer.Typer(rich_markup_mode=None, add_completion=False)
    if hasattr(module, "app"):
        alone.add_typer(module.app, name=name)
        alone.callback()(_nothing)
        return get_command(alone).commands[name]  # type: ignore[attr-defined]
    alone.command(name, cls=Sectioned)(module.command)
    return get_command(alone)


def _nothing() -> None:
    """Do nothing: typer makes a group of what has a callback."""


def run(typed: Sequence[str], all_typed: Sequence[str], told_elsewhere: bool) -> int:
    """Run a command and return its exit code; typer's own errors are shown in our form.

    all_typed: the words as they were. told_elsewhere: another process says what is wrong with
    them. Raises what the command raises, KeyboardInterrupt for Ctrl-C.
    """
    if typed and typed[0] in (shells.INSTALL, shells.SHOW):
        return shells.teach(*typed)
    shells.read_line()
    try:
        result = app(typed, prog_name="zoo", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except Exit as error:
        if error.exit_code == 130:  # typer turns Ctrl-C into this
            raise KeyboardInterrupt from error
        return error.exit_code
    except Abort as error:
        raise KeyboardInterrupt from error
    except TyperException as error:
        return 2 if told_elsewhere else _wrong(error, all_typed)


def _wrong(error: TyperException, typed: Sequence[str]) -> int:
    """Say what is wrong with the words; no words at all are a request for help."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        print(context.get_help() if context else "")
        return 2
    from zoo.cli.usage import told

    return fail(*told(error, typed), 2)
