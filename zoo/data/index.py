"""DatasetIndex: which photos there are, of which class, in which split. Decodes no picture.

samples.py    the records          split.py     what is put aside for validation
folders.py    class folders        manifest.py  a table of paths and labels, read by table.py
packed.py     many pictures in one file, as container.py reads them: MNIST, CIFAR-10
labelled.py   the same photos for measuring, which needs no split
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from zoo.data import unread
from zoo.data.decode import unread_kind
from zoo.data.folders import is_folder, scan_folders, scan_pictures
from zoo.data.manifest import scan_manifest
from zoo.data.packed import scan_packed
from zoo.data.samples import SEPARATOR, DatasetIndex, Sample
from zoo.data.split import LAYOUT, TRAIN_NAMES, VAL_NAMES
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
) -> DatasetIndex:
    """The index of class folders, of a folder with IDX files or CIFAR-10's batches, or a manifest.

    Where there is no val part, a share `val_fraction` of each class is put aside for it; which
    photos is a function of the seed and their paths, so adding photos moves few others. Without
    the need for classes (labelled=False) a folder is all the pictures in it. several: photos may
    have several labels, which takes a manifest; None is as it has them. Raises DataError.
    """
    root = Path(root)
    if root.is_dir():
        if several:
            raise DataError(
                f"{root} is a folder, in which each photo has one class",
                "several labels a photo take a manifest: a CSV with the columns path and label, "
                f"as in 1.jpg,cat{SEPARATOR}dog",
            )
        folders = scan_folders if labelled else scan_pictures
        packed = scan_packed(root, val_fraction, seed)
        return packed or told_of_unread(folders(root, val_fraction, seed))
    if root.suffix.lower() in SUFFIXES and root.is_file():
        return told_of_unread(scan_manifest(root, val_fraction, seed, several))
    problem = "is not a folder" if root.exists() else "does not exist"
    hint = f"give a folder with {LAYOUT} or IDX files, or a manifest ({', '.join(SUFFIXES)})"
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
