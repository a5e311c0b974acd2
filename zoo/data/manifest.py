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

from zoo.data import container, ignored, label_cells, names, path_lists
from zoo.data.samples import SEPARATOR, DatasetIndex, Photos, Sample, Skipped, labels_in
from zoo.data.split import PARTS, check_classes, not_measured
from zoo.data.table import Row, Table, read
from zoo.disk import sha256_of
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
    skipped: Skipped = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    containers: dict[str, str] = field(default_factory=dict)
    reformed: int = 0  # paths that are written otherwise than their files' names

    @property
    def rows(self) -> list[Row]:
        return [row for row, _ in self.photos]

    def error(self, row: Row, what: str, hint: str) -> DataError:
        return DataError(f"{self.path}, {row.where}: {what}", hint)

    def labels(self, row: Row) -> tuple[str, ...]:
        return labels_in(row.label) if self.several else (row.label,)


def scan_manifest(path: Path, several: bool | None = None) -> DatasetIndex:
    """Return the index of the photos that a table names.

    Without a row of val there is no split yet. several: a photo may have several labels, or none;
    None is as the table has them. Raises DataError with the line at fault.
    """
    table = read(path)
    if table.several and several is False:
        raise _refused(path, table)
    listed = Listed(path, table.several or bool(several), bool(table.classes))
    if table.extra:
        listed.notes.append(f"columns that are not used: {', '.join(table.extra)}")
    _look(listed, table.rows)
    parts = _parts_of(listed)
    if "val" not in parts.values():  # train is to be drawn from
        parts = {path: "" if part == "train" else part for path, part in parts.items()}
    known = _labels_of(listed, parts)
    never = [name for name in table.classes if listed.kinds.get(name, name) not in known]
    listed.notes += [f"no photo of: {', '.join(never)}, so not learned"] if never else []
    samples = []
    for row, size in listed.photos:
        labels = tuple(sorted(known[name] for name in listed.labels(row)))
        one, all_of = (-1, labels) if listed.several else (labels[0], ())
        samples.append(Sample(row.path, one, parts[row.path], size, all_of))
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
        {row.path: row.group for row in listed.rows},
    )


def labelled(path: Path, several: bool = False) -> dict[str, Photos]:
    """Return (path, class) of the photos of each part, for measuring; of part `""` without parts.

    several: a photo may have no label, also where none has two.
    """
    table = read(path)
    listed = Listed(path, several or table.several, bool(table.classes))
    _look(listed, table.rows)
    parts = _parts_of(listed)
    found: dict[str, Photos] = {}
    for row in listed.rows:
        found.setdefault(parts[row.path], []).append((row.path, row.label))
    return found


def _refused(path: Path, table: Table) -> DataError:
    """Return the error of multi-label data that are to be learned as one class a photo."""
    many = next((row for row in table.rows if SEPARATOR in row.label), table.rows[0])
    what = f"{path}, {many.where}: labels {many.label!r}, where one class a photo is asked for"
    if table.classes:
        what = f"{path} has a column for each class, where one class a photo is asked for"
    return DataError(what, "leave `task` out, or give --task multilabel: it learns several")


# The photos


def _look(listed: Listed, rows: list[Row]) -> None:
    """Find the photos that the rows name; a photo that is listed twice counts once."""
    known: dict[str, Row] = {}
    missing: list[tuple[Row, str]] = []
    root = os.path.abspath(listed.path.parent)
    for row in rows:
        row = _checked(listed, row)
        try:
            row, size = _find(listed, row)
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
        raise listed.error(row, f"{row.path} {why}{more}", f"paths are relative to {root}, with /")
    _unite(listed)
    _note_places(listed)


def _checked(listed: Listed, row: Row) -> Row:
    """Return the row with its labels in order. Raises DataError for cells that are no labels."""
    labels = () if listed.columns else listed.labels(row)
    if wrong := label_cells.fault(row.label, row.group, labels):
        raise listed.error(row, *wrong)
    if listed.several:
        row = replace(row, label=SEPARATOR.join(labels_in(row.label)))
    unseen = any(map(names.is_blank, listed.labels(row)))
    if not row.path.strip() or unseen:
        what = "label" if row.path.strip() else "path"
        raise listed.error(row, f"the {what} is empty", "fill it in, or remove the line")
    return row


def _unite(listed: Listed) -> None:
    """Give the spellings of a class one name, and note what is odd about names."""
    counts = Counter(name for row in listed.rows for name in listed.labels(row))
    listed.kinds, notes = names.merged(counts)
    listed.notes += notes + label_cells.doubtful(counts)
    if not listed.columns:
        _check_marks(listed)
    if any(name != kind for name, kind in listed.kinds.items()):
        for at, (row, size) in enumerate(listed.photos):
            kinds = sorted({listed.kinds[name] for name in listed.labels(row)})
            listed.photos[at] = replace(row, label=SEPARATOR.join(kinds)), size


def _check_marks(listed: Listed) -> None:
    """Refuse labels that are surely parted by another mark than `|`, and note a likely one."""
    piped = any(SEPARATOR in row.label for row in listed.rows)
    classes = set(listed.kinds.values())
    mark, label, sure = label_cells.parted(classes, listed.several, piped)
    if not mark:
        return
    what, hint = label_cells.said_of(mark, label)
    if sure:
        row = next(row for row in listed.rows if label in listed.labels(row))
        one = "; if it is one, give each class a column of 0 and 1 instead of the column label"
        raise listed.error(row, what, hint + one)
    listed.notes.append(f"WARNING: {what}; it is learned as one class; else {hint}")


def _note_places(listed: Listed) -> None:
    """Note photos in odd places, and under odd names."""
    inside = [row.path for row in listed.rows if ignored.in_system(row.path)]
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


def _find(listed: Listed, row: Row) -> tuple[Row, int]:
    """Return the row with the path as it is written, or without blanks around it, and the size.

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
        return replace(row, path=path), status.st_size
    other = path_lists.there(os.path.join(root, bare))
    if other is not None:
        other = other if os.path.isabs(bare) else other.removeprefix(os.path.join(root, ""))
        if other != bare:
            listed.reformed += 1
            return _find(listed, replace(row, path=other))
    file, _, number = bare.rpartition("#")
    box = container.find(os.path.join(root, file)) if file and number.isdecimal() else None
    if box is None:
        raise FileNotFoundError("does not exist")
    if not container.NUMBER.fullmatch(number) or int(number) >= len(box):
        raise FileNotFoundError(f"does not exist: its pictures are #0 to #{len(box) - 1}")
    if file not in listed.containers:
        listed.containers[file] = sha256_of(listed.path.parent / file)
    return replace(row, path=bare), box.bytes


# The split


def _parts_of(listed: Listed) -> dict[str, str]:
    """Return `train`, `val` or `test` for each path, as the column split says; `""` without one.

    Raises DataError for another word, and for a group in two parts.
    """
    if not any(row.split for row in listed.rows):
        return {row.path: "" for row in listed.rows}
    parts: dict[str, str] = {}
    first: dict[str, Row] = {}
    for row in listed.rows:
        part = parts[row.path] = SPLITS.get(row.split.lower(), "")
        if not part:
            what = (
                f"split {row.split!r}"
                if row.split
                else "the split is empty, in other lines it is not"
            )
            close = nearest(row.split.lower(), SPLITS)
            raise listed.error(row, what, f"{close} it is train, val or test".lstrip())
    for row in listed.rows:
        other = first.setdefault(row.group, row) if row.group else row
        if parts[other.path] != parts[row.path]:
            raise listed.error(
                row,
                f"group {row.group!r} is in {parts[row.path]}, and in {parts[other.path]} in "
                f"{other.where}",
                "a group is on one side of the split: change split, or remove column group",
            )
    return parts


def _labels_of(listed: Listed, parts: dict[str, str]) -> dict[str, int]:
    """Return the number of each class of the training part, in string order."""
    learned = [row for row in listed.rows if parts[row.path] in ("train", "")]
    if not learned:
        raise DataError(f"{listed.path} has no photo for training", "a row of it has split train")
    classes = tuple(sorted({name for row in learned for name in listed.labels(row)}))
    check_classes(listed.path, classes, "at least two different labels are needed in training")
    known = {name: label for label, name in enumerate(classes)}
    left: Photos = []
    for row in listed.rows:
        strange = next((name for name in listed.labels(row) if name not in known), None)
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
    return known
