"""The plan of a fine-tune: every choice made, with its reason, before anything is computed."""

from __future__ import annotations

import hashlib
import importlib
import shutil
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import __version__, catalog, datasets, device
from zoo.catalog import ModelSpec, Preprocess
from zoo.data.index import DatasetIndex, scan
from zoo.device import Device
from zoo.errors import DataError, UsageError, WriteError
from zoo.finetune.choices import balancing, epoch_kept, learning_rate, threads_of, view_count
from zoo.finetune.cut import Cut
from zoo.finetune.explain import Line, lines, size
from zoo.finetune.loop import Settings
from zoo.recipe import Recipe
from zoo.weights import cache_folder

if TYPE_CHECKING:
    from torch import nn

    from zoo.network import Network, Progress


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done.

    head: the stage of the new head in `chain`. scales: standardise the features for it. views: 0
    draws a new view in every epoch. threads: of the trained part. best: what chooses the epoch
    that is kept. reasons: of `lr`, `threads`, `views`, `best` and `balance`.
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
    best: str
    balance: str
    class_weights: tuple[float, ...] | None
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def lines(self) -> list[Line]:
        return lines(self)

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
            "task": self.recipe.task,
            "best_by": self.best,
            "variant": self.start.variant,
            "head": self.recipe.head,
            "cut": self.cut.name if self.cut else None,
            "boundary": self.cut.boundary if self.cut else None,
            "preprocess": self.preprocess.to_dict(),
            "precision": self.device.precision,
            "device": self.device.name,
            "data": {
                "name": self.recipe.data,
                "root": str(self.index.root.absolute()),
                "fingerprint": self.index.fingerprint,
                "train": len(self.index.of("train")),
                "val": len(self.index.of("val")),
            },
            "plan": [[line.what, line.value, line.reason] for line in self.lines],
        }


def make(recipe: Recipe, progress: Progress | None = None) -> Plan:
    """Looks at the photos first, then at the weights; raises any of the input errors."""
    if not catalog.of_library(recipe.model):
        row = catalog.find(recipe.model)  # before torch is imported
        catalog.check_variant(row, recipe.variant)
        check_task(recipe, row)
    place = datasets.locate(recipe.data, progress=progress)
    index = scan(
        place,
        val_fraction=recipe.val_fraction,
        seed=recipe.seed,
        labelled=recipe.task == "classify",
    )
    if not index.of("val"):
        raise DataError(f"{recipe.data} leaves no photo for validation", "add photos")

    device.tune_allocator()
    chosen = device.choose(recipe.device, recipe.precision)
    start, chain, spec, digest = networks(recipe, len(index.classes), progress)
    preprocess = replace(start.preprocess, fit=recipe.fit or start.preprocess.fit)
    parts = cut_of(recipe, chain, spec)
    scales = parts is not None and only_head(parts, chain, spec)
    lr, lr_why = learning_rate(recipe, start, scales)
    threads, threads_why = threads_of(recipe, parts, spec, chosen)
    views, views_why = view_count(recipe, parts, preprocess)
    best, best_why = epoch_kept(recipe, index)
    balance, class_weights, balance_why = balancing(recipe, index)
    plan = Plan(
        recipe=recipe,
        start=start,
        index=index,
        chain=chain,
        head=spec.head,
        cut=parts,
        preprocess=preprocess,
        device=chosen,
        weights_sha256=digest,
        feature_shape=feature_shape(parts, preprocess) if parts else (),
        lr=lr,
        views=views,
        threads=threads,
        scales=scales,
        best=best,
        balance=balance,
        class_weights=class_weights,
        reasons={
            "lr": lr_why,
            "threads": threads_why,
            "views": views_why,
            "best": best_why,
            "balance": balance_why,
        },
    )
    check_batches(plan)
    check_room(plan)
    return plan


def check_task(recipe: Recipe, row: ModelSpec) -> None:
    """Raises UsageError where the network cannot learn what the recipe asks for."""
    if recipe.task == "reconstruct" and row.task != "reconstruct":
        names = [name for name, row in catalog.ROWS.items() if row.task == "reconstruct"]
        raise UsageError(
            f"{row.name} gives classes, it cannot reconstruct its input",
            f"autoencoders: {', '.join(names)}",
        )


def networks(
    recipe: Recipe, classes: int, progress: Progress | None
) -> tuple[Network, nn.Sequential, ModelSpec, str]:
    """Where it starts from, the chain to train with its row, and the sha256 of its first weights.

    A network to be trained whole from random weights is made for the classes at once; any other
    gets a new head, so that what is frozen does not depend on the classes.
    """
    from zoo import network

    whole = recipe.task == "reconstruct"
    scratch = not recipe.freeze and recipe.head == "linear"
    start = network.pretrained(
        recipe.model,
        recipe.weights,
        variant=recipe.variant,
        classes=classes if scratch and not whole else None,
        except_head=True,
        seed=recipe.seed,
        progress=progress,
    )
    digest = state_sha256(start.chain)
    if whole or (scratch and not start.trained and start.spec.task == "classify"):
        return start, start.chain, start.spec, digest
    device.seed_all("head", recipe.seed)
    chain, spec = network.with_head(start.chain, start.spec, classes, recipe.head)
    return start, chain, spec, digest


def settings_of(
    plan: Plan, index: DatasetIndex, class_weights: tuple[float, ...] | None
) -> Settings:
    """What the loop needs to know; every other setting has been used by now."""
    recipe = plan.recipe
    return Settings(
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        lr=plan.lr,
        weight_decay=recipe.weight_decay,
        warmup=recipe.warmup,
        label_smoothing=recipe.label_smoothing,
        class_weights=class_weights,
        balanced=recipe.balance == "sampler",
        best=plan.best,
        seed=recipe.seed,
        classes=index.classes,
        fresh=plan.fresh,
        task=recipe.task,
        loss=recipe.loss,
        optimizer=recipe.optimizer,
        momentum=recipe.momentum,
        schedule=recipe.schedule,
        decay=recipe.decay,
        ema=recipe.ema,
    )


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


def check_batches(plan: Plan) -> None:
    """Raises UsageError where a norm over the pictures of a batch would see one picture."""
    from torch import nn

    rows = len(plan.index.of("train")) * max(1, plan.views)
    chain = plan.cut.trainable if plan.cut else plan.chain
    norm = any(isinstance(part, nn.BatchNorm1d) for part in chain.modules())
    if norm and min(rows, plan.recipe.batch_size) == 1:
        raise UsageError(
            "BatchNorm over a batch of one photo", "give --batch-size 2 or more, and photos for it"
        )


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
