"""zoo rank: which backbone suits your photos, before anything is trained."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from zoo.cli.console import Screen, print_json, print_table, talk, warn_unreadable
from zoo.cli.names import full_name
from zoo.cli.options import argument, flag, force, options, output, shared
from zoo.settings.setting import DATA, PHOTOS
from zoo.text import count, percent, short

if TYPE_CHECKING:
    from zoo.finetune.rank import Ranked, Ranking


@dataclass(frozen=True)
class Flags:
    data: str = argument("Folder of photos: CLASS/*.jpg or {train,val}/CLASS/*.jpg.")
    models: str | None = flag(
        "Models to compare: all, or some as in resnet50,vgg16=WEIGHTS,RUN. Default: those whose "
        "weights are on this machine.",
        "Models",
    )
    folds: int = flag("Parts of the photos, each tested on by the rest.", DATA, 5, min=2)
    seed: int = flag("Seed of the split, the folds and the views.", DATA, 0, min=0)
    views: int = flag("Views of each photo to train on.", PHOTOS, 1, min=1)
    output: Path | None = output("CSV to write all rows to.")
    html: Path | None = flag("Page of the table with a chart, accuracy over time.")
    force: bool = force()
    json: bool = shared("json")


@options
def command(flags: Flags) -> None:
    """Compare backbones on your photos: cross-validated accuracy, with time, size and licence.

    One frozen feature pass each, which a fine-tune then finds done, and a linear head solved in
    each fold. Only the training part is used: the val photos stay unseen by the choice. * marks
    the best trade-offs: no other is at least as accurate and faster.
    """
    from zoo.predict.writers import check

    check(flags.output, (".csv",))
    check(flags.html, (".html", ".htm"), "--html")
    chosen = ",".join(full_name(one.strip()) for one in (flags.models or "").split(",")) or None
    with Screen() as screen:
        from zoo.finetune import backbones, rank

        backbones.check_names(chosen)

        ranking = rank.prepare(
            flags.data, folds=flags.folds, seed=flags.seed, views=flags.views, watch=screen
        )
        rows = rank.in_order(_ranked(ranking, chosen, screen))
    if flags.output is not None:
        _write(flags.output, rows)
    if flags.html is not None:
        _write_page(flags, ranking, rows)
    if flags.json:
        print_json(_record(flags.data, ranking, rows))
    else:
        _show(ranking, rows)
    if any(row.error for row in rows):
        talk("a model whose weights are in a file of yours: --models MODEL=FILE")
    if all(row.error for row in rows):
        raise typer.Exit(1)


def _ranked(ranking: Ranking, models: str | None, screen: Screen) -> list[Ranked]:
    """Return a row for each model, and say each as it is there."""
    from zoo.data.ignored import told

    for said in filter(None, (told(ranking.index.skipped), *ranking.index.notes)):
        talk(f"photos: {said}")
    chosen = _choose(models, ranking)
    found = []
    for row in ranking.rows(chosen):
        found.append(row)
        talk(f"{len(found)} of {len(chosen)}  {_name(row)}: {_progress(row)}")
    return found


def _choose(models: str | None, ranking: Ranking) -> list[str]:
    """Return the names of --models, or of what is here, and say what is not tried."""
    from zoo.finetune import backbones

    names = backbones.chosen(models, ranking.index)
    if models is None:
        present = backbones.here()
        if unfit := ",".join(name for name in present if name not in names):
            talk(f"not tried: {unfit}, taught grey digits; --models {unfit} tries it on colours")
        more = len([row for row in backbones.pretrained() if row.name not in present])
        talk(
            f"{count(len(names), 'model')} with weights on this machine; {more} more by "
            f"`zoo pull MODEL`, or --models all"
        )
    return names


def _progress(row: Ranked) -> str:
    if row.error:
        return row.error
    seconds = f"features in {row.forward_seconds:.1f} s, solved in {row.solve_seconds:.1f} s"
    return f"{percent(row.accuracy)}, {seconds}"


DROPPED = ("solve s", "forward s", "weights", "licence", "params")  # where lines are short
HEADER = (
    "model", "weights", "accuracy", "95 %", "", "ms/photo", "forward s", "solve s", "params", "MB",
    "licence",
)  # fmt: skip


def _show(ranking: Ranking, rows: list[Ranked]) -> None:
    best = [number for number, row in enumerate(rows) if row.best]
    print_table(map(_cells, rows), HEADER, right="  rr rrrrr", drop=DROPPED, best=best)
    warn_unreadable(list(ranking.bad.items()), ", for all models; --json lists them all")
    for row in rows:
        if row.note:
            talk(f"{_name(row)} {row.note}: its accuracy flatters, and is not compared")
    if how := _how(rows):
        talk(how)
    if times := [row.measured[:10] for row in rows if row.measured]:
        talk(f"ms/photo as measured on {' and '.join(sorted({min(times), max(times)}))} (UTC)")


def _how(rows: list[Ranked]) -> str:
    """Return how the accuracies were measured; nothing where there is none."""
    done = [row for row in rows if not row.error]
    if not done:
        return ""
    chosen = "chosen inside each fold" if done[0].nested else "chosen once, on the same folds"
    return (
        f"{len(done[0].accuracies)}-fold cross-validation on "
        f"{count(done[0].photos, 'photo')} of the training part; penalty {chosen}; "
        "* no other is at least as accurate and faster"
    )


def _write_page(flags: Flags, ranking: Ranking, rows: list[Ranked]) -> None:
    """Write the page of a ranking."""
    from zoo import __version__
    from zoo.report.rank_page import Point, write

    points = [
        Point(_name(row), row.ms or 1.0, row.accuracy or 0.0, row.interval or 0.0, row.best)
        for row in rows
        if not row.error
    ]
    failed = [(_name(row), row.error) for row in rows if row.error]
    table = (HEADER, [_cells(row) for row in rows if not row.error])
    about = (
        f"{len(ranking.index.classes)} classes, {count(len(ranking.samples), 'photo')}",
        _how(rows),
        *(f"{_name(row)} {row.note}: its accuracy flatters." for row in rows if row.note),
    )
    assert flags.html is not None
    write(flags.html, Path(flags.data).name, (points, table, failed), about, __version__)
    talk(f"the page is {flags.html}")


def _cells(row: Ranked) -> tuple[str, ...]:
    if row.error:
        return (_name(row), "", "error", *[""] * 8)
    return (
        _name(row),
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


def _name(row: Ranked) -> str:
    """Return the name without the weights, which have a column of their own."""
    return row.model.partition("=")[0]


def _record(data: str, ranking: Ranking, rows: list[Ranked]) -> dict[str, object]:
    return {
        "data": data,
        "photos": len(ranking.samples),
        "classes": list(ranking.index.classes),
        "folds": ranking.folds,
        "seed": ranking.seed,
        "views": ranking.views,
        "left_out": ranking.bad,
        "models": [asdict(row) for row in rows],
    }


def _write(path: Path, rows: list[Ranked]) -> None:
    """Write all that is known, a row a model; lists with spaces between."""
    from zoo.run import write_csv

    records = [asdict(row) for row in rows]
    for each in records:
        for name in ("accuracies", "penalties"):
            each[name] = " ".join(f"{value:.6g}" for value in each[name])
    write_csv(path, records[0].keys(), (each.values() for each in records))
