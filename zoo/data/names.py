"""Names that mean the same, however they are written: of classes, groups and files.

macOS writes an accent as a character of its own (NFD), Linux and Windows within its letter (NFC);
editors and web pages leave no-break spaces and characters of no width. Names are compared without
all that (`plain`), and shown as they are written. Unicode Standard Annex 15.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import lru_cache

from zoo.errors import DataError

# Characters that are drawn as nothing, or as a blank though they are none for Python. Not among
# them: tags and the variants of ideographs, which tell flags and names apart.
UNSEEN = (
    (0x00, 0x08), (0x0E, 0x1B), (0x7F, 0x84), (0x86, 0x9F), (0xAD, 0xAD), (0x034F, 0x034F),
    (0x061C, 0x061C), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x200B, 0x200F), (0x202A, 0x202E),
    (0x2060, 0x206F), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF), (0xFFF9, 0xFFFB),
)  # fmt: skip
BLANKS = (0x115F, 0x1160, 0x2800, 0x3164, 0xFFA0)
TABLE: dict[int, str] = dict.fromkeys(BLANKS, " ")
TABLE |= {code: "" for first, last in UNSEEN for code in range(first, last + 1)}
# Letters of other alphabets that look as Latin ones do.
TWINS = str.maketrans(
    "АВЕЅІЈКМНОРСТУХЗавеѕіјкмнорстухзԁԛԝһΑΒΕΖΗΙΚΜΝΟΡΤΥΧαιοντυχ",
    "ABESIJKMHOPCTYX3abesijkmhopctyx3dqwhABEZHIKMNOPTYXaiovtux",
)
BETWEEN = re.compile(r"(?<=[^\W_])[-_‐‑‒–—−·]+(?=[^\W_])")
NUMBER = re.compile(r"[+-]?\d{1,40}(\.\d{0,40}|,\d{1,2})?(e[+-]?\d{1,3})?", re.IGNORECASE)
SHOWN = 3


def plain(name: str) -> str:
    """Return a name as it is compared: in NFC, without what is not seen, single blanks."""
    if name.isascii() and name.isprintable():
        return " ".join(name.split()) or name
    seen = unicodedata.normalize("NFC", name.translate(TABLE))
    return " ".join(seen.split()) or name


def is_blank(name: str) -> bool:
    """Return whether nothing of a name is seen."""
    return not name.translate(TABLE).strip()


def merged(counts: Mapping[str, int]) -> tuple[dict[str, str], list[str]]:
    """Return the one name of each spelling, and notes on those that are the same name.

    counts: how often each is written. The plain spelling is kept, else the most frequent one.
    """
    groups: dict[str, list[str]] = {}
    for name in counts:
        groups.setdefault(plain(name), []).append(name)
    found: dict[str, str] = {}
    several = []
    for key, spellings in groups.items():
        kept = min(spellings, key=lambda name: (name != key, -counts[name], name))
        found |= dict.fromkeys(spellings, kept)
        if len(spellings) > 1:
            several.append(" and ".join(map(quoted, sorted(spellings))))
    notes = []
    if several:
        what = "one class is" if len(several) == 1 else f"{len(several)} classes are"
        notes.append(f"{what} written in several ways, and merged: {some(several)}")
    if alike := _lookalikes(set(found.values())):
        notes.append(f"WARNING: classes that look alike: {some(alike)}; are they one?")
    return found, notes


def matching(names: Iterable[str], classes: Iterable[str]) -> dict[str, str]:
    """Return the class that each name is, where there is one: as it is written, else by `plain`."""
    known = dict.fromkeys(classes)
    by_key: dict[str, list[str]] = {}
    for each in known:
        by_key.setdefault(plain(each), []).append(each)
    found = {}
    for name in names:
        alike = [name] if name in known else by_key.get(plain(name), [])
        if len(alike) == 1:
            found[name] = alike[0]
    return found


def otherwise(found: Mapping[str, str]) -> list[str]:
    """Return the note on names that are written otherwise than their classes, if there are any."""
    odd = [f"{quoted(name)} is {quoted(kind)}" for name, kind in found.items() if name != kind]
    return [f"written otherwise, matched by what is seen: {some(odd)}"] if odd else []


def _lookalikes(names: Iterable[str]) -> list[str]:
    """Return the names that cannot be told apart by eye, or hardly: `red-fox` and `red_fox`."""

    def drawn(name: str) -> str:
        latin = unicodedata.normalize("NFKC", name).translate(TWINS)
        return " ".join(BETWEEN.sub(" ", latin).split()) or name

    return [" and ".join(map(quoted, twins)) for twins in _alike(names, drawn)]


def _same_numbers(names: Iterable[str]) -> list[str]:
    """Return the names of the first number that is written in several ways: 1, 1.0 and 01."""

    def number(name: str) -> Decimal | str:
        text = plain(name)
        return Decimal(text.replace(",", ".")) if NUMBER.fullmatch(text) else name

    return next(iter(_alike(names, number)), [])


def _alike(names: Iterable[str], key: Callable[[str], object]) -> list[list[str]]:
    """Return the groups of two names or more that have one key."""
    groups: dict[object, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(key(name), []).append(name)
    return [twins for twins in groups.values() if len(twins) > 1]


def check_numbers(where: object, names: Iterable[str]) -> None:
    """Raise DataError for classes that are one number in several spellings."""
    if twins := _same_numbers(names):
        raise DataError(
            f"{where} has classes that are the same number: {', '.join(twins)}",
            "write it in one way, as text (a table program makes 1.0 or 1 of 1 and 01); if they "
            f"are different classes, give each a word, as in 'no {twins[0]}'",
        )


def quoted(name: str) -> str:
    """Return a name with all that is not ASCII as its code, so that spellings differ to the eye."""
    text = ascii(name)
    return text if len(text) <= 60 else f"{text[:57]}…"


def some(parts: list[str]) -> str:
    more = f" and {len(parts) - SHOWN} more" if len(parts) > SHOWN else ""
    return "; ".join(parts[:SHOWN]) + more


# Files


def on_disk(path: str) -> str | None:
    """Return a path as the file system has it, where that is in another Unicode form, or None."""
    if path.isascii() or "\0" in path:
        return None
    head, tail = os.path.split(path)
    if not tail:
        return None if head == path else on_disk(head)
    folder = head if not head or os.path.isdir(head) else on_disk(head)
    if folder is None:
        return None
    there = os.path.join(folder, tail)
    if os.path.lexists(there):
        return there
    try:
        names = _forms(folder or ".", os.stat(folder or ".").st_mtime_ns)
    except OSError:
        return None
    found = names.get(unicodedata.normalize("NFC", tail), [])
    return os.path.join(folder, found[0]) if len(found) == 1 else None


@lru_cache(maxsize=64)
def _forms(folder: str, changed: int) -> dict[str, list[str]]:
    """Return the names in a folder that are not ASCII, by their composed form.

    changed: when the folder was changed last, so that what is kept is of now.
    """
    found: dict[str, list[str]] = {}
    for name in os.listdir(folder):
        if not name.isascii():
            found.setdefault(unicodedata.normalize("NFC", name), []).append(name)
    return found
