"""What torchvision knows of its classifiers before one is built: weights, accuracy, paper, counts.

Nothing is downloaded or loaded: `weights=` would unpickle whatever lies in a cache, unchecked.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from types import ModuleType
from typing import TYPE_CHECKING

from torch import Tensor, nn

from zoo.catalog.spec import ModelSpec, Preprocess, Size, Weights, interpolation
from zoo.models.lazy_compiler import library

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum
    from torchvision.transforms._presets import ImageClassification

# Kept from the constructors: slow starts, and auxiliary heads that no classifier needs.
_OPTIONS: dict[str, dict[str, bool]] = {
    "googlenet": {"init_weights": False, "aux_logits": False},
    "inception_v3": {"init_weights": False, "aux_logits": False},
}
_IGNORE = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}
# `transform_input`: torchvision rescales the pixels of these to (p - 0.5) / 0.5 in the network.
_HALVES = ("googlenet", "inception_v3")

_SWAG = "github.com/facebookresearch/SWAG"
_PAPER = re.compile(r"`([^`<]+?)\s*<https?://arxiv\.org/abs/(\d\d)(\d\d\.\d+)>`")


def _models() -> ModuleType:
    """Return `torchvision.models`."""
    found: ModuleType = library("torchvision").models
    return found


def names() -> list[str]:
    models = _models()
    found: list[str] = models.list_models(module=models)
    return found


def is_other_task(name: str) -> bool:
    """Return whether torchvision has a model of this name that is not an image classifier."""
    models = _models()
    return name not in names() and name in models.list_models()


def row(name: str) -> ModelSpec:
    """Return what is known without the model: torchvision's own counts, multiply-adds rounded.

    Stages, cut, head and activations are found by building it.
    """
    models = _models()
    members = _members(name)
    weights = tuple(_weights(name, member) for member in members)
    builder = models.get_model_builder(name)
    paper, year = _paper(builder.__doc__ or "")
    return ModelSpec(
        name=f"torchvision/{name}",
        family=builder.__module__.rpartition(".")[2],
        builder="library",
        paper=paper,
        year=year,
        params=members[0].meta["num_params"],
        macs=round(members[0].meta["_ops"] * 1e9),
        stages=(),
        cut="",
        head="",
        preprocess=weights[0].preprocess,
        weights=weights,
        ignore=_IGNORE.get(name, ()),
    )


def construct(name: str, num_classes: int, size: Size | None = None) -> nn.Module:
    """Return the model with random weights. size: of the pictures, where it is not its own."""
    models = _models()
    options: dict[str, object] = {**_OPTIONS.get(name, {})}
    if size is not None and name.startswith("vit_"):
        options["image_size"] = size
    made: nn.Module = models.get_model(name, weights=None, num_classes=num_classes, **options)
    return made


def resampled(model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return published tensors with positions for the model's size, by torchvision's own means."""
    models = _models()
    if not isinstance(model, models.VisionTransformer):
        return tensors
    side, patch = model.image_size, model.patch_size
    positions = models.vision_transformer.interpolate_embeddings
    found: dict[str, Tensor] = positions(side, patch, OrderedDict(tensors))
    return found


def _paper(doc: str) -> tuple[str, int]:
    """Return title and arXiv number of a docstring's first link, and the year of that number."""
    found = _PAPER.search(doc)
    if not found:
        return "", 0
    title, year, rest = found.groups()
    return f"{' '.join(title.split())}, arXiv:{year}{rest}", 2000 + int(year)


def _members(name: str) -> list[WeightsEnum]:
    """Return the weights that fit the model as it is built here, torchvision's default first."""
    models = _models()
    enum = models.get_model_weights(name)
    ordered = [enum.DEFAULT, *(member for member in enum if member is not enum.DEFAULT)]
    size = min(member.transforms().crop_size[0] for member in ordered)
    # Left out: a vgg16 whose classifier is all NaN, and ViTs for a larger input than is built here.
    return [m for m in ordered if m.meta.get("categories") and min(m.meta["min_size"]) <= size]


def _weights(name: str, member: WeightsEnum) -> Weights:
    file = member.url.rpartition("/")[2]
    metrics = member.meta["_metrics"]["ImageNet-1K"]
    swag = _SWAG in member.meta.get("license", "")
    return Weights(
        tag=member.name.lower(),
        url=member.url,
        file=file,
        sha256=file.removesuffix(".pth").rpartition("-")[2],
        classes="imagenet1k",
        acc1=metrics["acc@1"],
        acc5=metrics["acc@5"],
        licence="CC-BY-NC-4.0" if swag else "BSD-3-Clause",
        source=member.meta["recipe"],
        preprocess=_preprocess(name, member.transforms()),
        mebibytes=member.meta["_file_size"],
    )


def _preprocess(name: str, transforms: ImageClassification) -> Preprocess:
    size, resize = transforms.crop_size[0], transforms.resize_size[0]
    halves = (0.5, 0.5, 0.5) if name in _HALVES else None
    return Preprocess(
        size=size,
        crop=size / resize,
        interpolation=interpolation(transforms.interpolation.value),
        mean=halves or tuple(transforms.mean),
        std=halves or tuple(transforms.std),
    )
