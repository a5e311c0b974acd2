"""zoo train: a network from random weights; fine-tuning without weights and without a cut."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.catalog import ROWS
from zoo.cli import flags
from zoo.errors import RecipeError


@flags.settings("train")
def command(
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Run folder to make. Default: runs/MODEL-PHOTOS."),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="TOML file of settings; flags win over it.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Finish this run with the settings that it has.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and stop; nothing is written.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON on stdout.")
    ] = False,
    **given: Any,
) -> None:
    """Train a network from random weights: classes, or for an autoencoder its own input.

    The recipes/ folder has settings with measured results, as in `zoo train --recipe
    recipes/lenet-mnist.toml`. The path of the run is all that goes to stdout.
    """
    from zoo import recipe as recipes
    from zoo.cli.finetune import begin, continue_run, others

    chosen = flags.given(given)
    if resume is not None:
        continue_run(resume, [*chosen, *others(output, recipe, dry_run)], json)
        return
    begin(recipes.make(from_scratch(chosen, recipe), recipe, "train"), output, dry_run, json)


def from_scratch(given: dict[str, Any], file: Path | None) -> dict[str, Any]:
    """The flags with what training from scratch means. Raises RecipeError for another recipe."""
    from zoo import recipe as recipes

    base = recipes.load(file) if file else {}
    for name, scratch in (("freeze", False), ("cut", None), ("weights", "none")):
        if name in base and base[name] != scratch:
            raise RecipeError(
                f"{file} says {name} = {base[name]!r}, which is fine-tuning",
                f"`zoo finetune --recipe {file}`",
            )
    row = ROWS.get(str(given.get("model", base.get("model"))))
    if row is None:
        return given | {"freeze": False, "weights": "none"}
    if (base.get("task", row.task) == "reconstruct") != (row.task == "reconstruct"):
        raise RecipeError(
            f"{file} says task = '{base['task']}', {row.name} can only {row.task}",
            "leave task out: the network says what it learns",
        )
    task = {} if row.task == "classify" else {"task": row.task}
    return given | {"freeze": False, "weights": "none", **task}
