"""What exists: the rows of the zoo's own networks, and how to find one by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase

from zoo.catalog.classics import CLASSICS
from zoo.catalog.spec import ModelSpec, Preprocess, Weights
from zoo.errors import UnknownModel, UsageError, nearest

__all__ = [
    "ROWS",
    "SORT_KEYS",
    "ModelSpec",
    "Preprocess",
    "Weights",
    "check_variant",
    "find",
    "search",
]

ROWS: dict[str, ModelSpec] = {row.name: row for row in CLASSICS}
if len(ROWS) != len(CLASSICS):
    raise RuntimeError("two rows of the catalogue have the same name")

PERMISSIVE = ("apache", "bsd", "mit", "isc", "cc0", "cc-by-4", "cc-by-3")


def find(name: str) -> ModelSpec:
    """The row of this name. Raises UnknownModel with the nearest names."""
    if name in ROWS:
        return ROWS[name]
    close = nearest(name.lower(), ROWS)
    raise UnknownModel(
        f"there is no model called '{name}'" + (f"; {close}" if close else ""),
        "run `zoo list` for the catalogue; torchvision/NAME and timm/NAME give any other",
    )


def check_variant(row: ModelSpec, given: Mapping[str, str | float]) -> dict[str, str | float]:
    """What of `given` the row's builder is to be asked for. Raises UsageError for what it lacks."""
    known = dict(row.variants)
    for name, value in given.items():
        if name not in known:
            have = ", ".join(known) or "no variants"
            raise UsageError(f"{row.name} has no variant '{name}'", f"{row.name} has: {have}")
        if known[name] and value not in known[name]:
            raise UsageError(
                f"{name} = {value!r} for {row.name}", f"one of: {', '.join(known[name])}"
            )
        if not known[name] and not (isinstance(value, int | float) and 0 <= value < 1):
            raise UsageError(f"{name} = {value!r} for {row.name}", "a number from 0 to below 1")
    return dict(given)


def search(
    pattern: str | None = None,
    family: str | None = None,
    max_params: int | None = None,
    min_acc1: float | None = None,
    licence: str | None = None,
    sort: str | None = None,
) -> list[ModelSpec]:
    """The rows that meet every condition given, in the catalogue's order unless sorted.

    pattern: a glob (`resnet*`) or a part of the name. min_acc1 (percent) and licence look at the
    weights that are used unless others are asked for, since those are what a list shows. licence:
    `permissive` (Apache, BSD, MIT, CC-BY, CC0) or the start of a licence's name; a row without
    weights passes `permissive`. sort: one of SORT_KEYS, small to large, accuracy best first; rows
    without accuracy come last. Raises UsageError for another key.
    """
    if sort is not None and sort not in SORT_KEYS:
        close = nearest(sort, SORT_KEYS)
        raise UsageError(
            f"cannot sort by '{sort}'" + (f"; {close}" if close else ""),
            f"sort by one of: {', '.join(SORT_KEYS)}",
        )
    found = [
        row
        for row in ROWS.values()
        if (pattern is None or _matches(row.name, pattern))
        and (family is None or row.family == family.lower())
        and (max_params is None or row.params <= max_params)
        and (min_acc1 is None or (_acc1(row) or -1.0) >= min_acc1)
        and (licence is None or _licensed(row, licence.lower()))
    ]
    return sorted(found, key=SORT_KEYS[sort]) if sort else found


def _matches(name: str, pattern: str) -> bool:
    pattern = pattern.lower()
    return fnmatchcase(name, pattern) if set(pattern) & set("*?[") else pattern in name


def _licensed(row: ModelSpec, licence: str) -> bool:
    weights = row.default_weights
    if weights is None:
        return licence == "permissive"
    return weights.licence.lower().startswith(PERMISSIVE if licence == "permissive" else licence)


def _acc1(row: ModelSpec) -> float | None:
    return row.default_weights.acc1 if row.default_weights else None


def _natural(row: ModelSpec) -> tuple[str | int, ...]:
    """The name, with its digits as a number: resnet18 before resnet101."""
    words = re.split(r"(\d+)", row.name)
    return tuple(int(word) if word.isdecimal() else word for word in words)


def _best_first(row: ModelSpec) -> tuple[bool, float]:
    acc1 = _acc1(row)
    return acc1 is None, -(acc1 or 0.0)


SORT_KEYS: dict[str, Callable[[ModelSpec], tuple[str | int | float | bool, ...]]] = {
    "name": _natural,
    "family": lambda row: (row.family, *_natural(row)),
    "year": lambda row: (row.year,),
    "params": lambda row: (row.params,),
    "macs": lambda row: (row.macs,),
    "acc1": _best_first,
}
