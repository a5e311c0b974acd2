"""Checks: functions of a value and of where it stands, which raise Wrong.

Our own and not pydantic's, which takes 0.1 s to import: a tenth of a whole `zoo predict`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

Check = Callable[[object, str], None]


class Wrong(ValueError):
    """A value that is not what may stand there."""

    def __init__(self, where: str, value: object, wanted: str) -> None:
        super().__init__(f"{where} is {shown(value)}, not {wanted}")


def shown(value: object) -> str:
    """Return a value as an error message shows it, cut short."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python writes
        text = "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}..."


# The checks


def text(most: int = 1000, like: re.Pattern[str] | None = None, wanted: str = "") -> Check:
    wanted = wanted or f"text of at most {most:,} characters"

    def check(value: object, where: str) -> None:
        if not isinstance(value, str) or len(value) > most or "\0" in value:
            raise Wrong(where, value, wanted)
        if like is not None and like.fullmatch(value) is None:
            raise Wrong(where, value, wanted)
        try:
            value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise Wrong(where, value, "text that can be written") from None

    return check


def word(*words: str) -> Check:
    def check(value: object, where: str) -> None:
        if not isinstance(value, str) or value not in words:
            raise Wrong(where, value, " or ".join(words))

    return check


def whole(low: int, high: int) -> Check:
    def check(value: object, where: str) -> None:
        if type(value) is not int or not low <= value <= high:
            raise Wrong(where, value, f"a whole number from {low:,} to {high:,}")

    return check


def number(low: float, high: float) -> Check:
    """Take a number from low to high, and no NaN."""

    def check(value: object, where: str) -> None:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not low <= value <= high
        ):
            raise Wrong(where, value, f"a number from {low:g} to {high:g}")

    return check


def measured(value: object, where: str) -> None:
    """Take a number that is only shown: NaN and infinity are what came of a measurement."""
    if type(value) is float or (type(value) is int and abs(value) < 2**63):
        return
    raise Wrong(where, value, "a number")


def maybe(inner: Check) -> Check:
    def check(value: object, where: str) -> None:
        if value is not None:
            inner(value, where)

    return check


def items(inner: Check, least: int = 0, most: int = 1000, *, once: bool = False) -> Check:
    """Take a list. once: no value twice."""
    size = f"{least:,} to {most:,}"

    def check(value: object, where: str) -> None:
        if not isinstance(value, list | tuple):
            raise Wrong(where, value, f"a list of {size}")
        if not least <= len(value) <= most:
            raise Wrong(f"the length of {where}", len(value), size)
        for place, each in enumerate(value):
            inner(each, f"{where}[{place}]")
        if once and len(set(value)) != len(value):
            twice = next(each for place, each in enumerate(value) if each in value[:place])
            raise Wrong(where, twice, "a list in which each is there once")

    return check


def names(inner: Check) -> Check:
    """Take at most 1,000 names with a value each."""
    name = text(200)

    def check(value: object, where: str) -> None:
        if not isinstance(value, dict) or len(value) > 1000:
            raise Wrong(where, value, "an object")
        for key, each in value.items():
            name(key, f"a name in {where}")
            inner(each, f"{where}.{key}" if where else key)

    return check


def fields(known: Mapping[str, Check], needed: tuple[str, ...] = ()) -> Check:
    """Take an object; fields that are not known are passed over."""

    def check(value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise Wrong(where, value, "an object")
        for key in needed:
            if key not in value:
                raise Wrong(f"{where}.{key}".lstrip("."), None, "there")
        for key, inner in known.items():
            if key in value:
                inner(value[key], f"{where}.{key}" if where else key)

    return check


def both(*checks: Check) -> Check:
    def check(value: object, where: str) -> None:
        for each in checks:
            each(value, where)

    return check
