"""DatasetIndex: which photos there are, of which class, in which split. Decodes no picture.

samples.py    the records          split.py     what is put aside for validation
folders.py    class folders        manifest.py  a table of paths and labels, read by table.py
packed.py     many pictures in one file, as container.py reads them: IDX, Parquet
copies.py     photos with the same content
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from zoo.data import folders, manifest, packed, unsupported
from zoo.data.copies import Contents, Copies, left_apart
from zoo.data.decode import unsupported_kind
from zoo.data.samples import SEPARATOR, DatasetIndex, Photos, Sample, Skipped
from zoo.data.split import LAYOUT, drawn
from zoo.data.table import SUFFIXES
from zoo.errors import DataError

__all__ = ["DatasetIndex", "Sample", "labelled", "scan"]


def scan(
    root: Path,
    *,
    val_fraction: float = 0.2,
    seed: int = 0,
    task: str | None = None,
    contents: Contents | None = None,
    keep_copies: bool = False,
) -> DatasetIndex:
    """Return the index of class folders, of IDX files, of photos in Parquet, or of a manifest.

    Where there is no val part, a share `val_fraction` of each class is put aside for it; which
    photos is a function of the seed and their paths, so adding photos moves few others.
    task: to `reconstruct`, which needs no classes, a folder is all the pictures in it; `classify`
    is one class a photo, `multilabel` several or none, and None is as the data have it.
    contents: says which photos have the same content; copies are on one side of the split then,
    unless keep_copies. Raises DataError.
    """
    index = _listed(Path(root), task)
    digests = contents(index) if contents else {}
    if any(not sample.split for sample in index.samples):
        known = {} if keep_copies else digests
        index = drawn(index, val_fraction, seed, Copies.of(index.samples, known))
    index = left_apart(index, Copies.of(index.samples, digests), keep_copies)
    parts = {"test": "test"} if index.of("test") else {}
    if not index.drawn:
        parts = {"val": "validation", **parts}
    notes = [
        f"no {what} photo of: {', '.join(names)}"
        for part, what in parts.items()
        if task != "reconstruct" and (names := index.absent(part))
    ]
    return replace(index, notes=(*index.notes, *notes))


def labelled(
    root: Path, *, several: bool = False, skipped: Skipped | None = None
) -> dict[str, Photos]:
    """Return the photos to measure a network on, by part: train, val, test, or `""` without parts.

    (path, class) of each. No split is made and no second class is needed: the network says which
    classes there are. Several classes of a photo are one cell, see samples.py; several: a
    manifest's photo may have none. What is left out of class folders goes to `skipped`. Raises
    DataError.
    """
    if root.is_dir():
        parts = packed.labelled(root)
        parts = folders.labelled(root, skipped) if parts is None else parts
    elif _is_manifest(root):
        parts, root = packed.labelled(root) or manifest.labelled(root, several), root.parent
    else:
        raise _no_data(root)
    return {
        part: [(os.path.join(root, path), label) for path, label in photos]
        for part, photos in parts.items()
    }


def _listed(root: Path, task: str | None) -> DatasetIndex:
    """Return the photos in the parts that the data have; in none where they have no val part."""
    if root.is_dir():
        if task == "multilabel":
            raise DataError(
                f"{root} is a folder, in which each photo has one class",
                "several labels a photo take a manifest: a CSV with the columns path and label, "
                f"as in 1.jpg,cat{SEPARATOR}dog",
            )
        look = folders.scan_pictures if task == "reconstruct" else folders.scan_folders
        return packed.scan_packed(root) or _noted_unsupported(look(root))
    if _is_manifest(root):
        several = {"classify": False, "multilabel": True}.get(task or "")
        packs = None if several else packed.scan_packed(root)
        return packs or _noted_unsupported(manifest.scan_manifest(root, several))
    raise _no_data(root)


def _is_manifest(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _no_data(root: Path) -> DataError:
    problem = "is not a folder" if root.exists() else "does not exist"
    kinds = f"{LAYOUT}, IDX or Parquet files"
    hint = f"give a folder with {kinds}, or a manifest ({', '.join(SUFFIXES)})"
    return DataError(f"{root} {problem}", hint)


def _noted_unsupported(index: DatasetIndex) -> DatasetIndex:
    """Return the index with a note on photos in formats that are not read, as HEIC.

    They stay in it, and are left out by name where photos are decoded. Raises DataError where
    there are no others.
    """
    called = tuple(unsupported.BY_SUFFIX)
    some = [sample.path for sample in index.samples if sample.path.lower().endswith(called)]
    found = [unsupported_kind(os.path.join(index.root, path)) for path in some]
    kinds = [kind for kind in found if kind is not None]
    if not kinds:
        return index
    photos, how = unsupported.counted(kinds), f"convert to JPEG, as with {kinds[0].convert}"
    if len(kinds) == len(index.samples):
        raise DataError(f"{index.source} has {photos}, which cannot be read, and no others", how)
    return replace(index, notes=(*index.notes, f"{photos} cannot be read: {how}"))
