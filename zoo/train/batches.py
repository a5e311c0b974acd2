"""The batches of a training: from features in memory, or from photos decoded on the way.

Both give, for an epoch and a step, the same rows on every run: the order is f(seed, epoch), a
photo's view f(seed, photo, number).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from zoo.catalog import Preprocess
from zoo.data.decode import decode, read_bytes
from zoo.data.distort import Kind, distort
from zoo.data.preprocess import mode
from zoo.data.views import generator, view_of
from zoo.device import Device
from zoo.engine import Array
from zoo.engine.pipeline import batched, ordered
from zoo.features.cache import Features
from zoo.machine import cores
from zoo.train import augment as augments
from zoo.train.division import Division

if TYPE_CHECKING:
    import torch


T = TypeVar("T")
EVAL_BATCH = 256
VAL_BATCH = 32  # the same of photos
EVAL_BYTES = 64 << 20  # of features that are evaluated at once: what comes of them is larger
# Path, what is to be said of it (see DatasetIndex.targets), and the digest of its content.
Photo = tuple[str, int | list[float], bytes]
SMALL = 64  # pixels of a side up to which pictures are trained on whole


class Batches(Protocol):
    """Input of the trained part. `labels` are the training rows', `val_labels` the val photos'.

    N class numbers, or N x K of 0 and 1 where a photo has several labels. division: where each
    process of a team has rows of its own; else they share each step.
    """

    labels: Array
    val_labels: Array
    division: Division | None

    def train(self, epoch: int, order: Sequence[Array]) -> Iterator[torch.Tensor]:
        """Yield one batch for each array of row numbers in `order`, on the device."""

    def val(self) -> Iterator[torch.Tensor]:
        """Yield the validation photos in order, in batches."""

    def on_test(self) -> Batches | None:
        """Return the same with the test photos in the place of the val photos; None without any."""


def order(seed: int, epoch: int, labels: Array, batch_size: int, *, balanced: bool) -> list[Array]:
    """Return the row numbers of each step of an epoch; with `balanced`, classes are drawn evenly.

    A row that would be alone in the last step joins the one before: of one row there is no
    variance for a norm to take.
    """
    random = generator("order", seed, epoch)
    count = len(labels)
    if balanced:
        weights = 1.0 / np.bincount(labels)[labels]
        rows = random.choice(count, count, p=weights / weights.sum())
    else:
        rows = random.permutation(count)
    ends = [*range(batch_size, count, batch_size)][: steps(count, batch_size) - 1]
    return [np.array(part) for part in np.split(rows, ends)]


def steps(count: int, batch_size: int) -> int:
    """Return how many steps an epoch of so many rows has."""
    one_left = batch_size > 1 and count > 1 and count % batch_size == 1
    return max(1, math.ceil(count / batch_size) - one_left)


def parts(count: int, size: int) -> list[slice]:
    """Divide rows into parts of about a size, none with a single row: a norm has no use for it."""
    number = count if size == 1 else max(1, math.ceil((count - 1) / size))
    ends = [round(count * part / number) for part in range(number + 1)]
    return [slice(*pair) for pair in pairwise(ends)]


class FeatureBatches:
    """Rows of the FeatureCache; K views of a photo are K rows, which all are in each epoch.

    turns: K where a photo is one row instead, of which each epoch has the next view. division:
    says which of the rows to train on are here.
    """

    division: Division | None = None

    def __init__(
        self,
        train: Features,
        labels: Array,
        val: Features,
        val_labels: Array,
        device: Device,
        test: tuple[Features, Array] | None = None,
    ) -> None:
        self.labels, self.val_labels = labels, val_labels
        self.features, self.val_features, self.device = train, val, device
        self.test = test
        self.turns = 0
        self.room: int | None = None  # bytes that are left for features on the device
        self.there: dict[int, torch.Tensor] = {}  # of features, by their id

    def on_test(self) -> FeatureBatches | None:
        if self.test is None:
            return None
        return FeatureBatches(self.features, self.labels, *self.test, self.device)

    def in_turn(self, views: int) -> FeatureBatches:
        """Return the same features with a view of each photo in an epoch."""
        twin = copy.copy(self)
        twin.labels, twin.turns = self.labels[::views], views
        return twin

    def rows(self, features: Features, chosen: Sequence[int]) -> torch.Tensor:
        """Return some rows on the device; all are kept there, where there is room for them."""
        import torch

        if self.room is None:
            self.room = _room_on(self.device)
        there = self.there.get(id(features))
        size = 4 * len(features) * int(np.prod(features.shape))
        if there is None and size <= self.room:
            self.room -= size
            there = self.there[id(features)] = _on(self.device, features)
        if there is None:
            return on_device(features.gather(chosen), self.device)
        rows = there[torch.tensor(chosen, device=there.device)]
        return rows.contiguous(memory_format=torch.channels_last) if rows.ndim == 4 else rows

    def train(self, epoch: int, order: Sequence[Array]) -> Iterator[torch.Tensor]:
        for rows in order:
            if self.turns:
                rows = rows * self.turns + (epoch - 1) % self.turns
            if self.division:
                rows = self.division.places(rows)
            yield self.rows(self.features, rows.tolist())

    def val(self) -> Iterator[torch.Tensor]:
        each = 4 * int(np.prod(self.val_features.shape))
        size = max(1, min(EVAL_BATCH, EVAL_BYTES // each))
        for rows in batched(range(len(self.val_features)), size):
            yield self.rows(self.val_features, rows)


def _on(device: Device, features: Features) -> torch.Tensor:
    """Return all rows on a device; no more than a block of them is in memory besides."""
    import torch

    there = torch.empty((len(features), *features.shape), device=device.torch)
    at_once = max(1, EVAL_BYTES // max(1, 4 * math.prod(features.shape)))
    for start in range(0, len(features), at_once):
        some = range(start, min(start + at_once, len(features)))
        there[some.start : some.stop] = torch.from_numpy(features.gather(some))
    return there


def on_device(rows: Array, device: Device) -> torch.Tensor:
    """Return features channels last: once here, not in each convolution that reads them."""
    import torch

    batch = _pinned(rows, device).to(device.torch, non_blocking=True)
    return batch.contiguous(memory_format=torch.channels_last) if batch.ndim == 4 else batch


def _pinned(rows: Array, device: Device) -> torch.Tensor:
    import torch

    from zoo.engine.torch import pinned

    return pinned(torch.from_numpy(rows), device)


def _room_on(device: Device) -> int:
    """Return how many bytes of features may stay on a device: half of what a GPU has left."""
    import torch

    return torch.cuda.mem_get_info(device.torch)[0] // 2 if device.torch.type == "cuda" else 0


@dataclass(frozen=True, slots=True)
class Photos:
    """The photos of each split; root: the folder that their paths begin in."""

    root: Path
    train: Sequence[Photo]
    val: Sequence[Photo]
    test: Sequence[Photo] = ()


@dataclass(frozen=True, slots=True)
class Changes:
    """What photos are changed by from epoch to epoch.

    views: 1 is the plain view in every epoch; K cycles through K views; 0 draws new ones for ever.
    augment: torchvision's transforms in the views' place. strength: of the distortion.
    """

    views: int
    seed: int
    flip: bool
    distort: Kind = "none"
    strength: float = 1.0
    augment: augments.Kind = "none"


class PhotoBatches:
    """Photos decoded in threads beside the training; for networks that train from the pixels.

    workers: threads, of which the pixels do not depend.
    """

    division: Division | None = None

    def __init__(
        self,
        photos: Photos,
        preprocess: Preprocess,
        changes: Changes,
        device: Device,
        workers: int | None = None,
    ) -> None:
        from zoo.engine.torch import Normalise

        self.photos, self.preprocess, self.changes = photos, preprocess, changes
        self.labels, self.val_labels = (
            np.array([label for _, label, _ in part]) for part in (photos.train, photos.val)
        )
        self.device, self.normalise = device, Normalise(preprocess, device)
        self.workers = workers or cores()
        self.answers: Array | None = None  # a teacher's logits, photos x views x K
        self.number = 0  # of the view that this epoch has
        self.plain: dict[bytes, Array] = {}  # decoded photos, where view 0 is used again

    def on_test(self) -> PhotoBatches | None:
        if not self.photos.test:
            return None
        twin = copy.copy(self)
        twin.photos = replace(self.photos, val=self.photos.test)
        twin.__dict__.pop("together", None)
        twin.val_labels = np.array([label for _, label, _ in self.photos.test])
        return twin

    def pixels(self, photo: Photo, number: int, epoch: int | None = None) -> Array:
        """Return a view of a photo; with `epoch`, what the transforms make of it in that epoch."""
        (path, _, digest), changes = photo, self.changes
        if epoch is None and number == 0 and digest in self.plain:
            return self.plain[digest]
        data = read_bytes(self.photos.root / path)
        seed, name, flip = changes.seed, digest.hex(), changes.flip
        if epoch is None:
            return view_of(data, self.preprocess, number, seed=seed, digest=name, flip=flip)
        image, key = decode(data, mode(self.preprocess)), (seed, epoch, name)
        return augments.augmented(image, self.preprocess, changes.augment, key, flip=flip)

    @cached_property
    def together(self) -> dict[str, Array]:
        """The kept photos of the parts that are kept whole, where they are small: N H W C.

        A batch of them is taken from one array, without threads.
        """
        if max(self.preprocess.shape) > SMALL:
            return {}
        found = {}
        for part, photos in (("train", self.photos.train), ("val", self.photos.val)):
            digests = [digest for _, _, digest in photos]
            if digests and all(digest in self.plain for digest in digests):
                found[part] = np.stack([self.plain[digest] for digest in digests])
                self.plain |= zip(digests, found[part], strict=True)  # in the place of copies
        return found

    def train(self, epoch: int, order: Sequence[Array]) -> Iterator[torch.Tensor]:
        self.number, changed = self.view_in(epoch)
        rows = self.together.get("train")
        plain = self.number == 0 and changed is None and self.changes.distort == "none"
        if rows is not None and plain:
            return (self.normalise(_pinned(rows[chosen], self.device)) for chosen in order)
        return self.loaded(lambda rows: self.fed(rows.tolist(), epoch), order)

    def fed(self, rows: Sequence[int], epoch: int) -> Array:
        """Return the pixels of these training rows in an epoch: uint8 N H W C."""
        number, changed = self.view_in(epoch)
        seed, kind, strength = self.changes.seed, self.changes.distort, self.changes.strength
        pixels = np.stack([self.pixels(self.photos.train[row], number, changed) for row in rows])
        return distort(pixels, rows, kind=kind, seed=seed, epoch=epoch, strength=strength)

    def view_in(self, epoch: int) -> tuple[int, int | None]:
        """Return the view's number, and the epoch where transforms take its place."""
        views, augment = self.changes.views, self.changes.augment
        number = epoch if views == 0 else (epoch - 1) % views
        return number, epoch if augment != "none" else None

    def val(self) -> Iterator[torch.Tensor]:
        size = EVAL_BATCH if max(self.preprocess.shape) <= SMALL else VAL_BATCH
        if (rows := self.together.get("val")) is not None:
            parts = (rows[at : at + size] for at in range(0, len(rows), size))
            return (self.normalise(_pinned(part, self.device)) for part in parts)
        photos = batched(self.photos.val, size)
        return self.loaded(lambda some: np.stack([self.pixels(each, 0) for each in some]), photos)

    def loaded(self, batch: Callable[[T], Array], items: Iterable[T]) -> Iterator[torch.Tensor]:
        """Yield what `batch` makes of each item in threads, normalised on the device."""

        def load(item: T) -> torch.Tensor:
            return _pinned(batch(item), self.device)

        with ThreadPoolExecutor(self.workers, "zoo-photos") as pool:
            for pixels in ordered(pool, load, items, 2 * self.workers):
                yield self.normalise(pixels)

    def pixels_of(self, split: str) -> Iterator[Array]:
        """Yield the plain views of a split in order, uint8 N H W C, in batches."""
        photos = self.photos.train if split == "train" else self.photos.val
        for some in batched(photos, EVAL_BATCH):
            yield np.stack([self.pixels(each, 0) for each in some])
