"""The photos of a job as a fine-tune takes them: their classes, and which of them are for what."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from zoo.data.index import DatasetIndex, Sample
from zoo.data.split import PARTS, check_classes, rank
from zoo.errors import DataError
from zoo.metrics import Array
from zoo.recipe import Recipe
from zoo.scale import parts
from zoo.scale.plan import Photo, Shards
from zoo.watch import Progress, check

VAL = 10_000  # photos put aside for validation at most: they are kept at once
NAMES = tuple(PARTS)  # train, val, test


@dataclass(slots=True)
class Listed:
    """What the plan says of the photos: of each the number of its class and of its part, -1: none.

    fraction: of those to train on put aside for val, where drawn. training: how many photos each
    shard has to train on, once `index` has looked which have features.
    """

    root: Path
    classes: tuple[str, ...]
    labels: Array
    part: Array
    drawn: bool
    fraction: float
    training: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, shards: Shards, recipe: Recipe) -> Listed:
        known: dict[str, int] = {}
        codes, part, ranks = array("i"), array("b"), array("Q")
        root = Path(shards.store.place)
        for photo in _photos(shards):
            if not codes and photo.file.endswith("/" + photo.key):
                root = Path(photo.file[: -len(photo.key) - 1])
            name, label = _place(photo)
            codes.append(known.setdefault(label, len(known)) if label else -1)
            part.append(NAMES.index(name))
            ranks.append(int.from_bytes(rank(recipe.seed, photo.key)[:8]))
        classes = tuple(sorted(known))
        check_classes(Path(recipe.data), classes, "the job must be of class folders")
        order = np.array([*(classes.index(name) for name in known), -1], np.int32)
        labels = order[np.frombuffer(codes, np.int32)]
        parts = np.where(labels < 0, -1, np.frombuffer(part, np.int8)).astype(np.int8)
        found = cls(root, classes, labels, parts, not (parts == 1).any(), recipe.val_fraction)
        if found.drawn:
            found._draw(np.frombuffer(ranks, np.uint64))
        return found

    def _draw(self, ranks: Array) -> None:
        """Put a share of each class aside, as `zoo.data.split` does, but no more than VAL."""
        train = np.flatnonzero(self.part == 0)
        self.fraction = min(self.fraction, VAL / max(1, len(train)))
        order = train[np.lexsort((ranks[train], self.labels[train]))]
        for mine in np.split(order, np.flatnonzero(np.diff(self.labels[order])) + 1):
            many = min(len(mine) - 1, max(1, round(self.fraction * len(mine))))
            self.part[mine[:many]] = 1

    def index(self, shards: Shards, progress: Progress) -> DatasetIndex:
        """Return the photos that have features; the others are in no part from here on.

        Raises IncompleteError, and DataError where none is left to train on, or for validation.
        """
        samples: dict[str, list[Sample]] = {name: [] for name in NAMES}
        skipped, first = [], 0
        self.training = []
        for shard in range(shards.plan.shards):
            check()
            progress(shard, shards.plan.shards)
            table = parts.needed(shards, shard, ["status", "error"])
            why = table.select(["status", "error"]).to_pylist()
            for at, (photo, row) in enumerate(zip(shards.photos(shard), why, strict=True), first):
                if row["status"] != "ok":
                    self.part[at] = -1
                if self.part[at] < 0:
                    skipped.append((photo.key, row["error"] or "its place says no class"))
                else:
                    part, label = NAMES[self.part[at]], int(self.labels[at])
                    samples[part].append(Sample(photo.key, label, part, photo.size or 0))
            self.training.append(int((self.part[first : first + len(why)] == 0).sum()))
            first += len(why)
        for name in ("train", "val"):
            if not samples[name]:
                raise DataError(
                    f"{shards.store.place} has no {name} photo", "plan over more photos"
                )
        every = tuple(sample for name in NAMES for sample in samples[name])
        about = (self.root, self.classes, every, tuple(skipped))
        return DatasetIndex(*about, source=Path(shards.store.place), drawn=self.drawn)

    def parts_to_train_on(self) -> Array:
        """Return the part that each photo to train on lies in, of those that have one."""
        counts = np.array([many for many in self.training if many])
        return np.repeat(np.arange(len(counts)), counts)


def _photos(shards: Shards) -> Iterator[Photo]:
    for shard in range(shards.plan.shards):
        check()
        yield from shards.photos(shard)


def _place(photo: Photo) -> tuple[str, str]:
    """Return the part of a photo, train where its place says none, and its class."""
    folder, _, rest = photo.key.partition("/")
    inside = [name for name, words in PARTS.items() if folder.casefold() in words and "/" in rest]
    part = inside[0] if inside else "train"
    return part, rest.partition("/")[0] if part == "test" else photo.label
