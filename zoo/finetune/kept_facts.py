"""Facts of networks, kept from when they were found, so that no plan needs torch.

To find out where a network's head is takes torch, and a library's model seconds more. So what was
found once (`examine.py`) is kept beside the compiled graphs, under a name made of the settings
that ask for it and of the content of the file that it starts from, read at that moment.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from zoo import catalog, weights
from zoo.catalog import Preprocess, Weights
from zoo.catalog.spec import as_size
from zoo.disk import read_sealed, write_sealed
from zoo.engine.compiled import version_of
from zoo.engine.store import known_at
from zoo.errors import ZooError
from zoo.finetune.facts import CutFacts, NetworkFacts
from zoo.head.kinds import kind_of
from zoo.network import is_run_file, record_of, recorded
from zoo.recipe import Recipe, unfreezings

FORMAT = 4


def read_ahead(recipe: Recipe) -> None:
    """Begin to read the weights that the recipe asks for, beside imports and a look at photos."""
    with suppress(OSError, LookupError, ZooError):  # `recall` and whoever needs it say why
        if source := source_of(recipe):
            weights.read_ahead(source, keep=False)


def recall(recipe: Recipe, classes: int) -> NetworkFacts | None:
    """Return what is known of the network that the recipe asks for, with the weights of now."""
    try:
        place = place_of(recipe, classes, source_of(recipe))
        record = json.loads(read_sealed(place) or b"{}")
        return NetworkFacts(
            **record
            | {
                "row": recorded({"model": recipe.model, "spec": record["row"]}),
                "preprocess": Preprocess.from_dict(record["preprocess"]),
                "cuts": tuple(
                    CutFacts(**cut | {"shape": tuple(cut["shape"])}) for cut in record["cuts"]
                ),
            }
        )
    except (OSError, ValueError, TypeError, LookupError, ZooError):
        return None


def keep(facts: NetworkFacts, recipe: Recipe, classes: int, source: Path | None) -> None:
    """Keep what was found; nothing where the cache cannot be written. source: of the weights."""
    record = asdict(facts) | {
        "row": record_of(facts.row),
        "preprocess": facts.preprocess.to_dict(),
    }
    origin, text = facts.origin, json.dumps(record)
    keep_file(recipe, origin)
    write_sealed(place_of(recipe, classes, source), text.encode(errors="surrogatepass"))


def keep_file(recipe: Recipe, origin: Mapping[str, str | int]) -> None:
    """Keep what a library calls the file of its weights."""
    if catalog.of_library(recipe.model) and origin["tag"] not in ("file", "run", "none"):
        write_sealed(_kept_as("file", _words(recipe)), str(origin["file"]).encode())


def _words(recipe: Recipe) -> list[object]:
    """Return what asks for a network, and whose code makes it."""
    choice = recipe.weights
    if choice is not None and os.path.exists(os.path.expanduser(choice)):
        choice = os.path.abspath(os.path.expanduser(choice))
    seed = recipe.seed if choice is not None and choice.lower() == "none" else None
    library = recipe.model.partition("/")[0] if catalog.of_library(recipe.model) else ""
    versions = [version_of(name) for name in ("zoo", "torch", library) if name]
    words = [FORMAT, versions, recipe.model, choice, seed, recipe.cut, recipe.variant]
    return [*words, as_size(recipe.size)] if recipe.size else words


def _kept_as(*about: object) -> Path:
    return known_at("", about).with_suffix(".json")


def place_of(recipe: Recipe, classes: int, source: Path | None, what: str = "") -> Path:
    """Return where facts are kept, or `what` else there is to know. Raises WeightsError.

    A linear head behind one cut is of any number of classes.
    """
    content = [weights.hash_of(source)] if source else []
    if source and is_run_file(source):  # its record says what the network is
        content.append(weights.hash_of(source.with_name("run.json")))
    elif source and (config := weights.config_beside(source)):
        content.append(weights.hash_of(config))
    stages = [stage for _, stage in unfreezings(recipe)]
    computed = kind_of(recipe.head).computed
    if recipe.freeze and computed and recipe.cut is None:
        return _kept_as(_words(recipe), content, "before the head")
    if recipe.freeze and (recipe.head == "linear" or computed) and not stages:
        return _kept_as(_words(recipe), content, *filter(None, [what]))
    other = [recipe.freeze, recipe.head, recipe.task == "reconstruct", stages, classes]
    return _kept_as(_words(recipe), content, other)


def source_of(recipe: Recipe) -> Path | None:
    """Return the file of the weights. Raises LookupError where only torch can tell."""
    choice = recipe.weights
    if choice is not None and choice.lower() == "none":
        return None
    found: Weights | Path | None
    if not catalog.of_library(recipe.model):
        chosen = weights.choose(catalog.find(recipe.model), choice)
        found = None if isinstance(chosen, weights.Repository) else chosen
    elif choice is not None and os.path.exists(os.path.expanduser(choice)):
        path = Path(os.path.expanduser(choice))
        found = weights.file_in(path) if path.is_dir() else path
    else:  # what the library calls its weights does not change with a version of it
        name = read_sealed(_kept_as("file", _words(recipe)))
        found = Weights("", "", name.decode()) if name else None
    found = weights.held(found) if isinstance(found, Weights) else found
    if found is None:
        raise LookupError("no such file is here")
    return found
