"""The feature pass, begun before torch is there.

Where the frozen part is compiled from an earlier run, its pass over the photos needs no torch, and
training in steps does: so the pass runs in a thread while torch is imported and the network built.
It computes nothing that the job would not: the job finds what is kept and does the rest.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np

from zoo.data.index import DatasetIndex
from zoo.device import Device
from zoo.engine.compiled import find, made_of
from zoo.engine.open import NetworkRef, Opened, open_engine
from zoo.errors import ZooError
from zoo.features.cache import cache_of
from zoo.features.compute import Progress, Views, compute
from zoo.finetune.choices import VIEWS, alone_here, budget, keeping
from zoo.finetune.facts import preprocess_of, recall, row_of
from zoo.finetune.phases import free_room, rows_of
from zoo.recipe import Recipe

if TYPE_CHECKING:
    from zoo.features.cache import FeatureCache

POLL = 0.05  # seconds


class Stopped(Exception):
    """Nobody waits for the pass any more."""


class Ahead:
    """A pass over the plain view of all photos, in a thread.

    Whatever ends it is no news: the job meets it again, where it is told.
    """

    def __init__(self, part: NetworkRef, ready: Opened, index: DatasetIndex) -> None:
        self.part, self.ready = part, ready
        self.cache: FeatureCache = cache_of(part, ready)
        self.index = index
        self.computed, self.done, self.total = 0, 0, 1
        self.seconds = 0.0
        self.given_up = False
        self.thread = threading.Thread(target=self.run, name="zoo-ahead", daemon=True)
        self.thread.start()

    def run(self) -> None:
        began = time.perf_counter()
        work = [(sample, Views()) for sample in self.index.samples]
        place = (self.part.preprocess, self.index.root)
        try:
            found = compute(self.cache, self.ready.engine, *place, work, self.count)
        except Exception:  # the job meets it again, and tells it
            return
        finally:
            self.seconds = time.perf_counter() - began
        self.computed = found.computed

    def count(self, done: int, total: int) -> None:
        if self.given_up:
            raise Stopped
        self.done, self.total = done, total

    def wait(self, progress: Progress) -> None:
        """Until the pass is over. progress may raise, and ends it."""
        try:
            while self.thread.is_alive():
                progress(self.done, self.total)
                self.thread.join(POLL)
        finally:
            self.stop()

    def taken(self) -> int:
        """Views that it has computed, told once."""
        computed, self.computed = self.computed, 0
        return computed

    def stop(self) -> None:
        """What is computed is kept."""
        self.given_up = True
        self.thread.join()


def begin(recipe: Recipe, index: DatasetIndex, device: Device, engine: str) -> Ahead | None:
    """The pass that a training in steps will ask for, where that can be told by now."""
    known = recall(recipe)
    whole = recipe.freeze and recipe.task in ("classify", "multilabel")
    anew = recipe.augment != "none" or recipe.distort != "none"
    if known is None or anew or not (whole and engine == "openvino" and alone_here(device)):
        return None
    views = recipe.views or max(VIEWS.values())
    needed = 4 * int(np.prod(known.shape)) * rows_of(index, views)
    if not keeping(needed, views, *budget(recipe, free_room()))[0]:
        return None
    made = made_of(row_of(known, recipe), recipe.variant)
    where = (known.tensors, known.boundary, preprocess_of(known, recipe))
    part = NetworkRef(recipe.model, made, *where, None)
    if find(part.key()) is None:
        return None
    try:
        return Ahead(part, open_engine(part, engine, device, recipe.workers), index)
    except (ZooError, OSError):
        return None
