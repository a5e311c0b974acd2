"""DatasetIndex: which photos there are, of which class, in which split. Decodes no picture.

samples.py    the records          split.py     what is put aside for validation
folders.py    class folders        manifest.py  a table of paths and labels, read by table.py
packed.py     many pictures in one file, as container.py reads them: IDX, Parquet
labelled.py   the same photos for measuring, which needs no split
copies.py     photos with the same content
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from zoo.data import unread
from zoo.data.copies import Contents, Copies, left_apart
from zoo.data.decode import unread_kind
from zoo.data.folders import is_folder, scan_folders, scan_pictures
from zoo.data.manifest import scan_manifest
from zoo.data.packed import scan_packed
from zoo.data.samples import SEPARATOR, DatasetIndex, Sample
from zoo.data.split import LAYOUT, TRAIN_NAMES, VAL_NAMES, drawn
from zoo.data.table import SUFFIXES
from zoo.errors import DataError

__all__ = ["LAYOUT", "TRAIN_NAMES", "VAL_NAMES", "DatasetIndex", "Sample", "is_folder", "scan"]


def scan(
    root: Path,
    *,
    val_fraction: float = 0.2,
    seed: int = 0,
    labelled: bool = True,
    several: bool | None = None,
    contents: Contents | None = None,
    keep_copies: bool = False,
) -> DatasetIndex:
    """Return the index of class folders, of IDX files, of photos in Parquet, or of a manifest.

    Where there is no val part, a share `val_fraction` of each class is put aside for it; which
    photos is a function of the seed and their paths, so adding photos moves few others. Without
    the need for classes (labelled=False) a folder is all the pictures in it. several: photos may
    have several labels, which takes a manifest; None is as it has them. contents: says which
    photos have the same content; copies are on one side of the split then, unless keep_copies.
    Raises DataError.
    """
    index = listed(Path(root), labelled, several)
    digests = contents(index) if contents else {}
    if any(not sample.split for sample in index.samples):
        known = {} if keep_copies else digests
        index = drawn(index, val_fraction, seed, Copies.of(index.samples, known))
    index = left_apart(index, Copies.of(index.samples, digests), keep_copies)
    parts = [] if index.drawn or not labelled else ["val"]
    parts += ["test"] if labelled and index.of("test") else []
    notes = [absence(part, index.absent(part)) for part in parts if index.absent(part)]
    return replace(index, notes=(*index.notes, *notes))


def absence(part: str, names: list[str]) -> str:
    what = "validation" if part == "val" else "test"
    return f"no {what} photo of: {', '.join(names)}"


def listed(root: Path, labelled: bool, several: bool | None) -> DatasetIndex:
    """The photos in the parts that the data have; without a split where they have no val part."""
    if root.is_dir():
        if several:
            raise DataError(
                f"{root} is a folder, in which each photo has one class",
                "several labels a photo take a manifest: a CSV with the columns path and label, "
                f"as in 1.jpg,cat{SEPARATOR}dog",
            )
        folders = scan_folders if labelled else scan_pictures
        return scan_packed(root) or told_of_unread(folders(root))
    if root.suffix.lower() in SUFFIXES and root.is_file():
        return (None if several else scan_packed(root)) or told_of_unread(
            scan_manifest(root, several)
        )
    problem = "is not a folder" if root.exists() else "does not exist"
    hint = (
        f"give a folder with {LAYOUT}, IDX or Parquet files, or a manifest ({', '.join(SUFFIXES)})"
    )
    raise DataError(f"{root} {problem}", hint)


def told_of_unread(index: DatasetIndex) -> DatasetIndex:
    """Return the index with a note on photos in formats that are not read, as HEIC.

    They stay in it, and are left out by name where photos are decoded. Raises DataError where
    there are no others.
    """
    found = [unread_kind(os.path.join(index.root, sample.path)) for sample in index.samples]
    kinds = [kind for kind in found if kind is not None]
    if not kinds:
        return index
    photos, how = unread.counted(kinds), f"convert to JPEG, as with {kinds[0].convert}"
    if len(kinds) == len(index.samples):
        raise DataError(f"{index.source} has {photos}, which cannot be read, and no others", how)
    return replace(index, notes=(*index.notes, f"{photos} cannot be read: {how}"))
