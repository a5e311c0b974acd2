"""How quickly photos are decoded, and whether that or the network holds a job up."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from zoo.bench.engines import Measured
from zoo.catalog import Preprocess
from zoo.data.index import scan
from zoo.data.views import plain_view
from zoo.disk import scratch
from zoo.errors import DataError, ImageError
from zoo.machine import cores

PHOTOS, DECODE_SECONDS = 64, 1.5


class Decoding(NamedTuple):
    """photos_per_second: from file to the network's input, with a thread for each core."""

    photos_per_second: float
    threads: int
    source: str
    median_bytes: int


class Advice(NamedTuple):
    """part: decode or forward; its share of the time of both; photos_per_second: of a whole job."""

    part: str
    share: float
    photos_per_second: float
    text: str


def decoded(folder: Path | None, preprocess: Preprocess, seconds: float) -> Decoding:
    """Decode photos over and over: some of the folder's, else a few that are made up."""
    with scratch("bench") as place:
        index = scan(folder or _made_up(place), task="reconstruct")
        some = index.samples[:PHOTOS]

        def decodes(path: str) -> bool:
            with suppress(ImageError):
                plain_view(index.root / path, preprocess)
                return True
            return False

        done, began, took = 0, time.perf_counter(), 0.0
        with ThreadPoolExecutor(cores()) as pool:
            while took < min(seconds, DECODE_SECONDS):
                done += sum(pool.map(decodes, [sample.path for sample in some]))
                took = time.perf_counter() - began
    if not done:
        raise DataError(f"{folder}: none of the photos can be read", "give other photos")
    source = f"{len(some)} of {folder}" if folder else "made up: 500 x 375, JPEG of quality 90"
    return Decoding(done / took, cores(), source, sorted(s.bytes for s in some)[len(some) // 2])


def _made_up(folder: Path) -> Path:
    """Write soft shapes under fine noise: some 50 kB each, as photos of this size have."""
    for number in range(8):
        random = np.random.default_rng(number)
        rough = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8))
        soft = np.asarray(rough.resize((500, 375), Image.Resampling.BICUBIC), np.float32)
        pixels = np.clip(soft + random.normal(0, 8, (375, 500, 1)), 0, 255)
        Image.fromarray(np.uint8(pixels)).save(folder / f"{number}.jpg", quality=90)
    return folder


def advise(rows: Sequence[Measured], photos: Decoding, device: str) -> Advice:
    """Return which part of a job takes most of its time, and what would help."""
    decode = 1 / photos.photos_per_second
    forward = min(1 / row.images_per_second for row in rows if not row.error)
    # On a CPU both need the same cores; beside a GPU one waits for the other.
    whole = decode + forward if device == "cpu" else max(decode, forward)
    part, text = "forward", "a smaller network (`zoo list --sort macs`), bf16 or a GPU is quicker"
    if decode > forward:
        part, text = "decode", "more cores decode more photos; a quicker network would not help"
        if photos.median_bytes > 500_000:
            text = "these photos hold more than a network sees: smaller copies decode faster"
    share = max(decode, forward) / (decode + forward)
    return Advice(part, share, 1 / whole, text)
