"""The plan of a fine-tune: every choice made, with its reason, before anything is computed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import __version__, catalog
from zoo.catalog import ModelSpec, Preprocess
from zoo.data.index import DatasetIndex, scan
from zoo.device import Device
from zoo.errors import DataError, WriteError
from zoo.finetune.cut import Cut
from zoo.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

    from zoo.network import Network, Progress

RATE = 1e-3
SMALL_WORK = 3e8  # multiply-adds of a step below which a second thread costs more than it helps
IMBALANCE = 3.0


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the printed plan."""

    what: str
    value: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done.

    views: 0 draws a new view in every epoch. scales: standardise the features. fresh: the stage of
    the new head, None where all layers are new. threads: of the trained part.
    """

    recipe: Recipe
    spec_record: dict[str, Any]
    index: DatasetIndex
    chain: nn.Sequential
    cut: Cut | None
    preprocess: Preprocess
    device: Device
    origin: dict[str, Any]
    weights_sha256: str
    lr: float
    fresh: str | None
    threads: int
    views: int
    scales: bool
    class_weights: tuple[float, ...] | None
    lines: tuple[Line, ...]

    def record(self) -> dict[str, Any]:
        """What run.json says from the start."""
        return {
            "zoo": __version__,
            "model": self.recipe.model,
            "spec": self.spec_record,
            "weights": self.origin,
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
        recipe.model,
        recipe.weights,
        except_head=True,
        seed=recipe.seed,
        progress=progress,
    )
    digest = state_sha256(start.chain)
    device.seed_all("head", recipe.seed)
    chain, spec = network.with_head(start.chain, start.spec, len(index.classes), recipe.head)
    preprocess = start.preprocess
    if recipe.fit:
        preprocess = replace(preprocess, fit=recipe.fit)
    parts = cut_of(recipe, chain, spec)
    fresh = parts is not None and only_head(parts, chain, spec)
    rate, why = learning_rate(recipe, start, fresh)
    threads, threads_why = threads_of(recipe, parts, spec, place)
    class_weights, balance = balancing(recipe, index)
    views, views_why = view_count(recipe, parts)
    lines = [
        Line("model", recipe.model, about_weights(start)),
        Line("photos", *about_photos(index)),
        *about_parts(parts, chain, spec, recipe),
        Line("input", *about_input(preprocess, index)),
        Line("views", str(views) if views else "new in each epoch", views_why),
        *about_cache(parts, preprocess, index, views, place),
        Line("device", place.name, f"{place.reason}; {place.threads} cores"),
        Line("precision", place.precision, about_precision(place)),
        Line("training", f"AdamW {rate:g}, {recipe.epochs} epochs", f"{why}; {threads_why}"),
        Line("balance", *balance),
    ]
    return Plan(
        recipe=recipe,
        spec_record=network.record_of(start.spec),
        index=index,
        chain=chain,
        cut=parts,
        preprocess=preprocess,
        device=place,
        origin=start.origin,
        weights_sha256=digest,
        lr=rate,
        fresh=spec.head if start.trained else None,
        threads=threads,
        views=views,
        scales=fresh,
        class_weights=class_weights,
        lines=tuple(lines),
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


def learning_rate(recipe: Recipe, start: Network, fresh: bool) -> tuple[float, str]:
    rate, whose = recipe.lr or RATE, "as asked for" if recipe.lr else "the default"
    if fresh:
        return rate, f"rate: {whose}, on standardised features; warm-up, then cosine"
    if start.trained:
        return rate, f"rate of the new head: {whose}; pretrained layers a tenth; cosine"
    return rate, f"rate: {whose}, all layers are new; warm-up, then cosine"


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


def balancing(
    recipe: Recipe, index: DatasetIndex
) -> tuple[tuple[float, ...] | None, tuple[str, str]]:
    counts = np.array(index.counts("train"), float)
    ratio = counts.max() / counts.min()
    kind = recipe.balance
    why = "as asked for"
    if kind == "auto":
        kind = "weights" if ratio > IMBALANCE else "none"
        why = f"the largest class has {ratio:.1f} times the photos of the smallest"
    if kind != "weights":
        return None, (kind, why)
    values = counts.sum() / (len(counts) * counts)
    return tuple(values.tolist()), (kind, why)


def about_weights(start: Network) -> str:
    origin = start.origin
    if origin["tag"] == "none":
        return "random weights: nothing is known to it yet"
    licence = f", licence {origin['licence']}" if origin.get("licence") else ""
    named = origin["tag"] if origin["tag"] not in ("file", "run") else ""
    return f"weights {named or origin['file']}{licence}"


def about_photos(index: DatasetIndex) -> tuple[str, str]:
    train, val = len(index.of("train")), len(index.of("val"))
    reason = f"{len(index.classes)} classes"
    if index.skipped:
        reason += f"; {len(index.skipped)} entries left out, see skipped.csv"
    return f"{train} train, {val} val", "; ".join((reason, *index.notes))


def about_parts(
    parts: Cut | None, chain: nn.Sequential, spec: ModelSpec, recipe: Recipe
) -> list[Line]:
    if parts is None:
        return [Line("trained", f"all {count(chain)} parameters", "--no-freeze")]
    names = [name for name, _ in parts.frozen.named_children()]
    reason = "the last convolutional stage" if recipe.cut is None else "as asked for"
    shown = f"{names[0]} … {names[-1]}" if len(names) > 1 else names[0]
    frozen = Line(
        "frozen", f"{shown}: {count(parts.frozen)} parameters", f"cut {parts.name}: {reason}"
    )
    trained = ", ".join(name for name, _ in parts.trainable.named_children())
    new = f"{spec.head} is new ({recipe.head})"
    return [frozen, Line("trained", f"{trained}: {count(parts.trainable)} parameters", new)]


def count(module: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()):,}"


def about_input(preprocess: Preprocess, index: DatasetIndex) -> tuple[str, str]:
    kind = "grey" if preprocess.channels == 1 else "RGB"
    how = f"centre {preprocess.crop:.3g}" if preprocess.fit == "crop" else preprocess.fit
    return f"{preprocess.size} x {preprocess.size} {kind}", f"{how}, {preprocess.interpolation}"


def about_cache(
    parts: Cut | None, preprocess: Preprocess, index: DatasetIndex, views: int, place: Device
) -> list[Line]:
    """How large the features are; refuses what the disk cannot hold."""
    if parts is None:
        return []
    import shutil

    from zoo.weights import cache_folder

    shape = feature_shape(parts, preprocess)
    each = 4 * int(np.prod(shape))
    rows = len(index.of("train")) * views + len(index.of("val"))
    folder = cache_folder()
    free = shutil.disk_usage(next(p for p in (folder, *folder.parents) if p.exists())).free
    if each * rows > 0.9 * free:
        raise WriteError(
            f"the features after '{parts.boundary}' need {size(each * rows)}, "
            f"{folder} has {size(free)} free",
            "cut later, use fewer views, or set ZOO_CACHE to a larger disk",
        )
    text = " x ".join(str(length) for length in shape)
    return [
        Line(
            "features",
            f"{size(each * rows)} in {folder / 'features'}",
            f"{text} after {parts.boundary}, {size(each)} a view, {rows:,} views, computed once",
        )
    ]


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


def size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def about_precision(place: Device) -> str:
    if place.precision == "fp32":
        return "answers do not depend on the machine; --precision bf16 is faster, at a price"
    return "asked for; agreement with fp32 is measured at the end"
