"""Which photos a measurement is on: the part that was requested, less what was trained on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from zoo import catalog, datasets
from zoo.data.decode import read_bytes
from zoo.data.index import labelled
from zoo.data.samples import Photos, Skipped
from zoo.engine.pipeline import batched, ordered
from zoo.errors import DataError, ImageError, RunError, UsageError
from zoo.machine import cores
from zoo.predict.inputs import Input
from zoo.predict.predictor import check_name
from zoo.run import Run

PARTS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Requested:
    """(path, class) of each photo, and in words where they are from.

    skipped: what lies there, too, and is left out, with the reason.
    """

    photos: Photos
    about: str
    skipped: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Chosen:
    """The photos to measure on: (path, class) of each.

    requested: before photos of the training were left out. trained: which those are; under the
    part `train` they stay.
    """

    photos: Photos
    requested: Requested
    trained: Known


def chosen(members: Sequence[str], data: str | None = None, part: str | None = None) -> Chosen:
    """Return photos of some data, else of the first member, without those of the training.

    Raises UsageError, DataError, RunError.
    """
    if data is None:
        found = of_run(members[0], part)
    else:
        several = any(map(_tells_several, members))
        found = of_data(data, datasets.locate(data), part, several=several)
    if part == "train":
        return Chosen(found.photos, found, known(found.photos, members))
    left, trained = unseen(found.photos, members)
    return Chosen(left, found, trained)


def of_data(data: str, root: Path, part: str | None, *, several: bool = False) -> Requested:
    """Return photos of a folder or manifest. part: None is val, else test, else all there are.

    several: a manifest's photo may have no label, also where none has two. Raises UsageError for a
    part that was named and is not there.
    """
    skipped: Skipped = []
    photos, about = _part_of(data, labelled(root, several=several, skipped=skipped), part)
    return Requested(photos, about, tuple(skipped))


def _part_of(data: str, parts: dict[str, Photos], part: str | None) -> tuple[Photos, str]:
    """Return the part that was requested, and in words where it is from. Raises UsageError."""
    every = [photo for photos in parts.values() for photo in photos]
    have = [name for name in PARTS if name in parts]
    if part in parts:
        return parts[part], f"of {data}, its {part} part"
    if part == "all":
        names = f": {' and '.join(have)}" if have else ""
        return every, f"of {data}, all of them{names}"
    if part is not None:
        there = f"it has {', '.join(have)}" if have else "it has no parts"
        raise UsageError(
            f"--part {part}: {data} has no {part} part",
            f"{there}; leave --part out, or give --part all for all of its photos",
        )
    if "val" in parts:
        return parts["val"], f"of {data}, its val part"
    if "test" in parts:
        return parts["test"], f"of {data}, its test part: it has no val part"
    return every, f"of {data}, all of them: it has no val part"


def of_run(folder: str, part: str | None) -> Requested:
    """Return photos that a run was trained or validated on. Raises UsageError, RunError."""
    if not Path(folder).exists():
        if catalog.is_exported(folder):
            raise catalog.no_exported(folder)
        check_name(folder)
    if not Path(folder, "run.json").exists():
        raise UsageError(
            f"{folder} is no run, so it has no photos of its own", "give some with --data"
        )
    run = Run.open(Path(folder)).finished()
    own = [each for each in PARTS if run.record["data"].get(each)]
    if part == "test" and part not in own:
        raise UsageError(
            f"--part test: {folder} has train and val photos only, and no test part",
            "name data that have one, as --data PHOTOS --part test",
        )
    parts = own if part == "all" else [part or "val"]
    photos = [(str(path), label) for each in parts for path, label in run.labelled(each)]
    return Requested(photos, f"of {folder}, its {' and '.join(parts)} part{'s'[: len(parts) - 1]}")


def new_to(model: str, items: Sequence[Input]) -> list[Input]:
    """Return the pictures that a run was neither trained nor validated on, by path or content."""
    paths = [(item.file, "") for item in items]
    seen = [known(paths, [model], part).photos for part in ("train", "val")]
    return [item for item in items if not any(item.file in some for some in seen)]


def _tells_several(member: str) -> bool:
    """Return whether this is a run of several labels a photo."""
    if not Path(member, "run.json").exists():
        return False
    return Run.open(Path(member)).record.get("threshold") is not None


# What was trained on


@dataclass(frozen=True, slots=True)
class Known:
    """Photos that were trained on, by their paths, and the members that were trained on them.

    copies: how many of them are known by their content alone.
    """

    photos: frozenset[str] = frozenset()
    by: tuple[str, ...] = ()
    copies: int = 0


def known(photos: Photos, members: Sequence[str], part: str = "train") -> Known:
    """Return those of the photos that members were trained on, or whose val part they are of.

    A photo is known by where it really is, by its absolute path, links followed; another one by
    its content, where a member has written down what that was. An exported file that lies in its
    run's folder was trained on what the run was.
    """
    place = Places()
    ours = [place.of(path) for path, _ in photos]
    wanted = set(ours)
    trained = {member: _trained_on(member, part) for member in members}
    places = {
        member: {place.of(str(path)) for path in paths} & wanted
        for member, (paths, _) in trained.items()
    }
    seen = frozenset().union(*places.values())
    contents = {member: frozenset(digests) - {""} for member, (_, digests) in trained.items()}
    there = {path for (path, _), real in zip(photos, ours, strict=True) if real in seen}
    copies: dict[str, str] = {}
    if every := frozenset().union(*contents.values()):
        rest = dict.fromkeys(path for path, _ in photos if path not in there)
        copies = {path: digest for path, digest in _digests_of(rest) if digest in every}
    found = set(copies.values())
    by = tuple(member for member in trained if places[member] or contents[member] & found)
    return Known(frozenset(there | copies.keys()), by, len(copies))


def _trained_on(member: str, part: str) -> tuple[list[Path], list[str]]:
    """Return the photos of a run's training and the sha256 of their content.

    Nothing where that is not known, as of a model's name.
    """
    exported = catalog.is_exported(member)
    folder = Path(member).parent if exported else Path(member)
    if not (folder / "run.json").exists() or not (folder / "index.csv").exists():
        return [], []
    try:
        run = Run.open(folder)
    except RunError:
        if exported:  # beside a run.json that is not ours
            return [], []
        raise
    return run.photos(part), run.digests(part)


class Places:
    """Where files really are. A folder is resolved once, however many photos it has."""

    def __init__(self) -> None:
        self.resolved = cache(os.path.realpath)

    def of(self, path: str) -> str:
        """Return the real path of a file, or of FILE#N in a container."""
        file, mark, number = path.rpartition("#")
        if mark and number.isdecimal():
            return f"{self.resolved(file)}#{number}"
        folder, name = os.path.split(path)
        if name in ("", ".", "..") or os.path.islink(path):
            return os.path.realpath(path)
        return os.path.join(self.resolved(folder), name)


def unseen(photos: Photos, members: Sequence[str]) -> tuple[Photos, Known]:
    """Return the photos that no member was trained on, and what is known of the others.

    Raises DataError where none is left.
    """
    trained = known(photos, members)
    left = [photo for photo in photos if photo[0] not in trained.photos]
    if photos and not left:
        raise DataError(
            f"{', '.join(trained.by)} trained on all {len(photos):,} of these photos",
            "an accuracy is measured on photos that were not trained on: give others with --data, "
            "or --part train for how well these are remembered",
        )
    return left, trained


AT_ONCE = 16  # files a thread is given


def _digests_of(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield (path, sha256 in hex) of each file that can be read, in order; each is read once."""
    workers = cores()
    with ThreadPoolExecutor(workers, "zoo-hash") as pool:
        for found in ordered(pool, _hashed, batched(paths, AT_ONCE), 4 * workers):
            yield from found


def _hashed(paths: list[str]) -> list[tuple[str, str]]:
    found = []
    for path in paths:
        with suppress(ImageError):  # which is told of where it is measured
            found.append((path, hashlib.sha256(read_bytes(path)).hexdigest()))
    return found
