"""What `zoo predict` is pointed at: a folder, a file, a glob, a list of paths or stdin.

A file with many pictures (IDX, Parquet with photos inside) stands for all of them, as FILE#N. Lists
are read as path_lists.py says; @FILE is a list whatever its suffix.
"""

from __future__ import annotations

import glob
import heapq
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import IO

from PIL import Image

from zoo.data import container, ignored, path_lists
from zoo.data.decode import looks_like_image
from zoo.data.folders import is_folder
from zoo.data.names import on_disk
from zoo.data.views import Source
from zoo.errors import DataError
from zoo.text import TEXT
from zoo.watch import check

LIST_SUFFIXES = (".txt", ".list", ".lst", ".csv")
_PIECE = 4096  # names that are sorted at once


@dataclass(frozen=True, slots=True)
class Input:
    """A file and the name that its row carries.

    content: of a picture that is in memory, the bytes of its file or the picture itself.
    """

    file: str
    shown: str
    content: bytes | Image.Image | None = field(default=None, compare=False, repr=False)

    @property
    def source(self) -> Source:
        """Return what is to be read."""
        return self.file if self.content is None else self.content


@dataclass(slots=True)
class Inputs:
    """Inputs one by one, in order. total is None where that is not known before the end.

    skipped: files that are no pictures. passed: what is left out for its name, with the reason.
    closed: folders that cannot be listed, with the reason; each is an input that gives an error.
    """

    each: Iterator[Input]
    total: int | None = None
    skipped: list[str] = field(default_factory=list)
    passed: list[tuple[str, str]] = field(default_factory=list)
    closed: list[tuple[str, str]] = field(default_factory=list)


def find_all(targets: Sequence[str], stdin: IO[str]) -> Inputs:
    """Return the pictures of several folders, files, globs and lists, one target after the other.

    With several, a row names a folder's picture with the folder before it. Raises DataError.
    """
    if len(targets) == 1:
        return find(targets[0], stdin)
    parts = [(target, find(target, stdin)) for target in targets]
    totals = [part.total for _, part in parts]
    whole = Inputs(iter(()))
    whole.total = (
        sum(total for total in totals if total is not None) if None not in totals else None
    )

    def each() -> Iterator[Input]:
        for target, part in parts:
            within = os.path.isdir(target)
            for one in part.each:
                yield Input(one.file, os.path.join(target, one.shown)) if within else one
            whole.skipped += part.skipped
            whole.passed += part.passed
            whole.closed += part.closed

    whole.each = each()
    return whole


def find(target: str, stdin: IO[str]) -> Inputs:
    """Return every picture of a folder at any depth; every line of a list. Raises DataError.

    In a folder only what looks like a picture (by suffix, else by its first bytes) is an input;
    whatever is named in a list, a glob or alone is one, picture or not. A line of a list is one
    input: FILE#N is a picture in a container.
    """
    if target == "-":
        stream = getattr(stdin, "buffer", None) or BytesIO(stdin.read().encode(**TEXT))
        return Inputs(_listed(stream, "stdin"))
    if not os.path.lexists(target):
        target = on_disk(target) or target
    if os.path.isdir(target):
        return _in_folder(target)
    place = target[1:] if target.startswith("@") and not os.path.lexists(target) else target
    a_list = place != target or Path(target).suffix.lower() in LIST_SUFFIXES
    if a_list and os.path.isfile(place):
        if not (lines := sum(1 for _ in _lines(place))):
            raise DataError(f"{place} lists no paths", "give one path a line")
        return Inputs(_lines(place), lines)
    if os.path.isfile(target):
        return Inputs(_inside(target, target), count(target))
    if _in_container(target):
        return Inputs(iter([Input(target, target)]), 1)
    return _matching(target)


def _in_folder(folder: str) -> Inputs:
    """Return every picture below a folder."""
    found = Inputs(iter(()))
    found.each = _below(folder, "", found, ())
    found.total = sum(1 for _ in _below(folder, "", Inputs(iter(())), ()))
    if not found.total:
        run = os.path.isfile(os.path.join(folder, "run.json"))
        swapped = "it is a run: the model comes first, and then the pictures"
        hint = swapped if run else "give a folder with pictures at any depth"
        raise DataError(f"no pictures in {folder}", hint)
    return found


def _matching(pattern: str) -> Inputs:
    """Return the files that a pattern matches, but in folders of systems that it does not name."""
    named = [part.casefold() for part in pattern.split("/")]
    names = _Sorted(glob.iglob(pattern, recursive=True), "\0")

    def matches(found: Inputs) -> Iterator[str]:
        for name in names:
            folders = [part for part in name.split("/")[:-1] if part.casefold() not in named]
            if any(map(ignored.is_system, folders)):
                found.passed.append((name, ignored.SYSTEM))
            elif not os.path.isdir(name):
                yield name

    if next(matches(Inputs(iter(()))), None) is None:
        raise DataError(
            f"{pattern} does not exist, and matches no file as a pattern",
            "give a folder, a picture, a pattern in quotes, a .txt with a path a line, or -",
        )
    found = Inputs(iter(()), sum(map(count, matches(Inputs(iter(()))))))
    found.each = (item for name in matches(found) for item in _inside(name, name))
    return found


def _lines(place: str) -> Iterator[Input]:
    """Yield the paths of a list in a file. Raises DataError."""
    try:
        with open(place, "rb") as file:
            yield from _listed(file, place, os.path.dirname(place))
    except OSError as error:
        what = f"{place} cannot be read: {error.strerror}"
        raise DataError(what, "check its permissions") from None


def _listed(stream: IO[bytes], name: str, beside: str = "") -> Iterator[Input]:
    """Yield the paths of a list, each under the name of its file."""
    return (Input(path, path) for path in path_lists.paths_in(stream, name, beside))


def _inside(file: str, shown: str) -> Iterator[Input]:
    """Yield the pictures of a container; the file itself where it is none, or damaged."""
    box = _opened(file)
    if box is None:
        yield Input(file, shown)
        return
    for number in range(len(box)):
        yield Input(f"{file}#{number}", f"{shown}#{number}")


def count(file: str) -> int:
    """Return how many inputs a file is."""
    box = _opened(file)
    return 1 if box is None else len(box)


def _opened(file: str) -> container.Container | None:
    """Return None for a picture, and for a damaged container: its row will say what is wrong."""
    if looks_like_image(file):
        return None
    try:
        return container.find(file)
    except DataError:
        return None


def _in_container(target: str) -> bool:
    """Return whether this is FILE#N with a container FILE, be there such a picture or not."""
    file, _, number = target.rpartition("#")
    return number.isdecimal() and container.is_container(file)


def _below(
    root: str, relative: str, found: Inputs, above: tuple[tuple[int, int], ...]
) -> Iterator[Input]:
    """Yield pictures below a folder, sorted; a loop of links ends. The rest goes to `found`."""
    folder = os.path.join(root, relative)
    try:
        status = os.stat(folder)
        with os.scandir(folder) as scanned:
            names = _Sorted((f"{entry.name}\0{is_folder(entry):d}" for entry in scanned), "/")
    except OSError as error:
        if relative:
            found.closed.append((relative, str(error.strerror)))
            yield Input(folder, relative)
            return
        raise DataError(
            f"{folder} cannot be listed: {error.strerror}", "check its permissions"
        ) from None
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    before, above = os.path.join(folder, ""), (*above, here)
    for each in names:
        check()
        name, _, kind = each.partition("\0")
        place, is_dir = before + name, kind == "1"
        shown = f"{relative}/{name}" if relative else name
        if why := ignored.reason(name, is_dir):
            if is_dir or looks_like_image(place):
                found.passed.append((shown, why))
        elif is_dir:
            yield from _below(root, shown, found, above)
        elif looks_like_image(place):
            yield Input(place, shown)
        elif container.is_container(place):
            yield from _inside(place, shown)
        else:
            found.skipped.append(shown)


class _Sorted:
    """Texts, sorted, that take no more memory than their letters: pieces of them are merged.

    200,000 entries of a folder, as `os.scandir` gives them, would take 50 MB.
    """

    def __init__(self, texts: Iterable[str], between: str) -> None:
        """between: a character that is in none of them."""
        self._between, self._pieces, texts = between, list[str](), iter(texts)
        while some := sorted(islice(texts, _PIECE)):
            check()
            self._pieces.append(between.join(some))

    def __iter__(self) -> Iterator[str]:
        each = re.compile(f"[^{self._between}]+")
        return heapq.merge(*(map(re.Match.group, each.finditer(one)) for one in self._pieces))
