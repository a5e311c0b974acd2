"""Text as it is shown and written: names of files, lines of CSV, what may go to a terminal.

A file's name is bytes. One that is not UTF-8 reaches Python with half surrogates in it, which no
UTF-8 file can hold. So where a name is written down, in CSV, JSON lines, Parquet or on stdout:

    a byte that is not UTF-8 is written as the six characters \\udcXX, XX being the byte in hex;
    a backslash that would read as the beginning of such a thing is written as \\u005c.

`read_name` gives back the name, whatever it was; all other names are written as they are.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, TypedDict

_WRITTEN = r"ud[89a-f][0-9a-f]{2}|u005c"
_SHOWN = re.compile(rf"\\({_WRITTEN})")
_TO_SHOW = re.compile(rf"[\ud800-\udfff]|\\(?={_WRITTEN})")
# What a field must be quoted for: a reader may end a line at any of these, or strip blanks.
_TO_QUOTE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\",;]|^[\s']|\s$")
# What is written as it is: most names, labels and digests.
_PLAIN = re.compile(r"[\w./-]*")
_PLAIN_LINES = re.compile(r"[\w./,\n-]*")
_AT_ONCE = 512  # rows of a table
# What a spreadsheet takes for a formula, also behind blanks and in full width.
_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r]")


def show_name(path: str) -> str:
    """Return a file's name as it is written down, in text that any encoding of Unicode can hold."""
    if path.isascii() and "\\" not in path:
        return path
    return _TO_SHOW.sub(lambda found: f"\\u{ord(found[0]):04x}", path)


def read_name(text: str) -> str:
    """Return the name that `show_name` has written as this text."""
    if "\\" not in text:
        return text
    return _SHOWN.sub(lambda found: chr(int(found[1][1:], 16)), text)


def printable(text: str) -> str:
    """Return what may go to a terminal: no control characters, no half surrogates."""
    if text.isprintable():  # nearly all are, and a list has thousands
        return text
    clean = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in clean)


def one_line(text: str) -> str:
    """Return what may go to a terminal as a part of one line: a name may hold a line's end."""
    return printable(text).replace("\n", "\\n")


def csv_line(cells: Iterable[object], *, safe: bool = False, screen: bool = False) -> str:
    """Return a row of CSV: UTF-8, commas, every text quoted that needs it, names by `show_name`.

    safe: a text that a spreadsheet takes for a formula gets ' before it. screen: for a terminal,
    where a control character is shown and not sent.
    """
    return (",".join(_field(cell, safe, screen) for cell in cells) or '""') + "\n"


def csv_lines(rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """Yield what `csv_line` gives for rows, of some at once; quickly where all of it is plain."""
    rest = map(tuple, rows)
    while some := [*itertools.islice(rest, _AT_ONCE)]:
        width = len(some[0])
        if width > 1 and all(len(row) == width and None not in row for row in some):
            text = "\n".join([",".join(map(str, row)) for row in some])
            # A cell with a comma or a line's end in it would be counted.
            marks = (text.count(","), text.count("\n"))
            whole = (len(some) * (width - 1), len(some) - 1)
            if marks == whole and _PLAIN_LINES.fullmatch(text):
                yield f"{text}\n"
                continue
        yield "".join(map(csv_line, some))


def as_data(stream: IO[str]) -> bool:
    """Make a stream that is open already write UTF-8 in every locale; whether it is a terminal."""
    screen = stream.isatty()
    if isinstance(stream, io.TextIOWrapper):
        encoding = stream.encoding if screen else "utf-8"
        stream.reconfigure(encoding=encoding, errors="backslashreplace", newline="\n")
    return screen


def _field(cell: object, safe: bool, screen: bool) -> str:
    if not isinstance(cell, str):
        return "" if cell is None else str(cell)
    if not safe and _PLAIN.fullmatch(cell):
        return cell
    text = show_name(cell)
    if safe and _FORMULA.match(text):
        text = "'" + text
    if screen:
        text = one_line(text)
    return '"' + text.replace('"', '""') + '"' if _TO_QUOTE.search(text) else text


def size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def duration(seconds: float) -> str:
    """Return 0.0123 as 12.3 ms and 4.514 as 4.51 s: three digits, and no power of ten."""
    for unit, factor in (("µs", 1e6), ("ms", 1e3)):
        if seconds * factor < 999.5:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s" if seconds < 999.5 else f"{seconds:,.0f} s"


BYTES = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}


def amount(text: str, units: Mapping[str, float]) -> float | None:
    """Return the number that `20MB` or `10 ms` is in these units; None for anything else."""
    match = re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+)\s*(\S*)", text.strip(), re.ASCII)
    return float(match[1]) * units[match[2]] if match and match[2] in units else None


def short(number: float | None) -> str:
    """Return 25,557,032 as 25.6M."""
    if number is None:
        return "-"
    for unit in ("", "k", "M", "G", "T"):
        if abs(number) < 999.5:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g}P"


def must_be_short(value: object) -> None:
    """Raise ValueError for whole numbers that Python refuses to print, 0xfff…, at any depth."""
    if isinstance(value, int) and value.bit_length() > 64:
        raise ValueError(f"a number of {value.bit_length():,} bits")
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            must_be_short(one)


def count(number: int, what: str, more: str = "") -> str:
    """Return `1 photo`, `1,200 photos`; more: the plural where it is not made by an s."""
    return f"{number:,} {what if number == 1 else more or what + 's'}"


def listed(names: Sequence[object], most: int) -> str:
    """Return `a, b` of names, and of more than so many the first ones: `a, b, … (7 in all)`."""
    some = ", ".join(map(str, names[:most]))
    return some if len(names) <= most else f"{some}, … ({len(names):,} in all)"


def percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f} %"


class _Text(TypedDict):
    encoding: str
    errors: str


TEXT: _Text = {"encoding": "utf-8", "errors": "surrogateescape"}


def keep_bytes(stream: IO[str]) -> None:
    """Let a stream that is open already carry file names that are not UTF-8, in every locale."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="surrogateescape")
