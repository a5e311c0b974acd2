"""zoo train: a network from random weights; fine-tuning without weights and without a cut."""

from __future__ import annotations

import shlex
from pathlib import Path

from zoo.catalog import ROWS
from zoo.catalog.datasets import ROWS as DATA_SETS
from zoo.cli import flags
from zoo.errors import RecipeError


@flags.settings("train", flags.Way, without=("ray",))
def command(given: dict[str, object], way: flags.Way) -> None:
    """Train a network from random weights: classes, or for an autoencoder its own input.

    `zoo recipes` lists settings with measured results; `zoo train --recipe lenet-mnist` uses
    one. The path of the run is all that goes to stdout.
    """
    from zoo import recipe as recipes
    from zoo.cli.finetune import begin
    from zoo.cli.finetune_resume import continue_run

    if way.resume is None:
        begin(recipes.make(from_scratch(given, way.recipe), way.recipe, "train"), way)
    else:
        continue_run(way.resume, list(given), way)


def from_scratch(given: dict[str, object], file: Path | None) -> dict[str, object]:
    """Return the flags with what training from scratch means.

    Raises RecipeError for another recipe.
    """
    from zoo import recipe as recipes

    base = recipes.load(file) if file else {}
    for name, scratch in (("freeze", False), ("cut", None), ("weights", "none")):
        if name in base and base[name] != scratch:
            raise RecipeError(
                f"{file} says {name} = {base[name]!r}, which is fine-tuning",
                f"`zoo finetune --recipe {shlex.quote(str(file))}`",
            )
    row = ROWS.get(str(given.get("model", base.get("model"))))
    if row is None:
        return given | {"freeze": False, "weights": "none"}
    if (base.get("task", row.task) == "reconstruct") != (row.task == "reconstruct"):
        raise RecipeError(
            f"{file} says task = '{base['task']}', {row.name} can only {row.task}",
            "leave task out: the network says what it learns",
        )
    more: dict[str, object] = {} if row.task == "classify" else {"task": row.task}
    if row.name in DATA_SETS and "data" not in base:  # `zoo train xo` learns the set of its name
        more |= {"data": row.name}
    return {**more, **given, "freeze": False, "weights": "none"}
