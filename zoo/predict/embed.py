"""Features: what leaves a stage of a network, one row for each picture.

Of an autoencoder the code; of a classifier what its head sees, which is what a frozen fine-tune
learns from, or any stage. A map of C x H x W is averaged over its places unless it is wanted flat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from zoo import catalog
from zoo.catalog import Preprocess
from zoo.data.views import Source, plain_view
from zoo.engine import Array, Engine
from zoo.engine.open import open_engine, without_head
from zoo.engine.pipeline import answers
from zoo.engine.select import choose_for_network
from zoo.errors import ConversionError, ImageError, UnknownStage, UsageError, WriteError
from zoo.network import Network
from zoo.network_ref import classifier_of_run, featured
from zoo.predict import folder_labels
from zoo.predict.inputs import Input
from zoo.predict.predictor import (
    AS_IT_IS,
    Opening,
    described,
    must_normalise,
    open_network,
    opened_run,
)
from zoo.watch import Progress

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Embedding:
    """One row: D float32 features, or the error that took their place.

    label: the class that the picture is known to have, or nothing. guess: the network's answer,
    where it was asked for. file: where the picture is, which is called `path`.
    """

    path: str
    status: str
    label: str = ""
    features: Array | None = None
    guess: str = ""
    error: str = ""
    file: str = ""


@dataclass(frozen=True, slots=True)
class Embedder:
    """An engine that gives features, with class scores behind them where `guesses`.

    stage: after which they are taken, why: its reason. shape: of what leaves it for one picture,
    width: how many numbers are kept of that, how: in words.
    """

    engine: Engine
    classes: tuple[str, ...]
    load: Callable[[Source], Array]
    stage: str
    why: str
    shape: tuple[int, ...]
    width: int
    how: str
    about: str
    several: bool = False  # labels a picture
    preprocess: Preprocess = field(default_factory=Preprocess)

    def rows(self, inputs: Iterable[Input]) -> Iterator[Embedding]:
        """Yield one Embedding for each input, in order, in constant memory."""
        for item, found in answers(inputs, lambda item: self.load(item.source), self.engine):
            label = folder_labels.known(item)
            if isinstance(found, ImageError):
                yield Embedding(item.shown, "error", label, error=str(found), file=item.file)
                continue
            result = found.reshape(-1)
            scores = result[self.width :]
            guess = self.classes[int(scores.argmax())] if scores.size else ""
            features = result[: self.width]
            yield Embedding(item.shown, "ok", label, features, guess, file=item.file)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which features: those that leave `stage`, else the stage that says most about a picture.

    flat: a map is not averaged over its places. guesses: class scores behind them.
    """

    stage: str | None = None
    flat: bool = False
    guesses: bool = False


def open_embedder(
    name: str, wanted: Wanted, how: Opening = AS_IT_IS, progress: Progress | None = None
) -> Embedder:
    """Return an Embedder for a run folder or a model's name. Raises UnknownStage, UsageError."""
    if catalog.is_exported(name):
        raise UsageError(
            f"{name} is an exported file, which has no stages",
            "`zoo embed RUN FOLDER` with the run that it was exported from",
        )
    if wanted.stage is None and (quick := _of_run(name, wanted, how)) is not None:
        return quick
    from torch import nn

    from zoo.engine.torch import TorchEngine
    from zoo.models import cut, tap

    net, place, about = open_network(name, how, progress)
    stage, why = (wanted.stage, "asked for") if wanted.stage else _default_stage(net)
    first, rest = cut.halves(net.chain.eval(), stage)
    shape = _shape_after(first, net)
    axes, how_kept = ((), "flat") if wanted.flat else averaged(shape)
    scored = wanted.guesses and bool(net.classes) and len(rest) > 0
    wrapped = nn.Sequential(tap.Tap(first, axes, rest if scored else None))
    return Embedder(
        TorchEngine(wrapped, net.preprocess, place),
        net.classes,
        lambda source: plain_view(source, net.preprocess),
        stage,
        why,
        shape,
        prod(length for axis, length in enumerate(shape, 1) if axis not in axes),
        how_kept,
        about,
        net.threshold is not None,
        net.preprocess,
    )


def _of_run(name: str, wanted: Wanted, how: Opening) -> Embedder | None:
    """Return the Embedder of a run whose head stands on a frozen part, by that part's graph.

    None where torch is to run it: what the head sees is a map, or no graph can be run.
    """
    run, place = opened_run(name, how)
    kind, _ = choose_for_network(how.engine, place.name, place.precision)
    if run is None or kind != "openvino" or not run.record.get("linear_head"):
        return None
    asked = classifier_of_run(run)
    if asked.ref.head is None or asked.ref.boundary is None:
        return None
    must_normalise(asked.ref.preprocess, name)
    ready = open_engine(
        featured(asked.ref, run), kind, place, forgiven=(ConversionError, WriteError)
    )
    if ready.compiled is None or prod(ready.compiled.shape[1:]) != 1:
        return None
    scored = wanted.guesses and bool(asked.classes)
    return Embedder(
        (ready if scored else without_head(ready)).engine,
        asked.classes,
        lambda file: plain_view(file, asked.ref.preprocess),
        asked.ref.boundary,
        f"what the head {run.record['linear_head']} sees",
        ready.compiled.shape[:1],
        ready.compiled.shape[0],
        "flat",
        described(place, run),
        asked.threshold is not None,
    )


def _default_stage(net: Network) -> tuple[str, str]:
    """Return the stage that says most about a picture, and why."""
    from zoo.models.chain import before

    if net.spec.task == "reconstruct":
        return net.spec.code, "the autoencoder's code"
    stage = before(net.chain, net.spec.head)
    if not stage:
        raise UnknownStage(
            f"{net.spec.name} has no stage before its head {net.spec.head}",
            f"name one with --stage: {', '.join(dict(net.chain.named_children()))}",
        )
    if not net.spec.num_classes:
        return stage, "the features that the model gives"
    return stage, f"what the head {net.spec.head} sees"


def _shape_after(first: nn.Sequential, net: Network) -> tuple[int, ...]:
    """Return what leaves a part of the chain for one picture."""
    import torch

    with torch.inference_mode():
        values = first.cpu()(torch.zeros(1, *net.preprocess.shape))
    return tuple(values.shape[1:])


def averaged(shape: tuple[int, ...]) -> tuple[tuple[int, ...], str]:
    """Return the axes to average over (0 is the batch's), and that in words.

    Pictures are square, so H = W: channels come first unless only the first two are equal.
    """
    if len(shape) == 3:
        last = shape[1] != shape[2] and shape[0] == shape[1]
        axes = (1, 2) if last else (2, 3)
        places = shape[:2] if last else shape[1:]
        if prod(places) == 1:
            return (), "flat"
        return axes, f"the mean over {places[0]} x {places[1]} places"
    if len(shape) == 2:
        return (1,), f"the mean over {shape[0]} tokens or steps"
    return (), "flat"


class Sample:
    """At most `most` rows of all that come by, each with the same chance; f(seed), in order."""

    def __init__(self, most: int, seed: int) -> None:
        from zoo.data.views import generator

        self.most, self.seen = most, 0
        self.random = generator("embed", seed)
        self.kept: list[tuple[int, Embedding]] = []

    def add(self, row: Embedding) -> None:
        self.seen += 1
        if len(self.kept) < self.most:
            self.kept.append((self.seen, row))
        elif (place := int(self.random.integers(self.seen))) < self.most:
            self.kept[place] = (self.seen, row)

    @property
    def rows(self) -> list[Embedding]:
        return [row for _, row in sorted(self.kept, key=lambda pair: pair[0])]

    def features(self) -> Array:
        rows = [row.features for row in self.rows if row.features is not None]
        return np.stack(rows) if rows else np.zeros((0, 0), np.float32)
