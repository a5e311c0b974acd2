"""Data sets by name: `mnist` is a folder, wherever its files are, and each file is verified.

Looked for in $ZOO_DATA/NAME, then in the cache, then downloaded into the cache; what our own code
draws is drawn into the cache. A folder of the working directory with such a name comes before all
of them; `./mnist` is always a path.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from zoo.catalog.datasets import ROWS, DataFile, DataSet
from zoo.data.names import on_disk
from zoo.data.split import LAYOUT
from zoo.disk import writing
from zoo.errors import DataError, WeightsError, nearest
from zoo.lock import in_turn
from zoo.watch import Progress
from zoo.weights import Source, cache_folder, fetch
from zoo.weights.hashes import hash_of
from zoo.weights.store import is_offline


def locate(
    text: str,
    *,
    progress: Progress | None = None,
    offline: bool | None = None,
    rows: Mapping[str, DataSet] = ROWS,
) -> Path:
    """What `--data TEXT` means: a path that exists, or the verified folder of a known data set.

    progress: see `fetch`. offline: no network; None asks ZOO_OFFLINE. Raises DataError, WriteError.
    """
    row = rows.get(text)
    if row is None or os.path.isdir(text):
        there = text if os.path.exists(text) else on_disk(text)
        if there is None:
            raise _unknown(text, rows)
        return Path(there)
    if row.drawn:
        return _drawn(row)
    return _of_user(row) or _cached(row, progress, is_offline() if offline is None else offline)


def _unknown(text: str, rows: Mapping[str, DataSet]) -> DataError:
    close = nearest(text.lower(), rows)
    known = f"give a folder with {LAYOUT}, a manifest (.csv, .parquet), or {', '.join(rows)}"
    return DataError(f"{text} does not exist", " ".join(filter(None, (close, known))))


# Places


def _of_user(row: DataSet) -> Path | None:
    """The folder in $ZOO_DATA, verified and never written to; None where it has not the files."""
    place = os.environ.get("ZOO_DATA", "").strip()
    if not place:
        return None
    if not os.path.isdir(os.path.expanduser(place)):
        raise DataError(f"ZOO_DATA is {place}: no such folder", "unset it, or name a folder")
    folder = Path(place).expanduser().absolute() / row.name
    absent = [file.name for file in row.files if not (folder / file.name).exists()]
    if not absent:
        for file in row.files:
            if damage := _damage(folder / file.name, file):
                raise DataError(
                    f"{folder / file.name} (from ZOO_DATA): {damage}",
                    f"replace it, or unset ZOO_DATA to have {row.name} downloaded",
                )
        return folder
    if len(absent) < len(row.files):
        raise DataError(
            f"{folder} (from ZOO_DATA) lacks {', '.join(absent)}",
            f"add what is missing, or unset ZOO_DATA to have {row.name} downloaded",
        )
    return None


def _cached(row: DataSet, progress: Progress | None, offline: bool) -> Path:
    """The folder of the cache; what is missing or damaged in it is downloaded."""
    folder = cache_folder() / "data" / row.name
    for file in row.files:
        damaged = _damage(folder / file.name, file)
        if damaged and offline:
            raise _nowhere(row, file, f"offline, and {folder / file.name} {damaged}")
        if damaged:
            with writing(folder):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with in_turn(folder / file.name):
                if _damage(folder / file.name, file):  # no other process has fetched it meanwhile
                    _download(row, file, folder, progress)
    return folder


def _drawn(row: DataSet) -> Path:
    """Return the folder of the cache with all pictures of a set that is drawn; see `data.xo`."""
    from zoo.data import xo

    folder = cache_folder() / "data" / row.name
    if xo.is_whole(folder, row):
        return folder
    with writing(folder):
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with in_turn(folder):
            if not xo.is_whole(folder, row):
                xo.write(folder, row)
    return folder


# Files


def _damage(path: Path, file: DataFile) -> str:
    """What is wrong with a file, if anything; a file is hashed once per process."""
    try:
        size = path.stat().st_size
        if size != file.bytes:
            return f"has {size:,} bytes, not {file.bytes:,}"
        if file.sha256:
            digest, wanted, kind = hash_of(path), file.sha256, "sha256"
        else:
            with open(path, "rb") as opened:
                digest = hashlib.file_digest(opened, "md5").hexdigest()
            wanted, kind = file.md5, "md5"
    except FileNotFoundError:
        return "is missing"
    except (OSError, WeightsError) as error:
        return f"cannot be read ({error})"
    return "" if digest == wanted else f"has {kind} {digest}, not {wanted}"


def _download(row: DataSet, file: DataFile, folder: Path, progress: Progress | None) -> None:
    """Fetch a file from the first of its addresses that gives the right one."""
    failures = []
    path = folder / file.name
    for url in file.urls:
        try:
            fetch(Source(url, file.sha256, file.md5, file.bytes), path, progress)
        except WeightsError as error:
            failures.append(error.what)
            continue
        damage = _damage(path, file)
        if not damage:
            return
        failures.append(f"{url} {damage}")
        with suppress(OSError):
            path.unlink()
    raise _nowhere(row, file, "; ".join(failures) or "it has no known source")


def _nowhere(row: DataSet, file: DataFile, why: str) -> DataError:
    return DataError(
        f"data set {row.name}: no {file.name} ({why})",
        f"put it into a folder {row.name} and set ZOO_DATA to the folder above; it comes from "
        f"{file.urls[0] if file.urls else row.source}",
    )
