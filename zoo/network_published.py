"""The file that a network starts from and what is known of it: its row, its classes, its pixels.

Of weights that were published with a config.json, timm's registry has a say in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import catalog, extras
from zoo import weights as store
from zoo.catalog import ModelSpec, Preprocess, Weights, libraries
from zoo.catalog.spec import pixels
from zoo.errors import WeightsError, first_line, or_nearest
from zoo.watch import Progress
from zoo.weights.repository import Config, Repository

if TYPE_CHECKING:
    from torch import nn


_PREPARED = ("input_size", "crop_pct", "crop_mode", "interpolation", "mean", "std")


@dataclass(frozen=True, slots=True)
class Start:
    """A file of weights and what is known of it."""

    path: Path
    origin: dict[str, Any]
    preprocess: Preprocess | None
    names: tuple[str, ...]


def fetch_first(
    model: str | ModelSpec,
    choice: str | None,
    progress: Progress | None,
    variant: Mapping[str, str | float] | None = None,
) -> None:
    """Download the weights that a model's name stands for, where that is known without torch.

    To import torch and a library takes longer than to find out that there is no network. A variant
    may have no use for them. Raises WeightsError.
    """
    if variant or not isinstance(model, str) or not extras.has("torch"):
        return  # without torch that is what is told
    spec = libraries.find(model, choice) if catalog.of_library(model) else catalog.find(model)
    chosen = store.choose(spec, choice) if spec else None
    if spec and isinstance(chosen, Weights) and not store.held(chosen):
        store.find(chosen, progress=progress, model=spec.name)


def start(
    spec: ModelSpec, chosen: Weights | Path | Repository, progress: Progress | None
) -> tuple[ModelSpec, Start]:
    """Return the file to start from, and the row of the network that it is for."""
    labels: tuple[str, ...] = ()
    if isinstance(chosen, Path):
        like, path = spec.default_weights, chosen
        origin = {"tag": "file", "file": str(path.absolute())}
    elif isinstance(chosen, Weights):
        like, path = chosen, store.find(chosen, progress=progress, model=spec.name)
        origin = {"tag": like.tag, "file": like.file, "licence": like.licence}
    else:
        config, path = store.fetched(chosen, progress)
        (spec, like), labels = row_of(spec, config, chosen), config.labels
        kept = path.name if chosen.folder is None else str(path.absolute())
        origin = {"tag": like.tag, "file": kept, "licence": like.licence}
    names = labels or class_names(like.classes if like else "", spec.num_classes)
    return spec, Start(path, origin, like.preprocess if like else None, names)


def class_names(listed: str, count: int) -> tuple[str, ...]:
    """Return the names of a list of the catalogue, or numbers where there is no such list."""
    from zoo.catalog import classes
    from zoo.errors import ZooError

    try:
        return classes.names(listed)
    except ZooError:
        return tuple(str(number) for number in range(count))


def row_of(spec: ModelSpec, config: Config, source: Repository) -> tuple[ModelSpec, Weights]:
    """Return the row of a model as a config describes it, and its weights.

    Raises WeightsError where it is of another model, or of none that timm has.
    """
    from zoo.models import from_timm

    arch, ours = config.architecture, spec.name.partition("/")[2].partition(".")[0]
    known = from_timm.architectures()
    if arch not in known:
        raise WeightsError(
            or_nearest(f"{source} is of '{arch}', which timm does not have", arch, known),
            f"a newer timm may have it: `{extras.pip()} -U timm`",
        )
    if not spec.name.startswith("timm/") or arch != ours:
        raise WeightsError(
            f"{source} has weights of timm/{arch}, not of {spec.name}",
            f"give timm/{arch} as the model",
        )
    pooling = from_timm.pooling(arch)
    if config.pooling and pooling and config.pooling != pooling:
        raise WeightsError(
            f"{source} pools features by '{config.pooling}', timm/{arch} by '{pooling}'",
            "only networks as timm makes them by their name are read",
        )
    classes = spec.num_classes if config.classes is None else config.classes
    said = {name: getattr(config, name) for name in _PREPARED}
    given = {name: value for name, value in said.items() if value is not None}
    preprocess = from_timm.preprocess(replace(from_timm.config(arch), **given))
    weights = replace(
        source.weights(),
        tag=str(source) if source.folder is None else "file",
        classes=from_timm.class_list(config.tag, classes),
        licence=config.license,
        preprocess=preprocess,
    )
    return replace(spec, num_classes=classes, preprocess=preprocess), weights


def must_take(chain: nn.Sequential, preprocess: Preprocess, name: str, source: Repository) -> None:
    """Raises WeightsError where the network takes no pictures of the size that a config says."""
    from zoo.models.meter import passes

    try:
        passes(chain, preprocess)
    except Exception as error:  # the networks' own have no common type
        raise WeightsError(
            f"{source}: pictures of {pixels(preprocess.size)}, which {name} cannot take: "
            f"{first_line(error)}",
            "only networks as timm makes them by their name are read",
        ) from error
