"""The pass over the photos: each is read, hashed and decoded once, and a small copy is kept."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from zoo.catalog import Preprocess
from zoo.data import decoder_warnings
from zoo.data.decode import decode_for, read_bytes
from zoo.data.preprocess import resize, spare, to_array
from zoo.data.samples import Sample
from zoo.data.structure import check
from zoo.engine.pipeline import attempt, batched, ordered
from zoo.errors import ImageError
from zoo.machine import cores
from zoo.metrics import Array
from zoo.watch import Counted

SIDE = 64  # of the small copy, into which the whole picture is squashed
GREY = 8  # of 255, by which the colours of a grey pixel may differ
_SMALL = Preprocess(size=SIDE, crop=1.0, fit="squash")
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo that can be read.

    format: by its content, empty where that is not told. grey: 64 x 64 uint8. coloured: it has
    more than greys. means: of red, green and blue, 0 to 255.
    """

    sample: Sample
    digest: bytes
    width: int
    height: int
    format: str
    grey: Array
    coloured: bool
    means: tuple[float, float, float]

    @property
    def path(self) -> str:
        return self.sample.path

    @property
    def part(self) -> str:
        return self.sample.split

    @property
    def tones(self) -> list[float]:
        """Return numbers for its size, its light and its colours."""
        wide = self.grey.astype(np.float64)
        detail = np.abs(np.diff(wide, axis=0)).mean() + np.abs(np.diff(wide, axis=1)).mean()
        shape = np.log([self.width / self.height, self.width * self.height])
        return [*shape, *self.means, wide.std(), detail, 50.0 * self.coloured]


@dataclass(slots=True)
class Looked:
    """Photos in the order of the index, and why the others cannot be read. bad: path -> reason."""

    root: Path
    photos: list[Photo] = field(default_factory=list)
    bad: dict[str, str] = field(default_factory=dict)

    def differ(self) -> list[Photo]:
        """Return the photos, of those with the same content the first one."""
        first: dict[bytes, Photo] = {}
        for photo in self.photos:
            first.setdefault(photo.digest, photo)
        return list(first.values())


def look(root: Path, samples: Sequence[Sample], progress: Counted) -> Looked:
    """Return what there is of every photo. progress(done, total) may raise."""
    found, done = Looked(root), 0

    def each(some: list[Sample]) -> list[Photo | ImageError]:
        return [attempt(partial(_photo, root), sample) for sample in some]

    workers = cores()
    with ThreadPoolExecutor(workers, "zoo-check") as pool:
        for some in ordered(pool, each, batched(samples, _AT_ONCE), 4 * workers):
            for photo in some:
                if isinstance(photo, ImageError):
                    found.bad[samples[done].path] = str(photo)
                else:
                    found.photos.append(photo)
                progress(done := done + 1, len(samples))
    return found


def _photo(root: Path, sample: Sample) -> Photo:
    """Raises ImageError."""
    path = os.path.join(root, sample.path)
    data = read_bytes(path)
    with decoder_warnings.photo(path):
        picture = decode_for(data, "RGB", lambda width, height: spare(width, height, _SMALL))
        pixels = to_array(resize(picture, _SMALL), _SMALL)
    red, green, blue = pixels.reshape(-1, 3).mean(axis=0).tolist()
    return Photo(
        sample,
        hashlib.sha256(data).digest(),
        picture.width,
        picture.height,
        check(data).format,
        (pixels @ np.array([0.299, 0.587, 0.114], np.float32)).round().astype(np.uint8),
        bool((np.ptp(pixels, axis=2) > GREY).mean() > 0.01),
        (red, green, blue),
    )
