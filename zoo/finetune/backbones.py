"""The networks that may be chosen from: which are here, and each cut before a new linear head."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import catalog, config, weights
from zoo.catalog import Preprocess
from zoo.data.index import DatasetIndex
from zoo.errors import UsageError, WeightsError
from zoo.finetune.choices import mirrored
from zoo.run import Run
from zoo.watch import Progress
from zoo.weights.store import is_offline

if TYPE_CHECKING:
    from torch import nn

    from zoo.catalog import ModelSpec
    from zoo.network import Network


Origin = Mapping[str, str | int]  # of weights, as run.json has it


@dataclass(frozen=True, slots=True)
class Remote:
    """Weights that are worth a pull. bytes: four for each parameter of the network."""

    model: str
    bytes: int
    licence: str = "apache-2.0"


# A small, a medium and a large one.
_WORTH_IT = (
    Remote("timm/mobilenetv4_conv_small", 15_096_096),
    Remote("timm/efficientnet_b0", 21_154_192),
    Remote("timm/vit_small_patch16_224", 88_202_656),
)
_NONE = "no pretrained weights for these photos are on this machine"


def to_pull(present: Collection[str]) -> list[Remote]:
    """Return the short list of what is not here; nothing where there is no network to be used.

    Raises WeightsError where nothing is here either.
    """
    offline = is_offline() or is_offline("HF_HUB_OFFLINE")
    if offline and not present:
        raise WeightsError(
            f"{_NONE}, and it is to stay offline", _pull_or_name("where there is one ")
        )
    return [] if offline else [one for one in _WORTH_IT if one.model not in present]


def _pull_or_name(where: str = "") -> str:
    first, *more = (one.model for one in _WORTH_IT)
    others = " or ".join(more)
    return f"`zoo pull {first}` {where}(or {others}), or --models NAME=FILE for weights of yours"


def here() -> list[str]:
    """The pretrained classifiers whose weights are on this machine already."""
    from zoo.weights.inventory import items

    names = [row.name for row in pretrained() if weights.held(row.weights[0])]
    kept = [item.model for item in items() if item.state == "verified"]
    return list(dict.fromkeys([*names, *filter(catalog.of_library, kept), *_brought(kept)]))


def _brought(kept: Collection[str]) -> Iterator[str]:
    """Yield the libraries' networks whose weights are in the folder of the user's, none twice."""
    arches = set[str]()
    for row in catalog.libraries.read() if config.value("weights") else ():
        arch = row.name.partition(".")[0]
        name = row.name if arch in arches else arch  # the first is what a bare name means
        arches.add(arch)
        if row.name not in kept and name not in kept and any(map(weights.held, row.weights[:1])):
            yield name


def chosen(models: str | None, index: DatasetIndex) -> list[str]:
    """Return the names of a list with commas, each once; `all`; None for those that are here.

    Of those that are here one that was taught grey digits is not tried on coloured photos: it
    would cost a pass, and say of its row alone how bad it is. Raises UsageError where there is
    none, UnknownModel for a slip of the pen.
    """
    if models == "all":
        return [row.name for row in pretrained()]
    if models is not None:
        check_names(models)
        return listed(models)
    present = here()
    names = fitting(present, index)
    if not names:
        grey = f"; --models {','.join(present)} tries what knows grey pictures" if present else ""
        raise UsageError(_NONE, _pull_or_name() + grey)
    return names


def listed(models: str) -> list[str]:
    """Return the names of --models, each once. Raises UsageError where there is none."""
    names = [name.strip() for name in models.split(",") if name.strip()]
    if not names:
        raise UsageError("--models names no model", "as in --models resnet18,vgg16=WEIGHTS")
    return list(dict.fromkeys(names))


def check_names(models: str | None) -> None:
    """Raises UnknownModel for a slip of the pen, before a minute is spent."""
    for name in (models or "").split(","):
        name = name.partition("=")[0].strip()
        if name and name != "all" and not catalog.of_library(name) and not Path(name).is_dir():
            catalog.find(name)


def fitting(names: Sequence[str], index: DatasetIndex) -> list[str]:
    """Return those that may be tried on these photos."""
    return coloured(names) if mirrored(index) else list(names)  # else small and grey themselves


def coloured(names: Sequence[str]) -> list[str]:
    """Return those that know colours: what was taught digits does not."""
    rows = {row.name: row.weights[0].preprocess for row in pretrained()}
    return [name for name in names if name not in rows or rows[name].channels > 1]


def pretrained() -> list[ModelSpec]:
    """Return the rows of the catalogue that have weights, and give classes."""
    return [row for row in catalog.ROWS.values() if row.weights and row.task == "classify"]


def opened(model: str, seed: int, progress: Progress | None = None) -> tuple[str, Network]:
    """MODEL, MODEL=WEIGHTS (a tag, a file, a run, none) or the folder of a run."""
    from zoo import network

    name, choice = meant(model)
    if choice == model:
        return name, network.of_run(Run.open(Path(model)).finished())
    found = network.pretrained(name, choice, except_head=True, seed=seed, progress=progress)
    return name, found


def multiply_adds(chain: nn.Sequential, preprocess: Preprocess) -> int:
    """Return those of one picture."""
    from zoo.models.meter import measure

    return sum(stage.macs for stage in measure(chain, preprocess))


def named(origin: Origin) -> str:
    tag = origin["tag"]
    return Path(str(origin["file"])).name if tag == "file" else str(tag)


def seen(origin: Origin, boundary: str, index: DatasetIndex) -> str:
    """Whether these photos have taught the backbone more than its head."""
    if origin["tag"] != "run":
        return ""
    about = Run.open(Path(str(origin["file"]))).finished().record
    same = about["data"]["root"] == str(index.root.absolute())
    return "was trained on these photos" if same and about.get("boundary") != boundary else ""


def meant(model: str) -> tuple[str, str | None]:
    """Return the model and the weights that MODEL, MODEL=WEIGHTS or the folder of a run mean."""
    name, given, choice = model.partition("=")
    if not given and (Path(model) / "run.json").exists():
        return Run.open(Path(model)).finished().record["model"], model
    return name, choice if given else None


def cost(model: str) -> float:
    """Return the bytes of a network's file, by which the cheap are tried first.

    Those whose file is not here, and whose size is not known, are behind all others.
    """
    from zoo.weights.inventory import items

    name, choice = meant(model)
    if choice is not None and Path(choice).is_dir():
        choice = str(Path(choice) / "model.safetensors")
    if choice is not None and Path(choice).is_file():
        return Path(choice).stat().st_size
    if catalog.of_library(name):
        return min((item.bytes for item in items() if item.model == name), default=inf)
    found = weights.choose(catalog.find(name), choice)
    return (found.size if isinstance(found, catalog.Weights) else 0) or inf
