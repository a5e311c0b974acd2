"""How quickly photos come in: the user's, or a few that look like photos to a decoder."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from zoo.catalog import Preprocess
from zoo.data.decode import looks_like_image
from zoo.data.ignored import in_system
from zoo.data.views import plain_view
from zoo.disk import scratch
from zoo.errors import DataError, ImageError
from zoo.machine import cores

MOST = 64  # photos that are decoded, again and again
WIDTH, HEIGHT, QUALITY = 500, 375, 90


@dataclass(frozen=True, slots=True)
class Decoding:
    """photos_per_second: from file to the network's input, with a thread for each core."""

    photos_per_second: float
    threads: int
    source: str
    median_bytes: int


@contextmanager
def found(folder: Path | None) -> Iterator[tuple[list[Path], str]]:
    """Paths of photos and what they are. Raises DataError where the folder has none."""
    if folder is not None:
        if not folder.is_dir():
            raise DataError(f"--photos {folder}: there is no such folder", "give one with photos")
        every = (
            path
            for path in folder.rglob("*")
            if not (path.name.startswith(".") or in_system(path.relative_to(folder).as_posix()))
        )
        paths = list(itertools.islice((path for path in every if looks_like_image(path)), MOST))
        if not paths:
            raise DataError(f"no photos in {folder}", "give a folder with photos at any depth")
        yield paths, f"{len(paths)} of {folder}"
        return
    with scratch("bench") as place:
        made = [generated(place / f"{number}.jpg", number) for number in range(8)]
        yield made, f"made up: {WIDTH} x {HEIGHT}, JPEG of quality {QUALITY}"


def generated(path: Path, number: int) -> Path:
    """Soft shapes under fine noise: some 50 kB, as a photo of this size has."""
    random = np.random.default_rng(number)
    rough = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8))
    soft = np.asarray(rough.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.float32)
    noise = random.normal(0, 8, (HEIGHT, WIDTH, 1))
    Image.fromarray(np.uint8(np.clip(soft + noise, 0, 255))).save(path, quality=QUALITY)
    return path


def measure(paths: Sequence[Path], source: str, preprocess: Preprocess, seconds: float) -> Decoding:
    """Decodes the photos over and over. Raises DataError where none can be decoded."""
    good = [path for path in paths if readable(path, preprocess)]
    if not good:
        raise DataError(f"none of the photos can be read, as {paths[0]}", "give a folder of photos")
    threads = cores()
    done, began, took = 0, time.perf_counter(), 0.0
    with ThreadPoolExecutor(threads) as pool:
        while took < seconds:
            done += sum(1 for _ in pool.map(lambda path: plain_view(path, preprocess), good))
            took = time.perf_counter() - began
    sizes = sorted(os.path.getsize(path) for path in good)
    return Decoding(done / took, threads, source, sizes[len(sizes) // 2])


def readable(path: Path, preprocess: Preprocess) -> bool:
    try:
        plain_view(path, preprocess)
    except ImageError:
        return False
    return True
