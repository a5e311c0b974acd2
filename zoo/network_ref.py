"""Which network is asked: that of a run, or of a name, unbuilt where that is possible."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import catalog, records, weights
from zoo.catalog import Preprocess, Weights
from zoo.disk import read_sealed, write_sealed
from zoo.engine import Array
from zoo.engine.open import CALIBRATION, Subject, spread
from zoo.errors import WeightsError, WriteError
from zoo.run import Run

if TYPE_CHECKING:
    from torch import nn


OTHER = "WARNING: model.safetensors is not the one that the run saved: its results are of another"


Progress = Callable[[int, int | None], None]


def tensors_of(path: Path, without: Sequence[str]) -> str:
    """Return the hash of a file's tensors but for these; found once for a file of this content."""
    words = ["tensors 1", weights.hash_of(path), *without]
    digest = hashlib.sha256(json.dumps(words).encode()).hexdigest()
    place = weights.cache_folder() / "known" / f"tensors-{digest[:32]}"
    if (known := read_sealed(place)) is not None:
        return known.decode()
    found = weights.digest_of_file(path, without)
    with suppress(WriteError):
        write_sealed(place, found.encode())
    return found


def ref_of_run(run: Run) -> Subject:
    """Return what a finished run asks: its frozen part and a linear head, else all of it."""
    from zoo import network
    from zoo.engine.compiled import made_of

    about = run.record
    preprocess = Preprocess.from_dict(about["preprocess"])
    (path, digest), stage = network.model_file(run), about.get("linear_head")
    names, row = tuple(about["classes"]), network.recorded(about)
    variant = dict(about.get("variant", {}))
    parts: dict[str, Any] = {
        "made_of": made_of(row, variant, about["head"]),
        "tensors": f"file {digest}",
        "boundary": None,
    }
    if stage and about.get("model_sha256") == digest:
        last = [f"{stage}.weight", f"{stage}.bias"]
        head = weights.read_arrays(path, last)
        must_be_head(head[last[0]], head[last[1]], len(names), run.path("run.json"), stage)
        run.check(records.fields({}), ("boundary",))
        parts = {
            "made_of": made_of(row, variant),
            "tensors": tensors_of(path, last),
            "boundary": about["boundary"],
            "head": (head[last[0]], head[last[1]]),
        }
    return Subject(
        model=about["model"],
        preprocess=preprocess,
        classes=names,
        threshold=about.get("threshold"),
        build=lambda: network.of_run(run).chain,
        note=OTHER if about.get("model_sha256", digest) != digest else "",
        photos=spread([path for path in run.photos("train") if path.is_file()], CALIBRATION),
        **parts,
    )


def must_be_head(weight: Array, bias: Array, classes: int, path: Path, stage: str) -> None:
    """Raises WeightsError for a stage, named by that run.json, that gives other classes."""
    if weight.ndim != 2 or weight.shape[:1] != (classes,) or bias.shape != (classes,):
        shapes = " and ".join(" x ".join(map(str, part.shape)) for part in (weight, bias))
        raise WeightsError(
            f"{path}: linear_head is {stage}, which gives no {classes} classes: {shapes} numbers",
            "run.json and model.safetensors are not of one training: make the run anew",
        )


def ref_of_name(name: str, choice: str | None, seed: int, progress: Progress | None) -> Subject:
    """Return what a model's name asks; the catalogue's are not built for it, a library's are."""
    from zoo import network
    from zoo.engine.compiled import made_of

    def build() -> nn.Sequential:
        return network.pretrained(name, choice, seed=seed, progress=progress).chain

    if not catalog.of_library(name):
        row = catalog.find(name)
        chosen = weights.choose(row, choice)
        if isinstance(chosen, Weights):
            path = weights.find(chosen, progress=progress, model=row.name)
            names = network.class_names(chosen.classes, row.num_classes)
            tensors = f"file {weights.hash_of(path)}"
            place = (None, chosen.preprocess, names, None)
            return Subject(name, made_of(row), tensors, *place, build)
    net = network.pretrained(name, choice, seed=seed, progress=progress)
    tensors = weights.digest_of_state(net.chain.state_dict())
    made, shown = made_of(net.spec, net.variant), (net.preprocess, net.classes, net.threshold)
    return Subject(name, made, tensors, None, *shown, lambda: net.chain, note=net.said_of_file)
