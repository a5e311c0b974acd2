"""What planning must know of a network of the catalogue, by its row and a file: nothing is built.

What a network is made of is shipped (`zoo.catalog.structures`), and the rest is in the file of its
weights: the digests of its tensors, as they are read. So the first fine-tune of a linear head needs
no torch, as the second.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zoo import catalog, weights
from zoo.catalog import ModelSpec, Weights, structures
from zoo.engine import Array
from zoo.engine.compiled import Compiled, keep
from zoo.engine.open import NetworkRef
from zoo.engine.shipped import shipped
from zoo.errors import ZooError
from zoo.finetune.facts import CutFacts, NetworkFacts
from zoo.network import is_run_file
from zoo.recipe import Recipe, unfreezings


class _Start(NamedTuple):
    """A row, the file of its weights, and those of the catalogue where it is one of them."""

    row: ModelSpec
    path: Path
    chosen: Weights | None


def recall(recipe: Recipe) -> tuple[NetworkFacts, Path] | None:
    """Return what is known of the network that the recipe asks for, and the file of its weights.

    None where only torch can tell: what is trained is more than a head, the row has another variant
    or the file something else than the network's tensors.
    """
    plain = recipe.freeze and recipe.head == "linear" and recipe.task != "reconstruct"
    other = recipe.cut or recipe.size or recipe.variant or unfreezings(recipe)
    start = _start(recipe) if plain and not other else None
    known = structures.find(start.row.name) if start else None
    if start is None or known is None or not known.plan:
        return None
    arrays = _arrays(start)
    if arrays is None:
        return None
    own = dict(list(arrays.items())[: known.frozen])
    said = known.plan["cut"] | {
        "shape": tuple(known.plan["cut"]["shape"]),
        "tensors": weights.digest_of_arrays(own),
    }
    like, origin = start.chosen, {"tag": "file", "file": str(start.path.absolute())}
    if like is not None:
        origin = {"tag": like.tag, "file": like.file, "licence": like.licence}
    like = like or start.row.default_weights
    facts = NetworkFacts(
        row=start.row,
        variant={},
        origin={**origin},
        preprocess=like.preprocess if like else start.row.preprocess,
        weights_sha256=_sha256(arrays, start.row.head),
        head=known.plan["head"],
        per_class=known.plan["per_class"],
        why=known.plan["why"],
        cuts=(CutFacts(**said),),
        better=known.plan["better"],
    )
    return facts, start.path


def compile_frozen(ref: NetworkRef, recipe: Recipe) -> Compiled | None:
    """Make the graph of a frozen part by its template, and return it; None where there is none."""
    ready, start = shipped(ref.made_of, ref.boundary, ref.preprocess), _start(recipe)
    if ready is None or start is None:
        return None
    with suppress(ZooError):  # torch has the last word
        arrays = _arrays(start)
        own = arrays and {name: arrays[name] for name in ready.names}
        if own and weights.digest_of_arrays(own) == ref.tensors:
            about = {"model": ref.model, "precision": "fp32"}
            return keep(ref.key(), ready.converted(own, ref.preprocess), ref.preprocess, about)
    return None


def _start(recipe: Recipe) -> _Start | None:
    """Return what a network of the catalogue starts from, where that is a file that is here."""
    if catalog.of_library(recipe.model):
        return None
    row = catalog.find(recipe.model)
    chosen = weights.choose(row, recipe.weights)
    if isinstance(chosen, Weights):
        path = weights.held(chosen)
        return _Start(row, path, chosen) if path else None
    if isinstance(chosen, Path) and not is_run_file(chosen):
        return _Start(row, chosen, None)
    return None


def _arrays(start: _Start) -> dict[str, Array] | None:
    """Return the tensors of a network as its state dict has them. Raises WeightsError."""
    known = structures.find(start.row.name)
    return weights.read_as(start.path, known.tensors, start.row) if known else None


def _sha256(arrays: Mapping[str, Array], head: str) -> str:
    """Return what `open.state_sha256` gives for a chain with these tensors, without its head."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        if not name.startswith(f"{head}."):
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
