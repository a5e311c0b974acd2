"""zoo evaluate: how often runs are right on labelled photos; several together are a committee."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from zoo.cli.console import Screen, print_json, print_table, talk, warn_unreadable
from zoo.cli.options import flag, network, options, setting, shared
from zoo.errors import UsageError
from zoo.settings import DATA
from zoo.text import count, percent

if TYPE_CHECKING:
    from zoo.metrics import LabelReport, Report
    from zoo.predict.evaluate import Evaluation, LabelEvaluation
    from zoo.predict.evaluation_set import Known


@dataclass(frozen=True)
class Flags:
    models: list[str] = network("Run folders, .onnx files, or one model's name.")
    data: str | None = flag(
        "Labelled photos, as for `zoo finetune`. Default: those of the first run.", DATA
    )
    part: Literal["val", "test", "train", "all"] | None = flag(
        "Part of the photos: val, test, train or all. Default: val, or what there is.", DATA
    )
    trust_changed: bool = shared("trust_changed")
    device: str = setting("device")
    tta: int = shared("tta")
    plot: Path | None = flag("PNG to draw the reliability and risk-coverage curves in.")
    json: bool = shared("json")


@options
def command(flags: Flags) -> None:
    """Measure accuracy, macro-F1 and calibration error (ECE) of each run, and of all together.

    ECE is how far probabilities are from the share of right answers, in 15 bins. Photos that one
    of the runs was trained on are left out, unless --part train requests them. For runs that tell
    several labels a photo: mean average precision (mAP), macro-F1, photos with all labels right.
    """
    from zoo.predict.evaluate import LabelEvaluation
    from zoo.predict.writers import check

    check(flags.plot, (".png",), "--plot")
    with Screen() as screen:
        found = _evaluated(flags, _photos(flags.models, flags.data, flags.part), screen)
    warn_unreadable(found.errors)
    if flags.tta > 1:
        _show_gain(flags, found)
    _show(flags.models, found, flags.json)
    if flags.plot is not None and not isinstance(found, LabelEvaluation):
        _draw(flags.plot, flags.models, found)


def _evaluated(
    flags: Flags, photos: list[tuple[str, str]], screen: Screen
) -> Evaluation | LabelEvaluation:
    from zoo.predict.evaluate import evaluate, evaluate_several
    from zoo.predict.predictor import Opening, open_predictor

    how = Opening(device=flags.device, trusts=flags.trust_changed, views=flags.tta)
    members = [open_predictor(name, how, progress=screen.bytes) for name in flags.models]
    _show_names(photos, members[0].classes)
    several = any(member.threshold is not None for member in members)
    if several and flags.plot is not None:
        raise UsageError(
            "--plot draws one answer a photo, and these networks tell several labels",
            "leave it out",
        )
    measure = evaluate_several if several else evaluate
    return measure(members, photos, lambda done, total: screen.progress("pictures", done, total))


def _show_names(photos: list[tuple[str, str]], classes: tuple[str, ...]) -> None:
    """Say which classes of the photos are written otherwise than the network's."""
    from zoo.data.names import matching, otherwise
    from zoo.data.samples import labels_in

    labels = {label for _, label in photos} - set(classes)
    for line in otherwise(matching((name for cell in labels for name in labels_in(cell)), classes)):
        talk(line)


def _draw(path: Path, models: list[str], found: Evaluation) -> None:
    from zoo.report import curves

    names = [*models, f"committee of {len(models)}"][: len(found.answers)]
    lines = [
        curves.Line(name, each.probability, each.correct)
        for name, each in zip(names, found.answers, strict=True)
    ]
    curves.draw(path, lines, count(found.photos, "photo"))
    talk(f"the curves are in {path}")


def _photos(models: list[str], data: str | None, part: str | None) -> list[tuple[str, str]]:
    """Return (path, class) of the photos to measure on, and say what is left out."""
    from zoo import datasets
    from zoo.data.ignored import told
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
                f"{_copied(trained)}, which --part train keeps: this is how well they are "
                "remembered"
            )
        return photos
    left, trained = evaluation_set.unseen(photos, models)
    if trained.by:
        gone = len(photos) - len(left)
        talk(
            f"{count(gone, 'photo')} left out, since {', '.join(trained.by)} trained on "
            f"{'it' if gone == 1 else 'them'}{_copied(trained)}: {len(left):,} to measure on"
        )
    return left


def _copied(trained: Known) -> str:
    """Say how many of the photos are elsewhere than those of the training."""
    if not trained.copies:
        return ""
    return f" ({trained.copies:,} recognised by content, as copies of photos of the training)"


def _show_gain(flags: Flags, found: Evaluation | LabelEvaluation) -> None:
    """Say what several views gain over the plain one, of the same photos."""
    plains: tuple[Report | LabelReport, ...] = found.plain
    means: tuple[Report | LabelReport, ...] = found.members
    for name, plain, mean in zip(flags.models, plains, means, strict=True):
        what, before, now = _figures(plain, mean)
        talk(
            f"{name}: {what} {percent(now, 2)} with the mean over {flags.tta} views, "
            f"{percent(before, 2)} with the plain one: {100 * (now - before):+.2f} points on "
            f"{count(found.photos, 'photo')}"
        )


def _figures(plain: Report | LabelReport, mean: Report | LabelReport) -> tuple[str, float, float]:
    """Return what is compared, of the plain view and of the mean."""
    from zoo.metrics import LabelReport

    if isinstance(plain, LabelReport) or isinstance(mean, LabelReport):
        return "mAP", plain.to_dict()["map"], mean.to_dict()["map"]
    return "accuracy", plain.accuracy, mean.accuracy


def _show(models: list[str], found: Evaluation | LabelEvaluation, json: bool) -> None:
    """Print a row for each network and for their committee."""
    from zoo.predict.evaluate import Evaluation

    names = [*models, f"committee of {len(models)}"]
    reports = [*found.members, *filter(None, [found.committee])]
    added: list[dict[str, object]] = [{} for _ in reports]
    scores = {"mAP": "map", "macro-F1": "macro_f1", "all labels right": "exact"}
    if isinstance(found, Evaluation):
        ours = zip(reports, found.answers, strict=True)
        added = [{"wrong": _wrong(report), "ece": answers.ece} for report, answers in ours]
        scores = {"wrong": "wrong", "accuracy": "accuracy", "macro-F1": "macro_f1", "ECE": "ece"}
    rows = [{"network": name} | more | report.to_dict()
            for name, more, report in zip(names, added, reports, strict=False)]  # fmt: skip
    if json:
        print_json({"photos": found.photos, "results": rows})
        return
    cells = [
        (row["network"], str(found.photos),
         *(str(row[key]) if key == "wrong" else percent(row[key], 2) for key in scores.values()))
        for row in rows
    ]  # fmt: skip
    print_table(cells, ("network", "photos", *scores), right=" rrrrr")


def _wrong(report: Report) -> int:
    confusion = report.confusion
    return sum(sum(row) for row in confusion) - sum(row[k] for k, row in enumerate(confusion))
