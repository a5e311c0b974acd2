"""Backbones against each other on the user's photos: one feature pass, then a solved head, each.

Only the training part is used. The val photos stay unseen while a backbone is chosen, so that the
accuracy of the fine-tune that follows is of photos that have chosen nothing; and of the fine-tune
the features are there already.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from zoo import datasets, device
from zoo.data.index import DatasetIndex, Sample, scan
from zoo.device import Device
from zoo.engine.latency import latency
from zoo.engine.open import NetworkRef, open_engine
from zoo.engine.open import Opened as Ready
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
from zoo.finetune import known_backbones, pass_time
from zoo.finetune.backbones import named, seen
from zoo.finetune.choices import mirrored
from zoo.finetune.pass_time import PassTime
from zoo.head.cross_validation import cross_validated
from zoo.head.folds import alike
from zoo.head.penalty import Search
from zoo.head.softmax_regression import Targets
from zoo.metrics import Array
from zoo.watch import Watch, check

if TYPE_CHECKING:
    from zoo.catalog.spec import Fit

TIMED = 16  # photos whose pass is timed, twice, where features are kept and its time is not


@dataclass(frozen=True, slots=True)
class Ranked:
    """A backbone with a linear head on its features, by cross-validation.

    model: as asked for. weights: their tag, or the name of their file.
    interval: half of the 95 % interval of the accuracy over the folds. ms: of the feature pass,
    for a photo, decoded and run forward; measured: when that was, in UTC. latency: milliseconds of
    one picture at a time, decoded already, on all cores. macs: multiply-adds of a picture.
    parameters: of the network with its new head, float32. best: no other is as accurate and
    faster. note: why the accuracy does not count. error: why there is none. beyond: the limit that
    it does not keep: it was not tried.
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
    measured: str = ""
    latency: float | None = None
    macs: int = 0
    forward_seconds: float = 0.0
    solve_seconds: float = 0.0
    seconds: float = 0.0
    parameters: int = 0
    licence: str = ""
    best: bool = False
    note: str = ""
    error: str = ""
    beyond: str = ""

    @property
    def standard_error(self) -> float:
        """Return that of the accuracy, over the folds."""
        count = len(self.accuracies)
        return float(np.std(self.accuracies, ddof=1)) / count**0.5 if count > 1 else 0.0


@dataclass(frozen=True, slots=True)
class Opened:
    """The part of a network before its new head, and the engine that runs it.

    row: what is known yet.
    """

    name: str
    part: NetworkRef
    ready: Ready
    row: Ranked


@dataclass(slots=True)
class Ranking:
    """The contest: which photos, how tested. bad: photos that cannot be read, with the reason.

    fit: how a photo becomes the input; None is as the weights were trained. beyond: says which
    limit a row does not keep, before a photo is looked at. timed: the latency is measured.
    """

    index: DatasetIndex
    folds: int
    seed: int
    views: int
    watch: Watch
    bad: dict[str, str] = field(default_factory=dict)
    flip: bool = True
    fit: Fit | None = None
    place: Device = field(default_factory=device.choose)
    beyond: Callable[[Ranked], str] = field(default=lambda row: "")
    timed: bool = False

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
        backbone = self.opened(model)
        if said := self.beyond(backbone.row):
            return replace(backbone.row, beyond=said)
        began = time.perf_counter()
        rows, labels, groups, timed = self.features(backbone)
        solving = time.perf_counter()
        targets = Targets(labels, len(self.index.classes), groups)
        found = cross_validated(rows, targets, Search(self.seed, self.folds), check)
        done = time.perf_counter()
        return replace(
            backbone.row,
            accuracy=found.accuracy,
            interval=found.interval,
            accuracies=found.accuracies,
            penalties=found.penalties,
            nested=found.nested,
            photos=int((found.predictions >= 0).sum()),
            features=rows.shape[1],
            ms=timed.ms,
            measured=timed.when,
            forward_seconds=solving - began,
            solve_seconds=done - solving,
        )

    def opened(self, model: str) -> Opened:
        """Find a network, cut, and open the engine of its frozen part."""
        progress = partial(self.watch.progress, f"weights of {model}")
        count = len(self.index.classes)
        found, frozen = known_backbones.find(model, count, self.seed, progress)
        preprocess = replace(found.preprocess, fit=self.fit or found.preprocess.fit)
        kind, _ = choose("auto", self.place.name, self.place.precision)
        part = found.ref(preprocess, frozen)
        ready = open_engine(part, kind, self.place)
        shape = (preprocess.height, preprocess.width, preprocess.channels)
        macs, parameters = found.per_class
        row = Ranked(
            model=model,
            weights=named(found.origin),
            latency=1000 * latency(ready, self.place.precision, shape) if self.timed else None,
            macs=found.macs + macs * count,
            parameters=found.parameters + parameters * count,
            licence=str(found.origin.get("licence", "")),
            note=seen(found.origin, found.boundary, self.index),
        )
        return Opened(found.name, part, ready, row)

    def features(self, backbone: Opened) -> tuple[Array, Array, Array, PassTime]:
        """Return rows, labels, groups of the rows of one content, and the time for a view.

        The views of a photo are side by side.
        """
        name, engine, preprocess = backbone.name, backbone.ready.engine, backbone.part.preprocess
        cache = cache_of(backbone.part, backbone.ready)
        drawn = Views(tuple(range(self.views)), self.seed, self.flip)
        work = [(sample, drawn) for sample in self.samples]
        progress = partial(self.watch.progress, f"features of {name}")

        def through(cache: FeatureCache, work: Work) -> tuple[Pass, float]:
            began = time.perf_counter()
            found = compute(cache, engine, preprocess, self.index.root, work, progress)
            return found, 1000 * (time.perf_counter() - began) / max(1, found.computed)

        found, ms = through(cache, work)
        self.leave_out(found.bad)
        kept, few = (cache.folder, self.index.root), found.computed < min(TIMED, len(found.keys))
        timed = pass_time.recall(*kept) if few else None
        if few and timed is None:
            ms = min(through(Unkept(), work[:TIMED])[1] for _ in range(2))
        timed = timed or pass_time.keep(*kept, ms)
        samples = [sample for sample in self.samples if sample.path in found.keys]
        rows = cache.rows([key for sample in samples for key in found.keys[sample.path]])
        labels = np.repeat([sample.label for sample in samples], self.views)
        groups = alike([found.keys[sample.path][0] for sample in samples], self.views)
        return rows.flat(), labels, groups, timed

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
    must_be_tested(index, data)
    return Ranking(index, folds, seed, views, watch, flip=views == 1 or mirrored(index))


def must_be_tested(index: DatasetIndex, data: str) -> None:
    """Raises DataError for photos by which no backbone can be tested."""
    if index.multilabel:
        raise DataError(
            f"{data} has several labels a photo, and backbones are ranked by one class a photo",
            f"compare runs by their mAP: `zoo finetune MODEL {shlex.quote(data)}`, "
            "then `zoo evaluate RUN RUN`",
        )
    if max(index.counts("train")) < 2:
        raise DataError(
            f"no class of {data} has two photos for training, so there is none to test on",
            "add photos to the classes",
        )


def in_order(rows: Sequence[Ranked]) -> list[Ranked]:
    """Sort by accuracy, errors last, and the best trade-offs marked."""
    counted = [row for row in rows if row.accuracy is not None and not row.note]
    marked = [replace(row, best=row in counted and not _beaten(row, counted)) for row in rows]
    return sorted(marked, key=lambda row: (bool(row.error), -(row.accuracy or 0), row.ms or 0))


def _beaten(row: Ranked, others: Sequence[Ranked]) -> bool:
    """Whether another is at least as accurate and as fast, and one of the two more."""
    mine = key(row)
    return any(
        theirs != mine and all(a <= b for a, b in zip(theirs, mine, strict=True))
        for theirs in map(key, others)
    )


def key(row: Ranked) -> tuple[float, float]:
    return -(row.accuracy or 0.0), row.ms or 0.0
