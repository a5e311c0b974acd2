"""What a row of the table of settings is: a setting's type, default, limits, help and commands."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from typing import Any, Literal

WHAT, HEAD, DEEPER = "What to train", "Head", "Deeper training"
DATA, PHOTOS, HARDWARE, OUTPUT = "Data", "Photos", "Hardware", "Output"
SECTIONS = (WHAT, HEAD, DEEPER, DATA, PHOTOS, HARDWARE, OUTPUT)
TUNE, FIT = ("finetune",), ("finetune", "train", "distill")
NAMED = ("finetune", "train", "lr")  # `zoo distill` has words of its own for these
EVERY, DISTILL = (*NAMED, "distill"), ("distill",)


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table.

    kind: the type as it is annotated. commands: those that have a flag for it. limits: ge, gt, le
    and lt (at least, above, at most, below). pattern: what text must match, and what that is
    called. flags: where they are not the name. elsewhere: the help of a command where another is
    true.
    """

    name: str
    kind: object
    default: object
    help: str
    section: str
    commands: tuple[str, ...]
    limits: Mapping[str, float]
    pattern: tuple[str, str] = ("", "")
    flags: tuple[str, ...] = ()
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    def help_in(self, command: str) -> str:
        """Return the help of its flag in a command."""
        return self.elsewhere.get(command, self.described)

    def words(self, value: object) -> list[str]:
        """Return what says this value on a command line."""
        name = self.flags[0] if self.flags else "--" + self.name.replace("_", "-")
        if isinstance(value, bool):
            return [name if value else f"--no-{name[2:]}"]
        if isinstance(value, dict):
            return [word for key, each in value.items() for word in (name, f"{key}={each}")]
        return [name, str(value)]

    @property
    def choices(self) -> tuple[str, ...]:
        """The values of a setting that has a list of them."""
        return next((typing.get_args(k) for k in self.kinds if typing.get_origin(k) is Literal), ())

    @property
    def kinds(self) -> tuple[object, ...]:
        """The types of its values, None's among them where it may be left to the tool."""
        return (self.kind, *typing.get_args(self.kind))

    @property
    def about(self) -> str:
        """What it does, in a sentence or two, with all choices."""
        words = self.help.partition(" Default: ")[0]
        if all(value in words for value in self.choices):
            return words
        return f"{words} One of {', '.join(self.choices)}."

    @property
    def unless_given(self) -> str:
        """The default in words; nothing where a setting has none, or is a switch that is off."""
        said = self.help.partition(" Default: ")[2].rstrip(".")
        if said or self.default is None or self.default is MISSING or self.default == {}:
            return said
        if isinstance(self.default, bool):
            return "on" if self.default else ""
        return self.default if isinstance(self.default, str) else f"{self.default:g}"

    @property
    def described(self) -> str:
        """The help of its flag."""
        return self.about + (f" Default: {self.unless_given}." if self.unless_given else "")


def row(
    help: str, section: str, default: object = None, *, on: tuple[str, ...] = EVERY, **more: object
) -> Any:
    """Return a field of Recipe that is a row of the table. more: limits, and what else it has."""
    limits = {name: more.pop(name) for name in ("ge", "gt", "le", "lt") if name in more}
    about = {"help": help, "section": section, "commands": on, "limits": limits, **more}
    if default == {}:
        return field(default_factory=dict, metadata=about)
    return field(default=default, metadata=about)
