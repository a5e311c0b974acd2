"""Which network is asked for classes: that of a run, or of a name, unbuilt where it can be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import catalog, device, network, network_published, records, weights
from zoo.catalog import Preprocess, Weights, structures
from zoo.data.samples import evenly
from zoo.disk import read_sealed, write_sealed
from zoo.engine.compiled import made_of
from zoo.engine.open import NetworkRef, tensors_of
from zoo.engine.quantise import CALIBRATION
from zoo.engine.store import known_at
from zoo.errors import RunError, UsageError, WeightsError
from zoo.head import layers
from zoo.head.distance import Distance
from zoo.head.kinds import Kind, kind_of
from zoo.head.layers import Layer
from zoo.network import Network, Progress
from zoo.records import EDITED
from zoo.run import DISTANCE, Run

if TYPE_CHECKING:
    from torch import nn

    from zoo.models.cut import Cut

OTHER = "WARNING: model.safetensors is not the one that the run saved: its results are of another"


@dataclass(frozen=True, slots=True)
class Classifier:
    """A network with the names of what it tells apart.

    threshold: of a network that tells several labels a picture. note: what is to be known of it.
    """

    ref: NetworkRef
    classes: tuple[str, ...]
    threshold: float | None = None
    note: str = ""


def classifier_of_run(run: Run) -> Classifier:
    """Return the network of a finished run: its frozen part and a head behind it, else all of it.

    The head is apart where it was found without training in steps.
    """
    about = run.record
    (path, digest), stage = network.model_file(run), about.get("linear_head")
    names, row, variant = tuple(about["classes"]), network.recorded(about), about.get("variant", {})
    made, tensors = made_of(row, variant, about["head"]), f"file {digest}"
    boundary, head = None, None
    if stage and about.get("model_sha256") == digest:
        kind = kind_of(about["head"])
        last = [f"{stage}.{name}" for name in layers.names_of(kind)]
        head = _head_of(run, kind, path, stage)
        run.check(records.fields({}), ("boundary",))
        made, tensors, boundary = made_of(row, variant), _tensors_of(path, last), about["boundary"]
    ref = NetworkRef(
        about["model"],
        made,
        tensors,
        boundary,
        Preprocess.from_dict(about["preprocess"]),
        lambda: network.of_run(run).chain,
        head,
        evenly([path for path in run.photos("train") if path.is_file()], CALIBRATION),
        arrays=lambda: weights.read_arrays(path),
    )
    note = OTHER if about.get("model_sha256", digest) != digest else ""
    return Classifier(ref, names, about.get("threshold"), note)


def _tensors_of(path: Path, without: Sequence[str]) -> str:
    """Return the hash of a file's tensors but for these; found once for a file of this content."""
    words = ["tensors 1", weights.hash_of(path), *without]
    place = known_at("tensors-", words)
    if (known := read_sealed(place)) is not None:
        return known.decode()
    found = weights.digest_of_file(path, without)
    write_sealed(place, found.encode())
    return found


def frozen_of_run(run: Run) -> NetworkRef:
    """Return what of a finished run gives its features: the part before the head."""
    from zoo.models.chain import before
    from zoo.models.cut import halves

    asked = classifier_of_run(run).ref if run.record.get("linear_head") else None
    if asked is not None and asked.boundary is not None:
        boundary = asked.boundary

        def build() -> nn.Sequential:
            return halves(network.of_run(run).chain, boundary)[0].eval()

        return replace(asked, head=None, build=build)
    net = network.of_run(run)
    reconstructs = net.spec.task == "reconstruct"
    stage = net.spec.code if reconstructs else before(net.chain, net.spec.head)
    frozen = halves(net.chain, stage)[0].eval()
    return _frozen_ref(run.record["model"], net, stage, frozen)


def frozen_of_name(name: str, net: Network, parts: Cut) -> NetworkRef:
    """Return the frozen part of a network that is cut."""
    return _frozen_ref(name, net, parts.boundary, parts.frozen)


def _frozen_ref(name: str, net: Network, stage: str, frozen: nn.Sequential) -> NetworkRef:
    made = made_of(net.row, net.variant)
    return NetworkRef(name, made, tensors_of(frozen), stage, net.preprocess, lambda: frozen)


def parted(start: Network, classes: int, seed: int) -> tuple[nn.Sequential, Cut]:
    """Return the network with a new linear head, cut as `zoo finetune` does it, or at the head.

    VGG and AlexNet are cut before three dense layers, of which only the last is new.
    """
    from zoo.models.chain import before
    from zoo.models.cut import cut
    from zoo.models.sides import feature_shape, is_linear

    device.seed_all("head", seed)
    chain, spec = network.with_head(start.chain, start.spec, classes, "linear")
    chain.eval()
    parts = cut(chain, spec.cut)
    if not is_linear(parts, chain, spec.head, feature_shape(parts, start.preprocess)):
        parts = cut(chain, before(chain, spec.head))
    return chain, parts


def _head_of(run: Run, kind: Kind, path: Path, stage: str) -> Layer:
    """Return the head of a run's file. Raises WeightsError where the stage gives other classes."""
    classes = len(run.record["classes"])
    names = {f"{stage}.{name}": name for name in layers.names_of(kind)}
    arrays = weights.read_arrays(path, names)
    try:
        return layers.of_arrays(kind, {names[n]: each for n, each in arrays.items()}, classes)
    except ValueError as error:
        raise WeightsError(
            f"{run.path('run.json')}: linear_head is {stage}, which gives no {classes} classes: "
            f"{error} numbers",
            "run.json and model.safetensors are not of one training: make the run anew",
        ) from error


def featured(ref: NetworkRef, run: Run) -> NetworkRef:
    """Return the network of a run as one that gives what its head takes before the class scores.

    Of a head that was trained in steps torch computes it, see `open_engine`.
    """
    return replace(ref, features=True, boundary=ref.boundary or run.record.get("boundary"))


def distance_of_run(run: Run) -> Distance:
    """Return how far photos are from those of a run's training.

    Raises UsageError where the run has not found that out, RunError for a file of another run.
    """
    path, digest = run.path(DISTANCE), run.record.get("distance_sha256")
    if digest is None:
        raise UsageError(
            f"--unknown: {run.folder} does not know how far photos are from those of its training: "
            "a run does whose head alone was found, for one class a photo, on kept features",
            "fine-tune anew with --freeze and without --augment, features are kept: `zoo finetune "
            "MODEL PHOTOS`; or leave --unknown out",
        )
    if not path.is_file():
        raise RunError(f"{run.folder} has no {DISTANCE}, though run.json names it", EDITED)
    if weights.hash_of(path) != digest:
        raise RunError(f"{path} is not the file that the run has saved", EDITED)
    try:
        return Distance.of_arrays(weights.read_arrays(path))
    except (KeyError, ValueError) as error:
        raise RunError(f"{path}: {error}", EDITED) from None


def _must_give_classes(name: str, choice: str | None) -> None:
    """Raises UsageError for a library's model without a classifier, unless a run gives it one."""
    from zoo import models

    spec = models.resolve(name)
    if spec.num_classes:
        return
    chosen = weights.choose(spec, choice)
    if not (isinstance(chosen, Path) and network.is_run_file(chosen)):
        raise UsageError(
            f"{name} gives features, not classes",
            f"`zoo finetune {name} PHOTOS` fits a head for your classes; `zoo embed {name} PHOTOS` "
            "writes the features",
        )


def classifier_of_name(name: str, choice: str | None, progress: Progress | None) -> Classifier:
    """Return the network of a model's name; the catalogue's are not built for it."""
    if not catalog.of_library(name):
        row = catalog.find(name)
        chosen = weights.choose(row, choice)
        if isinstance(chosen, Weights):
            path = weights.find(chosen, progress=progress, model=row.name)
            known = structures.find(row.name)
            ref = NetworkRef(
                name,
                made_of(row),
                f"file {weights.hash_of(path)}",
                None,
                chosen.preprocess,
                lambda: network.pretrained(name, choice, progress=progress).chain,
                arrays=lambda: weights.read_as(path, known.tensors, row) if known else None,
            )
            names = network_published.class_names(chosen.classes, row.num_classes)
            return Classifier(ref, names)
    else:
        _must_give_classes(name, choice)
    net = network.pretrained(name, choice, progress=progress)
    made, tensors = made_of(net.spec, net.variant), weights.digest_of_state(net.chain.state_dict())
    ref = NetworkRef(name, made, tensors, None, net.preprocess, lambda: net.chain)
    return Classifier(ref, net.classes, net.threshold, net.said_of_file)
