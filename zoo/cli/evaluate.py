"""zoo evaluate: how often runs are right on labelled photos; several together are a committee."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.screen import Screen, percent, print_json, table, talk
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.metrics import Report
    from zoo.predict.evaluate import Evaluation

DATA = "Labelled photos, as for finetune; else those the first run was validated on."


def command(
    models: Annotated[list[str], typer.Argument(help="Run folders, .onnx files, or one name.")],
    data: Annotated[str | None, typer.Option(help=DATA)] = None,
    part: Annotated[str, typer.Option(help="val, train or all of the photos.")] = "val",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Everything as JSON on stdout.")] = False,
) -> None:
    """Accuracy and macro-F1 of each run, and of their mean probabilities together."""
    from zoo.predict.evaluate import evaluate
    from zoo.predict.predictor import open_predictor

    if part not in ("val", "train", "all"):
        raise UsageError(f"--part {part}", "give val, train or all")
    with Screen(at_once=True) as screen:
        photos = labelled(models[0], data, part)
        members = [open_predictor(name, device=device, progress=screen.bytes) for name in models]
        found = evaluate(
            members, photos, lambda done, total: screen.progress("pictures", done, total)
        )
    if found.errors:
        talk(f"warning: {len(found.errors)} unreadable photos are left out:")
        for path, reason in found.errors[:5]:
            talk(f"  {path}: {reason}")
    show(models, found, json)


def labelled(first: str, data: str | None, part: str) -> list[tuple[str, str]]:
    """(path, class) of the photos asked for."""
    from zoo.run import Run

    parts = ("train", "val") if part == "all" else (part,)
    if data is None:
        if not Path(first, "run.json").exists():
            raise UsageError(
                f"{first} is no run, so it has no photos of its own", "give some with --data"
            )
        run = Run.open(Path(first)).finished()
        return [(str(path), label) for each in parts for path, label in run.labelled(each)]
    from zoo import datasets
    from zoo.data.index import scan

    index = scan(datasets.locate(data))
    return [
        (str(index.root / sample.path), index.classes[sample.label])
        for sample in index.samples
        if sample.split in parts
    ]


def show(models: list[str], found: Evaluation, json: bool) -> None:
    rows = list(zip(models, found.members, strict=True))
    if found.committee:
        rows.append((f"committee of {len(models)}", found.committee))
    if json:
        print_json({"photos": found.photos, "results": [result(*row) for row in rows]})
        return
    cells = [
        (name, str(found.photos), str(wrong(report)), percent(report.accuracy, 2),
         percent(report.macro_f1, 2))
        for name, report in rows
    ]  # fmt: skip
    for line in table(cells, ("network", "photos", "wrong", "accuracy", "macro-F1"), right=" rrrr"):
        print(line)


def wrong(report: Report) -> int:
    confusion = report.confusion
    return sum(sum(row) for row in confusion) - sum(row[k] for k, row in enumerate(confusion))


def result(name: str, report: Report) -> dict[str, Any]:
    return {"network": name, "wrong": wrong(report), **report.to_dict()}
