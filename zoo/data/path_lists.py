"""Lists of paths, and the text of tables, in the ways that editors, shells and Excel save them.

UTF-8 with and without a byte-order mark, UTF-16 and UTF-32 as their marks say (Windows PowerShell
writes UTF-16); line ends of any system, or a zero byte behind each name (`find -print0`). A first
line `sep=;` is Excel's word for the separator. A name is taken as it is written where there is such
a file, else without the quotes and blanks around it.
"""

from __future__ import annotations

import codecs
import csv
import itertools
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import IO

from zoo.data.names import on_disk, plain
from zoo.errors import DataError
from zoo.text import read_name

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
SEP = re.compile(r'\ufeff?"?sep=(?P<mark>\\t|[^"\r\n])"?[ \t]*(?:\r\n|\r|\n|$)', re.IGNORECASE)
PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"II*\0", b"MM\0*")  # their first bytes
CHUNK = 2**16
QUOTES = ('"', "'")


def encoding_of(head: bytes) -> str:
    """Return the encoding of a text that begins so."""
    for mark, name in MARKS:
        if head.startswith(mark):
            return name
    if len(head) >= 8 and head[0] and not any(head[1:64:2]) and all(head[0:64:2]):
        return "utf-16-le"  # without its mark
    if len(head) >= 8 and head[1] and not any(head[0:64:2]) and all(head[1:64:2]):
        return "utf-16-be"
    return "utf-8"


def separator(text: str) -> tuple[str, str]:
    """Return what Excel's first line says, or nothing, and the text behind that line."""
    found = SEP.match(text)
    if found is None:
        return "", text
    mark = found["mark"]
    return "\t" if mark == "\\t" else mark, text[found.end() :]


# Lists


def paths_in(stream: IO[bytes], name: str, beside: str = "") -> Iterator[str]:
    """Yield the paths of a list as they come in, or of a CSV its column `path`. Raises DataError.

    name: of the list, for the error. beside: the folder in which a path is looked for that is not
    there as it is. A path that is not UTF-8 keeps its bytes.
    """
    lines = _split_lines(_decoded(stream, name))
    for first in lines:
        mark, rest = separator(first)
        if mark and not rest:
            named = column(lines, mark, name)
        elif mark := _header_mark(first):
            named = column(itertools.chain([first], lines), mark, name)
        else:
            named = itertools.chain.from_iterable(
                map(_one_or_more, itertools.chain([first], lines))
            )
        yield from filter(None, (_found(path, beside) for path in named))


def _header_mark(line: str) -> str:
    """Return what parts the fields of a CSV's first line, if one is `path`; else nothing."""
    if _exists(line.strip()):
        return ""
    for mark in ",;\t":
        with suppress(csv.Error):
            fields = next(csv.reader([line], delimiter=mark), [])
            if "path" in (plain(field).lower() for field in fields):
                return mark
    return ""


def _one_or_more(line: str) -> list[str]:
    """Return the names in what is between two marks; other marks are in it where a list is torn."""
    whole = "\0" not in line and ("\n" not in line or _exists(line))
    return [line] if whole else re.split("[\0\n]", line)


def _decoded(stream: IO[bytes], name: str) -> Iterator[str]:
    """Yield the text in pieces, as it comes in."""
    head = b""
    while len(head) < 4 and (more := _piece(stream)):
        head += more
    encoding = encoding_of(head)
    if head.startswith(PICTURES):
        raise DataError(
            f"{name} is a picture and no list of paths",
            "give it the suffix of its kind, as .jpg; a list is text, one path a line",
        )
    errors = "surrogateescape" if encoding.startswith("utf-8") else "strict"
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    try:
        yield decoder.decode(head)
        while more := _piece(stream):
            yield decoder.decode(more)
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name} begins as {encoding.upper()} does and goes on otherwise: {error.reason}",
            "save it as text in UTF-8, one path a line",
        ) from None


def _piece(stream: IO[bytes]) -> bytes:
    """Return what is there by now: a list that is still written is worked on meanwhile."""
    return bytes(getattr(stream, "read1", stream.read)(CHUNK))


def _split_lines(pieces: Iterator[str]) -> Iterator[str]:
    """Yield the lines; of a text with zero bytes in its first line what is between those."""
    text, mark = "", ""
    for more in pieces:
        text += more
        if not mark and ("\0" in text or "\n" in text):
            mark = "\0" if "\0" in text else "\n"
        if mark:
            *whole, text = text.split(mark)
            yield from whole
    if text:
        one = bool(mark) or _exists(text)  # else line ends of an old macOS, as Excel writes them
        yield from [text] if one else text.split("\r")


def column(lines: Iterator[str], mark: str, name: str) -> Iterator[str]:
    """Yield the column `path` of a CSV, or the first one where none has that name."""
    place: int | None = None
    try:
        for row in csv.reader((f"{line}\n" for line in lines), delimiter=mark):
            if not any(map(str.strip, row)):
                continue
            if place is None:
                names = [plain(each).lower() for each in row]
                place = names.index("path") if "path" in names else 0
                if "path" in names:
                    continue
            if len(row) <= place:
                raise DataError(
                    f"{name}: {mark.join(row)!r} has {len(row)} fields, and path is column "
                    f"{place + 1}",
                    f"write as many fields in each line, with {mark!r} between them",
                )
            yield row[place]
    except csv.Error as error:
        raise DataError(f"{name}: {error}", "is a quotation mark not closed?") from None


# Paths


def _found(path: str, beside: str) -> str:
    """Return the path of the file that is meant; without blanks around it where there is none."""
    if "\\" not in path and _exists(path):
        return path
    bare = path.strip(" \t\r\ufeff\u200b")
    inner = bare
    if len(bare) > 1 and bare[0] in QUOTES and bare[0] == bare[-1]:
        inner = bare[1:-1].replace(2 * bare[0], bare[0])
    no_formula = bare.removeprefix("'")  # as a table writes =x.png where it is to be no formula
    for each in dict.fromkeys((path, bare, inner, no_formula)):
        if existing := there(each) or (each and beside and there(os.path.join(beside, each))):
            return existing
    return read_name(inner)


def there(path: str) -> str | None:
    """Return the path of a file that is there: by its bytes, as it is, in another Unicode form."""
    for each in dict.fromkeys((read_name(path), path)):
        if _exists(each):
            return each
    return on_disk(path)


def _exists(path: str) -> bool:
    try:
        return os.path.lexists(path)
    except ValueError:  # a zero byte
        return False
