"""What a job is pointed at, one photo after the other, and the bytes of each.

Folders, files, patterns, lists and stdin are those of `zoo predict`, in its order. Further: tars,
read in place, buckets, and http(s) addresses (see `web`). A photo in a tar has the address
FILE.tar#START+LENGTH, in bytes. Its members of the same name up to the first dot are one sample, as
WebDataset has it: a picture, and in NAME.cls its class. https://github.com/webdataset/webdataset
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import lru_cache
from typing import IO

from zoo.data import container, unsupported
from zoo.data.decode import MAX_BYTES, SUFFIXES, read_bytes
from zoo.errors import DataError, ImageError, InputError
from zoo.predict import folder_labels
from zoo.predict.inputs import Input, Inputs, find_all
from zoo.scale import store, web
from zoo.scale.plan import Photo
from zoo.text import listed
from zoo.watch import check

_RANGE = re.compile(r"(?P<file>.+\.tar)#(?P<start>\d+)\+(?P<length>\d+)", re.DOTALL)
_LABEL = 1000  # bytes at most of a class


def photos(targets: Sequence[str], stdin: IO[str]) -> Iterator[Photo]:
    """Yield the photos of several sources, one after the other. Raises DataError."""
    several = len(targets) > 1
    for target in targets:
        if web.is_web(target):
            yield Photo(target, target)
        elif store.is_url(target):
            yield from _in_bucket(target, target.rstrip("/") if several else "")
        elif target.endswith(".tar") and os.path.isfile(target):
            yield from _in_tar(target, target)
        elif target.endswith(".parquet") and not container.is_container(target):
            yield from _in_table(target)
        else:
            within = several and os.path.isdir(target)
            yield from planned(find_all([target], stdin), target if within else "")


def planned(inputs: Inputs, before: str = "") -> Iterator[Photo]:
    """Yield what `zoo predict` is pointed at as photos of a plan. before: goes before the keys."""
    for item in inputs.each:
        if store.is_url(item.file) or web.is_web(item.file):  # a line of a list
            yield Photo(item.shown, item.file)
            continue
        key = os.path.join(before, item.shown) if before else item.shown
        label = folder_labels.known(item)
        try:
            status = os.stat(item.file)
            size, etag = status.st_size, _etag_of(status)
        except (OSError, ValueError):  # FILE#N in a container, or not there: its row says so
            size, etag = None, _etag_of_container(item)
        yield Photo(key, os.path.abspath(item.file), size, etag, label)


def _etag_of(status: os.stat_result) -> str:
    """Return the times of a file's last changes: the second is one that no program can set back.

    The inode is left out: some shared folders number their files anew each time they are mounted.
    """
    return f"{status.st_mtime_ns:x}-{status.st_ctime_ns:x}"


def _etag_of_container(item: Input) -> str:
    file = item.file.rpartition("#")[0]
    try:
        return _etag_of(os.stat(file)) if file else ""
    except (OSError, ValueError):
        return ""


def _in_table(target: str) -> Iterator[Photo]:
    """Yield the photos that column `url` or `path` of a Parquet file names. Raises DataError.

    Their classes are in column `label`, where there is one.
    """
    store.check_installed()
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(target) as file:
            named = [name for name in ("url", "path") if name in file.schema_arrow.names]
            if not named:
                what = f"{target} has no column of pictures, and none called url or path"
                raise DataError(what, f"it has {listed(file.schema_arrow.names, 20)}")
            columns = [named[0], *({"label"} & {*file.schema_arrow.names})]
            for batch in file.iter_batches(columns=columns):
                for row in batch.to_pylist():
                    name, label = str(row[named[0]]), row.get("label")
                    for photo in planned(Inputs(iter([Input(name, name)]))):
                        yield photo if label is None else photo._replace(label=str(label))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{target} cannot be read: {store.said(error)}", "write it again") from None


def _in_tar(target: str, shown: str) -> Iterator[Photo]:
    """Yield the photos of a tar. Raises DataError where it is none, or packed."""
    place = target if store.is_url(target) else os.path.abspath(target)
    with closing(_reader(target)) as file:
        yield from _members(file, Photo(shown, place, etag=_etag_of_tar(target)))


def _members(file: IO[bytes], tar: Photo) -> Iterator[Photo]:
    labels: dict[str, str] = {}
    found: list[tuple[str, Photo]] = []
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                check()
                archive.members = []  # type: ignore[attr-defined]  # else all headers are kept
                folder, _, name = member.name.rpartition("/")
                sample, _, kind = name.partition(".")
                sample = f"{folder}/{sample}"
                if not member.isreg():
                    continue
                if kind == "cls" and member.size <= _LABEL:
                    read = archive.extractfile(member)
                    labels[sample] = (
                        (read.read() if read else b"").decode("utf-8", "replace").strip()
                    )
                elif _is_picture(member.name):
                    address = f"{tar.file}#{member.offset_data}+{member.size}"
                    key = f"{tar.key}/{member.name}"
                    photo = Photo(key, address, member.size, tar.etag, tar=tar.file)
                    found.append((sample, photo))
    except tarfile.TarError as error:
        hint = "give a tar that is not packed (no .gz): it is read in place"
        raise DataError(f"{tar.key} cannot be read as a tar: {error}", hint) from None
    for sample, photo in found:
        yield photo._replace(label=labels.get(sample, ""))


def _reader(target: str) -> IO[bytes]:
    if not store.is_url(target):
        return open(target, "rb")
    head, _, name = target.rpartition("/")
    return store.Store(head).reader(name)


def _etag_of_tar(target: str) -> str:
    if not store.is_url(target):
        return _etag_of(os.stat(target))
    head, _, name = target.rpartition("/")
    return store.Store(head).etag(name)


def _in_bucket(target: str, before: str) -> Iterator[Photo]:
    """Yield the pictures and tars below s3://BUCKET/PREFIX, in the order of their names."""
    import obstore
    from obstore.exceptions import BaseError

    if target.endswith(".tar"):
        yield from _in_tar(target, target)
        return
    root = target.rstrip("/")
    try:
        for some in obstore.list(store.opened(root)):
            for one in some:
                check()
                name = one["path"]
                key = f"{before}/{name}" if before else name
                if name.endswith(".tar"):
                    yield from _in_tar(f"{root}/{name}", key)
                elif _is_picture(name):
                    yield Photo(key, f"{root}/{name}", one["size"], one["e_tag"] or "")
    except (BaseError, OSError) as error:
        hint = "is it there, and are your credentials in the environment?"
        raise DataError(f"{target} cannot be listed: {store.said(error)}", hint) from None


def _is_picture(name: str) -> bool:
    suffix = os.path.splitext(name)[1].lower()
    return suffix in SUFFIXES or suffix in unsupported.BY_SUFFIX


# Their bytes.


def content(address: str) -> bytes:
    """Return the bytes of a photo of a plan. Raises ImageError; InputError for a failing network.

    That is not the photo's fault, and costs no row: the shard is done another time.
    """
    if web.is_web(address):
        return web.content(address)
    inside = _RANGE.fullmatch(address)
    file = inside["file"] if inside else address
    if store.is_url(file):
        return _of_bucket(file, inside)
    if inside is None or os.path.lexists(address):
        return read_bytes(address)
    try:
        with open(file, "rb") as archive:
            archive.seek(int(inside["start"]))
            found = archive.read(_checked(int(inside["length"])))
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror}") from None
    if len(found) < int(inside["length"]):
        raise ImageError(f"cannot be read: {os.path.basename(file)} ends before it")
    return found


def _checked(length: int) -> int:
    if not 0 < length <= MAX_BYTES:
        what = f"{length / 1e6:,.0f} MB is more than {MAX_BYTES / 1e6:,.0f} MB"
        raise ImageError(what if length else "the file is empty")
    return length


def _of_bucket(url: str, inside: re.Match[str] | None) -> bytes:
    import obstore
    from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError

    scheme, _, rest = url.partition("://")
    bucket, _, name = rest.partition("/")
    try:
        files = _bucket(f"{scheme}://{bucket}")
        if inside is not None:
            start, length = int(inside["start"]), _checked(int(inside["length"]))
            return store.again(
                lambda: bytes(obstore.get_range(files, name, start=start, length=length))
            )
        _checked(store.again(lambda: obstore.head(files, name))["size"])
        return store.again(lambda: bytes(obstore.get(files, name).bytes()))
    except (NotFoundError, FileNotFoundError, PermissionDeniedError) as error:
        gone = "no such object" if not isinstance(error, PermissionDeniedError) else "not permitted"
        raise ImageError(f"cannot be read: {gone}") from None
    except (BaseError, OSError) as error:
        what = f"{url} cannot be read: {store.said(error)}"
        raise InputError(what, "run it again: what is done is kept") from None


_bucket = lru_cache(maxsize=16)(store.opened)
