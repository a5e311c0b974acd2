"""Any other classifier of torchvision or timm, as a chain.

A row is made on demand from what the library knows (`from_torchvision`, `from_timm`) and from the
model itself, built without data (`structure`: is it a chain, where is its head). Only random
weights are made here; files are found, verified and opened by `zoo.weights`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import NoReturn

import torch
from torch import Tensor, nn

from zoo.catalog import libraries, library_name
from zoo.catalog.conditions import matches
from zoo.catalog.spec import ModelSpec, Size
from zoo.errors import UnknownModel, or_nearest
from zoo.models import from_timm, from_torchvision
from zoo.models.meter import measure, meta_twin
from zoo.models.pieces import ON_FEATURES, on_features
from zoo.models.structure import NotAChain, Structure, assemble, features_structure, find_structure

CLASSES = 11  # of the head under which a model without a classifier is measured


@cache
def torchvision_spec(name: str) -> ModelSpec:
    """Return a row for a torchvision classifier. Raises UnknownModel with the nearest names."""
    library_name(f"torchvision/{name}")
    known = from_torchvision.names()
    if name not in known:
        _refuse("torchvision", name, known, from_torchvision.is_other_task(name))
    return _with_structure(from_torchvision.row(name), None)


@cache
def timm_spec(name: str) -> ModelSpec:
    """Return a row for timm's `ARCH` or `ARCH.TAG`. Raises UnknownModel with the nearest names."""
    library_name(f"timm/{name}")
    arch, _, tag = name.partition(".")
    known = from_timm.architectures()
    if arch not in known:
        _refuse("timm", name, known)
    tags = from_timm.tags(arch)
    if tag and tag not in tags:
        _refuse("timm", name, [f"{arch}.{other}" for other in tags] or [arch])
    ordered = sorted(tags, key=lambda other: other != tag) if tag else tags
    row = _as_listed(from_timm.row(name, ordered), arch)
    return _with_structure(row, _head_hint(row))


def _as_listed(row: ModelSpec, arch: str) -> ModelSpec:
    """Return the row with what the table has of its weights: published accuracies, and sizes."""
    known = {
        one.tag: (one.acc1, one.acc5, one.mebibytes)
        for found in libraries.read([f"timm/{arch}.{one.tag}" for one in row.weights])
        for one in found.weights
    }
    nothing = (None, None, None)
    weights = []
    for one in row.weights:
        acc1, acc5, size = known.get(one.tag, nothing)
        weights.append(replace(one, acc1=acc1, acc5=acc5, mebibytes=size))
    return replace(row, weights=tuple(weights))


def names(library: str) -> list[str]:
    """Return what `rows` knows, as `torchvision/NAME` or `timm/ARCH.TAG`."""
    known = from_timm.names() if library == "timm" else from_torchvision.names()
    return [f"{library}/{name}" for name in known]


def rows(library: str, pattern: str = "") -> list[ModelSpec]:
    """Return rows of the classifiers with such names, with what the library knows by itself.

    pattern: a glob or a part of a name, without the library's. What only the model can tell is
    empty (stages, activations; of timm also parameters and multiply-adds).
    """
    found = [name for name in names(library) if matches(name.partition("/")[2], pattern)]
    return list(_timm_rows(found) if library == "timm" else map(_torchvision_row, found))


def _torchvision_row(name: str) -> ModelSpec:
    return from_torchvision.row(name.partition("/")[2])


def _timm_rows(found: list[str]) -> Iterable[ModelSpec]:
    for name in found:
        _, _, rest = name.partition("/")
        yield from_timm.row(rest, [rest.partition(".")[2]])


def build(spec: ModelSpec, num_classes: int) -> nn.Sequential:
    """Return the library's model with random weights, in the form that the row found.

    Raises UnknownModel where the library has no such model, or the model no such stages.
    """
    library, rest = library_name(spec.name)
    known = from_timm.architectures() if library == "timm" else from_torchvision.names()
    if (rest.partition(".")[0] if library == "timm" else rest) not in known:
        _refuse(library, rest, known)
    if spec.published == ON_FEATURES:
        return on_features(_construct(spec.name, 0, spec.preprocess.size), num_classes)
    model = _construct(spec.name, num_classes, spec.preprocess.size)
    try:
        return assemble(model, spec.stages, spec.published)
    except (KeyError, AttributeError) as error:
        raise UnknownModel(
            f"{spec.name} has no stage {error}", "was run.json edited? Train anew"
        ) from error


def measured_anew(row: ModelSpec) -> ModelSpec:
    """Return a full row whose size was changed with what is found at that size."""
    return _with_structure(row, _head_hint(row))


def resampled(spec: ModelSpec, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return published tensors, under their names, with positions for the row's size."""
    library, rest = library_name(spec.name)
    model = skeleton(spec, spec.num_classes)
    if library == "timm":
        return from_timm.resampled(rest, model, tensors)
    return from_torchvision.resampled(model, tensors)


def better_size(spec: ModelSpec, tag: str) -> int:
    """Return the size at which a tag's weights were published as better; 0 where none is."""
    library, rest = library_name(spec.name)
    known = {one.tag for one in spec.weights}
    return from_timm.better_size(rest, tag if tag in known else "") if library == "timm" else 0


def _construct(name: str, num_classes: int, size: Size | None = None) -> nn.Module:
    library, rest = library_name(name)
    construct = from_timm.construct if library == "timm" else from_torchvision.construct
    return construct(rest, num_classes, size)


def _head_hint(row: ModelSpec) -> object:
    library, rest = library_name(row.name)
    return from_timm.config(rest).classifier if library == "timm" else None


def _with_structure(row: ModelSpec, head_hint: object) -> ModelSpec:
    """Return the row with what only the model tells: stages, cut, head and all that is counted."""
    classes = row.num_classes or CLASSES
    try:
        found = find_structure(lambda: skeleton(row, classes), head_hint, classes, row.preprocess)
    except NotAChain as error:
        row, found = _on_features(row, error)
    row = replace(
        row, stages=found.stages, cut=found.cut, head=found.head, published=found.published
    )
    if found.published == ON_FEATURES:
        chain = on_features(skeleton(row, 0), classes)
    else:
        chain = assemble(skeleton(row, classes), found.stages, found.published)
    infos = measure(chain, row.preprocess)
    head = (
        0 if row.num_classes else sum(p.numel() for p in chain.get_submodule(row.head).parameters())
    )
    return replace(
        row,
        params=sum(info.params for info in infos) - head,
        macs=sum(info.macs for info in infos),
        activations=max(info.activations for info in infos),
    )


def _on_features(row: ModelSpec, why: NotAChain) -> tuple[ModelSpec, Structure]:
    """Return the row of a model that is used without its classifier. Raises UnknownModel."""
    try:
        if not row.name.startswith("timm/"):
            raise why
        whole, bare = skeleton(row, row.num_classes or CLASSES), skeleton(row, 0)
        found = features_structure(bare, row.preprocess)
    except Exception as error:  # the models' own errors have no common type
        raise UnknownModel(
            f"{row.name} cannot be used: {why}" + ("" if error is why else f"; {error}"),
            "choose another model: `zoo list`",
        ) from error
    extra = whole.state_dict().keys() - bare.state_dict().keys()
    return replace(row, num_classes=0, ignore=(*row.ignore, *sorted(extra))), found


def skeleton(row: ModelSpec, classes: int) -> nn.Module:
    """Return the model for the row's size on the meta device: shapes and no data."""
    size = row.preprocess.size
    try:
        with torch.device("meta"):
            return _construct(row.name, classes, size)
    except Exception:  # a constructor that computes with its tensors
        return meta_twin(_construct(row.name, classes, size))


def _refuse(library: str, name: str, known: list[str], other_task: bool = False) -> NoReturn:
    if other_task:
        what = f"'{library}/{name}' is not an image classifier"
    else:
        full, others = f"{library}/{name}", [f"{library}/{one}" for one in known]
        what = or_nearest(f"there is no model called '{full}'", full, others)
    family = re.split(r"[\d_.]", name)[0]
    hint = f"run `zoo list '{library}/*{family}*'` for the names"
    raise UnknownModel(what, hint)
