"""The class that a picture is known to have, by where it lies; for colours and a column only."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from zoo.data import container, packed
from zoo.data.names import plain
from zoo.data.parquet import Photos
from zoo.data.split import TEST_NAMES, TRAIN_NAMES, VAL_NAMES
from zoo.errors import DataError
from zoo.predict.inputs import Input

PARTS = (*TRAIN_NAMES, *VAL_NAMES, *TEST_NAMES)


def known(item: Input) -> str:
    """Return the first folder below the one that was named (but train, val and test), or nothing.

    Of a picture in a container the label that lies in it or beside it.
    """
    file, _, number = item.file.rpartition("#")
    if number.isdecimal() and container.is_container(file):
        names = _inside(file)
        return names[int(number)] if int(number) < len(names) else ""
    if item.file == item.shown:  # named alone, by a list or a pattern
        return ""
    folders = [part for part in item.shown.split("/")[:-1] if part]
    if len(folders) > 1 and folders[0].casefold() in PARTS:
        folders = folders[1:]
    return plain(folders[0]) if folders else ""


@lru_cache(maxsize=16)
def _inside(file: str) -> tuple[str, ...]:
    """Return the classes of a container's pictures, as in training; none where nothing says."""
    path = Path(file)
    try:
        if isinstance(box := container.load(file), Photos):
            return tuple("" if label is None else str(label) for label in box.labels)
        match = packed.IDX.fullmatch(path.name.lower())
        if match is None or match[2] != "images":
            return ()
        labels = path.name.replace("images", "labels").replace("idx3", "idx1")
        found = {(match[1], "images"): path.name, (match[1], "labels"): labels}
        part = packed.idx_part(path.parent, match[1], found)
        names, _ = packed.class_names(path.parent, part.values, [part])
    except (DataError, OSError):
        return ()
    named = dict(zip(part.values, names, strict=True))
    return tuple(named[label] for label in part.labels if label is not None)
