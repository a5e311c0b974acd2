"""Batches of photos that go through the frozen part in every epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from zoo.device import Device
from zoo.engine import Array, Engine
from zoo.engine.pipeline import forward
from zoo.errors import ImageError
from zoo.features.cache import memory
from zoo.train.batches import VAL_BATCH, Photo, PhotoBatches, on_device
from zoo.train.division import Division

if TYPE_CHECKING:
    import torch

    from zoo.features.standardise import Scaling

SOME = 512  # photos that say what the scale of features is


class FrozenBatches:
    """Photos through the frozen part in every epoch, where its output is not kept.

    By the engine that would compute what is kept, so that room on a disk changes no bit. The val
    photos' features are kept, where they take little memory: they do not change.
    """

    division: Division | None = None

    def __init__(self, photos: PhotoBatches, engine: Engine, device: Device) -> None:
        self.photos, self.engine, self.device = photos, engine, device
        self.labels, self.val_labels = photos.labels, photos.val_labels
        self.kept: list[torch.Tensor] = []
        self.scaling: Scaling | None = None

    def on_test(self) -> FrozenBatches | None:
        photos = self.photos.on_test()
        if photos is None:
            return None
        twin = FrozenBatches(photos, self.engine, self.device)
        twin.scaling = self.scaling
        return twin

    def some(self) -> Array:
        """Return features of photos of all classes, plain views: what a scaling is taken from."""
        chosen = np.linspace(0, len(self.labels) - 1, min(SOME, len(self.labels))).astype(int)
        return np.stack(list(self.rows(self.photos.photos.train, chosen.tolist(), 0)))

    def rows(
        self, photos: Sequence[Photo], chosen: Sequence[int], number: int, epoch: int | None = None
    ) -> Iterator[Array]:
        """Yield the features of these photos one by one; number, epoch: as `pixels` has them."""

        def load(row: int) -> Array:
            return self.photos.pixels(photos[row], number, epoch)

        for _, found in forward(chosen, load, self.engine):
            if isinstance(found, ImageError):
                raise found
            yield found

    def batches(self, rows: Iterator[Array], sizes: Sequence[int]) -> Iterator[torch.Tensor]:
        for size in sizes:
            features = on_device(np.stack(list(islice(rows, size))), self.device)
            yield features if self.scaling is None else self.scaling.scaled(features)

    def train(self, epoch: int, order: Sequence[Array]) -> Iterator[torch.Tensor]:
        number, changed = self.photos.view_in(epoch)
        rows = np.concatenate(order).tolist() if order else []
        features = self.rows(self.photos.photos.train, rows, number, changed)
        return self.batches(features, [len(rows) for rows in order])

    def val(self) -> Iterator[torch.Tensor]:
        if self.kept:
            yield from self.kept
            return
        kept: list[torch.Tensor] = []
        room, count = memory() // 8, len(self.val_labels)
        features = self.rows(self.photos.photos.val, range(count), 0)
        sizes = [min(VAL_BATCH, count - done) for done in range(0, count, VAL_BATCH)]
        for batch in self.batches(features, sizes):
            room -= batch.nbytes
            kept.append(batch)
            yield batch
            if room < 0:
                kept.clear()
        if room >= 0:
            self.kept = kept
