"""The rows of a head from class names: which text tower, whether it is of this image tower."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import extras, weights
from zoo.errors import UsageError
from zoo.finetune.facts import NetworkFacts
from zoo.recipe import Recipe
from zoo.weights.repository import PREFIX

if TYPE_CHECKING:
    from zoo.network import Progress
    from zoo.weights import TextTower


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
