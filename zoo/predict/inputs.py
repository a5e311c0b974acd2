"""What `zoo predict` is pointed at: a folder, a file, a glob, a list of paths or stdin.

A file with many pictures (IDX, CIFAR-10's batches) stands for all of them, as FILE#N.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from zoo.data import container
from zoo.data.decode import looks_like_image
from zoo.data.index import is_folder
from zoo.errors import DataError
from zoo.run import keep_bytes
from zoo.watch import check

LIST_SUFFIXES = (".txt", ".list", ".lst")


@dataclass(frozen=True, slots=True)
class Input:
    """A file and the name that its row carries."""

    file: str
    shown: str


@dataclass(slots=True)
class Inputs:
    """Inputs one by one, in order. total is None where that is not known before the end."""

    each: Iterator[Input]
    total: int | None = None
    skipped: list[str] = field(default_factory=list)


def find(target: str, stdin: IO[str]) -> Inputs:
    """Every picture of a folder at any depth; every line of a list. Raises DataError.

    In a folder only what looks like a picture (by suffix, else by its first bytes) is an input;
    whatever is named in a list, a glob or alone is one, picture or not. A line of a list is one
    input: FILE#N is a picture in a container.
    """
    if target == "-":
        keep_bytes(stdin)
        return Inputs(lines(stdin))
    if os.path.isdir(target):
        found = Inputs(iter(()))
        found.each = below(target, "", found.skipped, ())
        found.total = sum(1 for _ in below(target, "", [], ()))
        if not found.total:
            raise DataError(f"no pictures in {target}", "give a folder with pictures at any depth")
        return found
    if os.path.isfile(target):
        if Path(target).suffix.lower() in LIST_SUFFIXES:
            with open(target, encoding="utf-8", errors="surrogateescape") as file:
                listed = list(lines(file))
            if not listed:
                raise DataError(f"{target} lists no paths", "give one path a line")
            return Inputs(iter(listed), len(listed))
        return Inputs(inside(target, target), count(target))
    if in_container(target):
        return Inputs(iter([Input(target, target)]), 1)
    matches = sorted(name for name in glob.glob(target, recursive=True) if not os.path.isdir(name))
    if not matches:
        raise DataError(
            f"{target} does not exist, and matches no file as a pattern",
            "give a folder, a picture, a pattern in quotes, a .txt with a path a line, or -",
        )
    each = (item for name in matches for item in inside(name, name))
    return Inputs(each, sum(map(count, matches)))


def inside(file: str, shown: str) -> Iterator[Input]:
    """The pictures of a container; the file itself where it is none, or damaged."""
    box = opened(file)
    if box is None:
        yield Input(file, shown)
        return
    for number in range(len(box)):
        yield Input(f"{file}#{number}", f"{shown}#{number}")


def count(file: str) -> int:
    """How many inputs a file is."""
    box = opened(file)
    return 1 if box is None else len(box)


def opened(file: str) -> container.Container | None:
    """None for a picture, and for a damaged container: its row will say what is wrong."""
    if looks_like_image(file):
        return None
    try:
        return container.find(file)
    except DataError:
        return None


def in_container(target: str) -> bool:
    """Whether this is FILE#N with a container FILE, be there such a picture or not."""
    file, _, number = target.rpartition("#")
    return number.isdecimal() and container.is_container(file)


def lines(file: IO[str]) -> Iterator[Input]:
    for line in file:
        name = line.rstrip("\r\n")
        if name:
            yield Input(name, name)


def below(
    root: str, relative: str, skipped: list[str], above: tuple[tuple[int, int], ...]
) -> Iterator[Input]:
    """Pictures below a folder, sorted; dot-files are passed over, a loop of links ends."""
    folder = os.path.join(root, relative)
    try:
        status = os.stat(folder)
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(
            f"{folder} cannot be listed: {error.strerror}", "check its permissions"
        ) from None
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for entry in entries:
        check()
        shown = f"{relative}/{entry.name}" if relative else entry.name
        if entry.name.startswith("."):
            continue
        if is_folder(entry):
            yield from below(root, shown, skipped, (*above, here))
        elif looks_like_image(entry.path):
            yield Input(entry.path, shown)
        elif container.is_container(entry.path):
            yield from inside(entry.path, shown)
        else:
            skipped.append(shown)
