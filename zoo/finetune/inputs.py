"""What each phase is fed with: features that are computed once, or photos in each epoch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from zoo.engine.open import FORGIVEN, Opened, open_engine
from zoo.errors import ConversionError, DataError
from zoo.features.cache import FeatureCache, Features, cache_of
from zoo.features.compute import Pass, Views
from zoo.features.standardise import ScaledFeatures, Scaling
from zoo.finetune.choices import balancing
from zoo.finetune.events import FeaturesDone, Note, tell_if_alike
from zoo.finetune.facts import CutFacts
from zoo.finetune.fed import batches_of
from zoo.finetune.phases import Phase
from zoo.finetune.prepare import Prepared
from zoo.finetune.readable import check_contents, readable
from zoo.finetune.sharing import shared
from zoo.finetune.teacher import Teacher
from zoo.models.chain import first_layer
from zoo.run import Run
from zoo.train.batches import FeatureBatches, Photo, PhotoBatches, Photos
from zoo.train.distributed import SINGLE, Ranks
from zoo.train.frozen import FrozenBatches
from zoo.watch import Watch, stop

if TYPE_CHECKING:
    from torch import nn

AnyBatches = FeatureBatches | PhotoBatches | FrozenBatches
PARTS = ("train", "val", "test")


class Inputs:
    """The batches of the phases of a plan.

    index, class_weights: without the photos that cannot be read. scaling: of the features, where
    a head is trained on them in steps. digests: of the photos' content; before: those, in hex, with
    which a run began that is resumed. opened: who ran the frozen part last.
    """

    def __init__(self, prepared: Prepared, run: Run, watch: Watch, ranks: Ranks = SINGLE) -> None:
        self.prepared, self.run, self.watch, self.ranks = prepared, run, watch, ranks
        self.plan = plan = prepared.plan
        self.index, self.class_weights = plan.index, plan.class_weights
        self.scaling: Scaling | None = None
        self.digests: dict[str, bytes] = {}
        self.before: Mapping[str, str] = {}
        self.opened: Opened | None = None

    def batches(self, phase: Phase) -> AnyBatches:
        """Return the batches of a phase. Tells FeaturesDone; raises DataError, Interrupted."""
        self.scaling = None
        if self.prepared.source:
            return self.prepared.source
        if phase.whole:
            return self._photos()
        if phase.kept:
            return self._features(phase)
        photos = self._photos()
        source = FrozenBatches(photos, self._open(phase.cut).engine, self.plan.device)
        if self.plan.standardises(phase):
            self.scaling = source.scaling = Scaling.of_rows(source.some())
            tell_if_alike(self.watch, self.scaling.spread)
        return source

    def fold_scaling(self, model: nn.Module) -> None:
        """Make the head of a model take features as they are from here on."""
        if self.scaling is not None:
            self.scaling.fold(first_layer(model))  # type: ignore[arg-type]
            self.scaling = None

    def progress(self, done: int, total: int) -> None:
        """Tell how far the pass over the photos is. Raises Interrupted."""
        self.watch.progress("features", done, total)
        stop(self.watch.signal)

    # The features, once.

    def _features(self, phase: Phase) -> FeatureBatches:
        started, plan, ahead = time.perf_counter(), self.plan, self.prepared.ahead
        views_of = {"train": plan.train_views, "val": Views(), "test": Views()}
        work = [(sample, views_of[sample.split]) for sample in self.index.samples]
        opened = self._open(phase.cut)
        cache = self.cache(phase.cut, opened)
        begun = ahead if ahead and ahead.ready is opened else None
        if begun:
            begun.wait(self.progress)
            cache, started = begun.cache, time.perf_counter() - begun.seconds
        place = (opened.engine, plan.preprocess, self.index.root)
        cache, found = shared(self.ranks, cache, place, work, self.progress)
        found.computed += begun.taken() if begun else 0
        self._looked_at(found, started)
        paths = {part: [sample.path for sample in self.index.of(part)] for part in PARTS}
        keys = {part: [key for path in paths[part] for key in found.keys[path]] for part in PARTS}
        rows = {part: cache.rows(keys[part]) for part in PARTS if keys[part]}
        source = self._source(phase, rows)
        every = self.plan.standardises(phase) or phase.solved
        return source if every else source.in_turn(plan.views)

    def _source(self, phase: Phase, rows: dict[str, Features]) -> FeatureBatches:
        if self.plan.standardises(phase):
            self.scaling = Scaling.of(rows["train"])
            tell_if_alike(self.watch, self.scaling.spread)
            rows = {part: ScaledFeatures(each, self.scaling) for part, each in rows.items()}
        labels = {part: np.array(self.index.targets(part)) for part in rows}
        return FeatureBatches(
            rows["train"],
            np.repeat(labels["train"], self.plan.views, axis=0),
            rows["val"],
            labels["val"],
            self.plan.device,
            test=(rows["test"], labels["test"]) if "test" in rows else None,
        )

    def _open(self, cut: CutFacts) -> Opened:
        """Return the engine of the frozen part; tell what there is to say of it."""
        plan, part, ahead = self.plan, self.prepared.ref(cut), self.prepared.ahead
        begun = ahead and (ahead.part.key(), ahead.part.preprocess) == (part.key(), part.preprocess)
        self.watch.progress("opening the engine", 0, None)
        with self.ranks.main_first():  # a graph is made once
            if ahead and begun:
                self.opened = ahead.ready
            else:
                place = (plan.engine, plan.device, plan.recipe.workers)
                self.opened = open_engine(
                    part, *place, FORGIVEN if self.ranks.single else (ConversionError,)
                )
        if self.opened.note:
            self.run.update(engine="torch")
            self.watch.tell(Note(f"torch runs the frozen part: {self.opened.note}"))
        return self.opened

    def cache(self, cut: CutFacts, opened: Opened) -> FeatureCache:
        """Return where the features of a cut are kept that this engine gives."""
        return cache_of(self.prepared.ref(cut), opened, alone=self.ranks.single)

    # Or the photos, in every epoch.

    def _photos(self) -> PhotoBatches:
        """Decode every photo once to look at it; where views are plain, that is also the last."""
        plan, recipe = self.plan, self.plan.recipe
        (found, plain), started = self.prepared.look(self.index, self.progress)
        for bad in self.ranks.all_gather(found.bad):  # a file may fail one process alone
            found.bad |= bad
        self._looked_at(found, started)
        answers = None
        if recipe.teacher:
            teacher = Teacher.of(recipe.teacher, plan.device)
            answers, self.index = teacher.answered(self.index, plan.train_views, self.progress)
            self.run.save_index(self.index, self.digests)

        def photos(part: str) -> list[Photo]:
            pairs = zip(self.index.of(part), self.index.targets(part), strict=True)
            return [(sample.path, target, self.digests[sample.path]) for sample, target in pairs]

        source = batches_of(plan, Photos(self.index.root, *map(photos, PARTS)))
        source.plain, source.answers = plain, answers
        return source

    # What both have found out.

    def _looked_at(self, found: Pass, started: float) -> None:
        """Leave the unreadable photos out, write the index down, and tell of it."""
        try:
            self.index = readable(self.index, found.bad, self.plan.recipe.skip_unreadable)
        except DataError:
            self.run.discard()
            raise
        check_contents(self.index, found, self.before, self.run)
        self.digests = {path: keys[0][:32] for path, keys in found.keys.items()}
        self.run.save_index(self.index, self.digests)
        balance = self._balanced_anew() if found.bad else ""
        counts = {part: len(self.index.of(part)) for part in PARTS}
        self.run.update(data={**self.run.record["data"], **counts, "drawn": self.index.drawn})
        views = sum(len(keys) for keys in found.keys.values())
        seconds, cached = time.perf_counter() - started, views - found.computed
        self.watch.tell(FeaturesDone(found.computed, cached, seconds, found.bad, balance))

    def _balanced_anew(self) -> str:
        """Weigh the classes without the unreadable photos; say so where it matters."""
        kind, self.class_weights, why = balancing(self.plan.recipe, self.index)
        self.run.update(balance=[kind, why])
        return f"balance is {kind} now: {why}" if kind != self.plan.balance else ""
