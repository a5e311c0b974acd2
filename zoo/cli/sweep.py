"""zoo sweep: the same fine-tune for every combination of some settings, compared."""

from __future__ import annotations

import shlex
from dataclasses import MISSING, asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli.console import Screen, print_json, print_table, talk
from zoo.cli.options import argument, flag, network, options, output, setting, shared
from zoo.errors import ZooError
from zoo.settings import table
from zoo.settings.setting import DATA, WHAT
from zoo.text import percent

if TYPE_CHECKING:
    from zoo.finetune.sweep import Row


@dataclass(frozen=True)
class Flags:
    model: str = network(table()["model"].about)
    data: str = argument("Photos, as `zoo finetune` takes them.")
    settings: list[str] = argument("NAME=VALUE,VALUE… as in penalty=0.1,1 head=linear,mlp:128.")
    output: Path = output("Folder of the runs.", MISSING)
    weights: str | None = setting("weights")
    recipe: Path | None = flag("TOML file of the other settings; flags win over it.", WHAT)
    folds: int | None = flag(
        "Folds of the cross-validation to compare by; 1 compares by the val photos. Default: 5.",
        DATA,
        min=1,
    )
    seed: int | None = setting("seed")
    json: bool = shared("json")


@options
def command(flags: Flags) -> None:
    """Fine-tune with every combination of some settings, and say which is best.

    Each combination is a run in the folder, compared by cross-validation over all photos. The
    same command again goes on with an interrupted sweep.
    """
    with Screen() as screen:
        rows = _swept(flags, screen)
        from zoo.finetune.sweep import best_of

        best = best_of(rows)
        if flags.json:
            print_json([{**asdict(row), "run": str(row.run), "best": row is best} for row in rows])
        else:
            _show(rows, best)
        if best is None:
            raise ZooError(
                f"none of the {len(rows)} combinations was trained: {rows[0].error}",
                "`zoo finetune` with the settings of one of them says what to do",
            )


def _swept(flags: Flags, screen: Screen) -> list[Row]:
    """Return a row for each combination, and say each as it is there. Raises UsageError."""
    from zoo.finetune import sweep
    from zoo.finetune.place import check_apart

    check_apart(flags.output, flags.data)
    folds = None if flags.folds == 1 else flags.folds or sweep.FOLDS
    base = {"model": flags.model, "data": flags.data, "weights": flags.weights, "folds": folds,
            "seed": flags.seed}  # fmt: skip
    recipes = sweep.recipes_of(base, flags.recipe, flags.settings)
    talk(f"{len(recipes)} combinations" + (f", {folds} folds each" if folds else ""))
    rows: list[Row] = []
    for row in sweep.sweep(recipes, sweep.grid(flags.settings), flags.output, screen):
        rows.append(row)
        if len(rows) == 1 and not row.error:
            _show_photos(row)
        said = row.error or percent(row.accuracy)
        talk(f"{len(rows):>4} of {len(recipes)}  {sweep.named(row.settings)}: {said}")
    return rows


def _show_photos(row: Row) -> None:
    """Say what the plan of a run says of the photos, which are the same for all."""
    from zoo.run import Run

    for what, value, reason in Run.open(row.run).record["plan"]:
        if what == "photos":
            talk(f"photos: {value}; {reason}".replace(", see skipped.csv", ""))


def _show(rows: list[Row], best: Row | None) -> None:
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
    print_table(lines, header, right=" " * len(names) + "rrrr")
    if best:
        said = shlex.quote(str(best.run))
        talk(f"next: `zoo predict {said} FOLDER`; its settings are in {best.run}/recipe.toml")
