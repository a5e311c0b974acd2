"""Photos for timing: 500 x 375 JPEG at quality 90 of about 50 KB, drawn from a seed; a phone's too.

The JPEG's bytes decide what decoding costs, so the pictures have the spectrum of photos: noise
whose amplitude falls with the frequency (1/f), soft shapes with edges, and a little grain.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

WIDTH, HEIGHT, QUALITY = 500, 375, 90
PHONE, GRAIN = (4000, 3000), 3.4
DISTINCT = 10  # scenes; the others are these mirrored, turned over and with other grain


def make(folder: Path, *, train: int, val: int, classes: int = 10, seed: int = 0) -> int:
    """folder/{train,val}/CLASS/NUMBER.jpg, as equal as can be; returns the median size in bytes."""
    sizes = []
    for part, count in (("train", train), ("val", val)):
        for number in range(count):
            label = number % classes
            path = folder / part / f"class{label:02d}" / f"{number:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            random = np.random.default_rng([seed, part == "val", number])
            draw(random, label / classes).save(path, quality=QUALITY)
            sizes.append(path.stat().st_size)
    return int(np.median(sizes))


def draw(random: np.random.Generator, hue: float) -> Image.Image:
    """One picture; hue: 0 to 1, what tells its class."""
    tint = 128 + 60 * np.cos(2 * np.pi * (hue + np.array([0, 1 / 3, 2 / 3])))
    base = Image.fromarray(np.uint8(np.clip(tint + 55 * clouds(random, 1.6, 3), 0, 255)))
    pen = ImageDraw.Draw(base)
    for _ in range(random.integers(4, 12)):
        x, y, w, h = random.integers((0, 0, 20, 20), (WIDTH, HEIGHT, 200, 200)).tolist()
        colour = tuple(random.integers(0, 256, 3).tolist())
        shape = pen.ellipse if random.random() < 0.5 else pen.rectangle
        shape((x, y, x + w, y + h), fill=colour)
    soft = np.asarray(base.filter(ImageFilter.GaussianBlur(0.7)), np.float32)
    texture = 15 * clouds(random, 1.2, 1) + random.normal(0, 1.3, (HEIGHT, WIDTH, 1))
    return Image.fromarray(np.uint8(np.clip(soft + texture, 0, 255)))


def clouds(random: np.random.Generator, slope: float, channels: int) -> np.ndarray:
    """Noise of amplitude 1/f^slope, H x W x channels, mean 0, deviation 1."""
    f = np.hypot(np.fft.fftfreq(HEIGHT)[:, None], np.fft.fftfreq(WIDTH)[None, :])
    f = f.astype(np.float32)
    f[0, 0] = np.inf
    # One inverse transform gives two real fields, its real and its imaginary part.
    fields: list[np.ndarray] = []
    while len(fields) < channels:
        spectrum = random.standard_normal((*f.shape, 2), np.float32).view(np.complex64)[..., 0]
        noise = np.fft.ifft2(spectrum / f**slope)
        fields += [noise.real, noise.imag]
    noise = np.stack(fields[:channels], axis=-1)
    return noise / noise.std(axis=(0, 1))


def make_phones(folder: Path, count: int) -> int:
    """folder/phone/NUMBER.jpg, 4000 x 3000 of about 2.2 MB; returns the median size in bytes.

    Small photos, enlarged, with the fine grain of a small sensor: it is the bytes that decide what
    decoding costs, and the scene that decides how much a reduced decoding differs.
    """
    random = np.random.default_rng(0)
    grain = random.normal(0, GRAIN, (*PHONE[::-1], 1)).astype(np.float32)
    scenes = [
        np.asarray(draw(np.random.default_rng([2, number]), number / DISTINCT).resize(
            PHONE, Image.Resampling.BICUBIC)) for number in range(min(DISTINCT, count))
    ]  # fmt: skip
    sizes = []
    for number in range(count):
        path = folder / "phone" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        scene = scenes[number % DISTINCT]
        turned = scene[:: -1 if number // DISTINCT % 2 else 1, :: -1 if number // 20 % 2 else 1]
        other = np.roll(grain, tuple(random.integers(0, PHONE[0], 2)), (0, 1))
        picture = np.clip(turned + other, 0, 255).astype(np.uint8)
        Image.fromarray(picture).save(path, quality=QUALITY)
        sizes.append(path.stat().st_size)
    return int(np.median(sizes))
