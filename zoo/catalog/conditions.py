"""Which rows are wanted, and in what order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from zoo.catalog.spec import ModelSpec
from zoo.errors import UsageError, meant

PERMISSIVE = ("apache", "bsd", "mit", "isc", "cc0", "cc-by-4", "cc-by-3", "unrestricted")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Conditions on a row; those that are None ask for nothing.

    pattern: a glob (`resnet*`) or a part of the name, see `_is_named`. max_memory: bytes of a
    forward pass of one picture, see ModelSpec. min_acc1 (percent) and licence look at the weights
    that are used unless others are asked for, since those are what a list shows. licence:
    `permissive` (Apache, BSD, MIT, CC-BY, CC0, unrestricted use) or the start of a licence's name;
    a row without weights passes `permissive`.
    trained: rows with published weights only. What is not known meets no condition.
    """

    pattern: str | None = None
    family: str | None = None
    task: str | None = None
    max_params: int | None = None
    max_macs: int | None = None
    max_memory: int | None = None
    min_acc1: float | None = None
    licence: str | None = None
    trained: bool = False

    def __post_init__(self) -> None:
        if self.min_acc1 is not None and 0 < self.min_acc1 < 1:
            raise UsageError(
                f"--min-acc1 {self.min_acc1:g}: less than one percent of the pictures right",
                f"it is in percent: {100 * self.min_acc1:g}",
            )

    def meets(self, row: ModelSpec) -> bool:
        return (
            (self.pattern is None or _is_named(row.name, self.pattern))
            and (self.family is None or row.family == self.family.lower())
            and (self.task is None or row.task == self.task.lower())
            and _at_most(row.params, self.max_params)
            and _at_most(row.macs, self.max_macs)
            and _at_most(row.memory, self.max_memory)
            and (self.min_acc1 is None or (_published(row, "acc1") or -1.0) >= self.min_acc1)
            and (self.licence is None or _licensed(row, self.licence.lower()))
            and (row.weights != () or not self.trained)
        )


def order(rows: Iterable[ModelSpec], sort: str | None) -> list[ModelSpec]:
    """Sort by one of SORT_KEYS: small to large, accuracy best first, unknown values last.

    Raises UsageError for another key.
    """
    if sort is None:
        return list(rows)
    if sort not in SORT_KEYS:
        close = meant("sort", sort, SORT_KEYS)
        raise UsageError(
            f"cannot sort by '{sort}'" + (f"; {close}" if close else ""),
            f"sort by one of: {', '.join(SORT_KEYS)}",
        )
    return sorted(rows, key=SORT_KEYS[sort])


def matches(name: str, pattern: str) -> bool:
    """Return whether a glob, or a part of a name, meets this name."""
    name, pattern = name.lower(), pattern.lower()
    return fnmatchcase(name, pattern) if set(pattern) & set("*?[") else pattern in name


def _is_named(name: str, pattern: str) -> bool:
    """Return whether a model's name meets a pattern, which may leave the library's name out."""
    library, slash, rest = name.partition("/")
    if pattern.lower().startswith(f"{library}/"):
        return not slash or matches(rest, pattern.partition("/")[2])
    return matches(name, pattern) or (slash != "" and matches(rest, pattern))


def _at_most(value: int, limit: int | None) -> bool:
    return limit is None or 0 < value <= limit


def _licensed(row: ModelSpec, licence: str) -> bool:
    weights = row.default_weights
    if weights is None:
        return licence == "permissive"
    return licensed(weights.licence, licence)


def licensed(stated: str, wanted: str) -> bool:
    """Return whether a licence is of the kind that is wanted, as `Wanted` has it."""
    wanted = wanted.lower()
    return stated.lower().startswith(PERMISSIVE if wanted == "permissive" else wanted)


def _published(row: ModelSpec, field: str) -> float | None:
    """Return a number of the weights that are used unless others are asked for."""
    return getattr(row.default_weights, field, None)


def _natural(row: ModelSpec) -> tuple[str | int, ...]:
    """Return the name, with its digits as a number: resnet18 before resnet101."""
    words = re.split(r"(\d+)", row.name)
    return tuple(int(word) if word.isdecimal() else word for word in words)


def _known_first(value: float | None) -> tuple[bool, float]:
    return not value, value or 0.0


def _best_first(value: float | None) -> tuple[bool, float]:
    return value is None, -(value or 0.0)


SORT_KEYS: dict[str, Callable[[ModelSpec], tuple[str | int | float | bool, ...]]] = {
    "name": _natural,
    "family": lambda row: (row.family, *_natural(row)),
    "year": lambda row: _known_first(row.year),
    "params": lambda row: _known_first(row.params),
    "macs": lambda row: _known_first(row.macs),
    "acc1": lambda row: _best_first(_published(row, "acc1")),
    "acc5": lambda row: _best_first(_published(row, "acc5")),
    "size": lambda row: _known_first(_published(row, "size")),
    "memory": lambda row: _known_first(row.memory),
}
