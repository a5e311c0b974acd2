"""The choices that a plan makes for the user, each with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zoo.catalog import ModelSpec, Preprocess
from zoo.data.index import DatasetIndex
from zoo.device import Device
from zoo.finetune.cut import Cut
from zoo.finetune.sources import SMALL
from zoo.recipe import Recipe

if TYPE_CHECKING:
    from zoo.network import Network

RATE = 1e-3
SMALL_WORK = 3e8  # multiply-adds of a step below which a second thread costs more than it helps
IMBALANCE = 3.0


def learning_rate(recipe: Recipe, start: Network, fresh: bool) -> tuple[float, str]:
    rate, whose = recipe.lr or RATE, "as asked for" if recipe.lr else "the default"
    then = {
        "cosine": "then cosine",
        "exponential": f"then times {recipe.decay:g} an epoch",
        "constant": "then constant",
    }[recipe.schedule]
    then = f"warm-up, {then}" if recipe.warmup else then.removeprefix("then ")
    if fresh:
        return rate, f"rate: {whose}, on standardised features; {then}"
    if start.trained:
        return rate, f"rate of the new head: {whose}; pretrained layers a tenth; {then}"
    return rate, f"rate: {whose}, the trained layers are new; {then}"


def threads_of(
    recipe: Recipe, parts: Cut | None, spec: ModelSpec, place: Device
) -> tuple[int, str]:
    """Threads of the trained part: a step of a small network is over before threads have met."""
    weights = sum(p.numel() for p in parts.trainable.parameters()) if parts else spec.macs
    if 3 * weights * recipe.batch_size < SMALL_WORK:
        return 1, "small steps are quickest on one thread"
    return place.threads, f"{place.threads} threads"


def view_count(recipe: Recipe, parts: Cut | None, preprocess: Preprocess) -> tuple[int, str]:
    if recipe.views is not None:
        return recipe.views, "as asked for; view 0 is the plain centre view"
    if recipe.task == "reconstruct":
        return 1, "the plain view is what is to be given back"
    if parts is None and preprocess.size <= SMALL:
        moved = "" if recipe.distort == "none" else f", with {recipe.distort} distortions"
        return 1, f"pictures this small are seen whole{moved}"
    if parts is not None:
        return 1, "the plain view: more did not help a linear head, and cost a pass each"
    return 0, "random crops, mirrored" if recipe.flip else "random crops"


def epoch_kept(recipe: Recipe, index: DatasetIndex) -> tuple[str, str]:
    """What chooses the epoch that is kept: nothing, where the val part is a test part."""
    if recipe.best != "auto":
        return recipe.best, "as asked for"
    # Of IDX files and CIFAR-10's batches only: a folder of photos may well begin with "test".
    held = index.of("val")[0].path if index.containers else ""
    if held.startswith(("t10k", "test")):
        return "last", "the val part is the data set's test part: no epoch is chosen on it"
    if recipe.task == "reconstruct":
        return "loss", "on the val photos"
    return "accuracy", "on the val photos, which flatters a little; --best last chooses none"


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
