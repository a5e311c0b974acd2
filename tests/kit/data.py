"""Photos on disk in every form that zoo reads, small and made up: folders, containers, tables."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zoo.data.index import DatasetIndex

# Folders, and what an index says of them.


def touch(root: Path, *paths: str) -> Path:
    """Write files that pass for pictures, each with content of its own: an index opens none."""
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.fsencode(path))
    return root


def many(root: Path, classes: tuple[str, ...] = ("a", "b"), count: int = 10) -> Path:
    return touch(root, *(f"{name}/{n}.jpg" for name in classes for n in range(count)))


def splits(index: DatasetIndex) -> dict[str, str]:
    return {sample.path: sample.split for sample in index.samples}


def labels(index: DatasetIndex, split: str) -> dict[str, str]:
    return {sample.path: index.classes[sample.label] for sample in index.of(split)}


def tree(root: Path) -> str:
    """Return a digest of the names, times, modes and bytes of everything below."""
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        digest.update(f"{path} {status.st_mtime_ns} {status.st_mode} {status.st_size}".encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


# IDX.


def idx(values: np.ndarray, kind: int = 0x08) -> bytes:
    return struct.pack(f">4B{values.ndim}I", 0, 0, kind, values.ndim, *values.shape) + (
        values.tobytes()
    )


def grey(count: int = 12, height: int = 6, width: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width), dtype=np.uint8)


def in_turn(count: int = 12, classes: int = 3) -> np.ndarray:
    """Return the labels 0, 1, 2, 0, 1, 2, …"""
    return (np.arange(count) % classes).astype(np.uint8)


def write_idx(root: Path, part: str, count: int = 12, classes: int = 3, end: str = ".gz") -> Path:
    """Write PART-images-idx3-ubyte and its labels, as MNIST has them."""
    pack = gzip.compress if end else bytes
    root.mkdir(parents=True, exist_ok=True)
    pictures = grey(count, seed=len(part))
    (root / f"{part}-images-idx3-ubyte{end}").write_bytes(pack(idx(pictures)))
    (root / f"{part}-labels-idx1-ubyte{end}").write_bytes(pack(idx(in_turn(count, classes))))
    return root


# Parquet with photos inside.


def write_parquet(
    path: Path, cells: Sequence[bytes | None], labels: Sequence[object], names: Sequence[str] = ()
) -> Path:
    """Write what Hugging Face's data sets are: an image {bytes, path} and a label a row."""
    import pyarrow
    from pyarrow import parquet

    label: dict[str, object] = {"_type": "ClassLabel", "names": list(names)}
    about = {"info": {"features": {"image": {"_type": "Image"}, "label": label}}}
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    pictures = [{"bytes": cell, "path": f"{n}.png"} for n, cell in enumerate(cells)]
    columns = {"image": pyarrow.array(pictures, kind), "label": pyarrow.array(labels)}
    metadata = {"huggingface": json.dumps(about)} if names else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.table(columns).replace_schema_metadata(metadata)
    parquet.write_table(table, path, row_group_size=5)
    return path


# Tables.


def manifest(root: Path, text: str, name: str = "photos.csv", photos: bool = True) -> Path:
    """Write the file, and, beside it, every .jpg that it names."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    if photos:
        for line in text.splitlines()[1:]:
            name = line.split(",")[0].strip()
            if name.endswith(".jpg") and not name.startswith(("/", "..")):
                touch(root, name)
    return path


def listed(classes: str = "ab", count: int = 10, extra: str = "") -> str:
    """Return lines of a manifest: a0.jpg,a and so on."""
    return "".join(f"{c}{n}.jpg,{c}{extra}\n" for c in classes for n in range(count))
