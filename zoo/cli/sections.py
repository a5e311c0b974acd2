"""The classes of typer's commands and groups: help in sections, and no text that is cut short."""

from __future__ import annotations

import inspect
from typing import Any

from typer.core import TyperCommand, TyperGroup

from zoo import extras
from zoo.cli import arguments
from zoo.settings.setting import OUTPUT

TYPED = "zoo.typed"  # where a context keeps the words of its command
_TRAINS = ("finetune", "train", "rank", "sweep", "lr", "distill")  # nothing of it without torch
FEW = 7  # flags, --help among them, that need no sections


def usage_of(command: Any, ctx: Any) -> str:
    """Return the words that a command must have: `MODEL INPUTS…`, `--student STUDENT`."""
    said = []
    for one in command.get_params(ctx) if command is not None else ():
        name = str(one.name).upper()
        if one.param_type_name == "argument":
            name += "…" * (one.nargs == -1)
            needed = one.required or one.name in ("model", "data")  # a recipe may say these two
            said.append(name if needed else f"[{name}]")
        elif one.required:
            said.append(f"{one.opts[-1]} {name}")
    return " ".join(said)


class Sectioned(TyperCommand):
    """A command whose help has its flags in sections, Output last, unless they are few.

    Before it runs its words are looked at as a whole: see `arguments.check`.
    """

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        return _without_help(super().shell_complete(ctx, incomplete))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[TYPED] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        arguments.check(ctx.command_path, ctx.meta[TYPED], ctx.params)
        if ctx.info_name in _TRAINS:  # before a photo is read
            extras.need(f"`{ctx.command_path}`", "torch")
        return super().invoke(ctx)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        rows: dict[str, list[tuple[str, str]]] = {"Arguments": []}
        flags = [one for one in self.get_params(ctx) if one.param_type_name != "argument"]
        for one in self.get_params(ctx):
            section = getattr(one, "rich_help_panel", None) or OUTPUT
            section = "Options" if len(flags) <= FEW else section
            if record := one.get_help_record(ctx):
                rows.setdefault(section if one in flags else "Arguments", []).append(record)
        for name, records in sorted(rows.items(), key=lambda section: section[0] == OUTPUT):
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)


def _without_help(items: list[Any]) -> list[Any]:
    """Return what Tab offers without a word about each: typer imports rich to print that."""
    for one in items:
        one.help = None
    return items


class Grouped(TyperGroup):
    """All commands, grouped by what they are for; no help text is cut short."""

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        return _without_help(super().shell_complete(ctx, incomplete))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                first = inspect.cleandoc(command.help or "").partition("\n\n")[0]
                group = getattr(command, "rich_help_panel", None) or "Commands"
                groups.setdefault(group, []).append((name, " ".join(first.split())))
        for group, rows in groups.items():
            with formatter.section(group):
                formatter.write_dl(rows)
