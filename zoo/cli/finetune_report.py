"""What `zoo finetune` says while it runs, and of a run that is complete."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli import inline, lessons
from zoo.cli.console import fact, talk, talk_table, warn_unreadable
from zoo.text import count, listed, percent, size

if TYPE_CHECKING:
    from zoo.finetune.events import FeaturesDone, Finished
    from zoo.finetune.plan import Plan
    from zoo.finetune.teacher import Distilled
    from zoo.metrics import ClassScore, LabelReport, LabelScore, Report
    from zoo.recipe import Recipe
    from zoo.run import Run
    from zoo.train.records import Epoch, Scores

SHOWN = 30  # classes
SCORES = {
    "classify": "accuracy  macro-F1",
    "multilabel": "     mAP  macro-F1",
    "reconstruct": "       MSE",
}


class Story:
    """Shows the events of a fine-tune, one after the other."""

    def __init__(self, plan: Plan, run: Run) -> None:
        self.plan, self.run = plan, run
        self.header = False

    def show(self, event: object) -> None:
        """Print what there is to say of an event."""
        from zoo.finetune.events import FeaturesDone, Finished, Note
        from zoo.finetune.teacher import Distilled
        from zoo.train.records import Epoch

        recipe = self.plan.recipe
        if isinstance(event, Note):
            talk(event.text)
        elif isinstance(event, FeaturesDone):
            show_features(event, recipe)
        elif isinstance(event, Finished):
            _show_report(event, self.run)
        elif isinstance(event, Distilled):
            _show_distilled(event)
            if self.plan.index.taught == "labels":
                talk("below, the teacher's answers stand for the labels that the photos lack")
        elif isinstance(event, Epoch) and self.plan.best in ("optimum", "computed"):
            _show_solved(event, self.run)
        elif isinstance(event, Epoch):
            for note in event.notes:
                talk(note)
            if not self.header:
                talk(f"epoch  train loss  val loss  {SCORES[recipe.task or 'classify']}")
                self.header = True
            _show_epoch(event, recipe.epochs, self.plan.best)


def _show_distilled(event: Distilled) -> None:
    """Print the student beside its teacher."""
    pairs = (("teacher", event.teacher), ("student", event.student))
    rows = [
        (name, one.model, percent(one.accuracy), size(one.bytes), f"{one.latency:.1f}")
        for name, one in pairs
    ]
    talk_table(rows, ("", "network", "accuracy", "size", "ms/photo"), right="  rrr")
    where = f"on the teacher's {count(event.photos, 'val photo')}"
    talk(f"both say the same of {percent(event.agreement)} {where}")


def show_features(event: FeaturesDone, recipe: Recipe) -> None:
    what = "features" if recipe.freeze else "photos"
    rate = event.computed / event.seconds if event.seconds else 0
    done = f"{event.computed:,} computed ({rate:,.0f}/s)" if event.computed else "none to compute"
    cached = f", {event.cached:,} from the cache" if event.cached else ""
    fact(what, f"{done}{cached} in {event.seconds:.1f} s")
    if event.balance:
        talk(event.balance)
    warn_unreadable(list(event.bad.items()), ", see skipped.csv")


def _show_solved(epoch: Epoch, run: Run) -> None:
    """Print what was chosen, and how good it is: there is one optimum, and no epochs."""
    learned = run.record.get("train_accuracy")
    on_train = "" if learned is None else f", {percent(learned)} of the training photos"
    how = "; ".join(epoch.notes)
    fact("head", f"{how}: right on {percent(epoch.accuracy)} of the val photos{on_train}")


def _show_epoch(epoch: Epoch, epochs: int, best: str) -> None:
    """Print each epoch of a short run, about thirty of a long one, and every new best."""
    shown = epoch.best and best != "last"
    if shown or epoch.epoch == epochs or epoch.epoch % max(1, epochs // 30) == 0:
        mark = "  best" if shown else ""
        first = epoch.accuracy if epoch.map is None else epoch.map
        scores = (
            f"{percent(first):>8}  {percent(epoch.macro_f1):>8}"
            if epoch.mse is None
            else f"{epoch.mse:>10.6f}"
        )
        losses = f"{epoch.train_loss:>10.4f}  {epoch.val_loss:>8.4f}"
        talk(f"{epoch.epoch:>5}  {losses}  {scores}{mark}", "best" if mark else "")


def _show_report(event: Finished, run: Run) -> None:
    """The test photos' figures come first where there are any: the val photos flatter."""
    scores = event.test.scores if event.test else event.scores
    found = scores.report or scores.labels
    if found is None:
        _show_reconstruction(event, run)
        return
    _show_table(found, event)
    talk()
    talk(f"{accuracy(scores, event, run)}{missing(found)}", "best")
    if scores.report:
        lessons.show_confused(scores.report)
    _show_val(event, run)
    _show_confidence(event)
    _show_evidence(event)
    if event.agreement is not None:
        same = "class" if scores.report else "labels"
        talk(f"bf16 gives the same {same} as fp32 on {percent(event.agreement)} of the val photos")
    lessons.show_next(run, scores.report)


def _show_table(found: Report | LabelReport, event: Finished) -> None:
    """A row for each class; of more than SHOWN classes those that are taken for others most."""
    from zoo.metrics import LabelReport

    several = isinstance(found, LabelReport)
    names = ("ap", "precision", "recall", "f1") if several else ("precision", "recall", "f1")
    classes: list[ClassScore | LabelScore] = list(found.classes)
    if len(classes) > SHOWN:
        there = [score for score in classes if score.photos]
        classes = sorted(there, key=lambda score: getattr(score, names[0 if several else 2]))[
            :SHOWN
        ]
    rows = [
        (score.name, str(score.photos),
         *(percent(getattr(score, name)) if score.photos else "-" for name in names))
        for score in classes
    ]  # fmt: skip
    header = {"ap": "AP", "f1": "F1"}
    talk()
    titles = ("class", f"{part(event)} photos", *(header.get(name, name) for name in names))
    talk_table(rows, titles, right=" rrrrr")
    if more := len(found.classes) - len(rows):
        how = "" if several else ", none with a lower F1,"
        talk(f"({more} more classes{how} in {_class_file(event)})")


def accuracy(scores: Scores, event: Finished, run: Run) -> str:
    """Return the line that a person looks for first."""
    when = f"({_which_epoch(event, run)}), {event.seconds:.1f} s"
    if report := scores.report:
        photos = sum(score.photos for score in report.classes)
        where = "test.csv has every answer"
        if not event.test:
            where = "confusion.csv has who is taken for whom"
        return (
            f"accuracy {percent(report.accuracy, 2 if photos >= 2000 else 1)}{on_test(event)}, "
            f"macro-F1 {percent(report.macro_f1)} {when}; {where}"
        )
    labels = scores.labels
    assert labels is not None
    return (
        f"mAP {percent(labels.map)}{on_test(event)}; from a probability of {labels.threshold:g} on "
        f"macro-F1 {percent(labels.macro_f1)}, all labels right on {percent(labels.exact)} {when}"
    )


def _show_reconstruction(event: Finished, run: Run) -> None:
    scores = event.test.scores if event.test else event.scores
    assert scores.mse is not None
    against = ""
    if event.baseline and not event.test:
        share = scores.mse / event.baseline.mse
        against = (
            f", {share:.2f} of the {event.baseline.mse:.6f} of "
            f"{event.baseline.components} principal components"
        )
    talk(
        f"MSE {scores.mse:.6f} a pixel{on_test(event)}{against}; MAE {scores.mae:.6f} "
        f"(epoch {event.best_epoch}), {event.seconds:.1f} s"
    )
    _show_val(event, run)
    lessons.show_next(run, None)


def on_test(event: Finished) -> str:
    """What a figure is of, where that is not the val part."""
    if not event.test:
        return ""
    return f" on the {count(event.test.photos, 'test photo')}"


def _show_val(event: Finished, run: Run) -> None:
    """What the val photos say, and what they are, where the test photos come first."""
    if not event.test:
        return
    data, scores = run.record["data"], event.scores
    found = scores.report or scores.labels
    if scores.report:
        figure = f"accuracy {percent(scores.report.accuracy)}"
    else:
        figure = f"mAP {percent(scores.labels.map)}" if scores.labels else f"MSE {scores.mse:.6f}"
    if found:
        figure += f", macro-F1 {percent(found.macro_f1)}"
    if event.baseline:
        figure += f" (PCA {event.baseline.mse:.6f})"
    where = "drawn from train by the seed" if data.get("drawn") else "the data's own val part"
    chosen = {
        "last": "nothing was chosen on it but the temperature",
        "optimum": "nothing was chosen on it but the temperature",
        "computed": "nothing was chosen on it but the temperature",
    }
    use = chosen.get(run.record["best_by"], "the epoch was chosen on it, which flatters")
    talk(f"val: {figure} on {count(data['val'], 'photo')}, {where}; {use}")


def part(event: Finished) -> str:
    return "test" if event.test else "val"


def _class_file(event: Finished) -> str:
    return "run.json" if event.test else "classes.csv"


def missing(report: Report | LabelReport) -> str:
    """That classes have no photo here, and so no part in the figures."""
    absent = [score.name for score in report.classes if not score.photos]
    if not absent:
        return ""
    names = listed(absent, 5)
    there = len(report.classes) - len(absent)
    return f"; of {there} of {len(report.classes)} classes: there is no photo of {names}"


def _which_epoch(event: Finished, run: Run) -> str:
    epoch = f"epoch {event.best_epoch}"
    known = {
        "last": f"{epoch}, the last",
        "optimum": "the optimum on the training photos",
        "computed": "computed from the training photos",
    }
    these = "the val photos" if event.test else "these photos"
    return known.get(run.record["best_by"], f"{epoch}, the best on {these}")


def _show_evidence(event: Finished) -> None:
    for found in event.evidence:
        what = "accuracy" if found.accuracy else "mAP"
        what = f"val {what}" if event.test else what
        talk(
            f"{len(found.macro_f1)} {found.kind}: {what} {percent(found.mean)}, standard "
            f"deviation {percent(found.deviation)}, 95 % interval of the mean "
            f"{percent(found.low)} to {percent(found.high)}"
        )
        if found.kind == "seeds" and found.deviation < 1e-9:
            talk("the seed changes nothing here, which says nothing of other photos: --folds does")


def _show_confidence(event: Finished) -> None:
    found = event.calibration
    if found is None:
        return
    if found.reason:
        talk(
            f"probabilities as they are: {found.reason}; "
            f"calibration error {found.ece_before:.3f} on {found.photos:,} photos"
        )
        return
    talk(
        f"probabilities: temperature {found.temperature:.2f}, in the head from here on; "
        f"calibration error {found.ece_before:.3f}, with it {found.ece_after:.3f}"
    )


def draw_fed(plan: Plan, path: Path) -> None:
    """Draw what the network is fed of some photos, and say where."""
    from zoo.finetune.fed import look
    from zoo.report.fed import Row, draw

    found = look(plan)
    rows = [
        Row(one.photo, one.frame, one.inputs, os.path.basename(one.path), one.error or one.label)
        for one in found.photos
    ]
    draw(path, found.columns, rows)
    after = f"; {found.after}" if found.after else ""
    talk(f"sheet      {path}  {count(len(rows), 'photo')}: {', '.join(found.columns)}{after}")
    inline.show(path)
