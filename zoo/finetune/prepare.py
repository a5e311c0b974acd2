"""What a job needs beside its plan: the network, and a pass over the photos that has begun.

Where the network is known from an earlier run and its frozen part compiled, the pass over the
photos needs no torch, and training in steps does: so the pass runs in a thread while torch is
imported and the network built. So does the look at every photo where all of a network is trained.
It computes nothing that the job would not: the job finds what is there and does the rest.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from zoo.data.index import DatasetIndex
from zoo.engine import Array
from zoo.engine.compiled import Compiled, find, made_of
from zoo.engine.open import NetworkRef, Opened, open_engine
from zoo.errors import ZooError
from zoo.features.cache import FeatureCache, cache_of
from zoo.features.compute import Pass, Progress, Views, compute
from zoo.features.scan import scan
from zoo.finetune import catalogued, kept_facts, text_rows
from zoo.finetune.asked import Asked, look
from zoo.finetune.facts import CutFacts, NetworkFacts
from zoo.finetune.phases import Phase
from zoo.finetune.plan import Plan, plan_of
from zoo.finetune.teacher import Teacher
from zoo.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

    from zoo.models.cut import Cut
    from zoo.network import Network
    from zoo.network import Progress as Loading
    from zoo.train.batches import FeatureBatches
    from zoo.weights import TextTower

POLL = 0.05  # seconds


def prepare(recipe: Recipe, progress: Loading | None = None, begin: bool = False) -> Prepared:
    """Return the plan, with the network where it had to be built to be known.

    begin: the pass over the photos may begin; `with` ends it. Raises any of the input errors.
    """
    began = time.perf_counter()
    asked = look(recipe, progress)
    known, net = known_of(asked, progress)
    prepared = Prepared(plan_of(asked, known), net, began=began)
    if asked.recipe.head == "text":
        prepared.tower = text_rows.tower_of(asked.recipe, known, progress)
        named = replace(asked.recipe, text=prepared.tower.source)  # holds in any working directory
        prepared.plan = replace(prepared.plan, recipe=named)
    if recipe.teacher:
        prepared.about["teacher"] = Teacher.of(recipe.teacher).record(recipe, asked.index)
    if begin and net is None:
        prepared.ahead = _begun(prepared)
        if prepared.uses_graph_alone:
            key, pool = prepared.ref(prepared.plan.cut).key(), ThreadPoolExecutor(1, "zoo-graph")
            prepared.graph = pool.submit(find, key, state=True)
        if _looks_first(prepared.plan):
            prepared.looked = Looked(prepared.plan)
    return prepared


def known_of(asked: Asked, progress: Loading | None) -> tuple[NetworkFacts, Network | None]:
    """Return what is known of the network, and it where it had to be built for that."""
    classes = len(asked.index.classes)
    net: Network | None = None
    known = kept_facts.recall(asked.recipe, classes)
    if known is None and (read := catalogued.recall(asked.recipe)) is not None:
        known, source = read
        kept_facts.keep(known, asked.recipe, classes, source)
    if known is None:
        from zoo.finetune.examine import examine

        known, net = examine(asked.recipe, classes, progress)
        kept_facts.keep(known, asked.recipe, classes, net.source)
    return known, net


@dataclass(slots=True)
class Prepared:
    """A plan and what goes with it. built: None until somebody needs it, see `network`.

    graph: of the frozen part, looked for in a thread. tower: of the texts, where the head is
    text. about: what run.json says besides the plan. source: the features, where they were
    computed elsewhere. closing: what is done with when `with` ends. began: when the photos were
    looked at first, by `time.perf_counter`: from there on the seconds of the run count.
    """

    plan: Plan
    built: Network | None = None
    ahead: Ahead | None = None
    looked: Looked | None = None
    graph: Future[Compiled | None] | None = None
    tower: TextTower | None = None
    about: dict[str, object] = field(default_factory=dict)
    source: FeatureBatches | None = None
    closing: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    began: float = field(default_factory=time.perf_counter)
    begun: bool = False  # the last layer's bias is set, for several labels

    def network(self) -> Network:
        """Return the network to train, in eval mode; it is built once."""
        plan = self.plan
        if self.built is None:
            from zoo.finetune.examine import build

            _, self.built = build(plan.recipe, len(plan.index.classes))
        if plan.recipe.task == "multilabel" and not self.begun:
            from zoo.train import losses

            losses.begin(self.built.chain, plan.facts.head, plan.index, plan.class_weights)
        self.begun = True
        return self.built

    def parts(self, cut: CutFacts) -> Cut:
        """Return the two parts of the network, the frozen one frozen."""
        from zoo.models.cut import cut as divide

        assert cut.name is not None, "nothing is frozen"
        parts = divide(self.network().chain, cut.name)
        parts.freeze()
        return parts

    def trained(self, phase: Phase) -> nn.Sequential:
        """Return what a phase trains."""
        from zoo.finetune.examine import training_chain

        if not phase.whole:
            return self.parts(phase.cut).trainable
        net = self.network()
        net.chain.requires_grad_(True)
        return training_chain(net, len(self.plan.index.classes), self.plan.recipe.seed)

    def ref(self, cut: CutFacts) -> NetworkRef:
        """Return the frozen part of a cut, for an engine; without the chain until it is built."""
        plan = self.plan
        made = made_of(plan.facts.row, plan.facts.variant)
        chain = self.parts(cut).frozen if self.built else None
        build = None if chain is None else lambda: chain
        where = (plan.recipe.model, made, cut.tensors, cut.boundary, plan.preprocess)
        return NetworkRef(*where, build)

    def look(self, index: DatasetIndex, progress: Progress) -> tuple[Found, float]:
        """Return what a look at every photo has found, and when it began."""
        started = time.perf_counter()
        if self.looked and (found := self.looked.taken(index, progress)):
            return found, time.perf_counter() - self.looked.seconds
        return _look_at_all(self.plan, index, progress), started

    def settle(self) -> None:
        """Build the network where the job needs it: to train it, or to compile its frozen part.

        Raises UsageError where texts are of another image tower.
        """
        if self.tower is not None:
            text_rows.check_same(self.tower, self.network().chain, self.plan.recipe.model)
        if self.uses_graph_alone:
            part = self.ref(self.plan.cut)
            there = self.graph.result() if self.graph else find(part.key(), state=True)
            if there or catalogued.compile_frozen(part, self.plan.recipe):
                catalogued.forget()
                return
        catalogued.forget()
        self.network()

    @property
    def uses_graph_alone(self) -> bool:
        """Whether nothing takes torch, once there is a graph of the frozen part."""
        return self.plan.solved_only and self.graph_is_used

    @property
    def graph_is_used(self) -> bool:
        """Whether this process, the only one, runs the frozen part without torch."""
        place = self.plan.device
        return self.plan.engine == "openvino" and place.is_cpu and "RANK" not in os.environ

    def __enter__(self) -> Prepared:
        return self

    def __exit__(self, *_: object) -> None:
        """End what has begun; what it has computed is kept."""
        for begun in (self.ahead, self.looked):
            if begun:
                begun.stop()
        self.closing.close()


def _begun(prepared: Prepared) -> Ahead | None:
    """Return the pass that a training in steps will ask for, begun, where that can be told."""
    plan = prepared.plan
    if plan.solved_only or not (plan.phases[0].kept and prepared.graph_is_used):
        return None
    part = prepared.ref(plan.cut)
    if find(part.key()) is None:
        return None
    try:
        return Ahead(
            part, open_engine(part, plan.engine, plan.device, plan.recipe.workers), plan.index
        )
    except (ZooError, OSError):
        return None


class Stopped(Exception):
    """Nobody waits for the pass any more."""


class _Beside:
    """What runs over the photos in a thread.

    Whatever ends it is no news: the job meets it again, where it is told.
    """

    def __init__(self, index: DatasetIndex) -> None:
        self.index = index
        self.done, self.total = 0, 1
        self.seconds = 0.0
        self.given_up = False
        self.thread = threading.Thread(target=self._run, name="zoo-ahead", daemon=True)

    def work(self) -> None:
        raise NotImplementedError

    def _run(self) -> None:
        began = time.perf_counter()
        with contextlib.suppress(Exception):  # the job meets it again, and tells it
            self.work()
        self.seconds = time.perf_counter() - began

    def count(self, done: int, total: int) -> None:
        if self.given_up:
            raise Stopped
        self.done, self.total = done, total

    def wait(self, progress: Progress) -> None:
        """Wait until it is over. progress may raise, and ends it."""
        try:
            while self.thread.is_alive():
                progress(self.done, self.total)
                self.thread.join(POLL)
        finally:
            self.stop()

    def stop(self) -> None:
        """What is computed is kept."""
        self.given_up = True
        self.thread.join()


class Ahead(_Beside):
    """A pass over the plain view of all photos."""

    def __init__(self, part: NetworkRef, ready: Opened, index: DatasetIndex) -> None:
        super().__init__(index)
        self.part, self.ready = part, ready
        self.cache: FeatureCache = cache_of(part, ready)
        self.computed = 0
        self.thread.start()

    def work(self) -> None:
        work = [(sample, Views()) for sample in self.index.samples]
        place = (self.part.preprocess, self.index.root)
        self.computed = compute(self.cache, self.ready.engine, *place, work, self.count).computed

    def taken(self) -> int:
        """Return how many views it has computed, told once."""
        computed, self.computed = self.computed, 0
        return computed


def _looks_first(plan: Plan) -> bool:
    """Return whether a job begins with a look at every photo, and is alone to do it."""
    return plan.phases[0].whole and "RANK" not in os.environ


Found = tuple[Pass, dict[bytes, Array]]


class Looked(_Beside):
    """A look at every photo, for a network that is trained from the pixels."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan.index)
        self.plan = plan
        self.found: Found | None = None
        self.thread.start()

    def work(self) -> None:
        self.found = _look_at_all(self.plan, self.index, self.count)

    def taken(self, index: DatasetIndex, progress: Progress) -> Found | None:
        """Return what it has found, once, where it is these photos that it looked at."""
        if index is not self.index:
            return None
        self.wait(progress)
        found, self.found = self.found, None
        return found


def _look_at_all(plan: Plan, index: DatasetIndex, progress: Progress) -> Found:
    """Return what `scan` does; the plain views that are used again in each epoch are kept."""
    keep = ("train", "val") if plan.views == 1 else ("val",)
    return scan(index, plan.preprocess, keep, progress, plan.recipe.workers)
