"""Pictures sorted into folders by their answers: links or copies, and the source is only read.

The folder is filled under another name beside its own, which it takes when all of it is there.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo.data.decode import decode, read_bytes
from zoo.disk import hidden, unfinished, writing
from zoo.errors import ImageError, UsageError
from zoo.predict.rows import Prediction

_UNSAFE = re.compile(r'[\x00-\x1f<>:"/\\|?*]|^[.\s]+|[.\s]+$')
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def check(place: Path, source: str, flag: str) -> None:
    """Raise UsageError for a folder that is not empty, or lies inside that of the pictures."""
    if place.is_symlink() or (place.exists() and not place.is_dir()):
        raise UsageError(f"{flag} {place} is no folder", "name one that is new or empty")
    if place.is_dir() and any(place.iterdir()):
        raise UsageError(
            f"{flag} {place}: the folder is not empty", "name one that is new or empty"
        )
    if not place.absolute().parent.is_dir():
        raise UsageError(
            f"{flag} {place}: there is no folder {place.absolute().parent}", "make it first"
        )
    real, within = os.path.realpath(place), os.path.realpath(source)
    if os.path.isdir(source) and os.path.commonpath([real, within]) == within:
        raise UsageError(
            f"{flag} {place} lies inside {source}, whose pictures are only read",
            "name a folder elsewhere",
        )


@contextmanager
def filling(place: Path, copy: bool) -> Iterator[Sorted]:
    """Yield what takes pictures; the folder appears when the block ends without an error."""
    whole = place.absolute()
    beginning = hidden(whole)
    with unfinished(beginning):
        with writing(place):
            beginning.mkdir()
        yield Sorted(beginning, copy)
        with writing(place):
            os.replace(beginning, whole)  # an empty folder is replaced


class Sorted:
    """Puts pictures into folders of a folder. missing: how many of them were not there."""

    def __init__(self, root: Path, copy: bool) -> None:
        self.root, self.copy = root, copy
        self.folders: dict[str, Path] = {}
        self.taken: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.missing = 0

    def following(self, rows: Iterable[Prediction]) -> Iterator[Prediction]:
        """Yield the same rows; the picture of each is put into the folder of its answer."""
        for row in rows:
            name = row.labels[0] if row.status == "ok" else f"_{row.status}"
            own = row.status == "ok"
            self.put(row.file, self._folder(name, "class" if own else "status"))
            yield row

    def put(self, file: str, folder: Path | None = None) -> None:
        """Link or copy a file into a folder, the root by default, under a name that is free."""
        folder = folder or self.root
        if "\0" in file or not os.path.lexists(file):
            self._put_inner(file, folder)
            return
        place = self._free(folder, os.path.basename(file))
        with writing(place):
            if self.copy and os.path.isfile(file):
                shutil.copy2(file, place)
            else:  # what is broken is shown where it is
                place.symlink_to(os.path.realpath(file))
        self.counts[folder.name] += 1

    def _put_inner(self, file: str, folder: Path) -> None:
        """Write a picture of a container as a PNG: it is no file that could be linked to."""
        box, mark, number = os.path.basename(file).rpartition("#")
        try:
            image = decode(read_bytes(file))
        except ImageError:
            self.missing += 1
            return
        place = self._free(folder, f"{box}-{number}.png" if mark else f"{number}.png")
        with writing(place):
            image.save(place)
        self.counts[folder.name] += 1

    def _folder(self, name: str, kind: str) -> Path:
        """Return the folder of a class or a status; a name that no system takes is made one."""
        key = f"{kind} {name}"
        if key not in self.folders:
            self.folders[key] = place = self._free(self.root, safe(name))
            with writing(place):
                place.mkdir()
        return self.folders[key]

    def _free(self, folder: Path, name: str) -> Path:
        """Return a place of this name that is free, also where A and a are one name."""
        stem, suffix = os.path.splitext(name)
        number, place = 1, folder / name
        while str(place).casefold() in self.taken:
            number += 1
            place = folder / f"{stem}-{number}{suffix}"
        self.taken.add(str(place).casefold())
        return place


def safe(name: str) -> str:
    """Return a class's name as one that all systems take for a folder: at most 200 bytes."""
    clean = _UNSAFE.sub("_", name) or "_"
    clean = f"_{clean}" if _DEVICE.fullmatch(clean) else clean
    if len(os.fsencode(clean)) > 200:
        clean = os.fsencode(clean)[:200].decode("utf-8", "ignore")
    return clean


def fill(place: Path, files: Iterable[str], copy: bool = False) -> int:
    """Put files into one folder; return how many there are in it."""
    with filling(place, copy) as ours:
        for file in files:
            ours.put(file)
    return sum(ours.counts.values())
