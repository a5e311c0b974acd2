"""zoo sweep: the same fine-tune for every combination of some settings, compared."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.cli.console import Screen, out, print_json, table, talk
from zoo.errors import UsageError, ZooError
from zoo.text import percent

if TYPE_CHECKING:
    from zoo.finetune.sweep import Row

SETTINGS = "NAME=VALUE,VALUE… as in penalty=0.1,1 head=linear,mlp:128."


def command(
    model: Annotated[str, typer.Argument(help="A name of `zoo list`, torchvision/X or timm/X.")],
    data: Annotated[str, typer.Argument(help="Photos, as `zoo finetune` takes them.")],
    settings: Annotated[list[str], typer.Argument(help=SETTINGS)],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the runs.")],
    weights: Annotated[str | None, typer.Option(help="Tag, file, run, or none.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML file of the other settings.")] = None,
    folds: Annotated[
        int | None, typer.Option(help="Compare by so many folds (5; 1: by the val photos).")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the split, the order and the head (0).")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="The rows as JSON on stdout.")] = False,
) -> None:
    """Fine-tune with every combination of some settings, and say which is best.

    Each combination is a run in the folder, compared by cross-validation over all photos. The
    same command again goes on with an interrupted sweep.
    """
    with Screen() as screen:
        from zoo.finetune import sweep as sweeps

        if folds is not None and folds < 1:
            raise UsageError(f"--folds {folds}", "give 2 or more, or 1 for the val photos alone")
        folds = None if folds == 1 else folds or sweeps.FOLDS
        base = {"model": model, "data": data, "weights": weights, "folds": folds, "seed": seed}
        found = sweeps.recipes_of(base, recipe, settings)
        chosen = sweeps.grid(settings)
        talk(f"{len(found)} combinations" + (f", {folds} folds each" if folds else ""))
        rows: list[Row] = []
        for row in sweeps.sweep(found, chosen, output, screen):
            screen.close()
            rows.append(row)
            if len(rows) == 1 and not row.error:
                show_photos(row)
            said = row.error or percent(row.accuracy)
            talk(f"{len(rows):>4} of {len(found)}  {sweeps.named(row.settings)}: {said}")
        best = sweeps.best_of(rows)
        if json:
            print_json([{**asdict(row), "run": str(row.run), "best": row is best} for row in rows])
        else:
            show(rows, best)
        if best is None:
            raise ZooError(
                f"none of the {len(rows)} combinations was trained: {rows[0].error}",
                "`zoo finetune` with the settings of one of them says what to do",
            )


def show_photos(row: Row) -> None:
    """What the plan of a run says of the photos, which are the same for all."""
    from zoo.run import Run

    for what, value, reason in Run.open(row.run).record["plan"]:
        if what == "photos":
            talk(f"photos: {value}; {reason}".replace(", see skipped.csv", ""))


def show(rows: list[Row], best: Row | None) -> None:
    from zoo.finetune.sweep import as_good

    names = list(rows[0].settings)
    lines = [
        (
            *(str(row.settings[name]) for name in names),
            percent(row.accuracy),
            percent(row.error_of_mean) if row.error_of_mean is not None else "",
            percent(row.val_accuracy),
            f"{row.seconds:.1f} s",
            str(row.run),
            "best" if row is best else "as good" if best and as_good(row, best) else row.error,
        )
        for row in sorted(rows, key=lambda row: -(row.accuracy or 0.0))
    ]
    header = (*names, "accuracy", "± error", "val", "time", "run", "")
    for line in table(lines, header, right=" " * len(names) + "rrrr"):
        out(line)
    if best:
        talk(f"next: zoo predict {best.run} FOLDER; its settings are in {best.run}/recipe.toml")
