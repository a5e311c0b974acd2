"""The page of a comparison: the photos that one run has right and another wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.report.album import Album
from zoo.report.page import write_page
from zoo.text import count, percent

SHOWN = 60  # photos of all pairs together, with a picture each
Table = tuple[Sequence[str], Sequence[Sequence[str]]]  # header and rows


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo that one of two runs has right; said, sure: what each takes it for, if known."""

    path: Path
    label: str
    first_right: bool
    said: tuple[str, str]
    sure: tuple[float, float]


@dataclass(frozen=True, slots=True)
class PairOfRuns:
    """Two runs. verdict: in words. counts: right in both, only first, only second, neither."""

    first: str
    second: str
    verdict: str
    better: str
    counts: tuple[int, int, int, int]
    photos: Sequence[Photo]


def write(path: Path, table: Table, pairs: Sequence[PairOfRuns], version: str) -> None:
    """Write the page. table: of the runs. Raises WriteError."""
    each = max(4, SHOWN // (2 * len(pairs)))
    album = Album(Path())
    write_page(
        path,
        "compare.html.j2",
        version=version,
        title=f"{count(len(table[1]), 'run')} compared",
        header=table[0],
        rows=table[1],
        right=" " * (len(table[0]) - 4) + "rrrr",
        pairs=[_pair(pair, each, album) for pair in pairs],
    )


def _pair(pair: PairOfRuns, most: int, album: Album) -> dict[str, Any]:
    sides = []
    for first, name in ((True, pair.first), (False, pair.second)):
        photos = [photo for photo in pair.photos if photo.first_right is first]
        some = photos[:most]
        there = album.is_there([str(photo.path) for photo in some])
        if there:
            album.add(str(photo.path) for photo in some)
        tiles = [_tile(photo, album) for photo in some]
        sides.append({"name": name, "tiles": tiles, "count": len(photos), "moved": not there})
    return {"verdict": pair.verdict, "better": pair.better, "sides": sides,
            "bars": _bars(pair)}  # fmt: skip


def _bars(pair: PairOfRuns) -> list[dict[str, Any]]:
    """Return the four kinds of photos as shares of all."""
    names = ("both right", f"only {pair.first}", f"only {pair.second}", "neither")
    total = max(1, sum(pair.counts))
    return [
        {"name": name, "count": f"{number:,}", "share": math.ceil(100 * number / total)}
        for name, number in zip(names, pair.counts, strict=True)
    ]


def _tile(photo: Photo, album: Album) -> dict[str, Any]:
    wrong = int(photo.first_right)  # which of the two is wrong
    told, path = photo.said[wrong], str(photo.path)
    taken = (
        f"taken for {told}, {percent(photo.sure[wrong])}".replace(" %", "\N{NO-BREAK SPACE}%")
        if told
        else "the other is wrong"
    )
    return {
        "picture": album.pictures.get(path, ""),
        "error": album.errors.get(path, ""),
        "alt": f"{photo.path.name}: {photo.label}, {taken}",
        "lines": [photo.label, taken, photo.path.name],
        "wrong": True,
    }
