"""Predictor: a run, a model of the catalogue or an exported file, as one thing that answers."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import catalog, device
from zoo.catalog import Preprocess
from zoo.catalog.spec import pixels as pixels_of
from zoo.data.preprocess import framed, full_size, normalise
from zoo.data.samples import evenly
from zoo.data.views import LastPhoto, Source, numbered_view, plain_view
from zoo.engine import Array, Calls
from zoo.engine.select import choose_for_network
from zoo.errors import ConversionError, InputError, NoClasses, UsageError, WriteError
from zoo.machine import cores
from zoo.predict.inputs import Input
from zoo.predict.rows import Predictor
from zoo.run import Run
from zoo.watch import Progress
from zoo.weights.repository import config_of, read_config, repository

if TYPE_CHECKING:
    from zoo.device import Device
    from zoo.network import Network


@dataclass(frozen=True, slots=True)
class Opening:
    """How a network is opened, as the flags of a command say it.

    weights, seed: of a model's name. precision: None is that of a run's training, else fp32.
    trusts: a network that was changed after its run was finished is used all the same. views: of
    each picture, whose probabilities' mean is taken. features: what the head sees is given, too, by
    a run of a frozen part and a head behind it; see `zoo.predict.embed` for others. calls: how the
    engine is called on a CPU.
    """

    weights: str | None = None
    device: str = "auto"
    precision: str | None = None
    engine: str = "auto"
    seed: int = 0
    trusts: bool = False
    views: int = 1
    features: bool = False
    calls: Calls = "many"


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
    if catalog.is_exported(name):
        return _exported(name, how)
    name, how = of_folder(name, how)
    from zoo.engine.open import open_engine
    from zoo.network_ref import classifier_of_name, classifier_of_run, featured

    run = _run(name, how, labels=True)
    place = _place(how, run)
    kind, why = choose_for_network(how.engine, place.name, place.precision)
    asked = classifier_of_run(run) if run else classifier_of_name(name, how.weights, progress)
    if not asked.classes:
        raise NoClasses(
            f"{name} with {how.weights} knows no classes", "fine-tune it first, or give weights"
        )
    ref, preprocess = asked.ref, asked.ref.preprocess
    must_normalise(preprocess, name)
    if photos and not ref.photos:
        ref = replace(ref, photos=tuple(Path(item.file) for item in photos))
    if run and how.features and _told_by_features(run):
        ref = featured(ref, run)
    # Whatever cannot be written, torch needs none of it.
    forgiven = (ConversionError, WriteError)
    ready = open_engine(ref, kind, place, forgiven=forgiven, calls=how.calls)
    engine = f"torch: {ready.note}" if ready.note else why
    about = "; ".join(filter(None, (described(place, run), engine, asked.note)))

    flip = not run or bool(run.record.get("flip", True))

    def load(source: Source) -> Array:
        return plain_view(source, preprocess)

    if how.views > 1:
        about += f"; the mean over {how.views} views"
    ours = ready.engine, asked.classes, load, True, about, asked.threshold
    view = partial(numbered_view, preprocess=preprocess, flip=flip, last=LastPhoto())
    return Predictor(*ours, how.views, view, ref.features, preprocess)


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
    return net, place, "; ".join(filter(None, (described(place, run), net.said_of_file)))


def of_folder(name: str, how: Opening) -> tuple[str, Opening]:
    """Return the model and the weights of a folder with timm's config.json; others as they are."""
    if how.weights or not os.path.isdir(name) or (source := repository(name)) is None:
        return name, how
    config = read_config(config_of(source))
    return f"timm/{config.architecture}", replace(how, weights=name)


def opened_run(name: str, how: Opening) -> tuple[Run | None, Device]:
    """Return the run of a folder, None for a model's name, and where it runs."""
    run = _run(name, how, labels=False)
    return run, _place(how, run)


def _run(name: str, how: Opening, *, labels: bool) -> Run | None:
    """Return the finished run of a folder, or None for the name of a model that is there.

    labels: it is asked for classes, which an autoencoder has not.
    """
    if not catalog.is_run(name):
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


def described(place: Device, run: Run | None) -> str:
    """Return where it runs, and what the run has found out about that."""
    about = f"{place.name} {place.precision}: {place.reason}"
    own = run and run.record["precision"] == place.precision
    if run and own and (agreement := run.record.get("agreement_with_fp32")):
        about += f"; the run agrees with fp32 on {100 * agreement:.1f} % of its val photos"
    return about


def _told_by_features(run: Run) -> bool:
    """Return whether a run's frozen part and its head are apart: what the head takes is at hand."""
    return "linear_head" in run.record or "distance_sha256" in run.record


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


def _no_classes(what: str, run: str) -> NoClasses:
    """The error of an autoencoder that is asked for classes."""
    run = shlex.quote(run)
    return NoClasses(
        f"{what}: it gives pictures back and knows no classes",
        f"`zoo reconstruct {run} FOLDER` shows what it gives back, `zoo embed {run} FOLDER` "
        f"writes its codes, `zoo finetune MODEL PHOTOS --weights {run}` makes a classifier of it",
    )


def check_name(name: str) -> None:
    """Raises for what is neither a run nor a model, before torch is imported."""
    library = catalog.of_library(name)
    if "/" in name and not library and catalog.base(name) not in catalog.ROWS:
        raise catalog.no_network(name)
    catalog.library_name(name) if library else catalog.find(name)


def _exported(name: str, how: Opening) -> Predictor:
    """Return the Predictor of an exported file; no torch. It crops and resizes by itself.

    What it is given is framed so that it does so to the pixels that the run sees: photos of many
    megapixels are decoded small, as for the run.
    """
    from zoo.engine.onnx import OnnxEngine
    from zoo.engine.open_file import open_exported
    from zoo.network import must_be_exported

    _must_run_as_it_is(name, how)
    path = Path(name)
    if not how.trusts:
        must_be_exported(path)
    alone = how.calls == "alone"
    model = open_exported(path, threads=cores() if alone else 1)
    if model.task == "reconstruct":
        raise _no_classes(f"{path} is an exported autoencoder", "RUN")
    preprocess, logits = model.preprocess, model.input == "tensor"
    whole = None  # how a photo comes to the one size that a file takes
    if model.size not in (None, full_size(preprocess)):
        whole = replace(preprocess, size=model.size, fit="squash", channels=3)
    must_normalise(preprocess, name)

    def prepare(pixels: Array) -> Array:
        return normalise(pixels, preprocess) if logits else framed(pixels, preprocess)

    def load(source: Source) -> Array:
        if whole is not None:
            return plain_view(source, whole)
        return prepare(plain_view(source, preprocess))

    away = how.features and model.distance_limit is not None
    about = model.name + ("" if model.word == "torch-export" else ", no torch")
    if whole is not None:
        about += f"; it takes pictures of {pixels_of(whole.size)}, to which photos are resized"
    return Predictor(
        OnnxEngine(model, 1 if alone else cores(), away),
        model.classes,
        load,
        logits,
        about,
        model.threshold,
        features=away,
        preprocess=preprocess,
        prepare=prepare,
    )


def _must_run_as_it_is(name: str, how: Opening) -> None:
    """Raises UsageError, InputError for what an exported file cannot be asked for."""
    if how.views > 1:
        raise UsageError(
            f"--tta {how.views} with {name}: an exported file crops by itself, to the plain view",
            "leave --tta out, or name the run that it was exported from",
        )
    plain = how.engine in ("auto", "onnxruntime")
    if not os.path.isfile(name):
        raise catalog.no_exported(name)
    plain = plain and how.precision in (None, "fp32") and how.device in ("auto", "cpu")
    if how.weights or not plain:
        raise UsageError(
            "an exported file has its own weights and runs on the CPU as it is",
            "leave --weights, --device, --engine and --precision out",
        )


def val_photos(name: str, count: int) -> list[Input]:
    """Return up to so many val photos of a run, from all over the list, that are still there."""
    if not catalog.is_run(name):
        return []
    photos = [path for path in Run.open(Path(name)).photos("val") if path.is_file()]
    return [Input(str(path), str(path)) for path in evenly(photos, count)]
