"""Backbones against each other on the user's photos: one feature pass, then a solved head, each.

Only the training part is used. The val photos stay unseen while a backbone is chosen, so that the
accuracy of the fine-tune that follows is of photos that have chosen nothing; and of the fine-tune
the features are there already.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import catalog, datasets, device, weights
from zoo.data.index import DatasetIndex, Sample, scan
from zoo.engine.compiled import made_of
from zoo.engine.open import NetworkRef, open_engine, tensors_of
from zoo.engine.select import choose
from zoo.errors import (
    DataError,
    InputError,
    TrainingError,
    UnknownModel,
    UnknownStage,
    UsageError,
)
from zoo.features.cache import FeatureCache, cache_of
from zoo.features.compute import Pass, Views, Work, compute
from zoo.features.digests import contents
from zoo.finetune.choices import mirrored
from zoo.head.cross_validation import cross_validated
from zoo.head.folds import alike
from zoo.head.softmax_regression import Targets
from zoo.head.solver import Search
from zoo.metrics import Array
from zoo.models.cut import Cut, cut, feature_shape, is_linear
from zoo.run import Run
from zoo.watch import Watch, check

if TYPE_CHECKING:
    from torch import nn

    from zoo.catalog import ModelSpec
    from zoo.network import Network

TIMED = 16  # photos whose pass is timed anew, twice, where features were kept


@dataclass(frozen=True, slots=True)
class Ranked:
    """A backbone with a linear head on its features, by cross-validation.

    model: as asked for. weights: their tag, or the name of their file.
    interval: half of the 95 % interval of the accuracy over the folds. ms: of the feature pass,
    for a photo, decoded and run forward. parameters: of the network with its new head, float32.
    best: no other is as accurate and faster. note: why the accuracy does not count. error: why
    there is none.
    """

    model: str
    weights: str = ""
    accuracy: float | None = None
    interval: float | None = None
    accuracies: tuple[float, ...] = ()
    penalties: tuple[float, ...] = ()
    nested: bool = False
    photos: int = 0
    features: int = 0
    ms: float | None = None
    forward_seconds: float = 0.0
    solve_seconds: float = 0.0
    seconds: float = 0.0
    parameters: int = 0
    licence: str = ""
    best: bool = False
    note: str = ""
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class Ranking:
    """The contest: which photos, how tested. bad: photos that cannot be read, with the reason."""

    index: DatasetIndex
    folds: int
    seed: int
    views: int
    watch: Watch
    bad: dict[str, str] = field(default_factory=dict)
    flip: bool = True

    @property
    def samples(self) -> tuple[Sample, ...]:
        return self.index.of("train")

    def rows(self, models: Sequence[str]) -> Iterator[Ranked]:
        """Yield one for each model, as each is done. Raises DataError, WriteError."""
        device.tune_allocator()
        for model in models:
            started = time.perf_counter()
            try:
                row = self.ranked(model)
            except DataError:
                raise
            except (InputError, UnknownModel, UnknownStage, UsageError, TrainingError) as error:
                row = Ranked(model, error=f"{error.what} ({error.advice})")
            yield replace(row, seconds=time.perf_counter() - started)

    def ranked(self, model: str) -> Ranked:
        name, start = opened(model, self.seed)
        chain, parts = parted(start, len(self.index.classes), self.seed)
        began = time.perf_counter()
        rows, labels, groups, ms = self.features(name, start, parts)
        solving = time.perf_counter()
        targets = Targets(labels, len(self.index.classes), groups)
        found = cross_validated(rows, targets, Search(self.seed, self.folds), check)
        done = time.perf_counter()
        return Ranked(
            model=model,
            weights=named(start),
            accuracy=found.accuracy,
            interval=found.interval,
            accuracies=found.accuracies,
            penalties=found.penalties,
            nested=found.nested,
            photos=int((found.predictions >= 0).sum()),
            features=rows.shape[1],
            ms=ms,
            forward_seconds=solving - began,
            solve_seconds=done - solving,
            parameters=sum(parameter.numel() for parameter in chain.parameters()),
            licence=start.origin.get("licence", ""),
            note=seen(start, parts, self.index),
        )

    def features(self, name: str, start: Network, parts: Cut) -> tuple[Array, Array, Array, float]:
        """Rows, labels, groups of the rows of one content, and milliseconds for a view.

        The views of a photo are side by side.
        """
        place = device.choose()
        kind, _ = choose("auto", place.name, place.precision)
        made, tensors = made_of(start.row, start.variant), tensors_of(parts.frozen)
        where = (tensors, parts.boundary, start.preprocess)
        part = NetworkRef(name, made, *where, lambda: parts.frozen)
        ready = open_engine(part, kind, place)
        engine = ready.engine
        cache = cache_of(part, ready)
        drawn = Views(tuple(range(self.views)), self.seed, self.flip)
        work = [(sample, drawn) for sample in self.samples]

        def progress(done: int, total: int) -> None:
            self.watch.progress(f"features of {name}", done, total)

        def through(cache: FeatureCache, work: Work) -> tuple[Pass, float]:
            began = time.perf_counter()
            found = compute(cache, engine, start.preprocess, self.index.root, work, progress)
            return found, 1000 * (time.perf_counter() - began) / max(1, found.computed)

        found, ms = through(cache, work)
        self.leave_out(found.bad)
        if found.computed < min(TIMED, len(found.keys)):
            ms = min(through(Unkept(), work[:TIMED])[1] for _ in range(2))
        samples = [sample for sample in self.samples if sample.path in found.keys]
        rows = cache.rows([key for sample in samples for key in found.keys[sample.path]])
        labels = np.repeat([sample.label for sample in samples], self.views)
        groups = alike([found.keys[sample.path][0] for sample in samples], self.views)
        return rows.flat(), labels, groups, ms

    def leave_out(self, bad: dict[str, str]) -> None:
        if bad:
            self.index, self.bad = self.index.without(bad), {**self.bad, **bad}


class Unkept(FeatureCache):
    """In the place of a FeatureCache, for a pass that is only timed."""

    def __init__(self) -> None:
        self.keys: set[bytes] = set()

    def __contains__(self, key: bytes) -> bool:
        return key in self.keys

    def add(self, key: bytes, row: Array) -> None:
        self.keys.add(key)

    def flush(self) -> None:
        pass


def prepare(data: str, *, folds: int, seed: int, views: int, watch: Watch) -> Ranking:
    """Look at the photos. Raises DataError."""
    index = scan(datasets.locate(data), seed=seed, contents=contents)
    if index.multilabel:
        raise DataError(
            f"{data} has several labels a photo, and backbones are ranked by one class a photo",
            f"compare runs by their mAP: `zoo finetune MODEL {data}`, then `zoo evaluate RUN RUN`",
        )
    if max(index.counts("train")) < 2:
        raise DataError(
            f"no class of {data} has two photos for training, so there is none to test on",
            "add photos to the classes",
        )
    return Ranking(index, folds, seed, views, watch, flip=views == 1 or mirrored(index))


# The backbones.


def here() -> list[str]:
    """The pretrained classifiers whose weights are on this machine already."""
    from zoo.weights.inventory import items

    names = [row.name for row in pretrained() if weights.held(row.weights[0])]
    kept = [item.model for item in items() if item.state == "verified"]
    return list(dict.fromkeys([*names, *filter(catalog.of_library, kept)]))


def pretrained() -> list[ModelSpec]:
    """Return the rows of the catalogue that have weights, and give classes."""
    return [row for row in catalog.ROWS.values() if row.weights and row.task == "classify"]


def opened(model: str, seed: int) -> tuple[str, Network]:
    """MODEL, MODEL=WEIGHTS (a tag, a file, a run, none) or the folder of a run."""
    from zoo import network

    name, given, choice = model.partition("=")
    if not given and (Path(model) / "run.json").exists():
        run = Run.open(Path(model)).finished()
        return run.record["model"], network.of_run(run)
    return name, network.pretrained(name, choice if given else None, except_head=True, seed=seed)


def parted(start: Network, classes: int, seed: int) -> tuple[nn.Sequential, Cut]:
    """The network with a new linear head, cut as `zoo finetune` does it, or else at the head.

    VGG and AlexNet are cut before three dense layers, of which only the last is new.
    """
    from zoo import network
    from zoo.models.cut import before

    device.seed_all("head", seed)
    chain, spec = network.with_head(start.chain, start.spec, classes, "linear")
    chain.eval()
    parts = cut(chain, spec.cut)
    if not is_linear(parts, chain, spec.head, feature_shape(parts, start.preprocess)):
        parts = cut(chain, before(chain, spec.head))
    return chain, parts


def named(start: Network) -> str:
    tag = start.origin["tag"]
    return Path(start.origin["file"]).name if tag == "file" else str(tag)


def seen(start: Network, parts: Cut, index: DatasetIndex) -> str:
    """Whether these photos have taught the backbone more than its head."""
    if start.origin["tag"] != "run":
        return ""
    about = Run.open(Path(start.origin["file"])).finished().record
    same = about["data"]["root"] == str(index.root.absolute())
    return "was trained on these photos" if same and about.get("boundary") != parts.boundary else ""


def in_order(rows: Sequence[Ranked]) -> list[Ranked]:
    """Sort by accuracy, errors last, and the best trade-offs marked."""
    counted = [row for row in rows if not row.error and not row.note]
    marked = [replace(row, best=row in counted and not beaten(row, counted)) for row in rows]
    return sorted(marked, key=lambda row: (bool(row.error), -(row.accuracy or 0), row.ms or 0))


def beaten(row: Ranked, others: Sequence[Ranked]) -> bool:
    """Whether another is at least as accurate and as fast, and one of the two more."""
    mine = key(row)
    return any(
        theirs != mine and all(a <= b for a, b in zip(theirs, mine, strict=True))
        for theirs in map(key, others)
    )


def key(row: Ranked) -> tuple[float, float]:
    return -(row.accuracy or 0.0), row.ms or 0.0
