"""The flags of a command as the fields of one frozen record, which `options` tells typer of.

`top: int = flag("Classes in a row.", default=1, min=1)` is `--top`. A field of a Literal takes
its values only. What several commands have is said once, in SHARED.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, field, fields
from functools import cached_property
from typing import Any, Generic, Literal, TypeVar

from zoo.cli.names import full_name
from zoo.errors import UsageError, meant

NETWORK = "Network"
HARDWARE, OUTPUT = "Hardware", "Output"  # as in zoo.settings.setting, not imported for a list
SHARED: dict[str, tuple[str, str, object]] = {  # help, section, default
    "trust_changed": ("Use a run's network that was changed after training.", NETWORK, False),
    "weights": (
        "Weights for a model given by name: a tag of `zoo info MODEL`, a file, a folder with "
        "timm's config.json, or hf-hub:ORG/NAME.", NETWORK, None
    ),
    "tta": (
        "Views of each picture (the plain one and random crops, the same each time); the answer is "
        "the mean of their probabilities.", NETWORK, 1,
    ),
    "precision": (
        "Precision: fp32, bf16 or int8. Default: the run's own, else fp32.", HARDWARE, None
    ),
    "engine": (
        "What runs the network: auto, torch or openvino; an .onnx file auto or onnxruntime.",
        HARDWARE, "auto",
    ),
    "csv_safe": (
        "Put ' before text that a spreadsheet takes for a formula (= + - @) in a CSV.",
        OUTPUT, False,
    ),
    "json": ("Print the result as JSON on stdout.", OUTPUT, False),
    "recipe": (
        "TOML file of settings, or a name of `zoo recipes`; flags win over it.", OUTPUT, None
    ),
}  # fmt: skip
R = TypeVar("R")


def flag(
    help: str,
    section: str = OUTPUT,
    default: object = None,
    *,
    names: tuple[str, ...] = (),
    min: int | None = None,
    max: int | None = None,
    hidden: bool = False,
    metavar: str | None = None,
) -> Any:
    """Declare a field as a flag. section: its heading in --help. names: other than the field's."""
    told = not any(default is one for one in (None, False, MISSING)) and default != ""
    said = f" Default: {default}." if told else ""
    about = {"help": help + said, "rich_help_panel": section, "min": min, "max": max}
    about |= {"hidden": hidden, "metavar": metavar}
    return field(default=default, metadata={"names": names, "show_default": False, **about})


def shared(name: str) -> Any:
    """Declare a field as a flag that several commands have."""
    if name == "tta":
        return flag(*SHARED[name], min=1, max=100)
    return flag(*SHARED[name])


def setting(name: str) -> Any:
    """Declare a field as a setting of the table, None where it is not given; but for the device."""
    from zoo.settings import table

    one = table()[name]
    if name == "device":
        return flag(one.about, one.section, one.default)
    return flag(one.described, one.section)


def output(help: str, default: object = None) -> Any:
    """Declare a field as the place of what a command writes."""
    return flag(help, default=default, names=("-o", "--output"))


def force(more: str = "") -> Any:
    """Declare a field as the flag that goes on where a file exists, or for another good reason."""
    help = "Overwrite a file that exists already" + (f"; {more}" if more else "")
    return flag(help + ".", default=False, names=("-f", "--force"))


def argument(help: str, default: object = MISSING) -> Any:
    """Declare a field as a word that is given by its place."""
    return field(default=default, metadata={"help": help})


def network(help: str, default: object = MISSING) -> Any:
    """Declare a field as a word that may name a model without its library: see `full_name`."""
    return field(default=default, metadata={"help": help, "network": True})


def pictures() -> Any:
    """Declare a field as the pictures that a command is pointed at."""
    return argument(
        "Folders, pictures, 'globs', lists.txt with a path a line, or - (stdin); one or several. "
        "In the rows a path is relative to the folder, where one was named, else it is as it was "
        "typed: the same base as in a run's val.csv and index.csv."
    )


class Command(Generic[R]):
    """A function of a record of flags, to be called with a value for each of them.

    typer, which is not imported before, reads its signature as that of any function.
    """

    def __init__(self, function: Callable[..., R]) -> None:
        self.function, self.__doc__ = function, function.__doc__
        self.__name__, self.__module__ = function.__name__, function.__module__

    def __call__(self, **given: object) -> R:
        for one in fields(self.record):
            _check(one, _choices(self.kinds[one.name]), given[one.name])
            if "network" in one.metadata:
                given[one.name] = _full(given[one.name])
        return self.function(self.record(**given))

    @cached_property
    def record(self) -> Any:
        hints = typing.get_type_hints(self.function)
        (record,) = (kind for name, kind in hints.items() if name != "return")
        return record

    @cached_property
    def kinds(self) -> dict[str, object]:
        return typing.get_type_hints(self.record)

    @cached_property
    def __signature__(self) -> inspect.Signature:
        return inspect.Signature(parameters(self.record))

    @cached_property
    def __annotations__(self) -> dict[str, object]:  # type: ignore[override]
        return {name: one.annotation for name, one in self.__signature__.parameters.items()}

    def understood(self, words: Sequence[str]) -> dict[str, object] | None:
        """Return a value for each flag, of words that need no parser; None for all others.

        Those are switches, each by its whole name, and one word for an argument.
        """
        given = {one.name: one.default for one in fields(self.record)}
        switches = {
            f"--{name}".replace("_", "-"): name for name, kind in self.kinds.items() if kind is bool
        }
        free = [one.name for one in fields(self.record) if "names" not in one.metadata]
        for word in words:
            if word in switches:
                given[switches[word]] = True
            elif free and word and not word.startswith("-"):
                given[free.pop(0)] = word
            else:
                return None
        return None if MISSING in given.values() else given


def options(function: Callable[..., R]) -> Command[R]:
    """Give a function that takes a record of flags a parameter for each field, for typer."""
    return Command(function)


def _full(given: object) -> object:
    """Return the name, or the names, with their libraries."""
    if isinstance(given, list):
        return [full_name(name) for name in given]
    return full_name(str(given))


def parameters(record: type) -> list[inspect.Parameter]:
    """Return how typer is told of each field of a record of flags."""
    kinds = typing.get_type_hints(record)
    return [_parameter(one, kinds[one.name]) for one in fields(record)]


def _parameter(one: Field[object], kind: object) -> inspect.Parameter:
    import typer

    from zoo.cli.completion import offer

    default = ... if one.default is MISSING else one.default
    about = {key: value for key, value in one.metadata.items() if key != "network"}
    about["autocompletion"] = offer(one.name, _choices(kind))
    if "names" in about:
        words = about.pop("names") or ("--" + one.name.replace("_", "-"),)  # no --no-name
        told = typer.Option(default, *words, **about)
    else:
        told = typer.Argument(default, **about)
    kind = str | None if _choices(kind) else kind
    return inspect.Parameter(
        one.name, inspect.Parameter.KEYWORD_ONLY, default=told, annotation=kind
    )


def _choices(kind: object) -> tuple[str, ...]:
    """Return the values of a Literal inside a type, or nothing."""
    if typing.get_origin(kind) is Literal:
        return typing.get_args(kind)
    return next(filter(None, map(_choices, typing.get_args(kind))), ())


def _check(one: Field[object], choices: tuple[str, ...], value: object) -> None:
    """Raises UsageError for a value that is none of the choices."""
    if choices and value is not None and value not in choices:
        *first, last = choices
        default = one.metadata["help"].partition(" Default: ")[2].rstrip(".")
        near = meant(one.name, value, choices)
        raise UsageError(
            f"--{one.name} {value}: there is no such {one.name}",
            f"{near + ' It' if near else 'it'} is {', '.join(first)} or {last}; leave "
            f"--{one.name} out for {default}",
        )
