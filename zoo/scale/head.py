"""A fine-tune over the features of a job: its parts are the photos and what is frozen of a network.

Classes and val photos are those that `zoo finetune` takes of the same folder. Features of more
than IN_MEMORY bytes are copied to a file, in the plan's order, and each step is a pass over it.
"""

from __future__ import annotations

import json
import os
import time
from array import array
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import cast

import numpy as np

from zoo import device, weights
from zoo.data.index import DatasetIndex, Sample
from zoo.data.split import PARTS, check_classes, rank
from zoo.disk import unfinished, writing
from zoo.engine import store
from zoo.errors import DataError, UsageError
from zoo.features.cache import Features
from zoo.finetune.choices import engine_of
from zoo.finetune.plan import Asked, Plan, plan_of
from zoo.finetune.prepare import Prepared, known_of
from zoo.head.kinds import kind_of
from zoo.head.stored import Stored
from zoo.metrics import Array
from zoo.network import Progress as Loading
from zoo.recipe import Recipe
from zoo.scale import launch, parts, team
from zoo.scale.answers import model_sha256
from zoo.scale.plan import PLAN, Photo, Settings, Shards, read
from zoo.scale.store import Store, check_installed, is_url
from zoo.scale.work import Progress
from zoo.text import size
from zoo.train.batches import FeatureBatches
from zoo.train.distributed import SINGLE, Ranks
from zoo.watch import check

IN_MEMORY = 256_000_000  # bytes of features
VAL = 10_000  # photos put aside for validation at most: they are kept at once
_NAMES = tuple(PARTS)  # train, val, test


def is_job(data: str) -> bool:
    """Return whether photos are named by the job of their features."""
    return is_url(data) or os.path.isfile(os.path.join(data, PLAN))


@dataclass(frozen=True, slots=True)
class Together:
    """Who solves a head whose features are not in memory: torchrun's ranks, or Ray."""

    ranks: Ranks = SINGLE
    ray: str | None = None  # its address


ALONE = Together()


def prepare(
    recipe: Recipe, progress: Progress, loading: Loading | None = None, who: Together = ALONE
) -> Prepared:
    """Return the plan of a fine-tune on the features of a job, with them; `with` removes the copy.

    At the end of `with` all ranks but the main one do what that one asks.

    Raises UsageError where the job has others than the head takes, IncompleteError, DataError.
    """
    check_installed()
    shards = _job(recipe)
    settings = shards.plan.settings
    recipe = _settled(recipe, settings)
    listed = _Listed.of(shards, recipe)
    with ExitStack() as closing:
        place, drawn_from = closing.enter_context(_held()), recipe
        index, found = _gathered(shards, listed, place, progress)
        recipe = replace(recipe, val_fraction=listed.fraction)
        where = device.choose(recipe.device, recipe.precision)
        engine, why = engine_of(recipe, where)
        asked = Asked(recipe, index, where, engine, {"flip": "", "engine": why})
        facts, net = known_of(asked, loading)
        prepared = Prepared(plan_of(asked, facts), net)
        _check(prepared.plan, settings, isinstance(found["train"], Stored))
        if isinstance(train := found["train"], Stored):
            if who.ray is not None:
                make = partial(_share, shards.store.place, drawn_from)
                ours = closing.enter_context(launch.together(who.ray, make))
                found["train"] = replace(train, team=ours)
            elif not who.ranks.single:
                labels = np.array(index.labels("train"))
                found["train"] = team.divided(train, labels, who.ranks, closing)
        prepared.source = _source(prepared.plan, found)
        prepared.closing = closing.pop_all()
    return prepared


@contextmanager
def _held() -> Iterator[Path]:
    """Yield a folder for features, held by this process; those of processes that died go."""
    folder = weights.cache_folder() / "solving"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for other in folder.iterdir():
            with suppress(OSError):
                if time.time() - other.stat().st_mtime > store.STALE:
                    store.remove(other)
        place = Path(mkdtemp(dir=folder))
        with unfinished(place):
            with writing(place):
                (place / store.ABOUT).touch()
            lease = store.lock(place)
            try:
                yield place
            finally:
                if lease is not None:
                    store.unlock(lease)


def _job(recipe: Recipe) -> Shards:
    """Return the shards of a job of features. Raises UsageError."""
    store = Store(recipe.data)
    shards = Shards(store, read(store))
    if shards.plan.settings.what != "features":
        raise UsageError(
            f"{recipe.data} is a job of predictions, which teach nothing",
            f"`zoo plan PHOTOS -o JOB --model {recipe.model} --what features`, then `zoo work JOB`",
        )
    return shards


def _settled(recipe: Recipe, settings: Settings) -> Recipe:
    """Return the recipe as features of plain views can be learned from. Raises UsageError."""
    usual = Recipe(model=recipe.model, data=recipe.data)
    same = ("augment", "fit", "folds", "freeze", "schedule", "seeds", "size", "teacher",
            "unfreeze")  # fmt: skip
    odd = [name for name in same if getattr(recipe, name) != getattr(usual, name)]
    odd += ["task"] * (recipe.task not in (None, "classify")) + ["views"] * (
        recipe.views not in (None, 1)
    )
    if odd:
        raise UsageError(
            f"--{odd[0].replace('_', '-')} with a job: its features are of one view of each photo",
            "leave it out, or fine-tune on the folder of the photos",
        )
    if settings.precision not in (None, "fp32"):
        raise UsageError(f"the features of {recipe.data} are {settings.precision}", "plan in fp32")
    taken = recipe.weights or settings.weights
    return replace(recipe, task="classify", views=1, flip=True, weights=taken)


def _check(plan: Plan, settings: Settings, stored: bool) -> None:
    """Raise UsageError where the features are not those that the head of the plan takes."""
    recipe, cut = plan.recipe, plan.cut
    how = f"`zoo plan PHOTOS -o JOB --model {recipe.model} --what features`"
    mine = model_sha256(replace(settings, model=recipe.model, weights=recipe.weights))
    if mine != settings.model_sha256:
        raise UsageError(
            f"the features of {recipe.data} are of {settings.model}, "
            f"{settings.model_sha256[:12]}…, and {recipe.model} is here {mine[:12]}…",
            f"name the model and --weights of the job, or make one of this model: {how}",
        )
    if json.loads(json.dumps(plan.preprocess.to_dict())) != settings.preprocess:
        raise UsageError(f"the photos of {recipe.data} were seen in another way", how)
    if settings.stage != cut.boundary or settings.width * 4 != cut.feature_bytes:
        shape = " x ".join(map(str, cut.shape))
        flat = " --flat" * (len(cut.shape) > 1)
        raise UsageError(
            f"the features of {recipe.data} are {settings.width} numbers after {settings.stage}, "
            f"and the head takes {shape} after {cut.boundary}",
            f"{how[:-1]} --stage {cut.boundary}{flat}`",
        )
    if not plan.solved_only or (stored and kind_of(recipe.head).computed):
        what = recipe.head if stored and plan.solved_only else f"--solver {plan.solver}"
        raise UsageError(
            f"{what} over a job: its head is solved for", "leave --head and --solver out"
        )


@dataclass(slots=True)
class _Listed:
    """What the plan says of the photos: of each the number of its class and of its part, -1: none.

    fraction: of those to train on put aside for val, where drawn.
    """

    root: Path
    classes: tuple[str, ...]
    labels: Array
    part: Array
    drawn: bool
    fraction: float

    @classmethod
    def of(cls, shards: Shards, recipe: Recipe) -> _Listed:
        known: dict[str, int] = {}
        codes, part, ranks = array("i"), array("b"), array("Q")
        root = Path(shards.store.place)
        for photo in _photos(shards):
            if not codes and photo.file.endswith("/" + photo.key):
                root = Path(photo.file[: -len(photo.key) - 1])
            name, label = _place(photo)
            codes.append(known.setdefault(label, len(known)) if label else -1)
            part.append(_NAMES.index(name))
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


@contextmanager
def _share(job: str, recipe: Recipe, rank: int, world: int) -> Iterator[team.Share]:
    """Yield a share of the rows of a job, of which this process makes a copy."""
    store = Store(job)
    shards = Shards(store, read(store))
    listed = _Listed.of(shards, recipe)
    with _held() as place:
        index, found = _gathered(shards, listed, place, lambda done, total: None, 0)
        train = found["train"]
        assert isinstance(train, Stored)
        yield team.Share(train, np.array(index.labels("train")), rank, world)


def _gathered(
    shards: Shards, listed: _Listed, place: Path, progress: Progress, memory: int | None = None
) -> tuple[DatasetIndex, dict[str, Array | Stored]]:
    """Copy the features into a file for each part; return the photos and the features by part.

    memory: bytes of features that are read from these files at once; IN_MEMORY where None.
    """
    memory = IN_MEMORY if memory is None else memory
    samples: dict[str, list[Sample]] = {name: [] for name in _NAMES}
    skipped, first = [], 0
    with ExitStack() as opened:
        files = [opened.enter_context((place / name).open("wb")) for name in _NAMES]
        for shard in range(shards.plan.shards):
            check()
            progress(shard, shards.plan.shards)
            why, rows = _rows(shards, shard)
            there = np.array([error is None for error in why])
            mine = np.where(there, listed.part[first : first + len(why)], -1)
            for number, file in enumerate(files):
                with writing(place):
                    file.write(rows[(mine == number)[there]].data)
            for at, photo in enumerate(shards.photos(shard)):
                if mine[at] < 0:
                    skipped.append((photo.key, why[at] or "its place says no class"))
                else:
                    part, label = _NAMES[mine[at]], int(listed.labels[first + at])
                    samples[part].append(Sample(photo.key, label, part, photo.size or 0))
            first += len(why)
    shapes = {name: (len(some), shards.plan.settings.width) for name, some in samples.items()}
    features: dict[str, Array | Stored] = {
        name: Stored(place / name, shape) for name, shape in shapes.items() if shape[0]
    }
    for name in ("train", "val"):
        if name not in features:
            raise DataError(f"{shards.store.place} has no {name} photo", "plan over more photos")
    needed = sum(4 * rows * columns for rows, columns in shapes.values())
    how = f"{size(needed)} of features, in memory"
    if needed > memory:
        how = f"{size(needed)} of features, more than {size(memory)}: each step reads them anew"
    else:
        features = {name: each[:] for name, each in features.items()}
    every = (sample for name in _NAMES for sample in samples[name])
    about = (listed.root, listed.classes, tuple(every), tuple(skipped), (how,))
    index = DatasetIndex(*about, source=Path(shards.store.place), drawn=listed.drawn)
    return index, features


def _rows(shards: Shards, shard: int) -> tuple[list[str | None], Array]:
    """Return of each row why it has no features, and the others' features. IncompleteError."""
    table = parts.needed(shards, shard, ["error", "features"])
    column = table.column("features").combine_chunks()
    errors = table.column("error").to_pylist()
    there = column.is_valid().to_pylist()
    values = column.drop_null().flatten().to_numpy(zero_copy_only=False)
    rows = np.ascontiguousarray(values.reshape(-1, shards.plan.settings.width), np.float32)
    return [None if ok else error or "?" for ok, error in zip(there, errors, strict=True)], rows


class _Whole(Features):
    """The features of a part, as one array or file."""

    def __init__(self, rows: Array | Stored) -> None:
        self.whole, self.shape = rows, rows.shape[1:]

    def __len__(self) -> int:
        return len(self.whole)

    def flat(self) -> Array:
        return cast(Array, self.whole)  # a file is cut into pieces as an array is


def _source(plan: Plan, found: dict[str, Array | Stored]) -> FeatureBatches:
    rows = {name: _Whole(each) for name, each in found.items()}
    labels = {name: np.array(plan.index.labels(name)) for name in rows}
    test = (rows["test"], labels["test"]) if "test" in rows else None
    own = (rows["train"], labels["train"], rows["val"], labels["val"])
    return FeatureBatches(*own, plan.device, test=test)
