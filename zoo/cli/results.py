"""What `zoo finetune` says of a run that is complete, on the val photos."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.cli.screen import percent, table, talk

if TYPE_CHECKING:
    from zoo.finetune.events import Finished
    from zoo.metrics import LabelReport, Report
    from zoo.run import Run


def show_report(event: Finished, run: Run) -> None:
    if event.scores.report:
        show_classes(event.scores.report, event, run)
    elif event.scores.labels:
        show_labels(event.scores.labels, event, run)
    else:
        show_reconstruction(event, run)


def show_reconstruction(event: Finished, run: Run) -> None:
    assert event.scores.mse is not None
    against = ""
    if event.baseline:
        share = event.scores.mse / event.baseline.mse
        against = (
            f", {share:.2f} of the {event.baseline.mse:.6f} of "
            f"{event.baseline.components} principal components"
        )
    talk(
        f"MSE {event.scores.mse:.6f} a pixel{against}; MAE {event.scores.mae:.6f} "
        f"(epoch {event.best_epoch}), {event.seconds:.1f} s"
    )
    talk(f"next: zoo reconstruct {run.folder} FOLDER; zoo embed {run.folder} FOLDER")


def show_labels(report: LabelReport, event: Finished, run: Run) -> None:
    kept = list(report.classes)
    if len(kept) > 30:
        kept = sorted((score for score in kept if score.photos), key=lambda score: score.ap)[:30]
    rows = [
        (score.name, str(score.photos), percent(score.ap) if score.photos else "-",
         *(percent(v) for v in (score.precision, score.recall, score.f1)))
        for score in kept
    ]  # fmt: skip
    header = ("class", "val photos", "AP", "precision", "recall", "F1")
    talk()
    for line in table(rows, header, right=" rrrrr"):
        talk(line)
    if len(rows) < len(report.classes):
        talk(f"({len(report.classes) - len(rows)} more classes in classes.csv)")
    talk()
    talk(
        f"mAP {percent(report.map)}; from a probability of {report.threshold:g} on macro-F1 "
        f"{percent(report.macro_f1)}, all labels right on {percent(report.exact)} "
        f"({which_epoch(event, run)}), {event.seconds:.1f} s"
    )
    show_confidence(event)
    show_evidence(event)
    if event.agreement is not None:
        talk(f"bf16 gives the same labels as fp32 on {percent(event.agreement)} of the val photos")
    talk(f"next: zoo predict {run.folder} FOLDER; zoo export onnx {run.folder}")


def show_classes(report: Report, event: Finished, run: Run) -> None:
    rows = [
        (
            score.name,
            str(score.photos),
            *(percent(v) for v in (score.precision, score.recall)),
            percent(score.f1),
        )
        for score in report.classes
    ]
    shown = rows if len(rows) <= 30 else sorted(rows, key=lambda row: float(row[4].split()[0]))[:30]
    talk()
    for line in table(shown, ("class", "val photos", "precision", "recall", "F1"), right=" rrrr"):
        talk(line)
    if len(rows) > len(shown):
        talk(f"({len(rows) - len(shown)} more classes, all with a higher F1, in classes.csv)")
    talk()
    talk(
        f"accuracy {percent(report.accuracy, 2 if report_size(report) >= 2000 else 1)}, "
        f"macro-F1 {percent(report.macro_f1)} "
        f"({which_epoch(event, run)}), {event.seconds:.1f} s; "
        f"confusion.csv has who is taken for whom"
    )
    show_confidence(event)
    show_evidence(event)
    if event.agreement is not None:
        talk(f"bf16 gives the same class as fp32 on {percent(event.agreement)} of the val photos")
    talk(f"next: zoo predict {run.folder} FOLDER; zoo export onnx {run.folder}")


def which_epoch(event: Finished, run: Run) -> str:
    epoch = f"epoch {event.best_epoch}"
    known = {"last": f"{epoch}, the last", "optimum": "the optimum on the training photos"}
    return known.get(run.record["best_by"], f"{epoch}, the best on these photos")


def show_evidence(event: Finished) -> None:
    for found in event.evidence:
        what = "accuracy" if found.accuracy else "mAP"
        talk(
            f"{len(found.macro_f1)} {found.kind}: {what} {percent(found.mean)}, standard "
            f"deviation {percent(found.deviation)}, 95 % interval of the mean "
            f"{percent(found.low)} to {percent(found.high)}"
        )
        if found.kind == "seeds" and found.deviation < 1e-9:
            talk("the seed changes nothing here, which says nothing of other photos: --folds does")


def show_confidence(event: Finished) -> None:
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


def report_size(report: Report) -> int:
    return sum(score.photos for score in report.classes)
