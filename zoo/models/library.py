"""Any other classifier of torchvision or timm, as a chain.

A row is made on demand from what the library knows (weights, preprocessing) and from the model
itself, built without data (`structure`: is it a chain, where is its head). Only random weights are
made here: `weights=` and `pretrained=True` would unpickle whatever lies in a cache, unchecked.
Files are found, verified and opened by `zoo.weights`.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache
from typing import Any, NoReturn

import torch
from torch import nn

from zoo.catalog.spec import Fit, Interpolation, ModelSpec, Preprocess, Weights
from zoo.errors import UnknownModel, nearest
from zoo.models.meter import measure, meta_twin
from zoo.models.structure import NotAChain, assemble, find_structure

# Kept from torchvision's constructors: slow starts, and auxiliary heads that no classifier needs.
_TORCHVISION_OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"init_weights": False, "aux_logits": False},
    "inception_v3": {"init_weights": False, "aux_logits": False},
}
_TORCHVISION_IGNORE = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}
# `transform_input`: torchvision rescales the pixels of these to (p - 0.5) / 0.5 in the network.
_TORCHVISION_HALVES = ("googlenet", "inception_v3")

_SWAG = "github.com/facebookresearch/SWAG"


# --- torchvision -----------------------------------------------------------------------------


@cache
def torchvision_spec(name: str) -> ModelSpec:
    """A row for a torchvision classifier. Raises UnknownModel with the nearest names."""
    from torchvision import models

    if name not in _torchvision_names():
        _refuse("torchvision", name, _torchvision_names(), name in models.list_models())
    members = _torchvision_members(name)
    weights = tuple(_torchvision_weights(name, member) for member in members)
    base = ModelSpec(
        name=f"torchvision/{name}",
        family=models.get_model_builder(name).__module__.rpartition(".")[2],
        builder="library",
        paper="",
        year=0,
        params=0,
        macs=0,
        stages=(),
        cut="",
        head="",
        preprocess=weights[0].preprocess if weights else Preprocess(),
        weights=weights,
        ignore=_TORCHVISION_IGNORE.get(name, ()),
    )
    return _with_structure(base, None)


def torchvision_list(pattern: str = "*") -> list[dict[str, Any]]:
    """Light rows (name, weights, params, acc1, gflops) of torchvision's classifiers."""
    rows = []
    for name in _filtered(_torchvision_names(), pattern):
        members = _torchvision_members(name)
        meta = members[0].meta
        rows.append(
            {
                "name": f"torchvision/{name}",
                "weights": [member.name.lower() for member in members],
                "params": meta["num_params"],
                "acc1": meta["_metrics"]["ImageNet-1K"]["acc@1"],
                "gflops": meta["_ops"],
            }
        )
    return rows


def _torchvision_names() -> list[str]:
    from torchvision import models

    names: list[str] = models.list_models(module=models)
    return names


def _torchvision_members(name: str) -> list[Any]:
    """The weights that fit the model as it is built here, torchvision's default first."""
    from torchvision import models

    enum = models.get_model_weights(name)
    ordered = [enum.DEFAULT, *(member for member in enum if member is not enum.DEFAULT)]
    size = min(member.transforms().crop_size[0] for member in ordered)
    # Left out: a vgg16 whose classifier is all NaN, and ViTs for a larger input than is built here.
    return [m for m in ordered if m.meta.get("categories") and min(m.meta["min_size"]) <= size]


def _torchvision_weights(name: str, member: Any) -> Weights:
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
        preprocess=_torchvision_preprocess(name, member.transforms()),
    )


def _torchvision_preprocess(name: str, transforms: Any) -> Preprocess:
    size, resize = transforms.crop_size[0], transforms.resize_size[0]
    halves = (0.5, 0.5, 0.5) if name in _TORCHVISION_HALVES else None
    return Preprocess(
        size=size,
        crop=size / resize,
        interpolation=_interpolation(transforms.interpolation.value),
        mean=halves or tuple(transforms.mean),
        std=halves or tuple(transforms.std),
    )


# --- timm ------------------------------------------------------------------------------------


@cache
def timm_spec(name: str) -> ModelSpec:
    """A row for a timm classifier, `ARCH` or `ARCH.TAG`. Raises UnknownModel, nearest names."""
    import timm

    arch, _, tag = name.partition(".")
    tags = _timm_tags(arch) if timm.is_model(arch) else []
    if not timm.is_model(arch):
        _refuse("timm", name, timm.list_models())
    if tag and tag not in tags:
        _refuse("timm", name, [f"{arch}.{known}" for known in tags] or [arch])
    cfg = _timm_cfg(name)
    ordered = [tag, *(other for other in tags if other != tag)] if tag else tags
    weights = [_timm_weights(arch, one) for one in ordered]
    base = ModelSpec(
        name=f"timm/{name}",
        family=timm.models.model_entrypoint(arch).__module__.rpartition(".")[2],
        builder="library",
        paper=_paper(cfg.paper_ids),
        year=0,
        params=0,
        macs=0,
        stages=(),
        cut="",
        head="",
        num_classes=cfg.num_classes,
        preprocess=_timm_preprocess(name, cfg),
        weights=tuple(one for one in weights if one is not None),
    )
    return _with_structure(base, cfg.classifier)


def timm_list(pattern: str = "*") -> list[dict[str, Any]]:
    """Light rows (name with tag, licence, input size, classes) of timm's pretrained classifiers."""
    import timm

    rows = []
    for name in _filtered(timm.list_models(pretrained=True), pattern):
        cfg = _timm_cfg(name)
        if cfg.num_classes:
            rows.append(
                {
                    "name": f"timm/{name}",
                    "licence": cfg.license or "",
                    "size": cfg.input_size[-1],
                    "classes": cfg.num_classes,
                }
            )
    return rows


def _timm_cfg(name: str) -> Any:
    import timm

    return timm.get_pretrained_cfg(name)


def _timm_tags(arch: str) -> list[str]:
    """The tags of an architecture that have weights, timm's default first."""
    import timm

    default = _timm_cfg(arch).tag or ""
    cfgs = timm.models.get_arch_pretrained_cfgs(arch)
    tags = [cfg.tag or "" for cfg in cfgs.values() if cfg.has_weights]
    return sorted(tags, key=lambda tag: tag != default)


def _timm_weights(arch: str, tag: str) -> Weights | None:
    """One tag's row; None where the file is in a format that only timm's own loaders read."""
    name = f"{arch}.{tag}" if tag else arch
    cfg = _timm_cfg(name)
    if not cfg.hf_hub_id or cfg.hf_hub_filename or not cfg.num_classes:
        return None
    return Weights(
        tag=tag,
        url=f"https://huggingface.co/{cfg.hf_hub_id}/resolve/main/model.safetensors",
        file=f"timm--{name}.safetensors",
        classes=_class_list(tag, cfg.num_classes),
        licence=cfg.license or "",
        source=f"https://huggingface.co/{cfg.hf_hub_id}",
        preprocess=_timm_preprocess(name, cfg),
    )


def _class_list(tag: str, count: int) -> str:
    """The list of names that these outputs follow, or nothing where that is not known."""
    if count == 1000 and "in1k" in tag:
        return "imagenet1k"
    known = {11821: "imagenet12k", 21841: "imagenet22k", 21843: "imagenet21k"}
    return known.get(count, "")


def _timm_preprocess(name: str, cfg: Any) -> Preprocess:
    channels, height, width = cfg.input_size
    if height != width:
        raise UnknownModel(
            f"timm/{name} reads pictures of {height} x {width} pixels, and only squares are read",
            "choose another model: `zoo list --timm PATTERN`",
        )
    fits: dict[str, Fit] = {"center": "crop", "border": "pad", "squash": "squash"}
    return Preprocess(
        size=height,
        crop=cfg.input_size[-1] / math.floor(cfg.input_size[-1] / cfg.crop_pct),  # as timm does
        fit=fits.get(cfg.crop_mode, "crop"),
        interpolation=_interpolation(cfg.interpolation),
        mean=tuple(cfg.mean),
        std=tuple(cfg.std),
        channels=channels,
    )


def _paper(ids: Any) -> str:
    first = ids if isinstance(ids, str) else (ids or ("",))[0]
    return first


# --- both ------------------------------------------------------------------------------------


def build(spec: ModelSpec, num_classes: int) -> nn.Sequential:
    """The library's model with random weights, in the form that the row found."""
    return assemble(_construct(spec.name, num_classes), spec.stages, spec.published_head)


def _construct(name: str, num_classes: int) -> nn.Module:
    library, _, rest = name.partition("/")
    if library == "timm":
        import timm

        model: nn.Module = timm.create_model(rest, pretrained=False, num_classes=num_classes)
        return model
    from torchvision import models

    options = _TORCHVISION_OPTIONS.get(rest, {})
    made: nn.Module = models.get_model(rest, weights=None, num_classes=num_classes, **options)
    return made


def _with_structure(row: ModelSpec, head_hint: object) -> ModelSpec:
    """The row with what only the model itself can tell: stages, cut, head, parameters, macs."""
    if row.num_classes < 1:
        raise UnknownModel(
            f"{row.name} gives features, not classes",
            f"choose a classifier: `zoo list --timm '*{row.family}*'`",
        )
    try:
        found = find_structure(lambda: _skeleton(row), head_hint, row.num_classes, row.preprocess)
    except NotAChain as error:
        raise UnknownModel(
            f"{row.name} cannot be used: {error}", "choose another model: `zoo list`"
        ) from error
    chain = assemble(_skeleton(row), found.stages, found.published_head)
    infos = measure(chain, row.preprocess)
    return replace(
        row,
        stages=found.stages,
        cut=found.cut,
        head=found.head,
        published_head=found.published_head,
        params=sum(info.params for info in infos),
        macs=sum(info.macs for info in infos),
    )


def _skeleton(row: ModelSpec) -> nn.Module:
    """The model on the meta device: shapes and no data."""
    try:
        with torch.device("meta"):
            return _construct(row.name, row.num_classes)
    except Exception:  # a constructor that computes with its tensors
        return meta_twin(_construct(row.name, row.num_classes))


def _filtered(names: list[str], pattern: str) -> list[str]:
    """The names that a glob, or a part of a name, meets."""
    glob = pattern.lower() if set(pattern) & set("*?[") else f"*{pattern.lower()}*"
    return [name for name in names if fnmatchcase(name.lower(), glob)]


def _interpolation(name: str) -> Interpolation:
    known: dict[str, Interpolation] = {
        "nearest": "nearest",
        "bilinear": "bilinear",
        "bicubic": "bicubic",
        "lanczos": "lanczos",
    }
    return known.get(name, "bilinear")


def _refuse(library: str, name: str, known: list[str], other_task: bool = False) -> NoReturn:
    if other_task:
        what = f"'{library}/{name}' is not an image classifier"
    else:
        close = nearest(f"{library}/{name}", [f"{library}/{one}" for one in known])
        what = f"there is no model called '{library}/{name}'" + (f"; {close}" if close else "")
    family = re.split(r"[\d_.]", name)[0]
    hint = f"run `zoo list --{library} '*{family}*'` for the names"
    raise UnknownModel(what, hint)
