"""The plan of a job: what is computed, and the photos in shards; written once, never changed.

    plan.json               settings, plan_id, names of the files below; it is written last
    plan/000000-….parquet   100 shards, a row group each, with the columns of Photo

A shard is PHOTOS photos at most, or one tar. plan_id is a hash of the settings and of the list: the
same words over the same photos are the same plan, and a job belongs to one.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from zoo import records
from zoo.engine.pipeline import batched
from zoo.errors import InputError, UsageError
from zoo.scale.store import Store, check_installed, is_url
from zoo.text import read_name, show_name

PLAN, VERSION = "plan.json", 1
PHOTOS = 1_000  # of a shard: a process that is killed loses no more
SHARDS = 100  # of a file


class Photo(NamedTuple):
    """A photo of the plan. key: what its row is called. file: where it is; see `sources`.

    etag: changes with its content. label: its class, where its place says one. tar: the archive
    that it lies in, whose photos are one shard.
    """

    key: str
    file: str
    size: int | None = None
    etag: str = ""
    label: str = ""
    tar: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is computed. model_sha256, preprocess: of the network that every worker must have.

    what: predict or features. below, limit, unknown: of a `Policy`, the last as a rate; None where
    it is not asked for. several: labels a photo. stage, flat, width, half: of features.
    """

    what: str
    model: str
    model_sha256: str
    preprocess: dict[str, object]
    weights: str | None = None
    trusts: bool = False
    engine: str = "auto"
    precision: str | None = None
    views: int = 1
    top: int = 1
    several: bool = False
    below: float = 0.0
    limit: float | None = None
    unknown: float | None = None
    stage: str | None = None
    flat: bool = False
    width: int = 0
    half: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """photos, shards: how many. files: the names of those that list them."""

    plan_id: str
    settings: Settings
    photos: int
    shards: int
    files: tuple[str, ...]


def make(store: Store, settings: Settings, photos: Iterable[Photo], most: int = PHOTOS) -> Plan:
    """Write the plan, or find it written. Raises UsageError where the job has another one."""
    files: list[str] = []
    digest, count, total = hashlib.sha256(), 0, 0
    shards = _shards(photos, most)
    for first in shards:  # a shard is in memory at a time
        listed, content, sizes = _file(
            itertools.chain([first], itertools.islice(shards, SHARDS - 1))
        )
        digest.update(listed)
        files.append(f"plan/{len(files):06d}-{listed.hex()[:16]}.parquet")
        store.create(files[-1], content)
        count, total = count + len(sizes), total + sum(sizes)
    if not total:
        raise InputError("there is no photo to plan for", "give a folder, a list or tars of photos")
    asked = asdict(settings)
    del asked["model"]  # may lie elsewhere: its content counts
    digest.update(json.dumps(asked, sort_keys=True).encode())
    plan = Plan(digest.hexdigest()[:16], settings, total, count, tuple(files))
    about = {"version": VERSION, **asdict(plan)}
    if not store.create(PLAN, (json.dumps(about, indent=2) + "\n").encode()):
        there = read(store)
        if there.plan_id != plan.plan_id:
            now = _told(plan)
            if now == _told(there):
                now += ", of which some are not those that they were, or other settings"
            raise UsageError(
                f"{store.place} is the job of plan {there.plan_id} ({_told(there)}), and this is "
                f"plan {plan.plan_id} ({now})",
                "name another folder for the job; or finish the other: `zoo work JOB` knows it",
            )
    return plan


def _told(plan: Plan) -> str:
    model = f"{plan.settings.model}, sha256 {plan.settings.model_sha256[:8]}"
    return f"{plan.settings.what} by {model}, {plan.photos:,} photos"


def is_job(data: str) -> bool:
    """Return whether photos are named by the job of their features."""
    return is_url(data) or os.path.isfile(os.path.join(data, PLAN))


def read(store: Store) -> Plan:
    """Return the plan of a job. Raises InputError where there is none, or it is damaged."""
    content = store.read(PLAN)
    if content is None:
        raise InputError(
            f"{store.place} has no {PLAN}: it is no job, or its plan is not finished",
            "`zoo plan SOURCE -o JOB --model RUN` makes one",
        )
    try:
        about = records.from_json(content)
        said = about.pop("version", None) if isinstance(about, dict) else None
        if said is None:
            raise ValueError("it is no plan of a job")
        if said != VERSION:
            raise records.other_format(f"{store.place}/{PLAN}", said, VERSION)
        records.PLAN(about, "")
        settings = Settings(**about.pop("settings"))
        found = Plan(settings=settings, files=tuple(about.pop("files")), **about)
        if len(found.files) != -(-found.shards // SHARDS) or found.photos < found.shards:
            raise ValueError(
                f"{found.photos:,} photos, {found.shards:,} shards and its files differ"
            )
        return found
    except (TypeError, ValueError) as error:
        what = f"{store.place}/{PLAN} cannot be read: {error}"
        hint = f"plan again, into another folder; in a folder of photos call {PLAN} otherwise"
        raise InputError(what, hint) from None


def _shards(photos: Iterable[Photo], most: int) -> Iterator[list[Photo]]:
    for tar, some in itertools.groupby(photos, lambda photo: photo.tar):
        if tar:
            yield list(some)
        else:
            yield from batched(some, most)


def key_hash(keys: Iterable[str]) -> str:
    """Return the hash of the keys of a shard, in their order, as they are written down."""
    digest = hashlib.sha256()
    for key in keys:
        digest.update(key.encode() + b"\0")
    return digest.hexdigest()


def _file(shards: Iterable[list[Photo]]) -> tuple[bytes, bytes, list[int]]:
    """Return the hash of what is listed, the Parquet file, and how many photos each shard has."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"size": pa.int64()}
    names = ("key", "file", "size", "etag", "label")
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in names])
    digest, checks, sizes, buffer = hashlib.sha256(), [], list[int](), io.BytesIO()
    with pq.ParquetWriter(buffer, schema, compression="zstd", write_page_checksum=True) as writer:
        for shard in shards:
            rows = [
                (show_name(p.key), show_name(p.file), p.size, p.etag, show_name(p.label))
                for p in shard
            ]
            digest.update(json.dumps(rows).encode())
            columns = [list(column) for column in zip(*rows, strict=True)]
            table = pa.table(dict(zip(names, columns, strict=True)), schema=schema)
            writer.write_table(table, row_group_size=len(rows))
            sizes.append(len(rows))
            checks.append([len(rows), key_hash(columns[0])])
        writer.add_key_value_metadata({"shards": json.dumps(checks)})
    return digest.digest(), buffer.getvalue(), sizes


def opened(place: str) -> Shards:
    """Return the shards of the job at a place. Raises MissingPackage, InputError."""
    check_installed()
    store = Store(place)
    return Shards(store, read(store))


@dataclass(slots=True)
class Shards:
    """The shards of a plan; the file that was read last stays in memory."""

    store: Store
    plan: Plan
    _number: int = -1
    _content: bytes = b""
    _checks: list[tuple[int, str]] = field(default_factory=list)

    def photos(self, shard: int) -> list[Photo]:
        """Return the photos of a shard, in order. Raises InputError."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._open(shard)
        try:
            with pq.ParquetFile(pa.BufferReader(self._content)) as file:
                columns = file.read_row_group(shard % SHARDS).to_pydict()
            rows = zip(columns["key"], columns["file"], columns["size"], columns["etag"],
                       columns["label"], strict=True)  # fmt: skip
            return [
                Photo(read_name(key), read_name(file), size, etag, read_name(label))
                for key, file, size, etag, label in rows
            ]
        except (pa.ArrowException, IndexError, KeyError, OSError, TypeError, ValueError) as error:
            raise self._damaged(self.plan.files[shard // SHARDS], error) from None

    def expected(self, shard: int) -> tuple[int, str]:
        """Return how many rows the part of a shard has, and the hash of their keys."""
        self._open(shard)
        rows, digest = self._checks[shard % SHARDS]
        return rows, digest

    def _open(self, shard: int) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        number = shard // SHARDS
        if number == self._number:
            return
        name = self.plan.files[number]
        content = self.store.read(name)
        try:
            with pq.ParquetFile(pa.BufferReader(content or b"")) as file:
                checks = records.from_json((file.metadata.metadata or {})[b"shards"])
                records.SHARDS(checks, "shards")
            if len(checks) != min(SHARDS, self.plan.shards - SHARDS * number):
                raise ValueError("shards are missing")
        except (pa.ArrowException, KeyError, OSError, ValueError) as error:
            raise self._damaged(name, error) from None
        self._number, self._content, self._checks = number, content or b"", checks

    def _damaged(self, name: str, error: Exception) -> InputError:
        what = f"{self.store.place}/{name} is damaged: {type(error).__name__}"
        return InputError(what, "plan again, into another folder")
