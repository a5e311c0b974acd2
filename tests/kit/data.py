"""Photos on disk in every form that zoo reads, small and made up: folders, containers, tables."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
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


# IDX and CIFAR-10's batches.


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


def write_batches(root: Path, count: int = 6) -> Path:
    """Write data_batch_1, data_batch_2 and test_batch in CIFAR-10's binary format."""
    root.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(("data_batch_1", "data_batch_2", "test_batch")):
        random = np.random.default_rng(number)
        pixels = random.integers(0, 256, (count, 3072), dtype=np.uint8)
        records = np.concatenate([in_turn(count)[:, None], pixels], axis=1)
        (root / f"{name}.bin").write_bytes(records.tobytes())
    return root


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
