"""From a name to a chain: the zoo's own networks and, by adapters, those of the libraries."""

from __future__ import annotations

import importlib
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial

from torch import nn

from zoo import catalog
from zoo.catalog.spec import ModelSpec
from zoo.catalog.structures import StageInfo
from zoo.errors import UsageError
from zoo.head.kinds import kind_of
from zoo.models import pieces
from zoo.models.computed import Cosine, Neighbours
from zoo.models.meter import measure

__all__ = ["StageInfo", "build", "describe", "replace_head", "resolve", "stages"]

Variant = Mapping[str, str | float]


def resolve(name: str) -> ModelSpec:
    """Return the row of the catalogue, or one made for `torchvision/NAME` or `timm/NAME[.TAG]`.

    `sizes.sized` has it for pictures of another size. Raises UnknownModel with the nearest names.
    """
    if catalog.of_library(name):
        kind, rest = catalog.library_name(name)
        from zoo.models import library

        return library.torchvision_spec(rest) if kind == "torchvision" else library.timm_spec(rest)
    return catalog.find(name)


def build(
    spec: ModelSpec, num_classes: int | None = None, variant: Variant | None = None
) -> nn.Sequential:
    """Return the chain of a row, with random weights; num_classes: the row's own where it is None.

    variant: keywords of the builder, as in `spec.variants`.

    Own networks can be built under `torch.device("meta")` and filled by
    `load_state_dict(..., assign=True)`; those of a library cannot (some keep constants outside
    their state dict).
    """
    classes = num_classes
    if classes is None:  # a head on features that come without one is a place to put a new one
        classes = spec.num_classes or int(spec.builder == "library")
    if classes < 1 and spec.task == "classify":
        raise UsageError(f"a model with {classes} classes", "give 1 class or more")
    if spec.builder == "library":
        from zoo.models import library

        return library.build(spec, classes)
    module, function = spec.builder.rsplit(".", 1)
    builder = getattr(importlib.import_module(module), function)
    if spec.task == "reconstruct":
        return builder(**(variant or {}))  # type: ignore[no-any-return]
    return builder(classes, **(variant or {}))  # type: ignore[no-any-return]


def stages(chain: nn.Sequential) -> list[str]:
    """Return the names of the chain's stages, in order."""
    return [name for name, _ in chain.named_children()]


def describe(chain: nn.Sequential, spec: ModelSpec) -> list[StageInfo]:
    """Return the shape, parameters and multiply-adds of each stage for one picture of its size."""
    return measure(chain, spec.preprocess)


def replace_head(
    chain: nn.Sequential, spec: ModelSpec, num_classes: int, kind: str = "linear", rows: int = 1
) -> nn.Sequential:
    """Return a chain with a fresh last layer for `num_classes`; other modules are the same objects.

    kind: see `head/kinds.py`; rows: of a knn head, or width E of
    a text head. Draws from torch's global generator. The chain
    given is left as it was.

    Where the head is a 1 x 1 convolution (SqueezeNet), its whole stage and what follows give way
    to `avgpool`, `flatten`, `head`. SqueezeNet ends in ReLU over the class scores and then a mean:
    half of the scores of a fresh head would start, and stay, without a gradient; and the mean of
    a linear map is the linear map of the mean, for a fraction of the work.

    An autoencoder keeps its encoder, code included, and gets `head`: the decoder is gone.
    """
    if spec.task == "reconstruct":
        return _classifier(chain, spec.code, num_classes, (kind, rows))
    old = chain.get_submodule(spec.head)
    first = old[0] if isinstance(old, nn.Sequential) else old  # an `mlp:H` of an earlier run
    if isinstance(first, nn.Linear | Neighbours):
        fresh = _fresh_head(first.in_features, num_classes, (kind, rows), first)
        return pieces.swap(chain, spec.head, fresh)
    assert isinstance(old, nn.Conv2d), "a row's head is a Linear or a 1 x 1 convolution"
    names = stages(chain)
    before = names[: names.index(spec.head.split(".")[0])]
    kept = OrderedDict((name, chain.get_submodule(name)) for name in before)
    kept.setdefault("avgpool", nn.AdaptiveAvgPool2d((1, 1)))  # N C 1 1
    kept["flatten"] = nn.Flatten()  # N C
    kept["head"] = _fresh_head(old.in_channels, num_classes, (kind, rows), old)  # N K
    return nn.Sequential(kept)


def _classifier(
    chain: nn.Sequential, code: str, num_classes: int, kind: tuple[str, int]
) -> nn.Sequential:
    """Return the stages up to the code, and a head on it as it is: ReLU would lose half."""
    last = chain.get_submodule(code)
    assert isinstance(last, nn.Linear), "a row's code is a Linear"
    names = stages(chain)
    kept: OrderedDict[str, nn.Module] = OrderedDict(
        (name, chain.get_submodule(name)) for name in names[: names.index(code) + 1]
    )
    kept["head"] = _fresh_head(last.out_features, num_classes, kind, last)  # N K
    return nn.Sequential(kept)


def _fresh_head(
    features: int, num_classes: int, kind: tuple[str, int], old: nn.Linear | nn.Conv2d | Neighbours
) -> nn.Module:
    """Return a head of a kind: its name, and the rows of a knn head or E. Raises UsageError."""
    (name, rows), like = kind, old.weight
    linear = partial(nn.Linear, device=like.device, dtype=like.dtype)
    asked = kind_of(name)
    if asked.layer == "linear":
        return linear(features, num_classes)
    if asked.layer == "cosine":
        return Cosine(features, num_classes, device=like.device, dtype=like.dtype)
    if asked.layer == "text":
        parts: OrderedDict[str, nn.Module] = OrderedDict(
            project=linear(features, rows),  # N E
            rows=Cosine(rows, num_classes, device=like.device, dtype=like.dtype),  # N K
        )
        return nn.Sequential(parts)
    if asked.layer == "knn":
        return Neighbours(features, num_classes, asked.number, rows).to(like.device, like.dtype)
    return nn.Sequential(
        linear(features, asked.number),  # N H
        nn.ReLU(),
        nn.Dropout(0.5),  # as before the last layers of AlexNet and VGG
        linear(asked.number, num_classes),  # N K
    )
