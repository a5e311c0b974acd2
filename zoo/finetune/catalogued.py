"""What planning must know of a network of the catalogue, by its row and a file: nothing is built.

What a network is made of is shipped (`zoo.catalog.structures`), and the rest is in the file of its
weights: the digests of its tensors, as they are read. So the first fine-tune of a linear head needs
no torch, as the second.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zoo import catalog, weights
from zoo.catalog import ModelSpec, Weights, structures
from zoo.data.samples import Stat, status_of
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
    tensors = _tensors(start)
    if tensors is None:
        return None
    said = known.plan["cut"] | {
        "shape": tuple(known.plan["cut"]["shape"]),
        "tensors": tensors.frozen,
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
        weights_sha256=_sha256(tensors.arrays, start.row.head),
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
        tensors = _tensors(start)
        if tensors is not None and tensors.digest_of(ready.names) == ref.tensors:
            about = {"model": ref.model, "precision": "fp32"}
            made = ready.converted(tensors.arrays, ref.preprocess)
            return keep(ref.key(), made, ref.preprocess, about)
    return None


def forget() -> None:
    """Let go of what was read to know a network, which its graph is made of."""
    _read.cache_clear()


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


class _Tensors(NamedTuple):
    """The tensors of a network as its state dict has them, and a hash of those that are frozen."""

    arrays: dict[str, Array]
    names: tuple[str, ...]
    frozen: str

    def digest_of(self, names: tuple[str, ...]) -> str:
        """Return the hash of those of these names."""
        if names == self.names:
            return self.frozen
        return weights.digest_of_arrays({name: self.arrays[name] for name in names})


def _tensors(start: _Start) -> _Tensors | None:
    """Return what a network starts from; None where only torch can. Raises WeightsError."""
    try:
        return _read(start.row.name, start.path, status_of(start.path.stat()))
    except OSError:  # to read it says why
        return _read.__wrapped__(start.row.name, start.path, None)


@lru_cache(maxsize=1)  # the same are asked for to plan and to make the graph
def _read(name: str, path: Path, _: Stat | None) -> _Tensors | None:
    known = structures.find(name)
    arrays = weights.read_as(path, known.tensors, catalog.ROWS[name]) if known else None
    if known is None or arrays is None:
        return None
    names = tuple(arrays)[: known.frozen]
    return _Tensors(arrays, names, weights.digest_of_arrays({n: arrays[n] for n in names}))


def _sha256(arrays: Mapping[str, Array], head: str) -> str:
    """Return what `open.state_sha256` gives for a chain with these tensors, without its head."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        if not name.startswith(f"{head}."):
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
