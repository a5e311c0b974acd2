"""What Tab offers for a word: models, runs, stages of the model that was typed, values of a flag.

Nothing heavy is imported: a shell waits. Where nothing is offered, it offers files by itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice

import typer

from zoo.cli.sections import TYPED
from zoo.cli.shells import as_typed
from zoo.errors import ZooError

Given = Mapping[str, object]  # what was typed before the word, by the names of parameters
Find = Callable[[Given, str], list[str]]
DEPTH, MOST = 3, 2000  # folders below this one that are looked into for runs; entries in all
RECENT, SMALL = 64, 2**20  # files of facts that are read at most, bytes of each


def offer(name: str, choices: Iterable[str] = ()) -> Callable[..., list[str]] | None:
    """Return what typer asks for values of a parameter by its name, or of a list.

    None for any text, and for files.
    """
    find = _fixed(*choices) if choices else _BY_NAME.get(name)
    if find is None:
        return None

    def offered(ctx: typer.Context, incomplete: str) -> list[str]:
        try:
            found = [one for one in find(_given(ctx), incomplete) if one.startswith(incomplete)]
            return [_Chosen(as_typed(one)) for one in found if one.isprintable()]
        except (OSError, ValueError, ZooError):  # nothing is said in the middle of a line
            return []

    return offered


class _Chosen(str):
    r"""A value as the shell must be given it, `a\ b`, that begins with the word as it is meant.

    typer would compare the two, and drop it behind a blank.
    """

    def startswith(self, *_word: object) -> bool:
        return True


def _given(context: typer.Context) -> Given:
    """Return the values of parameters; of the network also where the last flag lacks its value.

    There typer takes none of the words for an argument; the first of them is the network.
    """
    words = [word for word in context.meta.get(TYPED, ()) if not word.startswith("-")]
    said = {name: value for name, value in context.params.items() if value is not None}
    return {"model": words[0] if words else "", **said}


def _models(given: Given, word: str) -> list[str]:
    """Return networks: runs near here first, then the catalogue, then a library's."""
    from zoo import catalog

    if catalog.of_library(word):
        return [name for name in catalog.libraries.names() if name.startswith(word)]
    if "/" in word:
        return _runs(given, word)
    bare: list[str] = []
    if len(word) > 2:
        every = (name.partition("/")[2].partition(".")[0] for name in catalog.libraries.names())
        bare = [name for name in dict.fromkeys(every) if name.startswith(word)]
    libraries = [f"{name}/" for name in catalog.LIBRARIES]
    own = [*catalog.ROWS, *libraries, *bare]
    return list(dict.fromkeys([*_runs(given, word), *own]))


def _runs(_given: Given, word: str) -> list[str]:
    """Return the runs below this folder, or below the one that the word names."""
    found = _below(os.path.dirname(word) or ".", DEPTH)
    unsaid = "" if word.startswith("./") else "./"
    said = [path.removeprefix(unsaid) for path in islice(found, MOST)]
    return [f"./{path}" if path.startswith("-") else path for path in said]


def _below(folder: str, depth: int) -> Iterator[str]:
    try:
        inside = sorted(os.scandir(folder), key=lambda one: one.name)[:MOST]
    except OSError:
        return
    from zoo import catalog

    folders = [one for one in inside if not one.name.startswith(".") and one.is_dir()]
    for one in folders:
        if catalog.holds_run(one):
            yield one.path
        elif depth > 1 and not one.is_symlink():
            yield from _below(one.path, depth - 1)


def _stages(given: Given, _word: str) -> list[str]:
    """Return the stages of the network that was typed: a row's, a run's, or those found before."""
    from zoo import catalog

    model = str(given.get("run") or given.get("model"))
    if catalog.holds_run(model):
        with open(os.path.join(model, "run.json"), encoding="utf-8") as file:
            return _names(json.load(file).get("spec"))
    name = catalog.full_name(model)
    row = catalog.ROWS.get(catalog.base(name))
    return list(row.stages) if row else _found_before(name)


def _names(spec: object) -> list[str]:
    stages = spec.get("stages") if isinstance(spec, dict) else None
    return [str(name) for name in stages] if isinstance(stages, list) else []


def _found_before(model: str) -> list[str]:
    """Return the stages of a library's model that an earlier command has found; see facts."""
    from zoo.disk import cache_folder

    places = [one for one in cache_folder().glob("known/*.json") if one.stat().st_size < SMALL]
    places.sort(key=lambda one: -one.stat().st_mtime)
    for place in places[:RECENT]:
        text = place.read_text("utf-8", errors="replace").partition("\n")[2]
        if f'"name": "{model}"' in text[:400] and (found := _names(json.loads(text).get("row"))):
            return found
    return []


def _tags(given: Given, _word: str) -> list[str]:
    """Return the tags of the weights of the model that was typed; `none` for random ones."""
    from zoo import catalog

    models = given.get("models")  # `zoo pull` takes several
    first = models[0] if isinstance(models, list | tuple) and models else ""
    name = str(given.get("model") or first)
    row = catalog.ROWS.get(catalog.base(catalog.full_name(name)))
    return [*(each.tag for each in row.weights), "none"] if row else ["none"]


def _recipes(_given: Given, word: str) -> list[str]:
    from glob import escape, glob

    from zoo.recipe import ours

    return [*ours(), *glob(escape(word) + "*.toml")]


def _data(_given: Given, word: str) -> list[str]:
    """Return data sets by name, where a word is begun; else the shell offers folders."""
    sets = [name for name in ("mnist", "fashion-mnist", "xo") if word and name.startswith(word)]
    near = [one for one in os.listdir(".") if one.startswith(word)] if sets else []
    return sets + near


def _sorts(_given: Given, _word: str) -> list[str]:
    from zoo.catalog import SORT_KEYS

    return list(SORT_KEYS)


def _families(_given: Given, _word: str) -> list[str]:
    from zoo import catalog

    return sorted({row.family for row in catalog.ROWS.values()})


def _keys(_given: Given, _word: str) -> list[str]:
    from zoo.config import KEYS

    return list(KEYS)


def _fixed(*values: str) -> Find:
    return lambda _given, _word: list(values)


_BY_NAME: dict[str, Find] = {
    "model": _models, "models": _models, "student": _models,
    "run": _runs, "runs": _runs, "teacher": _runs, "resume": _runs,
    "cut": _stages, "stage": _stages, "unfreeze": _stages,
    "weights": _tags, "recipe": _recipes, "name": _recipes, "data": _data,
    "device": _fixed("auto", "cpu", "cuda", "cuda:0", "mps"),
    "head": _fixed("linear", "mlp:512", "prototype", "prototype:cosine", "knn:20", "text"),
    "sort": _sorts, "family": _families, "task": _fixed("classify", "reconstruct", "multilabel"),
    "kind": _fixed("features", "engines", "graphs", "converted", "solving", "digests", "known",
                   "weights", "web", "data"),
    "key": _keys,
    "log": _fixed("csv", "tensorboard", "mlflow", "wandb"),
}  # fmt: skip
