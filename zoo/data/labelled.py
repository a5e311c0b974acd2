"""Photos to measure a network on: each with its class, in the parts that the data itself has.

No split is made and no second class is needed: unlike for training (index.py) it is the network
that says which classes there are.
"""

from __future__ import annotations

import os
from pathlib import Path

from zoo.data import folders, manifest, packed
from zoo.data.split import LAYOUT
from zoo.data.table import SUFFIXES
from zoo.errors import DataError

Photos = list[tuple[str, str]]


def read(
    root: Path, *, several: bool = False, skipped: list[tuple[str, str]] | None = None
) -> dict[str, Photos]:
    """(path, class) of the photos by part: train, val, test; or `""` where there are no parts.

    For class folders, IDX files, photos in Parquet and manifests. Several classes of a photo are
    one cell, see samples.py; several: a manifest's photo may have none. What is left out of
    class folders goes to `skipped`. Raises DataError.
    """
    if root.is_dir():
        found = packed.labelled(root)
        return under(root, folders.labelled(root, skipped) if found is None else found)
    if root.suffix.lower() in SUFFIXES and root.is_file():
        return under(root.parent, packed.labelled(root) or manifest.labelled(root, several))
    problem = "is not a folder" if root.exists() else "does not exist"
    hint = (
        f"give a folder with {LAYOUT}, IDX or Parquet files, or a manifest ({', '.join(SUFFIXES)})"
    )
    raise DataError(f"{root} {problem}", hint)


def under(root: Path, parts: dict[str, Photos]) -> dict[str, Photos]:
    base = os.fspath(root)
    return {
        part: [(os.path.join(base, path), label) for path, label in photos]
        for part, photos in parts.items()
    }
