"""zoo evaluate: how often runs are right on labelled photos; several together are a committee."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.console import Screen, out, print_json, table, talk
from zoo.cli.flags import TrustChanged
from zoo.errors import UsageError
from zoo.text import count, percent

if TYPE_CHECKING:
    from zoo.metrics import Report
    from zoo.predict.evaluate import Evaluation, LabelEvaluation
    from zoo.predict.evaluation_set import Known

DATA = "Labelled photos, as for finetune; else those the first run was validated on."
PLOT = "Reliability and risk-coverage curves as a .png."
PART = "val, test, train or all of them; else val, or what there is."


def command(
    models: Annotated[list[str], typer.Argument(help="Run folders, .onnx files, or one name.")],
    data: Annotated[str | None, typer.Option(help=DATA)] = None,
    part: Annotated[str | None, typer.Option(help=PART)] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    plot: Annotated[Path | None, typer.Option(help=PLOT)] = None,
    trust_changed: TrustChanged = False,
    json: Annotated[bool, typer.Option("--json", help="Everything as JSON on stdout.")] = False,
) -> None:
    """Accuracy, macro-F1 and calibration error (ECE) of each run, and of their mean together.

    ECE is how far probabilities are from the share of right answers, in 15 bins. Photos that one
    of the runs was trained on are left out, unless --part train asks for them. Of runs that tell
    several labels a photo: mean average precision (mAP), macro-F1, photos with all labels right.
    """
    from zoo.predict.evaluate import LabelEvaluation, evaluate, evaluate_several
    from zoo.predict.predictor import Opening, open_predictor
    from zoo.predict.writers import check

    if part not in (None, "val", "test", "train", "all"):
        raise UsageError(
            f"--part {part}: there is no such part",
            "it is val, test, train or all; leave --part out for val",
        )
    if plot is not None:
        check(plot, (".png",), "--plot")
    with Screen() as screen:
        photos = chosen(models, data, part)
        how = Opening(device=device, trusts=trust_changed)
        members = [open_predictor(name, how, progress=screen.bytes) for name in models]
        show_names(photos, members[0].classes)
        several = any(member.threshold is not None for member in members)
        if several and plot is not None:
            raise UsageError(
                "--plot draws one answer a photo, and these networks tell several labels",
                "leave it out",
            )
        measure = evaluate_several if several else evaluate
        found = measure(
            members, photos, lambda done, total: screen.progress("pictures", done, total)
        )
    show_errors(found.errors)
    if isinstance(found, LabelEvaluation):
        show_several(models, found, json)
        return
    show(models, found, json)
    if plot is not None:
        draw(plot, models, found)


def show_names(photos: list[tuple[str, str]], classes: tuple[str, ...]) -> None:
    """Classes of the photos that are written otherwise than the network's."""
    from zoo.data.names import matching, otherwise
    from zoo.data.samples import labels_in

    labels = {label for _, label in photos} - set(classes)
    for line in otherwise(matching((name for cell in labels for name in labels_in(cell)), classes)):
        talk(line)


def show_errors(errors: tuple[tuple[str, str], ...]) -> None:
    if errors:
        many = count(len(errors), "unreadable photo is", "unreadable photos are")
        talk(f"warning: {many} left out:")
        for path, reason in errors[:5]:
            talk(f"  {path}: {reason}")


def draw(path: Path, models: list[str], found: Evaluation) -> None:
    from zoo.report import curves

    names = [*models, f"committee of {len(models)}"][: len(found.answers)]
    lines = [
        curves.Line(name, each.probability, each.correct)
        for name, each in zip(names, found.answers, strict=True)
    ]
    curves.draw(path, lines, count(found.photos, "photo"))
    talk(f"the curves are in {path}")


def chosen(models: list[str], data: str | None, part: str | None) -> list[tuple[str, str]]:
    """(path, class) of the photos to measure on, and what there is to say of them."""
    from zoo import datasets
    from zoo.data.left_out import told
    from zoo.predict import evaluation_set

    if data is None:
        found = evaluation_set.of_run(models[0], part)
    else:
        several = any(map(evaluation_set.tells_several, models))
        found = evaluation_set.of_data(data, datasets.locate(data), part, several=several)
    photos = found.photos
    talk(f"{count(len(photos), 'photo')} {found.about}")
    if passed := told(found.skipped):
        talk(f"left out: {passed}")
    if part == "train":
        trained = evaluation_set.known(photos, models)
        if trained.photos:
            talk(
                f"warning: {', '.join(trained.by)} trained on {len(trained.photos):,} of them"
                f"{copied(trained)}, which --part train keeps: this is how well they are remembered"
            )
        return photos
    left, trained = evaluation_set.unseen(photos, models)
    if trained.by:
        gone = len(photos) - len(left)
        talk(
            f"{count(gone, 'photo')} left out, since {', '.join(trained.by)} trained on "
            f"{'it' if gone == 1 else 'them'}{copied(trained)}: {len(left):,} to measure on"
        )
    return left


def copied(trained: Known) -> str:
    """How many of the photos lie elsewhere than those of the training."""
    if not trained.copies:
        return ""
    return f" ({trained.copies:,} recognised by content, as copies of photos of the training)"


def show(models: list[str], found: Evaluation, json: bool) -> None:
    rows = list(zip(models, found.members, strict=True))
    if found.committee:
        rows.append((f"committee of {len(models)}", found.committee))
    eces = [answers.ece for answers in found.answers]
    if json:
        results = [result(*row, ece) for row, ece in zip(rows, eces, strict=True)]
        print_json({"photos": found.photos, "results": results})
        return
    cells = [
        (name, str(found.photos), str(wrong(report)), percent(report.accuracy, 2),
         percent(report.macro_f1, 2), percent(ece, 2))
        for (name, report), ece in zip(rows, eces, strict=True)
    ]  # fmt: skip
    header = ("network", "photos", "wrong", "accuracy", "macro-F1", "ECE")
    for line in table(cells, header, right=" rrrrr"):
        out(line)


def show_several(models: list[str], found: LabelEvaluation, json: bool) -> None:
    rows = list(zip(models, found.members, strict=True))
    if found.committee:
        rows.append((f"committee of {len(models)}", found.committee))
    if json:
        results = [{"network": name, **report.to_dict()} for name, report in rows]
        print_json({"photos": found.photos, "results": results})
        return
    cells = [
        (name, str(found.photos), percent(report.map, 2), percent(report.macro_f1, 2),
         percent(report.exact, 2))
        for name, report in rows
    ]  # fmt: skip
    header = ("network", "photos", "mAP", "macro-F1", "all labels right")
    for line in table(cells, header, right=" rrrr"):
        out(line)


def wrong(report: Report) -> int:
    confusion = report.confusion
    return sum(sum(row) for row in confusion) - sum(row[k] for k, row in enumerate(confusion))


def result(name: str, report: Report, ece: float) -> dict[str, Any]:
    return {"network": name, "wrong": wrong(report), "ece": ece, **report.to_dict()}
