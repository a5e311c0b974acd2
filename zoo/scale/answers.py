"""What a job computes of photos: the rows of `zoo predict`, or those of `zoo embed`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import catalog, weights
from zoo.catalog import Preprocess
from zoo.data import decoder_warnings
from zoo.data.limits import file_room
from zoo.data.views import Source, view_of
from zoo.engine import Array, Engine
from zoo.errors import InputError
from zoo.predict import policy, writers
from zoo.predict.embed import Embedder, Embedding, Wanted, open_embedder
from zoo.predict.inputs import Input
from zoo.predict.policy import Policy
from zoo.predict.predictor import Opening, open_predictor
from zoo.predict.rows import Predictor
from zoo.run import Run
from zoo.scale.parts import Cells
from zoo.scale.plan import Photo, Settings
from zoo.scale.sources import content
from zoo.text import show_name
from zoo.watch import Progress

if TYPE_CHECKING:
    import pyarrow


@dataclass(frozen=True, slots=True)
class Answers:
    """What gives a row for each photo, in order, with the columns of `schema`.

    rows: of photos; with True each is decoded in a process of its own, with limits. engine: that
    computes them. error: the row of a photo that ends processes, and why. load, forward: a photo's
    bytes to what the network takes, and the network, to be measured alone.
    """

    schema: pyarrow.Schema
    rows: Callable[[Sequence[Photo], bool], Iterator[Cells]]
    engine: str
    error: Callable[[Photo, str], Cells]
    load: Callable[[bytes], Array] | None = None
    forward: Engine | None = None


Opener = Callable[[], Answers]


def model_sha256(settings: Settings, progress: Progress | None = None) -> str:
    """Return what tells a model from all others: the hash of its file, or of its tensors."""
    from zoo import network
    from zoo.network_ref import classifier_of_name

    name = settings.model
    if catalog.is_run(name):
        return network.model_file(Run.open(Path(name), trusts=settings.trusts))[1]
    if catalog.is_exported(name):
        return weights.hash_of(Path(name))
    if settings.what == "predict":
        tensors = classifier_of_name(name, settings.weights, progress).ref.tensors
        return hashlib.sha256(f"{name} {tensors}".encode()).hexdigest()
    net = network.pretrained(name, settings.weights, progress=progress)
    tensors = weights.digest_of_state(net.chain.state_dict())
    return hashlib.sha256(f"{name} {tensors}".encode()).hexdigest()


def completed(settings: Settings, device: str, progress: Progress | None = None) -> Settings:
    """Return what a plan has to know of its model, which is opened for that once."""
    how = opening(settings, device)
    if settings.what == "features":
        wanted = Wanted(settings.stage, settings.flat)
        embedder = open_embedder(settings.model, wanted, how, progress)
        known = replace(settings, stage=embedder.stage, width=embedder.width)
        preprocess = embedder.preprocess
    else:
        ours = open_predictor(settings.model, how, progress=progress)
        top, several = min(settings.top, len(ours.classes)), ours.threshold is not None
        known, preprocess = replace(settings, top=top, several=several), ours.preprocess
    return identified(known, preprocess)


def identified(settings: Settings, preprocess: Preprocess) -> Settings:
    """Return settings that say which model it is, from wherever they are read."""
    found = model_sha256(settings)
    # As JSON has it, so that the settings are equal to those that are read from the plan.
    values = json.loads(json.dumps(preprocess.to_dict()))
    model = settings.model
    if catalog.is_run(model) or os.path.isfile(model):
        model = os.path.abspath(model)
    return replace(settings, model=model, model_sha256=found, preprocess=values)


def open_answers(settings: Settings, device: str = "auto") -> Answers:
    """Return what computes the rows of a plan. Raises InputError for another model than planned."""
    found = model_sha256(settings)
    if found != settings.model_sha256:
        raise InputError(
            f"{settings.model} is here the model {found[:12]}…, and the plan is of "
            f"{settings.model_sha256[:12]}…",
            "bring the planned model here, or plan again, into another folder",
        )
    how = opening(settings, device)
    if settings.what == "features":
        wanted = Wanted(settings.stage, settings.flat)
        return _of_embedder(settings, open_embedder(settings.model, wanted, how))
    return of_predictor(settings, open_predictor(settings.model, how))


def opening(settings: Settings, device: str) -> Opening:
    """Return how the network of a plan is opened."""
    return Opening(
        settings.weights,
        device,
        settings.precision,
        settings.engine,
        trusts=settings.trusts,
        views=settings.views,
        features=settings.unknown is not None,
    )


def form_of(settings: Settings, safe: bool = False) -> writers.Form:
    """Return what the rows of a plan of predictions look like."""
    names = {"set": settings.limit is not None, "distance": settings.unknown is not None}
    more = tuple(name for name, there in names.items() if there)
    return writers.Form(settings.top, settings.several, safe, more)


def of_predictor(settings: Settings, predictor: Predictor) -> Answers:
    """Return the rows of `zoo predict`."""
    form, asked = form_of(settings), _policy(settings)
    names = form.columns
    top = settings.top if asked.limit is None else len(predictor.classes)
    run = catalog.is_run(settings.model)
    flip = not run or bool(Run.open(Path(settings.model)).record.get("flip", True))

    def rows(photos: Sequence[Photo], apart: bool) -> Iterator[Cells]:
        def view(file: Source, number: int) -> Array:
            return _view(str(file), predictor.preprocess, number, flip, apart)

        ours = replace(predictor, load=lambda file: predictor.prepare(view(file, 0)), view=view)
        inputs = [Input(photo.file, photo.key) for photo in photos]
        for row in asked.applied(ours.rows(inputs, top)):
            yield writers.shown(writers.as_row(row, names))

    def error(photo: Photo, why: str) -> Cells:
        nothing: Cells = dict.fromkeys(names)
        return nothing | {"path": show_name(photo.key), "status": "error", "error": why}

    def load(data: bytes) -> Array:
        return predictor.prepare(view_of(data, predictor.preprocess))

    engine = predictor.engine
    return Answers(writers.parquet_schema(form), rows, engine.name, error, load, engine)


def _policy(settings: Settings) -> Policy:
    unknown = None
    if settings.unknown is not None and catalog.is_exported(settings.model):
        unknown = policy.unknown_of_file(settings.model, None)
    elif settings.unknown is not None:
        unknown = policy.unknown(Run.open(Path(settings.model)), settings.unknown)
    return Policy(settings.top, settings.below, settings.limit, unknown)


def _of_embedder(settings: Settings, embedder: Embedder) -> Answers:
    """Return the rows of `zoo embed`: D numbers each, as float32, or as float16 where `half`."""
    import pyarrow as pa

    kind = pa.float16() if settings.half else pa.float32()
    fields = [(name, pa.string()) for name in ("path", "status", "label", "error")]
    schema = pa.schema(
        [*fields, ("view", pa.int32()), ("features", pa.list_(kind, embedder.width))]
    )

    def rows(photos: Sequence[Photo], apart: bool) -> Iterator[Cells]:
        ours = replace(
            embedder, load=lambda file: _view(str(file), embedder.preprocess, 0, True, apart)
        )
        inputs = [Input(photo.file, photo.key) for photo in photos]
        for photo, row in zip(photos, ours.rows(inputs), strict=True):
            cells = _cells(photo, row.error)
            if row.features is not None:
                cells["features"] = row.features.astype("<f2" if settings.half else "<f4")
            yield cells

    def load(data: bytes) -> Array:
        return view_of(data, embedder.preprocess)

    return Answers(schema, rows, embedder.engine.name, _cells, load, embedder.engine)


def _cells(photo: Photo, error: str) -> Cells:
    """Return the row of features of a photo, but for the features."""
    texts = photo.key, "error" if error else "ok", photo.label, error
    path, status, label, why = (show_name(text) or None for text in texts)
    named = {"path": path, "status": status, "label": label, "error": why}
    return {**named, "view": 0, "features": None}


def embedding(row: Cells) -> Embedding:
    """Return the row of a part as `zoo embed` writes it."""
    import numpy as np

    found = row["features"]
    features = None if found is None else np.asarray(found, np.float32)
    texts = (row["path"], row["status"], row["label"] or "")
    return Embedding(*texts, features, error=row["error"] or "")


def _view(file: str, preprocess: Preprocess, number: int, flip: bool, apart: bool) -> Array:
    """Return a view of a photo wherever it lies, as `zoo.data.views` has it of a file."""
    with decoder_warnings.photo(file), file_room(file):
        data = content(file)
        digest = hashlib.sha256(data).hexdigest() if number or apart else ""
        return view_of(data, preprocess, number, digest=digest, flip=flip, apart=apart)
