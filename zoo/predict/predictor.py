"""Predictor: a run, a model of the catalogue or an exported file, as one thing that answers."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo import catalog
from zoo import device as devices
from zoo.catalog import Preprocess
from zoo.data.preprocess import normalise
from zoo.data.views import framed_view, plain_view
from zoo.engine import Array, Engine
from zoo.engine.open import spread
from zoo.engine.pipeline import answers
from zoo.engine.select import choose_for_network
from zoo.errors import ImageError, InputError, RunError, UsageError
from zoo.machine import cores
from zoo.metrics import sigmoid, softmax
from zoo.predict.inputs import Input
from zoo.run import Run

if TYPE_CHECKING:
    from zoo.device import Device
    from zoo.network import Network

ROUNDING = 1e-2  # of probabilities, and of their sum, in a file that says that it gives such


@dataclass(frozen=True, slots=True)
class Prediction:
    """One row: the top classes with their probabilities, or the error that took their place.

    status: ok, error, or rejected: the first probability is below what was asked for. reached: of
    a multi-label network the classes that reach its threshold, with their probabilities.
    """

    path: str
    status: str
    labels: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str = ""
    reached: tuple[tuple[str, float], ...] | None = None

    @property
    def answer(self) -> tuple[str, ...]:
        """What the picture is said to show: a class, or of a multi-label network any number."""
        if self.reached is None:
            return self.labels[:1]
        return tuple(name for name, _ in self.reached)


@dataclass(frozen=True, slots=True)
class Predictor:
    """An engine that gives class scores, and what stands before and behind it.

    load: a file to the engine's uint8 (or float) array. logits: whether softmax is still to come,
    or the sigmoid. threshold: of a multi-label network, whose classes are told one by one.
    """

    engine: Engine
    classes: tuple[str, ...]
    load: Callable[[str], Array]
    logits: bool
    about: str
    threshold: float | None = None

    def __post_init__(self) -> None:
        """Raises InputError for a threshold that is no probability."""
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise InputError(
                f"the network's threshold is {self.threshold:g}, which is no probability",
                "one is above 0 and at most 1: train or export it anew",
            )

    def rows(self, inputs: Iterable[Input], top: int = 1) -> Iterator[Prediction]:
        """One Prediction for each input, in order, in constant memory."""
        top = min(top, len(self.classes))
        for item, result in answers(inputs, lambda item: self.load(item.file), self.engine):
            scores = result if isinstance(result, ImageError) else self.probabilities(result)
            if isinstance(scores, ImageError):
                yield Prediction(item.shown, "error", error=str(scores))
                continue
            best = np.argsort(-scores, kind="stable")
            yield Prediction(
                item.shown,
                "ok",
                tuple(self.classes[k] for k in best[:top]),
                tuple(float(scores[k]) for k in best[:top]),
                reached=self.reached(scores),
            )

    def probabilities(self, result: Array) -> Array | ImageError:
        """Return the K probabilities of a picture, or why there are none. Raises InputError."""
        if result.shape != (len(self.classes),):
            raise InputError(
                f"the network gives {' x '.join(map(str, result.shape))} numbers a picture and "
                f"has the names of {len(self.classes)} classes",
                "train or export it anew: its network and its record are not of one training",
            )
        if self.logits:
            return softmax(result) if self.threshold is None else sigmoid(result)
        least, most, total = float(result.min()), float(result.max()), float(result.sum())
        if not (least >= -ROUNDING and most <= 1 + ROUNDING):
            odd = most if most > 1 else least
            return ImageError(f"the network gives {odd:g} as a probability")
        if self.threshold is None and abs(total - 1) > ROUNDING:
            return ImageError(f"the network gives probabilities whose sum is {total:g}, not 1")
        return result

    def reached(self, scores: Array) -> tuple[tuple[str, float], ...] | None:
        """In the order of the classes."""
        if self.threshold is None:
            return None
        pairs = zip(self.classes, scores.tolist(), strict=True)
        return tuple((name, score) for name, score in pairs if score >= self.threshold)


def open_predictor(
    name: str,
    *,
    choice: str | None = None,
    device: str = "auto",
    precision: str | None = None,
    engine: str = "auto",
    photos: Sequence[Input] = (),
    progress: Callable[[int, int | None], None] | None = None,
    trusts: bool = False,
) -> Predictor:
    """A Predictor for a run folder, an .onnx file or a model's name; the latter take `choice`.

    photos: what int8 is calibrated on where it is no run that has its training photos. trusts: a
    network that was changed after the run was finished is used all the same.
    """
    if name.lower().endswith(".onnx"):
        if not os.path.isfile(name):
            raise InputError(f"there is no file {name}", "`zoo export onnx RUN` makes one")
        other = engine not in ("auto", "onnxruntime")
        if precision not in (None, "fp32") or choice or device not in ("auto", "cpu") or other:
            raise UsageError(
                "an exported file has its own weights and runs on the CPU as it is",
                "leave --weights, --device, --engine and --precision out",
            )
        if not trusts:
            from zoo.network import must_be_exported

            must_be_exported(Path(name))
        return of_onnx(Path(name))
    from zoo import network_ref
    from zoo.engine import open

    run = opened_run(name, choice, labels=True, trusts=trusts)
    asked = precision or (run.record["precision"] if run else "fp32")
    place = devices.choose(device, asked)
    kind, why = choose_for_network(engine, place.name, place.precision)
    subject = (
        network_ref.ref_of_run(run) if run else network_ref.ref_of_name(name, choice, 0, progress)
    )
    if photos and not subject.photos:
        subject = replace(subject, photos=tuple(Path(item.file) for item in photos))
    if not subject.classes:
        raise UsageError(
            f"{name} with {choice} knows no classes", "fine-tune it first, or give weights"
        )
    ready, note = open.engine_of(subject, kind, place)
    about = "; ".join(filter(None, (described(place, run), note or why, subject.note)))
    preprocess = subject.preprocess
    must_normalise(preprocess, name)
    return Predictor(
        ready,
        subject.classes,
        lambda file: plain_view(file, preprocess),
        True,
        about,
        subject.threshold,
    )


def opened_run(name: str, choice: str | None, *, labels: bool, trusts: bool = False) -> Run | None:
    """The finished run of a folder, or None for the name of a model that is there.

    labels: it is asked for classes, which an autoencoder has not.
    """
    if not is_run(name):
        check_name(name)
        if labels and not catalog.of_library(name) and catalog.find(name).task == "reconstruct":
            raise no_classes(f"{name} is an autoencoder", "RUN")
        return None
    run = Run.open(Path(name), trusts=trusts).finished()
    if choice:
        raise UsageError(f"{name} is a run, with weights of its own", "leave --weights out")
    if labels and run.record.get("task") == "reconstruct":
        raise no_classes(f"{name} is a run of {run.record['model']}", name)
    return run


def described(place: Device, run: Run | None) -> str:
    """Where it runs, and what the run has found out about that."""
    about = f"{place.name} {place.precision}: {place.reason}"
    own = run and run.record["precision"] == place.precision
    if run and own and (agreement := run.record.get("agreement_with_fp32")):
        about += f"; the run agrees with fp32 on {100 * agreement:.1f} % of its val photos"
    return about


def open_network(
    name: str,
    *,
    choice: str | None = None,
    device: str = "auto",
    precision: str | None = None,
    seed: int = 0,
    progress: Callable[[int, int | None], None] | None = None,
    trusts: bool = False,
) -> tuple[Network, Device, str]:
    """The network of a run folder or of a model's name, where it runs, and that in words.

    seed: of `choice` none.
    """
    from zoo import network

    run = opened_run(name, choice, labels=False, trusts=trusts)
    place = devices.choose(device, precision or (run.record["precision"] if run else "fp32"))
    if run:
        net = network.of_run(run)
    else:
        net = network.pretrained(name, choice, seed=seed, progress=progress)
    must_normalise(net.preprocess, name)
    return net, place, "; ".join(filter(None, (described(place, run), net.said_of_file)))


def must_normalise(preprocess: Preprocess, name: str) -> None:
    """Raises InputError for a mean or std by which no picture can be normalised.

    Engines differ in what they make of NaN: some give finite numbers for it.
    """
    mean, std = preprocess.mean, preprocess.std
    whole = len(mean) == len(std) == preprocess.channels
    if not whole or not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise InputError(
            f"{name}: pictures cannot be normalised by a mean of {mean} and a std of {std}",
            f"each has {preprocess.channels} finite numbers, of std above 0: make it anew",
        )


def is_run(name: str) -> bool:
    """Whether this is a folder to be opened as a run; a model's name comes before one without."""
    return os.path.isdir(name) and (name not in catalog.ROWS or Path(name, "run.json").exists())


def no_classes(what: str, run: str) -> UsageError:
    """The error of an autoencoder that is asked for classes."""
    return UsageError(
        f"{what}: it gives pictures back and knows no classes",
        f"`zoo reconstruct {run} FOLDER` shows what it gives back, `zoo embed {run} FOLDER` "
        f"writes its codes, `zoo finetune MODEL PHOTOS --weights {run}` makes a classifier of it",
    )


def check_name(name: str) -> None:
    """Raises for what is neither a run nor a model, before torch is imported."""
    library = catalog.of_library(name)
    if "/" in name and not library and catalog.base(name) not in catalog.ROWS:
        there = os.path.exists(name)
        what = f"{name} is no run folder" if there else f"there is no run folder {name}"
        raise RunError(what, "give a run, an .onnx file or a name of `zoo list`")
    catalog.library_name(name) if library else catalog.find(name)


def of_onnx(path: Path) -> Predictor:
    """An exported file; no torch. It crops and resizes by itself.

    What it is given is framed so that it does so to the pixels that the run sees: photos of many
    megapixels are decoded small, as for the run.
    """
    from zoo.engine.onnx import OnnxEngine, OnnxModel

    model = OnnxModel(path, threads=1)
    if model.task == "reconstruct":
        raise no_classes(f"{path} is an exported autoencoder", "RUN")
    preprocess = model.preprocess
    must_normalise(preprocess, str(path))

    def raw(file: str) -> Array:
        return framed_view(file, preprocess)

    def normalised(file: str) -> Array:
        return normalise(plain_view(file, preprocess), preprocess)

    tensor = model.input == "tensor"
    engine = OnnxEngine(model, workers=cores())
    load = normalised if tensor else raw
    about = f"{model.name}, no torch"
    return Predictor(engine, model.classes, load, tensor, about, model.threshold)


def val_photos(name: str, count: int) -> list[Input]:
    """Up to so many val photos of a run, spread over the list, that are still where they were."""
    if not is_run(name):
        return []
    photos = [path for path in Run.open(Path(name)).photos("val") if path.is_file()]
    return [Input(str(path), str(path)) for path in spread(photos, count)]
