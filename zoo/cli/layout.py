"""Text in the width that there is: words wrap below themselves, and no word is broken.

A terminal says how wide it is, and so does $COLUMNS; what goes into a file or another program is
left as it is. A command between backticks stays on one line where it fits: it is to be copied. Only
what is longer than a line, as some paths are, goes on below, behind a slash where it has one.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import IO

from zoo.text import one_line

NARROWEST = 30  # columns; less is not laid out for
LEAST = 12  # columns that a wrapped cell has
_PARTS = (r"[^/,=]*[/,=]+|[^/,=]+", r"[^-_.]*[-_.]+|[^-_.]+")  # of a path, of a name
_WORDS = re.compile(r"(\s*)(`[^`]*`\S*|\S+)")


def width_of(stream: IO[str]) -> int | None:
    """Return how many columns a stream shows, or None where lines may have any length."""
    said = os.environ.get("COLUMNS", "").strip()
    if said.isdecimal() and int(said) >= NARROWEST:
        return int(said)
    if not stream.isatty():
        return None
    try:
        found = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        return None
    return found if found >= NARROWEST else None


def cells_of(text: str) -> int:
    """Return how many columns of a terminal a text takes; an ideograph takes two."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(bool(unicodedata.combining(c)) for c in text)


def wrapped(text: str, width: int | None, indent: str = "") -> list[str]:
    """Return the lines of a text; all but the first begin with indent. No word is broken."""
    if width is None or cells_of(text) <= width:
        return [text]
    lines, line = [], ""
    for blank, word in _pieces(text, width - len(indent)):
        full = line + blank + word
        if line.strip() and cells_of(full) > width:
            lines.append(line)
            full = indent + word
        line = full
    return [*lines, line]


def _pieces(text: str, room: int) -> Iterator[tuple[str, str]]:
    """Yield the words of a text and the blanks before each.

    What stands between backticks is one word, where there is room.
    """
    for blank, word in _WORDS.findall(text):
        if cells_of(word) <= room:
            yield blank, word
            continue
        for before, each in re.findall(r"(\s*)(\S+)", blank + word):
            first, *more = _parts(each, room)
            yield before, first
            yield from (("", part) for part in more)


def _parts(word: str, room: int) -> list[str]:
    """Return a word in parts that have room: behind a slash, else behind a dash, else anywhere."""
    found = [word]
    for pattern in (*_PARTS, rf".{{1,{max(1, room)}}}"):
        found = [
            part
            for each in found
            for part in ([each] if cells_of(each) <= room else re.findall(pattern, each))
        ]
    return found


def table(
    rows: Iterable[Sequence[str]],
    header: Sequence[str],
    right: str = "",
    width: int | None = None,
    drop: Sequence[str] = (),
) -> list[str]:
    """Return aligned columns as lines; `right` has an `r` for each right-aligned column.

    In a narrow width the columns named in drop go, the first one first; then those of words wrap,
    the widest first. Where even that is too wide, two rows or three stand side by side, as columns;
    and where that is, each is a list of lines, `header  value`.
    """
    return [line for lines in blocks(rows, header, right, width, drop) for line in lines]


def blocks(
    rows: Iterable[Sequence[str]],
    header: Sequence[str],
    right: str = "",
    width: int | None = None,
    drop: Sequence[str] = (),
) -> list[list[str]]:
    """Return the lines of a `table`, those of the header first, then those of each row."""
    cells = [list(header), *(list(map(one_line, row)) for row in rows)]
    left_out = [title for title in drop if title in header]
    widths = [max(cells_of(row[k]) for row in cells) for k in range(len(header))]
    while left_out and width is not None and sum(widths) + 2 * len(widths) - 2 > width:
        k = cells[0].index(left_out.pop(0))
        right = f"{right:<{len(widths)}}"
        right = right[:k] + right[k + 1 :]
        del widths[k]
        for row in cells:
            del row[k]
    if width is not None and not _fit(cells, widths, right, width):
        return _transposed(cells, width) or _listed(cells, width)
    return [_aligned(row, widths, right) for row in cells]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as lines, without a header and in any width."""
    cells = [list(map(one_line, row)) for row in rows]
    widths = [max(map(cells_of, column)) for column in zip(*cells, strict=True)]
    return [line for row in cells for line in _aligned(row, widths, "")]


def _aligned(row: list[str], widths: list[int], right: str) -> list[str]:
    """Return a row of cells as lines, each cell in its column."""
    parts = [wrapped(cell, widths[k]) for k, cell in enumerate(row)]
    lines = []
    for number in range(max(map(len, parts))):
        line = (
            _padded(part[number] if number < len(part) else "", widths[k], right[k : k + 1])
            for k, part in enumerate(parts)
        )
        lines.append("  ".join(line).rstrip())
    return lines


def _fit(cells: list[list[str]], widths: list[int], right: str, width: int) -> bool:
    """Make columns of words narrower until all fit; return whether they do."""
    least = [
        all_of
        if right[k : k + 1] == "r"
        else min(
            all_of, max(LEAST, *(max(map(cells_of, row[k].split()), default=0) for row in cells))
        )
        for k, all_of in enumerate(widths)
    ]
    over = sum(widths) + 2 * (len(widths) - 1) - width
    while over > 0:
        k = max(range(len(widths)), key=lambda k: (widths[k] - least[k] > 0, widths[k]))
        if widths[k] <= least[k]:
            return False
        widths[k] -= 1
        over -= 1
    return True


def _padded(cell: str, width: int, side: str) -> str:
    blank = " " * (width - cells_of(cell))
    return blank + cell if side == "r" else cell + blank


def _transposed(cells: list[list[str]], width: int) -> list[list[str]]:
    """Return rows as columns, a line for each header; nothing where they do not fit, or are many.

    The first line is the first cell of each row, with its header.
    """
    turned = [list(row) for row in zip(*cells, strict=True) if any(row[1:])]
    widths = [max(map(cells_of, column)) for column in cells]
    if len(cells) not in (3, 4) or sum(widths) + 2 * len(widths) - 2 > width:
        return []
    lines = [line for row in turned for line in _aligned(row, widths, "")]
    return [*([] for _ in cells), lines]  # which are of no row alone


def _listed(cells: list[list[str]], width: int) -> list[list[str]]:
    """Return lines for each row, a blank line between them; the header has none of its own."""
    header, *rows = cells
    name = max(map(cells_of, header)) + 2
    found: list[list[str]] = [[]]
    for number, row in enumerate(rows):
        lines = [""] if number else []
        for title, cell in zip(header, row, strict=True):
            if cell:  # a title without a value says nothing
                lines += wrapped(_padded(title, name, "") + cell, width, " " * name)
        found.append(lines)
    return found
