"""The plan of a fine-tune: every choice made, with its reason, before anything is computed."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo import device
from zoo.catalog import Preprocess
from zoo.data.index import DatasetIndex
from zoo.device import Device
from zoo.engine.compiled import made_of
from zoo.engine.open import NetworkRef, tensors_of
from zoo.finetune.facts import Known
from zoo.finetune.phases import Phase, rows_of
from zoo.models.cut import Cut
from zoo.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

    from zoo.finetune.ahead import Ahead
    from zoo.network import Network


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done.

    head: the stage of the new head in `chain`. cut: of the first phase. scales:
    standardise the features for a head trained in steps. views: 0 draws a new view in every epoch.
    threads: of the trained part. best: what chooses the epoch that is kept. engine: of the frozen
    part. known: of a network that is not here itself; then chain and start.chain are None, and of
    the cut only the names are there. facts: where that is to be kept. ahead: a pass over the photos
    that has begun. reasons: of `lr`, `threads`, `views`, `flip`, `best`, `solver`, `balance` and
    `engine`.
    """

    recipe: Recipe
    start: Network
    index: DatasetIndex
    chain: nn.Sequential
    head: str
    cut: Cut | None
    preprocess: Preprocess
    device: Device
    weights_sha256: str
    lr: float
    views: int
    threads: int
    scales: bool
    phases: tuple[Phase, ...]
    best: str
    view_seed: int
    balance: str
    class_weights: tuple[float, ...] | None
    engine: str = "torch"
    known: Known | None = None
    facts: Path | None = None
    ahead: Ahead | None = None
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def training_chain(self) -> nn.Sequential:
        """The whole chain, with the heads that exist in training only; the stages are shared."""
        spec = self.start.row
        if not spec.auxiliary:
            return self.chain
        module, function = spec.auxiliary.rsplit(".", 1)
        add = getattr(importlib.import_module(module), function)
        device.seed_all("auxiliary", self.recipe.seed)
        return add(self.chain, len(self.index.classes))  # type: ignore[no-any-return]

    @property
    def rows(self) -> int:
        """Views of photos whose features are kept."""
        return rows_of(self.index, self.views)

    @property
    def feature_bytes(self) -> int:
        """Return the bytes of all features that are kept."""
        each = sum(int(np.prod(phase.shape)) for phase in self.phases if phase.kept)
        return 4 * each * self.rows

    @property
    def solver(self) -> str:
        """Return the name of the solver that trains the head."""
        return self.phases[0].solver

    @property
    def alone(self) -> bool:
        """Whether a solved head is all there is to train: torch has nothing to do."""
        return all(phase.solved for phase in self.phases)

    def stop(self) -> None:
        """Ends what has begun; what it has computed is kept."""
        if self.ahead:
            self.ahead.stop()

    def part(self, cut: Cut) -> NetworkRef:
        """The frozen part of a cut, for an engine."""
        made = made_of(self.start.row, self.start.variant)
        tensors = self.known.tensors if self.known else tensors_of(cut.frozen)
        where = (self.recipe.model, made, tensors, cut.boundary, self.preprocess)
        return NetworkRef(*where, None if self.known else lambda: cut.frozen)

    @property
    def fresh(self) -> str | None:
        """The stage of the new head; None where every layer is new."""
        return self.head if self.start.trained else None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the printed plan."""

    what: str
    value: str
    reason: str
