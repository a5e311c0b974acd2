"""What exists: the rows of the zoo's own networks, and how to find one by name."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from zoo.catalog import libraries
from zoo.catalog.classics import CLASSICS
from zoo.catalog.conditions import SORT_KEYS, Wanted, order
from zoo.catalog.lectures import LECTURES
from zoo.catalog.spec import Knob, ModelSpec, Preprocess, Weights
from zoo.errors import InputError, RunError, UnknownModel, UsageError, nearest, or_nearest

__all__ = [
    "LIBRARIES",
    "ROWS",
    "SORT_KEYS",
    "ModelSpec",
    "Preprocess",
    "Wanted",
    "Weights",
    "base",
    "check_published",
    "check_variant",
    "everything",
    "find",
    "full_choice",
    "full_name",
    "holds_run",
    "is_exported",
    "is_run",
    "libraries",
    "library_name",
    "library_of",
    "no_exported",
    "of_library",
    "others_named",
    "search",
]

# No other characters: `hf_hub:`, `local-dir:` and paths are no names of models.
LIBRARY_NAME = re.compile(r"(torchvision|timm)/\w[\w-]{0,99}(\.[\w-]{1,99})?", re.ASCII)

LIBRARIES = ("torchvision", "timm")
EXPORTED = (".onnx", ".xml", ".pt2")  # suffixes of exported files that zoo opens
_LAYERS = 8  # numbers of a variant that has one for each layer
_ALL = (*LECTURES, *CLASSICS)
ROWS: dict[str, ModelSpec] = {row.name: row for row in _ALL}
if len(ROWS) != len(_ALL):
    raise RuntimeError("two rows of the catalogue have the same name")


def of_library(name: str) -> bool:
    """Return whether the name is one of a library's models, which takes seconds to look up."""
    return bool(library_of(name))


def is_exported(name: str) -> bool:
    """Return whether a word is the name of an exported file, there or not."""
    return name.lower().endswith(EXPORTED)


def holds_run(folder: str | os.PathLike[str]) -> bool:
    """Return whether it is the folder of a run."""
    return os.path.isfile(os.path.join(folder, "run.json"))


def no_exported(name: str) -> InputError:
    """Return the error of an exported file that is not there."""
    run = os.path.dirname(name)
    hint = f"`zoo export onnx {shlex.quote(run)}` makes one" if holds_run(run) else ""
    return InputError(f"there is no file {name}", hint or "`zoo export onnx RUN` makes one")


def is_run(name: str) -> bool:
    """Return whether a word is a folder to be opened as a run, whatever is in it.

    A model's name comes before a folder that is none.
    """
    return os.path.isdir(name) and (name not in ROWS or holds_run(name))


def library_of(pattern: str | None) -> str:
    """Return the library of a name, or of a pattern such as `timm/*vit*`; nothing for others."""
    library, slash, _ = (pattern or "").partition("/")
    return library if slash and library in LIBRARIES else ""


def library_name(name: str) -> tuple[str, str]:
    """Return the library and the name within it, of a name that is a plain one.

    timm takes others too: `hf_hub:` goes to the network, `local-dir:` reads any folder. Raises
    UnknownModel for those. Every name that a library is handed comes through here.
    """
    library, _, rest = name.partition("/")
    if not LIBRARY_NAME.fullmatch(name):
        shown = name if len(name) <= 100 else f"{name[:97]}..."
        raise UnknownModel(
            f"'{shown}' is not a model's name",
            f"give {library}/NAME with letters, digits, _ and -: `zoo list '{library}/*'`",
        )
    return library, rest


def full_name(name: str) -> str:
    """Return the name with its library before it, where only a library has a model of that name.

    The catalogue's own come first, then torchvision's, then timm's; what nobody has stays as it is.
    """
    if of_library(name) or base(name) in ROWS or "/" in name:
        return name
    return next(iter(others_named(name)), name)


def full_choice(name: str) -> str:
    """Return `full_name` of MODEL or MODEL=WEIGHTS; what is there, a run say, stays what it is."""
    bare, given, choice = name.partition("=")
    return name if os.path.exists(name) else full_name(bare) + given + choice


def others_named(name: str) -> list[str]:
    """Return the libraries' models of this name, as `torchvision/NAME` and `timm/NAME`."""
    known = set(libraries.names())
    known |= {one.partition(".")[0] for one in known}
    return [full for library in LIBRARIES if (full := f"{library}/{name}") in known]


def everything(most: int | None = None) -> list[ModelSpec]:
    """Return all rows: the catalogue's own, then what is known of torchvision's and timm's others.

    torchvision's that are among our own are not there twice. most: parameters of the others.
    """
    rows = [row for row in libraries.read(most=most) if row.name.partition("/")[2] not in ROWS]
    return [*ROWS.values(), *rows]


def base(name: str) -> str:
    """Return the model's name without the tag of its weights: `lenet` for `lenet/mnist`."""
    return name if of_library(name) else name.partition("/")[0]


def find(name: str) -> ModelSpec:
    """Return the row of this name; `NAME/TAG` has those weights as the default.

    Raises UnknownModel with the nearest names.
    """
    row = ROWS.get(base(name))
    if row is None:
        bare = [one.partition("/")[2].partition(".")[0] for one in libraries.names()]
        close = _near(name.lower(), list(dict.fromkeys([*ROWS, *bare])))
        raise UnknownModel(
            f"there is no model called '{name}'" + (f"; {close}" if close else ""),
            _instead_of(name),
        )
    _, slash, tag = name.partition("/")
    if not slash:
        return row
    tags = [weights.tag for weights in row.weights]
    if tag not in tags:
        raise UnknownModel(
            or_nearest(f"{row.name} has no weights '{tag}'", tag, tags),
            f"{row.name} has: {', '.join(tags) or 'none of its own'}",
        )
    chosen = row.weights[tags.index(tag)]
    others = tuple(weights for weights in row.weights if weights is not chosen)
    return replace(row, weights=(chosen, *others))


def _near(word: str, known: list[str]) -> str:
    """Return `did you mean a, b?` of thousands of names, some of which are near to any word."""
    alike = [name for name in known if name[:1] == word[:1]]
    return nearest(word, alike, least=0.65) or nearest(word, known, least=0.75)


def _instead_of(name: str) -> str:
    """Return what to do about a name that is no model's: it may be a place on this disk."""
    if holds_run(name):
        return (
            f"it is a run: name its network, and start from it with --weights {shlex.quote(name)}"
        )
    if os.path.exists(name):
        return "it is on this disk, and no run: a model of `zoo list` or a run comes first"
    if os.sep in name and not of_library(name):
        return "nothing is there: name a run folder, or a model of `zoo list`"
    return "`zoo list` has the networks, `zoo list 'timm/*mobile*'` timm's; `zoo runs` finds runs"


def no_network(place: str) -> RunError:
    """Return the error for a path where a network was to be named: nothing, or something else."""
    hint = "give a run, an .onnx file or a name of `zoo list`; `zoo runs` finds runs"
    if not os.path.exists(place):
        return RunError(f"there is no run folder {place}, and no model of that name", hint)
    if place.lower().endswith((".pth", ".pt", ".bin", ".safetensors")):
        said = shlex.quote(place)
        hint = f"weights need their network: `zoo finetune MODEL PHOTOS --weights {said}`"
    return RunError(f"{place} is no run folder, and no model of that name", hint)


def check_variant(row: ModelSpec, given: Mapping[str, str | float]) -> dict[str, str | float]:
    """Return what the row's builder is to be asked for. Raises UsageError for what it lacks."""
    known = {knob.name: knob for knob in row.variants}
    found = {}
    for name, value in given.items():
        if name not in known:
            have = f"{row.name} has: {', '.join(known)}" if known else "it has none: leave it out"
            what = f"{row.name} has no variant '{name}'"
            raise UsageError(or_nearest(what, name, known), have)
        knob = known[name]
        found[name] = _choice(row, knob, value) if knob.choices else _number(row, knob, value)
    return found


def _choice(row: ModelSpec, knob: Knob, value: str | float) -> str:
    """Return the value, which is one of the knob's words. Raises UsageError with the nearest."""
    if value not in knob.choices:
        what = f"{knob.name} = {value!r} for {row.name}"
        raise UsageError(or_nearest(what, str(value).lower(), knob.choices), knob.wanted)
    return str(value)


def _number(row: ModelSpec, knob: Knob, value: str | float) -> str | float:
    """Return the value as the builder takes it: a number, or several as text. Raises UsageError."""
    parts = str(value).split(",") if knob.several else [value]
    if not knob.most and isinstance(value, int | float) and 0 <= value < 1:
        return value
    numbers = [_whole(part) for part in parts]
    if not knob.most or len(parts) > _LAYERS or any(not 1 <= n <= knob.most for n in numbers):
        least = f", at most {_LAYERS} of them" if len(parts) > _LAYERS else ""
        said = f"{value:g}" if isinstance(value, float) else repr(value)
        raise UsageError(f"{knob.name} = {said} for {row.name}", knob.wanted + least)
    return ",".join(map(str, numbers)) if knob.several else numbers[0]


def _whole(value: str | float) -> int:
    """Return a whole number, 0 for what is none."""
    try:
        number = float(value)
    except ValueError:
        return 0
    return int(number) if number.is_integer() else 0


def check_published(row: ModelSpec, variant: Mapping[str, str | float], tag: str) -> None:
    """Raises UsageError where published weights are of another variant: they would compute else."""
    for knob in row.variants:
        name, value = knob.name, variant.get(knob.name, knob.usual)
        if name != "dropout" and value != knob.usual:
            raise UsageError(
                f"--variant {name}={value} with the published weights {row.name}/{tag}: they were "
                f"trained with {name}={knob.usual}, and make no sense in another network",
                f"`zoo train {row.name} PHOTOS --variant {name}={value}` draws random ones, as "
                "--weights none does; --weights takes a file or a run of this variant, too",
            )


def search(
    rows: Iterable[ModelSpec] | None = None, sort: str | None = None, **conditions: Any
) -> list[ModelSpec]:
    """Return the `rows` (else the catalogue's) that meet every condition, in order unless sorted.

    conditions: the fields of Wanted. sort: one of SORT_KEYS. Raises UsageError for another key.
    """
    wanted = Wanted(**conditions)
    found = [row for row in (ROWS.values() if rows is None else rows) if wanted.meets(row)]
    return order(found, sort)
