"""What the network is fed: some photos with the very pixels that training makes of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zoo.data.decode import decode, read_bytes
from zoo.data.index import DatasetIndex
from zoo.data.preprocess import box
from zoo.data.samples import Sample, evenly
from zoo.errors import ImageError
from zoo.finetune.plan import Plan
from zoo.metrics import Array
from zoo.train.batches import Changes, PhotoBatches, Photos

PHOTOS, COLUMNS = 10, 8  # at most
LARGE = 512  # pixels of a photo's longer side here

Column = Callable[[int], Array]  # the row of a training photo -> its pixels


@dataclass(frozen=True, slots=True)
class FedPhoto:
    """One training photo, uint8 H x W x 3, upright and made smaller, and what is fed of it.

    frame: what the plain view sees, as shares of its width and height: left, upper, right, lower.
    inputs: uint8 S x S x C, one for each column. error: why there is none of these.
    """

    path: str
    label: str
    photo: Array | None = None
    frame: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    inputs: tuple[Array, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Fed:
    """columns: what each picture of a row is. after: what is done to them later, undrawn."""

    columns: tuple[str, ...]
    photos: tuple[FedPhoto, ...]
    after: str


def look(plan: Plan) -> Fed:
    """Return training photos from all over the plan's list, as its first phase is fed them."""
    train = plan.index.of("train")
    rows = evenly(range(len(train)), PHOTOS)
    contents = {row: _content(plan.index, train[row]) for row in rows}
    digests = {row: hashlib.sha256(data).digest() for row, data in contents.items()
               if isinstance(data, bytes)}  # fmt: skip
    photos = [(sample.path, 0, digests.get(row, b"")) for row, sample in enumerate(train)]
    source = batches_of(plan, Photos(plan.index.root, photos, ()))
    named = columns(plan, source)
    shown = [_photo(plan, train[row], contents[row], row, [one for _, one in named])
             for row in rows]  # fmt: skip
    mixing = [f"--{name}" for name in ("mixup", "cutmix") if getattr(plan.recipe, name)]
    after = f"{' and '.join(mixing)} then mix them with others of their batch" if mixing else ""
    return Fed(tuple(name for name, _ in named), tuple(shown), after)


def columns(plan: Plan, source: PhotoBatches) -> list[tuple[str, Column]]:
    """Return what a photo is fed as: its views, or what it is in the first epochs."""

    def numbered(number: int) -> Column:
        return lambda row: source.pixels(source.photos.train[row], number)

    def in_epoch(epoch: int) -> Column:
        return lambda row: source.fed([row], epoch)[0]

    first, recipe = plan.phases[0], plan.recipe
    plain = [("plain view", numbered(0))]
    if first.kept and not first.whole:
        return plain + [(f"view {number}", numbered(number))
                        for number in range(1, min(plan.views, COLUMNS))]  # fmt: skip
    if plan.views == 1 and recipe.augment == "none" and recipe.distort == "none":
        return plain
    again = plan.views if plan.views and recipe.distort == "none" else recipe.epochs
    last = min(again, recipe.epochs, COLUMNS - 1)
    return plain + [(f"epoch {epoch}", in_epoch(epoch)) for epoch in range(1, last + 1)]


def batches_of(plan: Plan, photos: Photos) -> PhotoBatches:
    """Return the batches of photos that change from epoch to epoch as the plan says."""
    recipe = plan.recipe
    changes = Changes(
        views=plan.views,
        seed=plan.view_seed,
        flip=bool(recipe.flip),
        distort=recipe.distort,
        strength=recipe.distort_strength,
        augment=recipe.augment,
    )
    return PhotoBatches(photos, plan.preprocess, changes, plan.device, recipe.workers)


def _content(index: DatasetIndex, sample: Sample) -> bytes | ImageError:
    try:
        return read_bytes(index.root / sample.path)
    except ImageError as error:
        return error


def _photo(
    plan: Plan, sample: Sample, data: bytes | ImageError, row: int, drawn: Sequence[Column]
) -> FedPhoto:
    """Return a photo with its inputs, or with why there are none."""
    import numpy as np

    numbers = sample.labels if plan.index.multilabel else (sample.label,)
    classes = plan.index.classes
    label = ", ".join(classes[number] for number in numbers if classes)
    if isinstance(data, ImageError):
        return FedPhoto(sample.path, label, error=str(data))
    try:
        image = decode(data)
        inputs = tuple(column(row) for column in drawn)
    except ImageError as error:
        return FedPhoto(sample.path, label, error=str(error))
    width, height = image.size
    left, upper, right, lower = box(width, height, plan.preprocess)
    frame = (left / width, upper / height, right / width, lower / height)
    image.thumbnail((LARGE, LARGE))
    return FedPhoto(sample.path, label, np.asarray(image), frame, inputs)
