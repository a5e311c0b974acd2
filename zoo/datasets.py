"""Data sets by name: `mnist` is a folder, wherever its files are, and each file is verified.

Looked for in $ZOO_DATA/NAME, then in the cache, then downloaded into the cache. A folder of the
working directory with such a name comes before all of them; `./mnist` is always a path.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

from zoo.catalog.datasets import ROWS, DataFile, DataSet
from zoo.data.names import on_disk
from zoo.data.split import LAYOUT
from zoo.disk import atomic, writing
from zoo.errors import DataError, WeightsError, nearest
from zoo.lock import in_turn
from zoo.weights import Source, cache_folder, fetch
from zoo.weights.fetch import Progress
from zoo.weights.hashes import hash_of


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
    return _of_user(row) or _cached(row, progress, _is_offline() if offline is None else offline)


def _unknown(text: str, rows: Mapping[str, DataSet]) -> DataError:
    close = nearest(text.lower(), rows)
    known = f"give a folder with {LAYOUT}, a manifest (.csv, .parquet), or {', '.join(rows)}"
    return DataError(f"{text} does not exist", " ".join(filter(None, (close, known))))


def _is_offline() -> bool:
    return os.environ.get("ZOO_OFFLINE", "0").lower() not in ("", "0", "false", "no")


# Places


def _of_user(row: DataSet) -> Path | None:
    """The folder in $ZOO_DATA, verified and never written to; None where it has not the files."""
    place = os.environ.get("ZOO_DATA", "").strip()
    if not place:
        return None
    if not os.path.isdir(os.path.expanduser(place)):
        raise DataError(f"ZOO_DATA is {place}: no such folder", "unset it, or name a folder")
    folder = Path(place).expanduser().absolute() / row.name
    absent = [part for part in row.parts if not _place(folder, part).exists()]
    if not absent:
        for part in row.parts:
            if damage := _damage(_place(folder, part), part):
                raise DataError(
                    f"{_place(folder, part)} (from ZOO_DATA): {damage}",
                    f"replace it, or unset ZOO_DATA to have {row.name} downloaded",
                )
        return folder
    archives = [file for file in row.files if file.members and (folder / file.name).exists()]
    if archives:
        return _unpacked_from(folder, row, archives)
    if len(absent) < len(row.parts):
        names = ", ".join(_place(folder, part).name for part in absent)
        raise DataError(
            f"{folder} (from ZOO_DATA) lacks {names}",
            f"add what is missing, or unset ZOO_DATA to have {row.name} downloaded",
        )
    return None


def _unpacked_from(place: Path, row: DataSet, archives: list[DataFile]) -> Path:
    """The folder of the cache, with what the user's archives hold."""
    folder = _folder(row)
    for file in archives:
        if any(_damage(_place(folder, part), part) for part in file.members):
            if damage := _damage(place / file.name, file):
                raise DataError(f"{place / file.name} (from ZOO_DATA): {damage}", "replace it")
            unpack(place / file.name, file, folder)
    return folder


def _cached(row: DataSet, progress: Progress | None, offline: bool) -> Path:
    """The folder of the cache; what is missing or damaged in it is downloaded."""
    folder = cache_folder() / "data" / row.name
    for file in row.files:
        damaged = _damaged(folder, file)
        if damaged and offline:
            raise _nowhere(row, file, f"offline, and {damaged[0]}")
        if damaged:
            with in_turn(_folder(row) / file.name):
                if _damaged(folder, file):  # no other process has fetched it meanwhile
                    _download(row, file, folder, progress)
    return folder


def _damaged(folder: Path, file: DataFile) -> list[str]:
    """What is wrong with a file, or with those that are taken out of it."""
    return [
        f"{_place(folder, part)} {damage}"
        for part in file.members or (file,)
        if (damage := _damage(_place(folder, part), part))
    ]


def _folder(row: DataSet) -> Path:
    """The folder of the cache, made."""
    folder = cache_folder() / "data" / row.name
    with writing(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _place(folder: Path, file: DataFile) -> Path:
    return folder / PurePosixPath(file.name).name


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
    """One file from the first of its addresses that gives the right one; an archive is unpacked."""
    failures = []
    path = folder / file.name
    for url in file.urls:
        try:
            fetch(Source(url, file.sha256, file.md5, file.bytes), path, progress)
        except WeightsError as error:
            failures.append(error.what)
            continue
        damage = _damage(path, file)
        try:
            if not damage and file.members:
                unpack(path, file, folder)
        finally:
            if damage or file.members:
                with suppress(OSError):
                    path.unlink()
        if not damage:
            return
        failures.append(f"{url} {damage}")
    raise _nowhere(row, file, "; ".join(failures) or "it has no known source")


def _nowhere(row: DataSet, file: DataFile, why: str) -> DataError:
    return DataError(
        f"data set {row.name}: no {file.name} ({why})",
        f"put it into a folder {row.name} and set ZOO_DATA to the folder above; it comes from "
        f"{file.urls[0] if file.urls else row.source}",
    )


def unpack(archive: Path, file: DataFile, folder: Path) -> None:
    """Takes the members of a tar out of it, one by one, and nothing else. Raises DataError.

    No path in the archive says where a file goes: each has its own name in `folder`.
    """
    wanted = {member.name: member for member in file.members}
    try:
        with tarfile.open(archive, "r:*") as tar:
            for info in tar:
                _check_member(archive, info)
                member = wanted.pop(info.name.removeprefix("./"), None)
                if member is not None:
                    _take(tar, info, member, archive, folder)
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{archive} cannot be unpacked: {error}", "remove it to have it downloaded again"
        ) from None
    if wanted:
        raise DataError(f"{archive} lacks {', '.join(wanted)}", f"expected {file.name}, unchanged")


def _check_member(archive: Path, info: tarfile.TarInfo) -> None:
    """Refuses an archive in which anything could lie elsewhere, or is neither file nor folder."""
    path = PurePosixPath(info.name)
    if path.is_absolute() or ".." in path.parts or "\\" in info.name:
        raise DataError(f"{archive} has a member {info.name!a}, outside of it", "do not use it")
    if not (info.isreg() or info.isdir()):
        raise DataError(f"{archive} has a link or device {info.name!a} in it", "do not use it")


def _take(
    tar: tarfile.TarFile, info: tarfile.TarInfo, member: DataFile, archive: Path, folder: Path
) -> None:
    source = tar.extractfile(info) if info.isreg() and info.size == member.bytes else None
    if source is None:
        raise DataError(
            f"{archive}: {info.name} has {info.size:,} bytes, not {member.bytes:,}",
            "remove the archive to have it downloaded again",
        )
    data = source.read()
    digest = hashlib.sha256(data).hexdigest()
    if digest != member.sha256:
        raise DataError(
            f"{archive}: {info.name} has sha256 {digest}, not {member.sha256}",
            "remove the archive to have it downloaded again",
        )
    with atomic(_place(folder, member)) as out:
        out.write(data)
