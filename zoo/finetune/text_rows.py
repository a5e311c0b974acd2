"""The rows of a head from class names: which text tower, whether it fits, what it makes of them."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo import extras, weights
from zoo.errors import UsageError, WeightsError
from zoo.finetune.facts import NetworkFacts
from zoo.head.layers import Linear
from zoo.metrics import Array
from zoo.recipe import Recipe
from zoo.weights.repository import PREFIX

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zoo.network import Progress
    from zoo.weights import TextTower

SAME = 2e-3  # of the largest: what half precision leaves of a tensor


def tower_of(recipe: Recipe, facts: NetworkFacts, progress: Progress | None = None) -> TextTower:
    """Return the text tower that the recipe names, or that lies beside the image tower's weights.

    Raises UsageError, WeightsError.
    """
    extras.need("--head text", "open_clip")
    found = weights.text_tower(recipe.text or _beside(recipe, facts), progress)
    if found.tokenizer:
        extras.need("this text tower", "tokenizers")
    shape = facts.cuts[0].shape
    if shape != (found.columns,):
        raise UsageError(
            f"the image tower of {found.source} gives {found.columns} features, {recipe.model} "
            f"gives {' x '.join(map(str, shape))}",
            "take the text tower of the same model",
        )
    _check_activation(facts.row.name, found)
    return found


def _beside(recipe: Recipe, facts: NetworkFacts) -> str:
    """Return where the weights of the image tower are published. Raises UsageError."""
    tag = facts.origin["tag"]
    page = next((one.source for one in facts.row.weights if one.tag == tag), "")
    if found := re.fullmatch(r"https://huggingface\.co/([^/]+/[^/]+)", page):
        return PREFIX + found[1]
    choice = recipe.weights or ""
    if choice.startswith(PREFIX) or (Path(choice).expanduser() / "open_clip_config.json").is_file():
        return choice
    raise UsageError(
        f"--head text: nothing says where the text tower of {recipe.model} is",
        "give --text FOLDER or --text hf-hub:ORG/NAME, as open_clip saves a model",
    )


def _check_activation(model: str, found: TextTower) -> None:
    """Raises UsageError for a ViT that has another GELU than the weights were trained with.

    timm has a model of its own for QuickGELU, which open_clip has as a word in the config.
    """
    if not re.match(r"timm/vit_\w+_clip_", model) or ("quickgelu" in model) == found.quick_gelu:
        return
    other = model.replace("_clip_", "_clip_quickgelu_")
    if not found.quick_gelu:
        other = model.replace("_quickgelu", "")
    raise UsageError(
        f"{found.source} was trained {'with' if found.quick_gelu else 'without'} QuickGELU, and "
        f"{model} is {'with' if 'quickgelu' in model else 'without'}",
        f"`zoo finetune {other} …` has it",
    )


@functools.lru_cache(maxsize=1)  # each fold asks for the same
def rows(source: str, classes: tuple[str, ...]) -> tuple[Linear, Linear]:
    """Return the map to where texts are compared, E x D, and a row for each class name, K x E.

    source: of the tower. Raises WeightsError.
    """
    import torch

    from zoo.models import text_tower

    tower = weights.text_tower(source)
    names = [n for n in tower.shapes if not n.startswith("visual.") or n == tower.projection]
    offset = tower.projection.removesuffix("weight") + "bias"
    names += [offset] * (offset in tower.shapes)
    arrays = weights.read_arrays(tower.file, names)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    try:
        model = text_tower.text_tower(tower.width, tower.text, tower.quick_gelu, tensors)
        numbers = text_tower.tokens(model.context_length, tower.tokenizer, tower.cleaning)
    except ValueError as error:
        raise WeightsError(f"{tower.source}: {error}", "take it from its publisher anew") from error
    found = text_tower.directions(model, numbers, [name.replace("_", " ") for name in classes])
    scale = np.exp(arrays["logit_scale"].astype(np.float64)).item()
    bias = arrays["logit_bias"].item() if "logit_bias" in arrays else 0.0
    texts = Linear((scale * found.numpy()).astype(np.float32), np.full(len(classes), bias, "<f4"))
    return _map(tower, arrays, offset), texts


def _map(tower: TextTower, arrays: dict[str, Array], offset: str) -> Linear:
    """Return the last map of the image tower; one that changes nothing where it has none."""
    if not tower.projection:
        return Linear(np.eye(tower.width, dtype=np.float32), np.zeros(tower.width, np.float32))
    weight = arrays[tower.projection].astype(np.float32)
    if not tower.projection.endswith(".weight"):
        weight = np.ascontiguousarray(weight.T)
    bias = arrays.get(offset, np.zeros(tower.width))
    return Linear(weight, bias.astype(np.float32))


def check_same(tower: TextTower, chain: nn.Sequential, model: str) -> None:
    """Raises UsageError where a layer of the texts' image tower is none of the network's."""
    own: dict[tuple[int, ...], list[Tensor]] = {}
    for tensor in chain.state_dict().values():
        own.setdefault(tuple(tensor.shape), []).append(tensor)
    theirs = sorted(name for name in tower.shapes if name.startswith("visual."))
    layers = [n for n in theirs if len(tower.shapes[n]) > 1 and n != tower.projection]
    for name in [name for name in layers if tower.shapes[name] in own][:1]:
        array = weights.read_arrays(tower.file, [name])[name].astype(np.float32)
        limit = SAME * float(np.abs(array).max())
        if any(np.abs(o.cpu().numpy() - array).max() <= limit for o in own[array.shape]):
            return
    raise UsageError(
        f"the texts of {tower.source} are compared with another image tower than this {model}",
        "give --weights and --text of one model",
    )
