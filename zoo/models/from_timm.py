"""What timm knows of its models before one is built: weights, licences, papers, pixels.

timm's package has no accuracies, no sizes of files and no counts: those are not guessed.
Nothing is downloaded or loaded: `pretrained=True` would unpickle whatever lies in a cache.
"""

from __future__ import annotations

import functools
import math
import re
import sys
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from zoo.catalog.spec import Fit, ModelSpec, Preprocess, Size, Weights, as_size, interpolation
from zoo.models.lazy_compiler import library

if TYPE_CHECKING:
    from timm.models import PretrainedCfg

_timm = functools.partial(library, "timm")
_FITS: dict[str, Fit] = {"center": "crop", "border": "pad", "squash": "squash"}


def names() -> list[str]:
    """Return every ARCH.TAG that has weights; some are no classifiers."""
    found: list[str] = _timm().list_models(pretrained=True)
    return found


def architectures() -> list[str]:
    found: list[str] = _timm().list_models()
    return found


def config(name: str) -> PretrainedCfg:
    found: PretrainedCfg | None = _timm().get_pretrained_cfg(name)
    assert found is not None, "the architecture is one of timm's"
    return found


def tags(arch: str) -> list[str]:
    """Return the tags of an architecture that have weights, its default first; none if unknown."""
    if not _timm().is_model(arch):
        return []
    default = config(arch).tag or ""
    configs = _timm().models.get_arch_pretrained_cfgs(arch)
    found = [one.tag or "" for one in configs.values() if one.has_weights]
    return sorted(found, key=lambda tag: tag != default)


def row(name: str, chosen: list[str]) -> ModelSpec:
    """Return what is known without the model, with the weights of the `chosen` tags.

    The paper is the one that timm names for these weights, and the year is that paper's. Stages,
    cut, head and counts are found by building the model.
    """
    arch = name.partition(".")[0]
    found, paper = config(name), _paper(name)
    weights = [_weights(arch, tag) for tag in chosen]
    return ModelSpec(
        name=f"timm/{name}",
        family=family(name),
        builder="library",
        paper=paper,
        year=_year(paper),
        params=0,
        macs=0,
        stages=(),
        cut="",
        head="",
        num_classes=_count(name, found),
        preprocess=preprocess(found),
        weights=tuple(one for one in weights if one is not None),
    )


def construct(name: str, num_classes: int, size: Size | None = None) -> nn.Module:
    """Return the model with random weights; the name is a plain one, see `library_name`.

    size: of the pictures where it is not the model's own; networks that take any are not told.
    """
    # With pictures of one size the rotary positions are numbers that are kept, and not computed
    # anew in each pass: only then are the blocks a chain.
    create = functools.partial(
        _timm().create_model, name, pretrained=False, num_classes=num_classes
    )
    if family(name) == "eva":
        create = functools.partial(create, dynamic_img_size=False)
    model: nn.Module
    if size not in (None, as_size(config(name).input_size[1:])):
        try:
            model = create(img_size=size)
            return model
        except TypeError as error:
            if "img_size" not in str(error):
                raise
    model = create()
    return model


def resampled(name: str, model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return published tensors with positions for the model's size, as timm's own loader does."""
    module = sys.modules[_timm().models.model_entrypoint(name.partition(".")[0]).__module__]
    convert = getattr(module, "checkpoint_filter_fn", None)
    found: dict[str, Tensor] = convert(dict(tensors), model) if convert else tensors
    return found


def better_size(name: str, tag: str) -> int:
    """Return the size at which these weights were published as better than at their own; else 0."""
    found = config(f"{name.partition('.')[0]}.{tag}" if tag else name)
    side = (found.test_input_size or (0,))[-1]
    return side if side > found.input_size[-1] else 0


def pooling(arch: str) -> str:
    """Return how a model pools its features, by timm's word; empty where it has no word for it."""
    try:
        with torch.device("meta"):
            model = construct(arch, 1)
    except Exception:  # a constructor that computes with its tensors
        model = construct(arch, 1)
    found = getattr(model, "global_pool", "")
    found = getattr(found, "pool_type", found)
    return found if isinstance(found, str) else ""


def family(name: str) -> str:
    """Return the file of timm that builds the model."""
    entry = _timm().models.model_entrypoint(name.partition(".")[0])
    return str(entry.__module__).rpartition(".")[2]


def _paper(name: str) -> str:
    ids = config(name).paper_ids
    return ids if isinstance(ids, str) else (ids or ("",))[0]


def _year(paper: str) -> int:
    """Return the year that the first two digits of an arXiv number tell."""
    found = re.fullmatch(r"arXiv:(\d\d)\d\d\.\d+", paper)
    return 2000 + int(found[1]) if found else 0


def _weights(arch: str, tag: str) -> Weights | None:
    """Return one tag's row; None where only timm's own loaders read the file's format."""
    name = f"{arch}.{tag}" if tag else arch
    found = config(name)
    if not found.hf_hub_id or found.hf_hub_filename:
        return None
    return Weights(
        tag=tag,
        url=f"https://huggingface.co/{found.hf_hub_id}/resolve/main/model.safetensors",
        file=f"timm--{name}.safetensors",
        classes=class_list(tag, _count(name, found)),
        licence=found.license or "",
        source=f"https://huggingface.co/{found.hf_hub_id}",
        preprocess=preprocess(found),
    )


def _count(name: str, found: PretrainedCfg) -> int:
    """Return how many classes these weights tell apart; none where they give features.

    What CLIP and the Perception Encoder call their head projects the features beside those of a
    text.
    """
    tag = name.partition(".")[2] or found.tag or ""
    joint = "clip" in name or "clip" in tag or "_pe_core_" in name
    return 0 if joint and not class_list(tag, found.num_classes) else int(found.num_classes)


def class_list(tag: str, count: int) -> str:
    """Return the list of names that these outputs follow, or nothing where that is not known."""
    if count == 1000 and "in1k" in tag:
        return "imagenet1k"
    known = {11821: "imagenet12k", 21841: "imagenet22k", 21843: "imagenet21k"}
    return known.get(count, "")


def preprocess(found: PretrainedCfg) -> Preprocess:
    """Return how pictures are prepared."""
    channels, _, width = found.input_size
    return Preprocess(
        size=as_size(found.input_size[1:]),
        crop=width / math.floor(width / found.crop_pct),  # as timm does
        fit=_FITS.get(found.crop_mode, "crop"),
        interpolation=interpolation(found.interpolation),
        mean=tuple(found.mean),
        std=tuple(found.std),
        channels=channels,
    )
