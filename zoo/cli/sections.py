"""The classes of typer's commands and groups: help in sections, and no text that is cut short."""

from __future__ import annotations

import inspect
from typing import Any

from typer.core import TyperCommand, TyperGroup

OUTPUT = "Output"  # the last section, as in zoo.settings, which is not imported for a list
FEW = 7  # flags, --help among them, that need no sections


class Sectioned(TyperCommand):
    """A command whose help has its flags in sections, Output last, unless they are few."""

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


class Grouped(TyperGroup):
    """All commands, grouped by what they are for; no help text is cut short."""

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
