"""zoo evaluate: how often runs are right on labelled photos; several together are a committee."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo import extras
from zoo.cli import lessons
from zoo.cli.console import Screen, print_json, print_table, talk, warn_unreadable
from zoo.cli.options import flag, force, network, options, setting, shared
from zoo.errors import UsageError
from zoo.settings.setting import DATA
from zoo.text import count, percent

if TYPE_CHECKING:
    from zoo.metrics import LabelReport, Report
    from zoo.predict.evaluate import Evaluation, LabelEvaluation
    from zoo.predict.evaluation_set import Known
    from zoo.predict.inputs import Input
    from zoo.predict.policy import Unknown
    from zoo.predict.promises import Apart, Sets
    from zoo.run import Run

    Result = Evaluation | LabelEvaluation
    Promised = dict[str, Sets | Apart]

DOUBT = "Doubt"


@dataclass(frozen=True)
class Flags:
    models: list[str] = network("Run folders, .onnx files, or one model's name.")
    data: str | None = flag(
        "Labelled photos, as for `zoo finetune`. Default: those of the first run.", DATA
    )
    part: Literal["val", "test", "train", "all"] | None = flag(
        "Part of the photos: val, test, train or all. Default: val, or what there is.", DATA
    )
    coverage: str | None = flag(
        "Measure prediction sets that are to hold the true class with this probability, as 0.95.",
        DOUBT,
    )
    unknown: str | None = flag(
        "Folder of pictures of none of the classes: measure how well they are told apart.", DOUBT
    )
    unknown_rate: str | None = flag(
        "Share of pictures of known classes that may be called unknown. Default: 5%.", DOUBT
    )
    trust_changed: bool = shared("trust_changed")
    device: str = setting("device")
    tta: int = shared("tta")
    plot: Path | None = flag("PNG to draw the reliability and risk-coverage curves in.")
    force: bool = force()
    json: bool = shared("json")


@options
def command(flags: Flags) -> None:
    """Measure accuracy, macro-F1 and calibration error (ECE) of each run, and of all together.

    ECE is how far probabilities are from the share of right answers, in 15 bins. Photos that one
    of the runs was trained on are left out, unless --part train requests them. For runs that tell
    several labels a photo: mean average precision (mAP), macro-F1, photos with all labels right.
    """
    from zoo.predict.evaluate import Evaluation
    from zoo.predict.writers import check

    check(flags.plot, (".png",), "--plot")
    if flags.plot is not None:
        extras.need("--plot", "matplotlib")
    asked = _promising(flags)
    with Screen() as screen:
        photos = _photos(flags.models, flags.data, flags.part)
        found = _evaluated(flags, photos, screen)
        more = _promised(flags, asked, found, photos, screen) if asked else {}
    warn_unreadable(found.errors)
    if flags.tta > 1:
        _show_gain(flags, found)
    _show(flags.models, found, flags.json, more)
    if isinstance(found, Evaluation):
        report = found.committee or found.members[0]
        lessons.show_measured(flags.models, flags.part, report)
        if flags.plot is not None:
            _draw(flags.plot, flags.models, found)


@dataclass(frozen=True)
class _Asked:
    """The one run whose promises are to be measured.

    others: pictures of none of its classes, which `unknown` is to tell.
    """

    run: Run
    coverage: float | None
    unknown: Unknown | None
    others: list[Input]


def _promising(flags: Flags) -> _Asked | None:
    """Return what is to be measured of a run's promises, if anything is.

    Raises what the run or the pictures lack for it, before anything is computed.
    """
    from zoo.predict import policy

    names = {"--coverage": flags.coverage, "--unknown": flags.unknown}
    given = [f"{name} {value}" for name, value in names.items() if value is not None]
    if flags.unknown_rate is not None and flags.unknown is None:
        raise UsageError(
            f"--unknown-rate {flags.unknown_rate} without --unknown",
            "give --unknown FOLDER as well",
        )
    if not given:
        return None
    if len(flags.models) > 1:
        raise UsageError(f"{given[0]} is of one run, and here are several", "measure them apart")
    coverage = policy.share("--coverage", flags.coverage)
    rate = policy.share("--unknown-rate", flags.unknown_rate)
    run, unknown, others = policy.run_of(flags.models[0], given[0]), None, []
    if coverage is not None:
        policy.sets(run, coverage)
    if flags.unknown is not None:
        unknown = policy.unknown(run, policy.RATE if rate is None else rate)
        others = _others(flags.models[0], flags.unknown)
    return _Asked(run, coverage, unknown, others)


def _others(model: str, folder: str) -> list[Input]:
    """Return pictures of none of the classes; leave out those that the run knows."""
    from zoo.errors import DataError
    from zoo.predict import evaluation_set, inputs

    found = list(inputs.find(folder, sys.stdin).each)
    new = evaluation_set.new_to(model, found)
    if found and not new:
        raise DataError(
            f"--unknown {folder}: {model} knows all {len(found):,} of its pictures from training",
            "give a folder of pictures that are of none of its classes",
        )
    if gone := len(found) - len(new):
        talk(f"{count(gone, 'picture')} in {folder} left out, which {model} knows from training")
    return new


def _promised(
    flags: Flags, asked: _Asked, found: Result, photos: list[tuple[str, str]], screen: Screen
) -> Promised:
    """Return what became of the run's promises, by name, and say on what it was measured."""
    from zoo.predict import promises
    from zoo.predict.evaluate import Evaluation
    from zoo.predict.predictor import Opening, open_predictor

    more: Promised = {}
    if asked.coverage is not None:
        assert isinstance(found, Evaluation)
        more["sets"] = sets = promises.sets(asked.run, found, asked.coverage)
        halves = ": each half by the limit of the other, in 20 ways" if sets.halves else ""
        left = f", {sets.left_out:,} left out that the limit is from" if sets.left_out else ""
        talk(f"sets of {percent(asked.coverage)}, on {count(sets.photos, 'photo')}{left}{halves}")
    if asked.unknown is not None:
        how = Opening(device=flags.device, trusts=flags.trust_changed, features=True)
        member = open_predictor(flags.models[0], how)
        progress = partial(screen.progress, "distances")
        apart = promises.apart(member, asked.unknown, photos, asked.others, progress)
        more["unknown"] = apart
        talk(
            f"further than {apart.limit:.4g}: {percent(apart.known)} of {apart.known_photos:,} "
            f"known photos, {percent(apart.unknown)} of {apart.unknown_photos:,} in {flags.unknown}"
        )
    return more


def _evaluated(flags: Flags, photos: list[tuple[str, str]], screen: Screen) -> Result:
    from zoo.predict.evaluate import measured
    from zoo.predict.predictor import Opening, open_predictor

    how = Opening(device=flags.device, trusts=flags.trust_changed, views=flags.tta)
    members = [open_predictor(name, how, progress=screen.bytes) for name in flags.models]
    _show_names(photos, members[0].classes)
    if flags.plot is not None and any(member.threshold is not None for member in members):
        raise UsageError(
            "--plot draws one answer a photo, and these networks tell several labels",
            "leave it out",
        )
    return measured(members, photos, partial(screen.progress, "pictures"))


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
    from zoo.data.ignored import told
    from zoo.predict import evaluation_set

    found = evaluation_set.chosen(models, data, part)
    requested, trained = found.requested, found.trained
    talk(f"{count(len(requested.photos), 'photo')} {requested.about}")
    if passed := told(requested.skipped):
        talk(f"left out: {passed}")
    if part == "train" and trained.photos:
        talk(
            f"warning: {', '.join(trained.by)} trained on {len(trained.photos):,} of them"
            f"{_copied(trained)}, which --part train keeps: this is how well they are remembered"
        )
    elif part != "train" and trained.by:
        gone = len(requested.photos) - len(found.photos)
        talk(
            f"{count(gone, 'photo')} left out, since {', '.join(trained.by)} trained on "
            f"{'it' if gone == 1 else 'them'}{_copied(trained)}: {len(found.photos):,} to measure "
            "on"
        )
    return found.photos


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


def _show(models: list[str], found: Result, json: bool, more: Promised) -> None:
    """Print a row for each network and for their committee."""
    from zoo.predict.evaluate import LabelEvaluation, rows

    records = [row.to_dict() for row in rows(models, found)]
    if json:
        of_run = {name: asdict(each) for name, each in more.items()}
        print_json({"photos": found.photos, "results": records} | of_run)
        return
    scores = {"wrong": "wrong", "accuracy": "accuracy", "macro-F1": "macro_f1", "ECE": "ece"}
    if isinstance(found, LabelEvaluation):
        scores = {"mAP": "map", "macro-F1": "macro_f1", "all labels right": "exact"}
    cells = [
        (row["network"], str(found.photos), *(_cell(row, key) for key in scores.values()))
        for row in records
    ]
    promised = _columns(more)
    lines = [(*row, *promised.values()) for row in cells]
    values = [
        row.get("map" if isinstance(found, LabelEvaluation) else "accuracy", 0.0) for row in records
    ]
    best = [k for k, value in enumerate(values) if value == max(values)]
    titles = ("network", "photos", *scores, *promised)
    print_table(lines, titles, right=" rrrrrrrrrr", best=best if len(records) > 1 else ())


def _cell(row: dict[str, Any], key: str) -> str:
    return str(row[key]) if key == "wrong" else percent(row.get(key), 2)


def _columns(more: Promised) -> dict[str, str]:
    """Return what a table has of promises, by the column."""
    from zoo.predict.promises import Sets

    found: dict[str, str] = {}
    for each in more.values():
        if isinstance(each, Sets):
            found |= {"covered": percent(each.coverage), "classes a set": f"{each.size:.2f}"}
        else:
            shares = {"false alarms": each.known, "unknown found": each.unknown}
            found["AUROC"] = f"{each.auroc:.4f}"
            found |= {name: percent(value) for name, value in shares.items()}
    return found
