"""Several weights files as one tar, for a machine without a network.

Plain tar, `manifest.json` first, then the files it lists; equal files, equal bytes. Any tar
program can look into it, but it is read here header by header: regular files with plain names,
each once, each of the size and the sha256 that the manifest says, and nothing else. All of it is
checked before any of it is in the store. The manifest vouches for the transport only: where the
catalogue knows a file, its hash counts; and no file is trusted because of where it came from.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import re
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any

from zoo import catalog
from zoo.catalog.spec import Weights
from zoo.disk import atomic, no_room, replacing, writing
from zoo.errors import CacheError, WeightsError, WriteError
from zoo.weights.choice import SUFFIXES
from zoo.weights.convert import converted_path
from zoo.weights.fetch import Progress
from zoo.weights.files import check
from zoo.weights.folders import make_private
from zoo.weights.hashes import pin, pin_of, pin_path, remember
from zoo.weights.header import BadHeader, no_twins
from zoo.weights.shelf import weights_folder
from zoo.weights.store import note_about, plain

MANIFEST = "manifest.json"
FORMAT = 1
BLOCK = 1 << 20
UNIT = 512  # bytes of a tar's header; contents are padded to it
MANIFEST_BYTES = 1_000_000
FILES = 1000
TEXT = 300  # characters of a name, a licence or a source
HINT = "`zoo pull MODEL --bundle FILE.tar` makes one"


@dataclass(frozen=True, slots=True)
class Packed:
    """What the manifest says of one file."""

    file: str
    sha256: str
    bytes: int
    model: str = ""
    tag: str = ""
    licence: str = ""
    source: str = ""


def pack(destination: Path, packed: dict[Path, Packed], progress: Progress | None = None) -> None:
    """Write the files as one tar, whole or not at all. Raises WriteError and WeightsError."""
    order = sorted(packed.items(), key=lambda item: item[1].file)
    text = json.dumps({"format": FORMAT, "files": [asdict(one) for _, one in order]}, indent=1)
    total = sum(one.bytes for _, one in order)
    _check_room(destination.parent, destination, total)
    done = 0
    with atomic(destination) as out:
        out.write(_header(MANIFEST, len(text.encode())) + _padded(text.encode()))
        for path, one in order:
            out.write(_header(one.file, one.bytes))
            hasher = hashlib.sha256()
            with path.open("rb") as file:
                while block := file.read(BLOCK):
                    hasher.update(block)
                    out.write(block)
                    done += len(block)
                    if progress is not None:
                        progress(done, total)
            if hasher.hexdigest() != one.sha256:
                raise WeightsError(f"{path} was changed while it was read", "run it again")
            out.write(bytes(-one.bytes % UNIT))
        out.write(bytes(2 * UNIT))


def unpack(source: Path, progress: Progress | None = None) -> dict[Path, Packed]:
    """Put all files of a bundle into the store, or none. Raises WeightsError and CacheError."""
    try:
        with source.open("rb") as file:
            listed = _manifest(file, source)
            for one in listed:
                _known(one, source)
            folder = weights_folder()
            make_private(folder)
            total = sum(one.bytes for one in listed)
            _check_room(folder, folder / listed[0].file, total)
            return _brought(file, source, listed, total, progress)
    except OSError as error:
        raise WeightsError(f"cannot read {source}: {error.strerror or error}", HINT) from error
    except WriteError as error:
        raise CacheError(error.what, f"{error.hint}: ZOO_CACHE=FOLDER names one") from error


def _brought(
    file: IO[bytes], source: Path, listed: list[Packed], total: int, progress: Progress | None
) -> dict[Path, Packed]:
    """Every file under a temporary name, checked; then all of them under their own."""
    waiting = {one.file: one for one in listed}
    kept = {weights_folder() / one.file: one for one in listed}
    done = 0
    with _undone_on_error(listed), contextlib.ExitStack() as stack:
        for name, size in _members(file, source):
            one = waiting.pop(name, None)
            if one is None or size != one.bytes:
                raise _bad(source, f"holds {name[:80]!a} of {size} bytes, which is not as listed")
            temporary = stack.enter_context(replacing(weights_folder() / name, 0o600))
            _copy(file, temporary, one, source)
            done += size
            if progress is not None:
                progress(done, total)
            try:
                check(temporary, Path(name).suffix)
            except WeightsError as error:
                what = error.what.replace(str(temporary), f"{source}: {name}")
                raise type(error)(what, error.hint) from error
        if waiting:
            raise _bad(source, f"does not hold {next(iter(waiting))}, which it lists")
    for path, one in kept.items():
        remember(path, one.sha256)
        pin(path, one.sha256)
        row = Weights(one.tag, "", one.file, licence=one.licence, source=one.source)
        note_about(path, row, one.model, one.sha256)
    return kept


@contextlib.contextmanager
def _undone_on_error(listed: list[Packed]) -> Iterator[None]:
    """Take away what was converted of files that are not kept after all."""
    before = {one.sha256 for one in listed if converted_path(one.sha256).exists()}
    try:
        yield
    except BaseException:
        for one in listed:
            if one.sha256 not in before:
                for path in (converted_path(one.sha256), pin_path(converted_path(one.sha256))):
                    path.unlink(missing_ok=True)
        raise


def _copy(file: IO[bytes], temporary: Path, one: Packed, source: Path) -> None:
    hasher, left = hashlib.sha256(), one.bytes
    with writing(weights_folder() / one.file), temporary.open("wb") as out:
        while left:
            block = file.read(min(BLOCK, left))
            if not block:
                raise _bad(source, f"is cut short in {one.file}")
            hasher.update(block)
            out.write(block)
            left -= len(block)
    if hasher.hexdigest() != one.sha256:
        what = f"{source}: sha256 of {one.file} is {hasher.hexdigest()}, not {one.sha256}"
        raise WeightsError(what, "nothing was kept: copy the bundle again")
    if file.read(-one.bytes % UNIT).strip(b"\0"):
        raise _bad(source, f"holds something behind {one.file}")


def _known(one: Packed, source: Path) -> None:
    """Refuse a file that is not the one that the catalogue, or an earlier download, knows."""
    known = [w.sha256 for row in catalog.ROWS.values() for w in row.weights if w.file == one.file]
    for wanted in (*known, pin_of(weights_folder() / one.file)):
        if not one.sha256.startswith(wanted.lower()):
            raise WeightsError(
                f"{source}: {one.file} has sha256 {one.sha256}, not {wanted}",
                "it is not the published file: nothing was kept",
            )


# The tar


def _header(name: str, size: int) -> bytes:
    if len(name) > 100:
        raise WeightsError(f"{name} is too long a name for a bundle", "100 characters")
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.GNU_FORMAT)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % UNIT)


def _members(file: IO[bytes], source: Path) -> Iterator[tuple[str, int]]:
    """Name and size of each member, the file being at its first byte; its reader moves on."""
    while True:
        block = file.read(UNIT)
        if not block.strip(b"\0"):
            return
        try:
            info = tarfile.TarInfo.frombuf(block, "ascii", "backslashreplace")
        except (tarfile.TarError, ValueError) as error:
            raise _bad(source, "is damaged, or no tar at all") from error
        if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or info.linkname or info.size < 0:
            raise _bad(source, f"holds {info.name[:80]!a}, which is no plain file")
        yield info.name, info.size


def _manifest(file: IO[bytes], source: Path) -> list[Packed]:
    name, size = next(_members(file, source), ("", 0))
    if name != MANIFEST or size > MANIFEST_BYTES:
        raise _bad(source, f"does not begin with a {MANIFEST}")
    try:
        text = file.read(size).decode("utf-8")
        file.read(-size % UNIT)
        found = json.loads(text, object_pairs_hook=no_twins)
    except (ValueError, RecursionError, BadHeader) as error:
        raise _bad(source, f"has a {MANIFEST} that is not JSON") from error
    match found:
        case {"format": 1, "files": [_, *_] as files} if len(files) <= FILES:
            listed = [_packed(one, source) for one in files]
        case _:
            raise _bad(source, f"has a {MANIFEST} of another format, or without files")
    if len({one.file.lower() for one in listed}) < len(listed):
        raise _bad(source, "lists a file twice")
    return listed


def _packed(value: Any, source: Path) -> Packed:
    names = {field.name for field in fields(Packed)}
    if not isinstance(value, dict) or not {"file", "sha256", "bytes"} <= value.keys() <= names:
        raise _bad(source, "lists a file wrongly")
    size, texts = value["bytes"], [value[key] for key in value if key != "bytes"]
    if type(size) is not int or size < 1:
        raise _bad(source, "lists a file without a size")
    if not all(isinstance(text, str) and len(text) <= TEXT for text in texts):
        raise _bad(source, "lists a file wrongly")
    if not re.fullmatch("[0-9a-f]{64}", value["sha256"]):
        raise _bad(source, "lists a file without a sha256")
    if Path(plain(value["file"])).suffix.lower() not in SUFFIXES:
        raise _bad(source, f"lists {value['file']}, which is no weights file")
    return Packed(**value)


def _check_room(folder: Path, path: Path, size: int) -> None:
    with writing(path):
        free = shutil.disk_usage(folder).free
    if free < size:
        why = f"{size / 1e6:,.0f} MB wanted, {free / 1e6:,.0f} MB free"
        raise no_room(path, why, errno.ENOSPC)


def _bad(source: Path, why: str) -> WeightsError:
    return WeightsError(f"{source} is not a bundle of weights: it {why}", HINT)
