"""A cache of features whose engine gives the pixels back, and what tests put into it."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image

from zoo.catalog import Preprocess
from zoo.data.index import Sample
from zoo.features.cache import FeatureCache
from zoo.features.compute import Pass, Views, compute

SMALL = Preprocess(size=8, crop=1.0)


class Pixels:
    """An engine whose features are the pixels."""

    batch, workers, decoders, name = 8, 2, 0, "pixels"

    def start_worker(self) -> None:
        pass

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        return pixels.reshape(len(pixels), -1).astype(np.float32)


def jpeg(number: int) -> bytes:
    image = Image.fromarray(np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8))
    file = io.BytesIO()
    image.resize((20, 16)).save(file, "JPEG")
    return file.getvalue()


def write(root: Path, numbers: range) -> list[Sample]:
    """Write photos of different content."""
    root.mkdir(exist_ok=True)
    for number in numbers:
        (root / f"{number}.jpg").write_bytes(jpeg(number))
    return [Sample(f"{number}.jpg", 0, "train") for number in numbers]


def opened(folder: Path) -> FeatureCache:
    return FeatureCache(folder, {})


def passed(
    cache: FeatureCache, root: Path, samples: list[Sample], views: Views | None = None
) -> Pass:
    work = [(sample, views or Views()) for sample in samples]
    return compute(cache, Pixels(), SMALL, root, work, lambda done, total: None)


def key(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest() + bytes(8)


def add(folder: Path, numbers: range) -> None:
    """Add rows that hold their number to the cache in this folder."""
    cache = opened(folder)
    for number in numbers:
        cache.add(key(number), np.full((2, 3), number, np.float32))
    cache.flush()
