"""The plan of a fine-tune: every choice made, with its reason, before anything is computed."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import __version__, catalog
from zoo.catalog import ModelSpec, Preprocess
from zoo.data.index import DatasetIndex, scan
from zoo.device import Device
from zoo.errors import DataError, WriteError
from zoo.finetune.cut import Cut
from zoo.finetune.explain import Line, lines, size
from zoo.recipe import Recipe
from zoo.weights import cache_folder

if TYPE_CHECKING:
    from torch import nn

    from zoo.network import Network, Progress

RATE = 1e-3
SMALL_WORK = 3e8  # multiply-adds of a step below which a second thread costs more than it helps
IMBALANCE = 3.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done.

    head: the stage of the new head in `chain`. scales: standardise the features for it. views: 0
    draws a new view in every epoch. threads: of the trained part. reasons: of `lr`, `threads`,
    `views` and `balance`.
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
    feature_shape: tuple[int, ...]
    lr: float
    views: int
    threads: int
    scales: bool
    balance: str
    class_weights: tuple[float, ...] | None
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def lines(self) -> list[Line]:
        return lines(self)

    @property
    def rows(self) -> int:
        """Views of photos whose features are kept."""
        return len(self.index.of("train")) * max(1, self.views) + len(self.index.of("val"))

    @property
    def feature_bytes(self) -> int:
        return 4 * int(np.prod(self.feature_shape)) * self.rows

    @property
    def fresh(self) -> str | None:
        """The stage of the new head; None where every layer is new."""
        return self.head if self.start.trained else None

    def record(self) -> dict[str, Any]:
        """What run.json says from the start."""
        from zoo.network import record_of

        return {
            "zoo": __version__,
            "model": self.recipe.model,
            "spec": record_of(self.start.row),
            "weights": self.start.origin,
            "weights_sha256": self.weights_sha256,
            "classes": list(self.index.classes),
            "head": self.recipe.head,
            "cut": self.cut.name if self.cut else None,
            "boundary": self.cut.boundary if self.cut else None,
            "preprocess": self.preprocess.to_dict(),
            "precision": self.device.precision,
            "device": self.device.name,
            "data": {
                "root": str(self.index.root.absolute()),
                "fingerprint": self.index.fingerprint,
                "train": len(self.index.of("train")),
                "val": len(self.index.of("val")),
            },
            "plan": [[line.what, line.value, line.reason] for line in self.lines],
        }


def make(recipe: Recipe, progress: Progress | None = None) -> Plan:
    """Looks at the photos first, then at the weights; raises any of the input errors."""
    if "/" not in recipe.model:
        catalog.find(recipe.model)  # before torch is imported
    index = scan(Path(recipe.data), val_fraction=recipe.val_fraction, seed=recipe.seed)
    if not index.of("val"):
        raise DataError(f"{recipe.data} leaves no photo for validation", "add photos")

    from zoo import device, network

    device.tune_allocator()
    place = device.choose(recipe.device, recipe.precision)
    start = network.pretrained(
        recipe.model, recipe.weights, except_head=True, seed=recipe.seed, progress=progress
    )
    digest = state_sha256(start.chain)
    device.seed_all("head", recipe.seed)
    chain, spec = network.with_head(start.chain, start.spec, len(index.classes), recipe.head)
    preprocess = replace(start.preprocess, fit=recipe.fit or start.preprocess.fit)
    parts = cut_of(recipe, chain, spec)
    scales = parts is not None and only_head(parts, chain, spec)
    lr, lr_why = learning_rate(recipe, start, scales)
    threads, threads_why = threads_of(recipe, parts, spec, place)
    views, views_why = view_count(recipe, parts)
    balance, class_weights, balance_why = balancing(recipe, index)
    plan = Plan(
        recipe=recipe,
        start=start,
        index=index,
        chain=chain,
        head=spec.head,
        cut=parts,
        preprocess=preprocess,
        device=place,
        weights_sha256=digest,
        feature_shape=feature_shape(parts, preprocess) if parts else (),
        lr=lr,
        views=views,
        threads=threads,
        scales=scales,
        balance=balance,
        class_weights=class_weights,
        reasons={"lr": lr_why, "threads": threads_why, "views": views_why, "balance": balance_why},
    )
    check_room(plan)
    return plan


def state_sha256(chain: nn.Sequential) -> str:
    digest = hashlib.sha256()
    for tensor in chain.state_dict().values():
        digest.update(tensor.contiguous().numpy().reshape(-1).data)
    return digest.hexdigest()


def cut_of(recipe: Recipe, chain: nn.Sequential, spec: ModelSpec) -> Cut | None:
    from zoo.finetune.cut import cut

    return cut(chain, recipe.cut or spec.cut) if recipe.freeze else None


def only_head(parts: Cut, chain: nn.Sequential, spec: ModelSpec) -> bool:
    """Whether the fresh head is the first thing that the cached features meet."""
    from zoo.finetune.scale import first_layer

    head = chain.get_submodule(spec.head)
    return any(first_layer(parts.trainable) is part for part in head.modules())


def learning_rate(recipe: Recipe, start: Network, fresh: bool) -> tuple[float, str]:
    rate, whose = recipe.lr or RATE, "as asked for" if recipe.lr else "the default"
    if fresh:
        return rate, f"rate: {whose}, on standardised features; warm-up, then cosine"
    if start.trained:
        return rate, f"rate of the new head: {whose}; pretrained layers a tenth; cosine"
    return rate, f"rate: {whose}, the trained layers are new; warm-up, then cosine"


def threads_of(
    recipe: Recipe, parts: Cut | None, spec: ModelSpec, place: Device
) -> tuple[int, str]:
    """Threads of the trained part: a step of a small network is over before threads have met."""
    weights = sum(p.numel() for p in parts.trainable.parameters()) if parts else spec.macs
    if 3 * weights * recipe.batch_size < SMALL_WORK:
        return 1, "small steps are quickest on one thread"
    return place.threads, f"{place.threads} threads"


def view_count(recipe: Recipe, parts: Cut | None) -> tuple[int, str]:
    if recipe.views is not None:
        return recipe.views, "as asked for; view 0 is the plain centre view"
    if parts is not None:
        return 1, "the plain view: more did not help a linear head, and cost a pass each"
    return 0, "random crops, mirrored" if recipe.flip else "random crops"


def balancing(recipe: Recipe, index: DatasetIndex) -> tuple[str, tuple[float, ...] | None, str]:
    """Kind, weights of the classes in the loss, reason."""
    counts = np.array(index.counts("train"), float)
    ratio = counts.max() / counts.min()
    kind, why = recipe.balance, "as asked for"
    if kind == "auto":
        kind = "weights" if ratio > IMBALANCE else "none"
        why = f"the largest class has {ratio:.1f} times the photos of the smallest"
    values = counts.sum() / (len(counts) * counts)
    return kind, tuple(values.tolist()) if kind == "weights" else None, why


def feature_shape(parts: Cut, preprocess: Preprocess) -> tuple[int, ...]:
    """What the frozen part gives for one picture, found by running it on zeros.

    On torch's meta device nothing would be computed, but its first BatchNorm imports torch's
    compiler, which takes ten times as long.
    """
    import torch

    torch.set_num_threads(1)  # one picture; the loop sets its own number
    with torch.inference_mode():
        picture = torch.zeros(1, preprocess.channels, preprocess.size, preprocess.size)
        return tuple(parts.frozen(picture).shape[1:])


def check_room(plan: Plan) -> None:
    """Raises WriteError where the disk cannot hold the features."""
    folder = cache_folder()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    total, _, free = shutil.disk_usage(there)
    if plan.cut and total and plan.feature_bytes > 0.9 * free:
        raise WriteError(
            f"the features after '{plan.cut.boundary}' need {size(plan.feature_bytes)}, "
            f"{folder} has {size(free)} free",
            "cut later, use fewer views, or set ZOO_CACHE to a larger disk",
        )
