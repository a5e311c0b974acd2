"""A run to a file of another format, by way of its ONNX file, and measured beside that.

The ONNX file is proved beside the run; the other file is compared with it on photos, from raw
pixels, each through its own runtime. It takes its name, and its folder, only when they agree.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from zoo.disk import bytes_of, replacing_all, scratch
from zoo.engine import Array
from zoo.engine.exported import ExportedModel
from zoo.engine.open_file import open_exported
from zoo.errors import DisagreementError, UsageError
from zoo.export import basis, proof
from zoo.export import onnx as whole
from zoo.export.basis import About, Pictures
from zoo.export.formats import Format, find
from zoo.export.records import Exported, Fields, Order
from zoo.export.run_file import proved
from zoo.machine import cores
from zoo.metrics import ENOUGH
from zoo.run import Run

MEASURED = 64  # photos
TIMED = 9  # calls, of which the median is told
Open = Callable[[Path], ExportedModel]
Fitting = Callable[[Array], Array]
Write = Callable[[Path, Path], None]  # the ONNX file of the first, and what is to be written
KEPT = ("network_diff", "network_photos", "precision", "agree_run", "reference")


def convert(
    run: Run, order: Order, row: Format, write: Write, opened: Open = open_exported
) -> Exported:
    """Write a file of a format, and return it measured beside the run's ONNX file.

    opened: what opens it again.

    Raises ParityError, DisagreementError where they differ by more than the format's limits; then
    nothing is left.
    """
    if run.record.get("task") == "reconstruct":
        raise UsageError(
            f"{run.folder} is an autoencoder, which `zoo export {row.title}` does not write",
            "`zoo export onnx RUN` does",
        )
    with scratch("export") as folder:
        base, exact = _base(run, order, folder)
        order.say(f"writing {row.title}")
        with replacing_all(order.destination) as path:
            write(base, path)
            result = _measured(run, (open_exported(base), opened(path)), row, order)
            result["bytes"] = sum(bytes_of(one) for one in path.parent.iterdir())
    result |= {name: exact[name] for name in KEPT}
    return Exported(path=str(order.destination), computes=row.computes, **result)


def _base(run: Run, order: Order, folder: Path) -> tuple[Path, Fields]:
    """Return an ONNX file and its proof: the run's own where it was proved, else one in `folder`.

    A file with a distance, or of a run in another precision, is another one than this takes.
    """
    note, name = proved(run), find("onnx").file
    plain = order.kind == "image" and run.record["precision"] == "fp32"
    if plain and note and note.get("distance_diff") is None and note.keys() >= set(KEPT):
        order.say(f"{name} was compared with the run already")
        return run.path(name), note
    base = folder / name
    made = whole.export_run(run, replace(order, destination=base, shape=None, tail=None))
    return base, made.to_dict()


def _measured(
    run: Run, both: tuple[ExportedModel, ExportedModel], row: Format, order: Order
) -> Fields:
    """Return how a file answers beside the ONNX file, and how quickly. Raises DisagreementError."""
    base, model = both
    about = About.of_run(run)
    pictures = basis.readable(order.photos, about.preprocess, order.most or MEASURED)
    order.say(f"measuring on {len(pictures)} photos with {model.name}")
    theirs = answers(base, pictures, about, model.fitting)
    ours = answers(model, pictures, about, model.fitting)
    result = measured(run, pictures, ours, theirs, about)
    if row.limits:
        proof.check(result, row.limits)
    if result["agree"] < ENOUGH * len(pictures) and not order.force:
        raise DisagreementError(
            f"the file answers {result['agree']} of {len(pictures)} photos as the ONNX file in "
            f"fp32; at least {100 * ENOUGH:.0f} % are needed",
            "export another format; or take what there is: --force",
        )
    latency = 1000 * _latency(model, pictures, about)
    return result | {"runtime": model.name, "input": model.input, "latency_ms": latency}


def rated(run: Run, order: Order) -> Fields:
    """Return accuracy and latency of a file that is there; no proof needs them."""
    about = About.of_run(run)
    pictures = basis.readable(order.photos, about.preprocess, order.most or MEASURED)
    model = open_exported(order.destination)
    found = answers(model, pictures, about, model.fitting)
    result = measured(run, pictures, found, found, about)
    latency = 1000 * _latency(model, pictures, about)
    return {"accuracy": result.get("accuracy"), "latency_ms": latency}


def answers(model: ExportedModel, pictures: Pictures, about: About, fitting: Fitting) -> Array:
    """Return the probabilities N x K of a file for photos, from raw pixels where it takes them.

    fitting: what brings raw pixels to the size that one of two files takes.
    """

    def one(picture: tuple[Path, Array]) -> Array:
        return model.run(fitting(proof.given(picture, model.input, about.preprocess)))

    with ThreadPoolExecutor(cores()) as pool:
        scores = np.concatenate(list(pool.map(one, pictures)))
    return about.probabilities(scores) if model.input == "tensor" else scores


def _latency(model: ExportedModel, pictures: Pictures, about: About) -> float:
    """Return the seconds of a picture on one core: the median of some calls, without decoding."""
    given = model.fitting(proof.given(pictures[0], model.input, about.preprocess))
    given = given.repeat(model.batch or 1, axis=0)
    times = []
    for _ in range(TIMED):
        began = time.perf_counter()
        model.run(given)
        times.append(time.perf_counter() - began)
    return float(np.median(times)) / len(given)


def measured(run: Run, pictures: Pictures, ours: Array, theirs: Array, about: About) -> Fields:
    """Return what Exported tells of a file beside fp32, and of both beside the labels."""
    difference = np.abs(ours - theirs)
    same = (basis.answers(ours, about) == basis.answers(theirs, about)).all(axis=1)
    result: Fields = {
        "photos": len(pictures),
        "agree": int(same.sum()),
        "max_diff": float(difference.max()),
        "mean_diff": float(difference.mean()),
    }
    labels = dict(run.labelled("val"))
    known = [k for k, (photo, _) in enumerate(pictures) if labels.get(photo) in about.classes]
    if about.threshold is None and known:
        right = np.array([about.classes.index(labels[pictures[k][0]]) for k in known])
        result["accuracy"] = float((ours[known].argmax(axis=1) == right).mean())
        result["accuracy_fp32"] = float((theirs[known].argmax(axis=1) == right).mean())
    return result
