"""Photos as a phone takes them, for timing: 4000 x 3000 JPEG at quality 90 of about 2.2 MB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.photos import draw

WIDTH, HEIGHT, QUALITY, GRAIN = 4000, 3000, 90, 3.4
DISTINCT = 10  # scenes; the others are these mirrored, turned over and with other grain


def make(folder: Path, count: int) -> int:
    """folder/phone/NUMBER.jpg; returns the median size in bytes.

    Small photos, enlarged, with the fine grain of a small sensor: it is the bytes that decide what
    decoding costs, and the scene that decides how much a reduced decoding differs.
    """
    random = np.random.default_rng(0)
    grain = random.normal(0, GRAIN, (HEIGHT, WIDTH, 1)).astype(np.float32)
    size = (WIDTH, HEIGHT)
    scenes = [
        np.asarray(draw(np.random.default_rng([2, number]), number / DISTINCT).resize(
            size, Image.Resampling.BICUBIC)) for number in range(min(DISTINCT, count))
    ]  # fmt: skip
    sizes = []
    for number in range(count):
        path = folder / "phone" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        scene = scenes[number % DISTINCT]
        turned = scene[:: -1 if number // DISTINCT % 2 else 1, :: -1 if number // 20 % 2 else 1]
        other = np.roll(grain, tuple(random.integers(0, WIDTH, 2)), (0, 1))
        picture = np.clip(turned + other, 0, 255).astype(np.uint8)
        Image.fromarray(picture).save(path, quality=QUALITY)
        sizes.append(path.stat().st_size)
    return int(np.median(sizes))
