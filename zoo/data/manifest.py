"""A manifest: which photos there are is what a table says, not what lies in a folder.

Columns: path (relative to the table's folder, absolute, or FILE#N in a container), label, and
optionally split (train, val, test) and group (a person, a scene, a burst of shots: all photos of
a group are on one side of the split, or validation would measure what training has seen).
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from zoo.data import container
from zoo.data.packed import sha256
from zoo.data.samples import DatasetIndex, Sample
from zoo.data.split import PARTS, check_classes, split, split_groups
from zoo.data.table import Row, read
from zoo.errors import DataError, nearest

SPLITS = {name: part for part, names in PARTS.items() for name in names}


@dataclass(slots=True)
class Listed:
    """What a manifest comes to. photos: with their sizes. containers: path -> sha256."""

    path: Path
    photos: list[tuple[Row, int]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    containers: dict[str, str] = field(default_factory=dict)

    def error(self, row: Row, what: str, hint: str) -> DataError:
        return DataError(f"{self.path}, {row.where}: {what}", hint)


def scan_manifest(path: Path, val_fraction: float, seed: int) -> DatasetIndex:
    """The index of the photos that a table names. Raises DataError with the line at fault."""
    table = read(path)
    listed = Listed(path)
    if table.extra:
        listed.notes.append(f"columns that are not used: {', '.join(table.extra)}")
    look(listed, table.rows)
    parts = parts_of(listed)
    known = labels_of(listed, parts)
    samples = [
        Sample(row.path, known[row.label], parts[row.path], size) for row, size in listed.photos
    ]
    classes = tuple(known)
    if "val" in parts.values():
        seen = {sample.label for sample in samples if sample.split == "val"}
        absent = [name for name in classes if known[name] not in seen]
        listed.notes += [f"no validation photo of: {', '.join(absent)}"] if absent else []
    else:
        groups = {row.path: row.group for row, _ in listed.photos}
        if any(groups.values()):
            samples, notes = split_groups(samples, groups, classes, val_fraction, seed)
        else:
            samples, notes = split(samples, classes, val_fraction, seed)
        listed.notes += notes
    return DatasetIndex(
        path.parent,
        classes,
        tuple(samples),
        tuple(listed.skipped),
        tuple(listed.notes),
        tuple(sorted(listed.containers.items())),
        path,
    )


# The photos


def look(listed: Listed, rows: list[Row]) -> None:
    """Which of the rows are photos that exist; a photo that is listed twice counts once."""
    known: dict[str, Row] = {}
    missing: list[tuple[Row, str]] = []
    root = os.path.abspath(listed.path.parent)
    for row in rows:
        if not row.path.strip() or not row.label:
            what = "label" if row.path.strip() else "path"
            raise listed.error(row, f"the {what} is empty", "fill it in, or remove the line")
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
            if one != other:
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
    """`train` or `val` for each path; without a val part it is `train` for all, or empty.

    Where there is no val part, the test part is it; where there is one, the test part is left out.
    """
    if not any(row.split for row, _ in listed.photos):
        return {row.path: "" for row, _ in listed.photos}
    parts = said_parts(listed)
    if "train" not in parts.values():
        raise DataError(f"{listed.path} has no photo for training", "a row of it has split train")
    if "val" in parts.values():
        left = [row for row, _ in listed.photos if parts[row.path] == "test"]
        listed.skipped += [(row.path, "in the test part") for row in left]
        listed.photos = [item for item in listed.photos if parts[item[0].path] != "test"]
    elif "test" in parts.values():
        listed.notes.append("the test part is used for validation: there is no val part")
        parts = {path: "val" if part == "test" else part for path, part in parts.items()}
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


def labelled(path: Path) -> dict[str, list[tuple[str, str]]]:
    """For measuring: (path, class) of the photos of each part; of part `""` where there is none."""
    listed = Listed(path)
    look(listed, read(path).rows)
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
    training = {row.label for row, _ in listed.photos if parts[row.path] != "val"}
    classes = tuple(sorted(training))
    check_classes(listed.path, classes, "at least two different labels are needed in training")
    for row, _ in listed.photos:
        if row.label not in training:
            raise listed.error(
                row,
                f"label {row.label!r} is in val, but not in training",
                f"{nearest(row.label, classes)} training has {', '.join(classes[:10])}".lstrip(),
            )
    return {name: label for label, name in enumerate(classes)}
