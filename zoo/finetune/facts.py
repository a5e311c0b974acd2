"""What is known of a network from an earlier run: enough to plan a solved head without torch.

Building a network to find out where its head is takes torch, and a library's model seconds more.
What the plan says of it is kept beside the compiled graphs, under a name made of the words that
asked for it and of the content of the file that it starts from, as it is read at that moment.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import catalog, device, weights
from zoo.catalog import ModelSpec, Preprocess, Weights
from zoo.disk import read_sealed
from zoo.engine.compiled import version_of
from zoo.engine.open import state_sha256
from zoo.errors import ZooError
from zoo.network import Network, is_run_file, recorded
from zoo.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

    from zoo.network import Network, Progress

FORMAT = 3


@dataclass(frozen=True, slots=True)
class Known:
    """A network and its cut, as a plan tells of them.

    spec: its row. preprocess: of its weights. shape: of one picture's features. frozen, trained,
    why: what the plan says of the parts. linear: nothing but a linear head is trained. tensors:
    hash of those of the frozen part.
    """

    spec: dict[str, Any]
    origin: dict[str, Any]
    preprocess: dict[str, Any]
    weights_sha256: str
    head: str
    cut: str
    boundary: str
    shape: tuple[int, ...]
    frozen: str
    trained: str
    why: str
    linear: bool
    tensors: str

    def parameters(self, classes: int) -> int:
        """Return how many parameters a linear head for so many classes has."""
        (width,) = self.shape
        return (width + 1) * classes


def words_of(recipe: Recipe) -> list[Any]:
    """What asks for a network, and whose code makes it."""
    choice = recipe.weights
    if choice is not None and os.path.exists(os.path.expanduser(choice)):
        choice = os.path.abspath(os.path.expanduser(choice))
    seed = recipe.seed if choice is not None and choice.lower() == "none" else None
    library = recipe.model.partition("/")[0] if catalog.of_library(recipe.model) else ""
    versions = [version_of(name) for name in ("zoo", "torch", library) if name]
    return [FORMAT, versions, recipe.model, choice, seed, recipe.cut, recipe.variant]


def kept_as(*facts: Any) -> Path:
    """Where that is kept which is computed from these."""
    text = json.dumps(facts, sort_keys=True)
    digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
    return weights.cache_folder() / "known" / f"{digest[:32]}.json"


def place(recipe: Recipe, source: Path | None) -> Path:
    """Where that is kept which is known of what the recipe starts from. Raises WeightsError."""
    content = [weights.hash_of(source)] if source else []
    if source and is_run_file(source):  # its record says what the network is
        content.append(weights.hash_of(source.with_name("run.json")))
    return kept_as(words_of(recipe), content)


def source_of(recipe: Recipe) -> Path | None:
    """The file of the weights that are asked for. Raises LookupError where only torch can tell."""
    choice = recipe.weights
    if choice is not None and choice.lower() == "none":
        return None
    found: Weights | Path | None
    if not catalog.of_library(recipe.model):
        found = weights.choose(catalog.find(recipe.model), choice)
    elif choice is not None and os.path.exists(os.path.expanduser(choice)):
        path = Path(os.path.expanduser(choice))
        found = path / "model.safetensors" if path.is_dir() else path
    else:  # what the library calls its weights does not change with a version of it
        name = read_sealed(kept_as("file", words_of(recipe)))
        found = Weights("", "", name.decode()) if name else None
    found = weights.held(found) if isinstance(found, Weights) else found
    if found is None:
        raise LookupError("no such file is here")
    return found


def recall(recipe: Recipe) -> Known | None:
    """What is known of the network that the recipe asks for; nothing of other weights."""
    try:
        content = read_sealed(place(recipe, source_of(recipe)))
        record = json.loads(content) if content else {}
        return Known(**{**record, "shape": tuple(record["shape"])})
    except (OSError, ValueError, TypeError, LookupError, ZooError):
        return None


def row_of(known: Known, recipe: Recipe) -> ModelSpec:
    return recorded({"model": recipe.model, "spec": known.spec})


def preprocess_of(known: Known, recipe: Recipe) -> Preprocess:
    preprocess = Preprocess.from_dict(known.preprocess)
    return replace(preprocess, fit=recipe.fit or preprocess.fit)


def networks(
    recipe: Recipe, classes: int, progress: Progress | None
) -> tuple[Network, nn.Sequential, ModelSpec, str]:
    """Where it starts from, the chain to train with its row, and the sha256 of its first weights.

    A network to be trained whole from random weights is made for the classes at once; any other
    gets a new head, so that what is frozen does not depend on the classes.
    """
    from zoo import network

    whole = recipe.task == "reconstruct"
    scratch = not recipe.freeze and recipe.head == "linear"
    about: Any = {"variant": dict(recipe.variant), "seed": recipe.seed}
    if scratch and not whole and (recipe.weights or "").lower() == "none":
        start = network.untrained(recipe.model, classes, **about)
    else:
        about |= {"except_head": True, "progress": progress}
        start = network.pretrained(recipe.model, recipe.weights, **about)
    digest = state_sha256(start.chain)
    if whole or (scratch and not start.trained and start.spec.task == "classify"):
        return start, start.chain, start.spec, digest
    device.seed_all("head", recipe.seed)
    chain, spec = network.with_head(start.chain, start.spec, classes, recipe.head)
    return start, chain, spec, digest
