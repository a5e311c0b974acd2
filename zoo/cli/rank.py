"""zoo rank: which backbone suits your photos, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo import catalog
from zoo.cli.console import Screen, out, print_json, table, talk
from zoo.errors import UsageError
from zoo.text import count, percent, short

if TYPE_CHECKING:
    from zoo.finetune.rank import Ranked, Ranking

SHOWN = 5  # photos left out that are listed; --json has all


def command(
    data: Annotated[str, typer.Argument(help="CLASS/*.jpg or {train,val}/CLASS/*.jpg.")],
    models: Annotated[
        str | None,
        typer.Option(help="a,b=WEIGHTS,RUN,… or all; else those whose weights are here."),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Parts, each tested on by the rest.")] = 5,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the split, the folds and the views.")
    ] = 0,
    views: Annotated[int, typer.Option(min=1, help="Views of each photo to train on.")] = 1,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="CSV of all rows.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Everything as JSON on stdout.")] = False,
) -> None:
    """Every backbone's cross-validated accuracy on your photos, with its time, size and licence.

    One frozen feature pass each, which a fine-tune then finds done, and a linear head solved in
    each fold. The training part alone is used: the val photos stay unseen by the choice. * marks
    the best trade-offs: no other is at least as accurate and faster.
    """
    check(output)
    for name in (models or "").split(","):
        name = name.partition("=")[0].strip()
        if name and name != "all" and not catalog.of_library(name) and not Path(name).is_dir():
            catalog.find(name)  # a slip of the pen is told before a minute is spent
    with Screen() as screen:
        from zoo.data.ignored import told
        from zoo.finetune import rank

        ranking = rank.prepare(data, folds=folds, seed=seed, views=views, watch=screen)
        for said in (told(ranking.index.skipped), *ranking.index.notes):
            if said:
                talk(f"photos: {said}")
        chosen = choose(models)
        found = []
        for row in ranking.rows(chosen):
            screen.close()
            found.append(row)
            talk(progress(row, len(found), len(chosen)))
    rows = rank.in_order(found)
    if output is not None:
        write(output, rows)
    if json:
        print_json(record(data, ranking, rows))
    else:
        show(ranking, rows)
    if any(row.error for row in rows):
        talk("a model whose weights are in a file of yours: --models MODEL=FILE")
    if all(row.error for row in rows):
        raise typer.Exit(1)


def check(output: Path | None) -> None:
    """Before anything is computed. Raises UsageError."""
    if output is None:
        return
    if output.suffix.lower() != ".csv":
        raise UsageError(f"-o {output}: not a .csv", f"-o {output.stem or 'rank'}.csv")
    if not output.parent.is_dir():
        raise UsageError(f"-o {output}: there is no folder {output.parent}", "make it first")


def choose(models: str | None) -> list[str]:
    """The names of --models, or of what is here, with a word on what is not."""
    from zoo.finetune import rank

    every = [row.name for row in rank.pretrained()]
    if models == "all":
        return every
    if models is not None:
        names = [name.strip() for name in models.split(",") if name.strip()]
        if not names:
            raise UsageError("--models names no model", f"as in --models {','.join(every[1:3])}")
        return list(dict.fromkeys(names))
    names = rank.here()
    if more := len([name for name in every if name not in names]):
        talk(
            f"{count(len(names), 'model')} with weights on this machine; {more} more by "
            f"`zoo pull MODEL`, or --models all"
        )
    if not names:
        raise UsageError("no pretrained weights are on this machine", "`zoo pull resnet50`")
    return names


def progress(row: Ranked, number: int, of: int) -> str:
    if row.error:
        return f"{number} of {of}  {short_name(row)}: {row.error}"
    return (
        f"{number} of {of}  {short_name(row)}: {percent(row.accuracy)}, features in "
        f"{row.forward_seconds:.1f} s, solved in {row.solve_seconds:.1f} s"
    )


HEADER = (
    "model", "weights", "accuracy", "95 %", "", "ms/photo", "forward s", "solve s", "params", "MB",
    "licence",
)  # fmt: skip


def show(ranking: Ranking, rows: list[Ranked]) -> None:
    for line in table(map(cells, rows), HEADER, right="  rr rrrrr"):
        out(line)
    bad = ranking.bad
    if bad:
        talk(f"warning: {count(len(bad), 'unreadable photo')} left out, for all models:")
        for path, reason in list(bad.items())[:SHOWN]:
            talk(f"  {path}: {reason}")
        if len(bad) > SHOWN:
            talk(f"  and {len(bad) - SHOWN} more, which --json lists")
    for row in rows:
        if row.note:
            talk(f"{short_name(row)} {row.note}: its accuracy flatters, and is not compared")
    done = [row for row in rows if not row.error]
    if done:
        chosen = "chosen inside each fold" if done[0].nested else "chosen once, on the same folds"
        talk(
            f"{len(done[0].accuracies)}-fold cross-validation on "
            f"{count(done[0].photos, 'photo')} of the training part; penalty {chosen}; "
            "* no other is at least as accurate and faster"
        )


def cells(row: Ranked) -> tuple[str, ...]:
    if row.error:
        return (short_name(row), "", "error", *[""] * 8)
    return (
        short_name(row),
        row.weights,
        percent(row.accuracy),
        f"± {100 * (row.interval or 0):.1f}",
        "*" if row.best else "",
        f"{row.ms:.1f}",
        f"{row.forward_seconds:.1f}",
        f"{row.solve_seconds:.2f}",
        short(row.parameters),
        f"{4 * row.parameters / 1e6:.1f}",
        row.licence or "not stated",
    )


def short_name(row: Ranked) -> str:
    """Without the weights, which have a column of their own."""
    return row.model.partition("=")[0]


def record(data: str, ranking: Ranking, rows: list[Ranked]) -> dict[str, Any]:
    return {
        "data": data,
        "photos": len(ranking.samples),
        "classes": list(ranking.index.classes),
        "folds": ranking.folds,
        "seed": ranking.seed,
        "views": ranking.views,
        "left_out": ranking.bad,
        "models": [row.to_dict() for row in rows],
    }


def write(path: Path, rows: list[Ranked]) -> None:
    """All that is known, a row a model; lists with spaces between."""
    from zoo.run import write_csv

    records = [row.to_dict() for row in rows]
    for each in records:
        for name in ("accuracies", "penalties"):
            each[name] = " ".join(f"{value:.6g}" for value in each[name])
    write_csv(path, records[0].keys(), (each.values() for each in records))
