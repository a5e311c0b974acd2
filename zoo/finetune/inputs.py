"""Gathering what the trained part is fed with: the feature pass, or the scan of the photos."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from zoo.catalog import Preprocess
from zoo.data import heard
from zoo.data.decode import read_bytes
from zoo.data.index import DatasetIndex, Sample
from zoo.data.views import view_of
from zoo.engine import Array, Engine
from zoo.engine.open import FORGIVEN, Opened, open_engine
from zoo.engine.pipeline import batched, ordered
from zoo.errors import CacheError, ConversionError, DataError, ImageError, Interrupted, RunError
from zoo.features.cache import FeatureCache, Features, cache_of, memory
from zoo.features.compute import Pass, Views, compute
from zoo.features.standardise import ScaledFeatures, Scaling
from zoo.finetune.choices import balancing
from zoo.finetune.events import Event, FeaturesDone, Note, Watch
from zoo.finetune.phases import Phase
from zoo.machine import cores
from zoo.models.cut import Cut
from zoo.run import Run
from zoo.train.batches import FeatureSource, Photo, PhotoSource, PrefixSource
from zoo.train.distributed import ALONE, Team

if TYPE_CHECKING:
    from zoo.finetune.plan import Plan

UNREADABLE = 0.1  # share of the photos that may be left out without a word of the user's
AnySource = FeatureSource | PhotoSource | PrefixSource


class Gather:
    """Looks at every photo, writes down what cannot be read, and makes the sources of the phases.

    index, class_weights: without the photos that cannot be read. scaling: of the features, where
    a head is trained on them in steps. digests: of the photos' content; before: those, in hex, with
    which a run began that is resumed. prefix: who ran the frozen part last.
    """

    def __init__(self, plan: Plan, run: Run, watch: Watch, team: Team = ALONE) -> None:
        self.plan, self.run, self.watch, self.team = plan, run, watch, team
        self.index: DatasetIndex = plan.index
        self.class_weights = plan.class_weights
        self.scaling: Scaling | None = None
        self.digests: dict[str, bytes] = {}
        self.before: dict[str, str] = {}
        self.prefix: Opened | None = None

    def source(self, phase: Phase) -> Generator[Event, None, AnySource]:
        self.scaling = None
        if phase.parts is None:
            return (yield from self.photos())
        if self.plan.known is None:
            phase.parts.freeze()
        if phase.kept:
            return (yield from self.features(phase, phase.parts))
        photos = yield from self.photos()
        source = PrefixSource(photos, (yield from self.ready(phase.parts)).engine, self.plan.device)
        if self.plan.scales and phase is self.plan.phases[0]:
            self.scaling = Scaling.of_rows(source.some())
            source.scaling = self.scaling
        return source

    def progress(self, done: int, total: int) -> None:
        self.watch.progress("features", done, total)
        self.stop_if_asked()

    def stop_if_asked(self, asked: int | None = None) -> None:
        """asked: the signal, where it is not that of this process but what all have agreed on."""
        signal = self.watch.signal if asked is None else asked
        if signal:
            raise Interrupted("interrupted", "run it again", signal)

    # The features, once.

    def features(self, phase: Phase, cut: Cut) -> Generator[Event, None, FeatureSource]:
        started = time.perf_counter()
        plan = self.plan
        views = Views(tuple(range(plan.views)), plan.view_seed, bool(plan.recipe.flip))
        splits = {"train": views, "val": Views(), "test": Views()}
        work = [(sample, splits[sample.split]) for sample in self.index.samples]
        ready = yield from self.ready(cut)
        cache = self.cache(cut, ready)
        if cache.note:
            yield Note(cache.note)
        begun = plan.ahead if plan.ahead and plan.ahead.ready is ready else None
        if begun:
            begun.wait(self.progress)
            cache, started = begun.cache, time.perf_counter() - begun.seconds
        cache, found = self.computed(cache, ready.engine, work)
        found.computed += begun.taken() if begun else 0
        yield from self.scanned(found, started)
        parts: dict[str, Features] = {}
        for part in ("train", "val", "test"):
            keys = [key for sample in self.index.of(part) for key in found.keys[sample.path]]
            if keys:
                parts[part] = cache.rows(keys)
        if plan.scales and phase is plan.phases[0]:
            self.scaling = Scaling.of(parts["train"])
            parts = {part: ScaledFeatures(rows, self.scaling) for part, rows in parts.items()}
        source = FeatureSource(
            parts["train"],
            np.repeat(np.array(self.index.targets("train")), plan.views, axis=0),
            parts["val"],
            np.array(self.index.targets("val")),
            plan.device,
            test=(parts["test"], np.array(self.index.targets("test"))) if "test" in parts else None,
        )
        every = phase is plan.phases[0] and (plan.scales or phase.solved)
        return source if every else source.in_turn(plan.views)

    def ready(self, cut: Cut) -> Generator[Event, None, Opened]:
        """The engine of the frozen part; what there is to say of it."""
        with self.team.in_turn():  # a graph is made once
            plan, part = self.plan, self.plan.part(cut)
            if plan.ahead and (plan.ahead.part.key(), plan.ahead.part.preprocess) == (
                part.key(),
                part.preprocess,
            ):
                ready = plan.ahead.ready
            else:
                place = (plan.engine, plan.device, plan.recipe.workers)
                ready = open_engine(
                    part, *place, FORGIVEN if self.team.alone else (ConversionError,)
                )
        self.prefix = ready
        if ready.note:
            self.run.update(engine="torch")
            yield Note(f"torch runs the frozen part: {ready.note}")
        return ready

    def computed(
        self, cache: FeatureCache, engine: Engine, work: Sequence[tuple[Sample, Views]]
    ) -> tuple[FeatureCache, Pass]:
        """The pass over all of the work, and the cache with what it gave.

        Each process of a team does the part of the list that its number says, whatever of it is
        there already: the list is the same for all, and stays.
        """
        team, place = self.team, (self.plan.preprocess, self.index.root)
        own = work[team.rank :: team.world]
        found = compute(cache, engine, *place, own, self.progress)
        if team.alone:
            return cache, found
        digests = [found.keys[s.path][0][:32].hex() if s.path in found.keys else "" for s, _ in own]
        whole = Pass()
        for rank, said in enumerate(team.everyone([digests, found.bad, found.computed])):
            whole.bad |= said[1]
            whole.computed += said[2]
            for (sample, views), digest in zip(work[rank :: team.world], said[0], strict=True):
                if digest:
                    key = bytes.fromhex(digest)
                    whole.keys[sample.path] = [views.key(key, each) for each in views.numbers]
        cache = FeatureCache(cache.folder, {})
        if any(key not in cache for keys in whole.keys.values() for key in keys):
            raise CacheError(
                f"{cache.folder} has not got what the other processes have computed",
                "set ZOO_CACHE to a folder that all machines share",
            )
        return cache, whole

    def cache(self, cut: Cut, ready: Opened) -> FeatureCache:
        return cache_of(self.plan.part(cut), ready, alone=self.team.alone)

    def scanned(self, found: Pass, started: float) -> Iterator[Event]:
        """Leaves the unreadable photos out and writes the index down."""
        try:
            readable = self.index.without(found.bad)
            if not readable.of("val"):
                reason = next(iter(found.bad.values()))
                raise DataError(f"no photo for validation can be read ({reason})", "replace them")
            if not self.plan.recipe.skip_unreadable:
                check_readable(self.index, found.bad)
            self.index = readable
        except DataError:
            self.run.discard()
            raise
        self.check_contents(found)
        self.digests = {path: keys[0][:32] for path, keys in found.keys.items()}
        self.run.save_index(self.index, self.digests)
        balance = self.balanced_anew() if found.bad else ""
        counts = {split: len(self.index.of(split)) for split in ("train", "val", "test")}
        about = {**self.run.record["data"], **counts, "drawn": self.index.drawn}
        self.run.update(data=about)
        views = sum(len(keys) for keys in found.keys.values())
        seconds = time.perf_counter() - started
        yield FeaturesDone(found.computed, views - found.computed, seconds, found.bad, balance)

    def check_contents(self, found: Pass) -> None:
        """Raises RunError where a photo has not the content that it had when the run began."""
        now = {path: keys[0][:32].hex() for path, keys in found.keys.items()}
        inside = tuple(f"{path}#" for path, _ in self.index.containers)  # known by their files
        other = [path for path, digest in self.before.items() if now.get(path) != digest]
        new = [path for path in now if path not in self.before and not path.startswith(inside)]
        if self.before and (changed := [*other, *new]):
            more = f", and {len(changed) - 1:,} more" if len(changed) > 1 else ""
            raise RunError(
                f"{changed[0]} has other content than when {self.run.folder} began{more}",
                "put back what was there, or start a new run: cached features make it quick",
            )

    def balanced_anew(self) -> str:
        """The weights of the classes without the unreadable photos; says so where it matters."""
        kind, self.class_weights, why = balancing(self.plan.recipe, self.index)
        self.run.update(balance=[kind, why])
        return f"balance is {kind} now: {why}" if kind != self.plan.balance else ""

    # Or the photos, in every epoch.

    def photos(self) -> Generator[Event, None, PhotoSource]:
        """Decodes every photo once as the scan; where views are plain, that is also the last."""
        pass

        started, plan = time.perf_counter(), self.plan
        found, digests, plain = scan_photos(
            self.index,
            plan.preprocess,
            keep_train=plan.views == 1,
            workers=plan.recipe.workers,
            progress=self.progress,
        )
        for bad in self.team.everyone(found.bad):  # a file may fail one process alone
            found.bad |= bad
        yield from self.scanned(found, started)

        def photos(split: str) -> list[Photo]:
            pairs = zip(self.index.of(split), self.index.targets(split), strict=True)
            return [(sample.path, target, digests[sample.path]) for sample, target in pairs]

        source = PhotoSource(
            self.index.root,
            photos("train"),
            photos("val"),
            plan.preprocess,
            plan.device,
            test=photos("test"),
            views=plan.views,
            seed=plan.view_seed,
            flip=bool(plan.recipe.flip),
            distortion=(plan.recipe.distort, plan.recipe.distort_strength),
            augment=plan.recipe.augment,
            workers=plan.recipe.workers,
        )
        source.plain = plain
        return source


def check_readable(index: DatasetIndex, bad: dict[str, str]) -> None:
    """Raises DataError where so many photos cannot be read that something is wrong with them."""
    if len(bad) <= UNREADABLE * len(index.samples):
        return
    names = "; ".join(f"{path}: {reason}" for path, reason in list(bad.items())[:3])
    more = f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
    raise DataError(
        f"{len(bad)} of {len(index.samples)} photos cannot be read, more than "
        f"{100 * UNREADABLE:g} % ({names}{more})",
        "copy or convert them again, or train on the others with --skip-unreadable",
    )


AT_ONCE = 16  # photos a thread is given: small ones are decoded faster than they are handed over


def scan_photos(
    index: DatasetIndex,
    preprocess: Preprocess,
    *,
    keep_train: bool,
    progress: Callable[[int, int], None],
    workers: int | None = None,
) -> tuple[Pass, dict[str, bytes], dict[bytes, Array]]:
    """Which photos are readable, their digests, and the plain views that fit in memory.

    workers: threads that decode; all cores where it is None.
    """

    def look(sample: Sample) -> tuple[Sample, bytes, Array | ImageError]:
        try:
            path = os.path.join(index.root, sample.path)
            data = read_bytes(path)
            with heard.photo(path):
                return sample, hashlib.sha256(data).digest(), view_of(data, preprocess)
        except ImageError as error:
            return sample, b"", error

    def look_at(samples: list[Sample]) -> list[tuple[Sample, bytes, Array | ImageError]]:
        return [look(sample) for sample in samples]

    found, digests, plain = Pass(), {}, {}
    room = memory() // 4
    workers = workers or cores()
    with ThreadPoolExecutor(workers, "zoo-scan") as pool:
        looked = ordered(pool, look_at, batched(index.samples, AT_ONCE), 4 * workers)
        each = (result for results in looked for result in results)
        for done, (sample, digest, pixels) in enumerate(each, start=1):
            progress(done, len(index.samples))
            if isinstance(pixels, ImageError):
                found.bad[sample.path] = str(pixels)
                continue
            found.computed += 1
            found.keys[sample.path] = [digest]
            digests[sample.path] = digest
            if (keep_train or sample.split == "val") and room > pixels.nbytes:
                room -= pixels.nbytes
                plain[digest] = pixels
    return found, digests, plain
