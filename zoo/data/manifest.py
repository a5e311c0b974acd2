"""A manifest: which photos there are is what a table says, not what lies in a folder.

Columns: path (relative to the table's folder, absolute, or FILE#N in a container), label, and
optionally split (train, val, test) and group (a person, a scene, a burst of shots: all photos of
a group are on one side of the split, or validation would measure what training has seen).

Multi-label: several labels in a cell with | between them, or a column of 0 and 1 for each class
(see table.py). Then a photo may also have none.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from zoo.data import cells, container, left_out, lists, names
from zoo.data.packed import sha256
from zoo.data.samples import SEPARATOR, DatasetIndex, Sample, labels_in
from zoo.data.split import PARTS, check_classes, not_measured
from zoo.data.table import Row, Table, read
from zoo.errors import DataError, nearest

SPLITS = {name: part for part, names in PARTS.items() for name in names}


@dataclass(slots=True)
class Listed:
    """What a manifest comes to. photos: with their sizes. containers: path -> sha256.

    several: a photo may have several labels, or none. columns: the classes have columns. kinds: the
    class that each spelling stands for.
    """

    path: Path
    several: bool = False
    columns: bool = False
    kinds: dict[str, str] = field(default_factory=dict)
    photos: list[tuple[Row, int]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    containers: dict[str, str] = field(default_factory=dict)
    reformed: int = 0  # paths that are written otherwise than their files' names

    def error(self, row: Row, what: str, hint: str) -> DataError:
        return DataError(f"{self.path}, {row.where}: {what}", hint)

    def labels(self, row: Row) -> tuple[str, ...]:
        return labels_in(row.label) if self.several else (row.label,)


def scan_manifest(path: Path, several: bool | None = None) -> DatasetIndex:
    """The index of the photos that a table names. Raises DataError with the line at fault.

    Without a row of val there is no split yet. several: a photo may have several labels, or none;
    None is as the table has them.
    """
    table = read(path)
    if table.several and several is False:
        raise refused(path, table)
    listed = Listed(path, table.several or bool(several), bool(table.classes))
    if table.extra:
        listed.notes.append(f"columns that are not used: {', '.join(table.extra)}")
    look(listed, table.rows)
    parts = parts_of(listed)
    known = labels_of(listed, parts)
    never = [name for name in table.classes if listed.kinds.get(name, name) not in known]
    listed.notes += [f"no photo of: {', '.join(never)}, so not learned"] if never else []
    samples = [sample(listed, row, known, parts[row.path], size) for row, size in listed.photos]
    samples.sort(key=lambda each: each.split == "test")  # behind all others
    return DatasetIndex(
        path.parent,
        tuple(known),
        tuple(samples),
        tuple(listed.skipped),
        tuple(listed.notes),
        tuple(sorted(listed.containers.items())),
        path,
        listed.several,
        {row.path: row.group for row, _ in listed.photos},
    )


def refused(path: Path, table: Table) -> DataError:
    """The error of multi-label data that are to be learned as one class a photo."""
    many = next((row for row in table.rows if SEPARATOR in row.label), table.rows[0])
    what = f"{path}, {many.where}: labels {many.label!r}, where one class a photo is asked for"
    if table.classes:
        what = f"{path} has a column for each class, where one class a photo is asked for"
    return DataError(what, "leave `task` out, or give --task multilabel: it learns several")


def sample(listed: Listed, row: Row, known: dict[str, int], part: str, size: int) -> Sample:
    labels = tuple(sorted(known[name] for name in listed.labels(row)))
    if listed.several:
        return Sample(row.path, -1, part, size, labels)
    return Sample(row.path, labels[0], part, size)


# The photos


def look(listed: Listed, rows: list[Row]) -> None:
    """Which of the rows are photos that exist; a photo that is listed twice counts once."""
    known: dict[str, Row] = {}
    missing: list[tuple[Row, str]] = []
    root = os.path.abspath(listed.path.parent)
    for row in rows:
        row = checked(listed, row)
        try:
            row, size = find(listed, row)
        except FileNotFoundError as error:
            missing.append((row, str(error)))
            continue
        first = known.setdefault(os.path.normpath(os.path.join(root, row.path)), row)
        if first is row:
            listed.photos.append((row, size))
            continue
        for name in ("label", "split", "group"):
            one, other = getattr(first, name), getattr(row, name)
            if set(map(names.plain, labels_in(one))) != set(map(names.plain, labels_in(other))):
                raise listed.error(
                    row,
                    f"{row.path} has {name} {other!r}, but {one!r} in {first.where}",
                    "a photo has one of each: remove one of the two lines",
                )
        listed.skipped.append((row.path, f"{row.where}: listed in {first.where} already"))
    if missing:
        row, why = missing[0]
        more = f" ({len(missing)} of {len(rows)} rows name no photo)" if missing[1:] else ""
        raise listed.error(
            row,
            f"{row.path} {why}{more}",
            f"paths are relative to {root}, with /",
        )
    unite(listed)


def checked(listed: Listed, row: Row) -> Row:
    """Return the row with its labels in order. Raises DataError for cells that are no labels."""
    labels = () if listed.columns else listed.labels(row)
    if wrong := cells.fault(row.label, row.group, labels):
        raise listed.error(row, *wrong)
    if listed.several:
        row = replace(row, label=SEPARATOR.join(labels_in(row.label)))
    unseen = any(map(names.is_blank, listed.labels(row)))
    if not row.path.strip() or unseen:
        what = "label" if row.path.strip() else "path"
        raise listed.error(row, f"the {what} is empty", "fill it in, or remove the line")
    return row


def unite(listed: Listed) -> None:
    """Gives the spellings of a class one name, and says what is odd about names.

    Raises DataError where labels of a photo are parted by another mark than `|`.
    """
    counts = Counter(name for row, _ in listed.photos for name in listed.labels(row))
    listed.kinds, notes = names.merged(counts)
    listed.notes += notes + cells.doubtful(counts)
    mark, label, sure = "", "", False
    if not listed.columns:
        piped = any(SEPARATOR in row.label for row, _ in listed.photos)
        mark, label, sure = cells.parted(set(listed.kinds.values()), listed.several, piped)
    if mark:
        what, hint = cells.said_of(mark, label)
        if sure:
            row = next(row for row, _ in listed.photos if label in listed.labels(row))
            one = "; if it is one, give each class a column of 0 and 1 instead of the column label"
            raise listed.error(row, what, hint + one)
        listed.notes.append(f"WARNING: {what}; it is learned as one class; else {hint}")
    if any(name != kind for name, kind in listed.kinds.items()):
        listed.photos = [(renamed(listed, row), size) for row, size in listed.photos]
    inside = [row.path for row, _ in listed.photos if left_out.in_system(row.path)]
    if inside:
        listed.notes.append(
            f"WARNING: {len(inside)} photos lie in folders that a system makes, as {inside[0]}: "
            "are they thumbnails of others, or deleted?"
        )
    if listed.reformed:
        listed.notes.append(
            f"{listed.reformed} paths are written otherwise than the names of their files: in "
            "another Unicode form, or with bytes that are not UTF-8"
        )


def renamed(listed: Listed, row: Row) -> Row:
    found = {listed.kinds[name] for name in listed.labels(row)}
    return replace(row, label=SEPARATOR.join(sorted(found)))


def find(listed: Listed, row: Row) -> tuple[Row, int]:
    """The row with the path as it is written, or without the blanks around it, and the size.

    Raises FileNotFoundError with the reason, and DataError for a container that is damaged.
    """
    root, bare = os.fspath(listed.path.parent), row.path.strip()
    for path in dict.fromkeys((row.path, bare)):
        try:
            status = os.stat(os.path.join(root, path))
        except (OSError, ValueError):
            continue
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError("is no file")
        return Row(row.where, path, row.label, row.split, row.group), status.st_size
    other = lists.there(os.path.join(root, bare))
    if other is not None:
        other = other if os.path.isabs(bare) else other.removeprefix(os.path.join(root, ""))
        if other != bare:
            listed.reformed += 1
            return find(listed, replace(row, path=other))
    file, _, number = bare.rpartition("#")
    box = container.find(os.path.join(root, file)) if file and number.isdecimal() else None
    if box is None:
        raise FileNotFoundError("does not exist")
    if not container.NUMBER.fullmatch(number) or int(number) >= len(box):
        raise FileNotFoundError(f"does not exist: its pictures are #0 to #{len(box) - 1}")
    if file not in listed.containers:
        listed.containers[file] = sha256(listed.path.parent / file)
    return Row(row.where, bare, row.label, row.split, row.group), box.bytes


# The split


def parts_of(listed: Listed) -> dict[str, str]:
    """`train`, `val` or `test` for each path; without a val part train is empty: to be drawn.

    A test part stays one: it is measured at the end.
    """
    if not any(row.split for row, _ in listed.photos):
        return {row.path: "" for row, _ in listed.photos}
    parts = said_parts(listed)
    if "train" not in parts.values():
        raise DataError(f"{listed.path} has no photo for training", "a row of it has split train")
    if "val" not in parts.values():
        parts = {path: "" if part == "train" else part for path, part in parts.items()}
    return parts


def said_parts(listed: Listed) -> dict[str, str]:
    """`train`, `val` or `test` for each path, as the column says; no group is in two of them."""
    parts = {row.path: part_of(listed, row) for row, _ in listed.photos}
    check_groups(listed, parts)
    return parts


def part_of(listed: Listed, row: Row) -> str:
    part = SPLITS.get(row.split.lower())
    if part is None:
        close = nearest(row.split.lower(), SPLITS)
        raise listed.error(
            row,
            f"split {row.split!r}" if row.split else "the split is empty, in other lines it is not",
            f"{close} it is train, val or test".lstrip(),
        )
    return part


def check_groups(listed: Listed, parts: dict[str, str]) -> None:
    """Refuses a group on both sides of the split that the table itself makes."""
    first: dict[str, Row] = {}
    for row, _ in listed.photos:
        if row.group:
            other = first.setdefault(row.group, row)
            if parts[other.path] != parts[row.path]:
                raise listed.error(
                    row,
                    f"group {row.group!r} is in {parts[row.path]}, and in {parts[other.path]} in "
                    f"{other.where}",
                    "a group is on one side of the split: change split, or remove column group",
                )


def labelled(path: Path, several: bool = False) -> dict[str, list[tuple[str, str]]]:
    """For measuring: (path, class) of the photos of each part; of part `""` where there is none.

    several: a photo may have no label, also where none has two.
    """
    table = read(path)
    listed = Listed(path, several or table.several, bool(table.classes))
    look(listed, table.rows)
    if any(row.split for row, _ in listed.photos):
        parts = said_parts(listed)
    else:
        parts = {row.path: "" for row, _ in listed.photos}
    found: dict[str, list[tuple[str, str]]] = {}
    for row, _ in listed.photos:
        found.setdefault(parts[row.path], []).append((row.path, row.label))
    return found


def labels_of(listed: Listed, parts: dict[str, str]) -> dict[str, int]:
    """The number of each class of the training part, in string order."""
    training = {
        name
        for row, _ in listed.photos
        if parts[row.path] not in ("val", "test")
        for name in listed.labels(row)
    }
    classes = tuple(sorted(training))
    check_classes(listed.path, classes, "at least two different labels are needed in training")
    left: list[tuple[str, str]] = []
    for row, _ in listed.photos:
        strange = next((name for name in listed.labels(row) if name not in training), None)
        if strange is not None and parts[row.path] == "test":
            left.append((row.path, strange))
        elif strange is not None:
            raise listed.error(
                row,
                f"label {strange!r} is in val, but not in training",
                f"{nearest(strange, classes)} training has {', '.join(classes[:10])}".lstrip(),
            )
    listed.notes += not_measured(left, listed.skipped)
    gone = {path for path, _ in left}
    listed.photos = [item for item in listed.photos if item[0].path not in gone]
    return {name: label for label, name in enumerate(classes)}
