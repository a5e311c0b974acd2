"""Predictor: a run, a model of the catalogue or an exported file, as one thing that answers."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo import catalog, device
from zoo.catalog import Preprocess
from zoo.data.preprocess import normalise
from zoo.data.samples import evenly
from zoo.data.views import framed_view, numbered_view, plain_view
from zoo.engine import Array, Engine
from zoo.engine.pipeline import answers
from zoo.engine.select import choose_for_network
from zoo.errors import ConversionError, ImageError, InputError, RunError, UsageError, WriteError
from zoo.machine import cores
from zoo.metrics import sigmoid, softmax
from zoo.predict import views
from zoo.predict.inputs import Input
from zoo.run import Run

if TYPE_CHECKING:
    from zoo.device import Device
    from zoo.network import Network, Progress

ROUNDING = 1e-2  # of probabilities, and of their sum, in a file that says that it gives such


@dataclass(frozen=True, slots=True)
class Prediction:
    """One row: the top classes with their probabilities, or the error that took their place.

    status: ok, error, rejected: the first probability is below what was asked for, or unknown: it
    is like no training photo. reached: of a multi-label network the classes that reach its
    threshold, with their probabilities. plain: K probabilities by the plain view alone, where they
    are the mean over several. features: D numbers that the head sees, where they were asked for.
    distance: how far they are from the training photos (see zoo.head.distance). told: the classes
    of its prediction set. file: where the picture is, which is called `path`.
    """

    path: str
    status: str
    labels: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str = ""
    reached: tuple[tuple[str, float], ...] | None = None
    plain: Array | None = None
    features: Array | None = None
    distance: float | None = None
    told: tuple[str, ...] | None = None
    file: str = ""

    @property
    def answer(self) -> tuple[str, ...]:
        """Return what the picture is said to show: a class, or several of a multi-label network."""
        if self.reached is None:
            return self.labels[:1]
        return tuple(name for name, _ in self.reached)


@dataclass(frozen=True, slots=True)
class Predictor:
    """An engine that gives class scores, and what stands before and behind it.

    load: a file to the engine's uint8 (or float) array. logits: whether softmax is still to come,
    or the sigmoid. threshold: of a multi-label network, whose classes are told one by one. views:
    how many each picture is asked by, view: one of them by its number. features: how many numbers
    the engine gives of a picture before its class scores.
    """

    engine: Engine
    classes: tuple[str, ...]
    load: Callable[[str], Array]
    logits: bool
    about: str
    threshold: float | None = None
    views: int = 1
    view: Callable[[str, int], Array] | None = None
    features: int = 0

    def __post_init__(self) -> None:
        """Raises InputError for a threshold that is no probability."""
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise InputError(
                f"the network's threshold is {self.threshold:g}, which is no probability",
                "one is above 0 and at most 1: train or export it anew",
            )

    def rows(self, inputs: Iterable[Input], top: int = 1) -> Iterator[Prediction]:
        """Yield one Prediction for each input, in order, in constant memory."""
        top = min(top, len(self.classes))
        for item, scores, plain, features in self._asked(inputs):
            if isinstance(scores, ImageError):
                yield Prediction(item.shown, "error", error=str(scores), file=item.file)
                continue
            best = np.argsort(-scores, kind="stable")
            yield Prediction(
                item.shown,
                "ok",
                tuple(self.classes[k] for k in best[:top]),
                tuple(float(scores[k]) for k in best[:top]),
                reached=self.reached(scores),
                plain=plain,
                features=features,
                file=item.file,
            )

    def _asked(
        self, inputs: Iterable[Input]
    ) -> Iterator[tuple[Input, Array | ImageError, Array | None, Array | None]]:
        """Yield each input with K probabilities, those of the plain view alone, and its features.

        The probabilities are the mean over the views.
        """
        if self.view is None or self.views == 1:
            for item, result in answers(inputs, lambda item: self.load(item.file), self.engine):
                features, scores = self._parted(result)
                yield item, self.probabilities(scores), None, features
            return
        for item, own in views.of_each(inputs, self.views, self.view, self.engine):
            parted = [self._parted(result) for result in own]
            each = [self.probabilities(scores) for _, scores in parted]
            plain = None if isinstance(each[0], ImageError) else each[0]
            yield item, views.mean(each), plain, parted[0][0]

    def _parted(self, result: Array | ImageError) -> tuple[Array | None, Array | ImageError]:
        """Return the features that the engine gives of a picture, if any, and its class scores."""
        if not self.features or isinstance(result, ImageError):
            return None, result
        return result[: self.features], result[self.features :]

    def probabilities(self, result: Array | ImageError) -> Array | ImageError:
        """Return the K probabilities of a picture, or why there are none. Raises InputError."""
        if isinstance(result, ImageError):
            return result
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
        """Return the classes that reach the threshold, in their order."""
        if self.threshold is None:
            return None
        pairs = zip(self.classes, scores.tolist(), strict=True)
        return tuple((name, score) for name, score in pairs if score >= self.threshold)


@dataclass(frozen=True, slots=True)
class Opening:
    """How a network is opened, as the flags of a command say it.

    weights, seed: of a model's name. precision: None is that of a run's training, else fp32.
    trusts: a network that was changed after its run was finished is used all the same. views: of
    each picture, whose probabilities' mean is taken. features: what the head sees is given, too, by
    a run of a frozen part and a linear head; see `zoo.predict.features` for others.
    """

    weights: str | None = None
    device: str = "auto"
    precision: str | None = None
    engine: str = "auto"
    seed: int = 0
    trusts: bool = False
    views: int = 1
    features: bool = False


AS_IT_IS = Opening()


def open_predictor(
    name: str,
    how: Opening = AS_IT_IS,
    photos: Sequence[Input] = (),
    progress: Progress | None = None,
) -> Predictor:
    """Return a Predictor for a run folder, an .onnx file or a model's name.

    photos: what int8 is calibrated on where it is no run that has its training photos. progress:
    of a download. Raises UsageError, InputError and what opening the engine raises.
    """
    if name.lower().endswith(".onnx"):
        return _exported(name, how)
    from zoo.engine.open import open_engine
    from zoo.network_ref import classifier_of_name, classifier_of_run

    run = _run(name, how, labels=True)
    place = _place(how, run)
    kind, why = choose_for_network(how.engine, place.name, place.precision)
    asked = classifier_of_run(run) if run else classifier_of_name(name, how.weights, progress)
    if not asked.classes:
        raise UsageError(
            f"{name} with {how.weights} knows no classes", "fine-tune it first, or give weights"
        )
    ref, preprocess = asked.ref, asked.ref.preprocess
    must_normalise(preprocess, name)
    if photos and not ref.photos:
        ref = replace(ref, photos=tuple(Path(item.file) for item in photos))
    width = 0
    if how.features and ref.head is not None:
        width = ref.head.columns
        ref = replace(ref, features=True)
    # Whatever cannot be written, torch needs none of it.
    ready = open_engine(ref, kind, place, forgiven=(ConversionError, WriteError))
    engine = f"torch: {ready.note}" if ready.note else why
    about = "; ".join(filter(None, (_described(place, run), engine, asked.note)))

    flip = not run or bool(run.record.get("flip", True))

    def load(file: str) -> Array:
        return plain_view(file, preprocess)

    if how.views > 1:
        about += f"; the mean over {how.views} views"
    ours = ready.engine, asked.classes, load, True, about, asked.threshold
    view = partial(numbered_view, preprocess=preprocess, flip=flip)
    return Predictor(*ours, how.views, view, width)


def open_network(
    name: str, how: Opening = AS_IT_IS, progress: Progress | None = None
) -> tuple[Network, Device, str]:
    """Return the network of a run folder or of a model's name, where it runs, and that in words."""
    from zoo import network

    run = _run(name, how, labels=False)
    place = _place(how, run)
    if run:
        net = network.of_run(run)
    else:
        net = network.pretrained(name, how.weights, seed=how.seed, progress=progress)
    must_normalise(net.preprocess, name)
    return net, place, "; ".join(filter(None, (_described(place, run), net.said_of_file)))


def _run(name: str, how: Opening, *, labels: bool) -> Run | None:
    """Return the finished run of a folder, or None for the name of a model that is there.

    labels: it is asked for classes, which an autoencoder has not.
    """
    if not is_run(name):
        check_name(name)
        if labels and not catalog.of_library(name) and catalog.find(name).task == "reconstruct":
            raise _no_classes(f"{name} is an autoencoder", "RUN")
        return None
    run = Run.open(Path(name), trusts=how.trusts).finished()
    if how.weights:
        raise UsageError(f"{name} is a run, with weights of its own", "leave --weights out")
    if labels and run.record.get("task") == "reconstruct":
        raise _no_classes(f"{name} is a run of {run.record['model']}", name)
    return run


def _place(how: Opening, run: Run | None) -> Device:
    return device.choose(how.device, how.precision or (run.record["precision"] if run else "fp32"))


def _described(place: Device, run: Run | None) -> str:
    """Return where it runs, and what the run has found out about that."""
    about = f"{place.name} {place.precision}: {place.reason}"
    own = run and run.record["precision"] == place.precision
    if run and own and (agreement := run.record.get("agreement_with_fp32")):
        about += f"; the run agrees with fp32 on {100 * agreement:.1f} % of its val photos"
    return about


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


def _no_classes(what: str, run: str) -> UsageError:
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


def _exported(name: str, how: Opening) -> Predictor:
    """Return the Predictor of an exported file; no torch. It crops and resizes by itself.

    What it is given is framed so that it does so to the pixels that the run sees: photos of many
    megapixels are decoded small, as for the run.
    """
    from zoo.engine.onnx import OnnxEngine, OnnxModel
    from zoo.network import must_be_exported

    if how.views > 1:
        raise UsageError(
            f"--tta {how.views} with {name}: an exported file crops by itself, to the plain view",
            "leave --tta out, or name the run that it was exported from",
        )
    path, plain = Path(name), how.engine in ("auto", "onnxruntime")
    if not os.path.isfile(name):
        raise InputError(f"there is no file {name}", "`zoo export onnx RUN` makes one")
    plain = plain and how.precision in (None, "fp32") and how.device in ("auto", "cpu")
    if how.weights or not plain:
        raise UsageError(
            "an exported file has its own weights and runs on the CPU as it is",
            "leave --weights, --device, --engine and --precision out",
        )
    if not how.trusts:
        must_be_exported(path)
    model = OnnxModel(path, threads=1)
    if model.task == "reconstruct":
        raise _no_classes(f"{path} is an exported autoencoder", "RUN")
    preprocess, logits = model.preprocess, model.input == "tensor"
    must_normalise(preprocess, name)

    def load(file: str) -> Array:
        if logits:
            return normalise(plain_view(file, preprocess), preprocess)
        return framed_view(file, preprocess)

    away = how.features and model.distance_limit is not None
    engine, about = OnnxEngine(model, cores(), away), f"{model.name}, no torch"
    return Predictor(
        engine, model.classes, load, logits, about, model.threshold, features=int(away)
    )


def val_photos(name: str, count: int) -> list[Input]:
    """Return up to so many val photos of a run, from all over the list, that are still there."""
    if not is_run(name):
        return []
    photos = [path for path in Run.open(Path(name)).photos("val") if path.is_file()]
    return [Input(str(path), str(path)) for path in evenly(photos, count)]
