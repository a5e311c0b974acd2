"""The parts of a run's page that are figures and words: from its record and its tables.

Each function returns what the template `report.html.j2` shows of it, as text and numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

import numpy as np

from zoo.data.samples import Stat, evenly, labels_in, status_of
from zoo.metrics import BINS, aurc, calibration_error, reliability, risk_coverage, wilson
from zoo.report.answers import Answer, confidence
from zoo.report.svg import Axis, Chart, strip
from zoo.run import Record, Run
from zoo.text import count, percent, size

ROWS = 40  # of the table of classes
COUNTED = 300_000  # photos of an index that are counted class by class
EPOCHS = 400  # points of a curve


def measured(run: Run) -> tuple[str, Record, int]:
    """Return the part whose figures come first, `test` or `val`, its figures, its photos."""
    record = run.record
    if test := record.get("test"):
        return "test", test, int(test["photos"])
    return "val", record.get("results", {}), int(record["data"]["val"])


def verdict(run: Run) -> dict[str, Any]:
    """Return how good a run is: the figure, what it is of, and how far to trust it."""
    part, found, photos = measured(run)
    task, notes = run.record.get("task", "classify"), list[str]()
    if task == "reconstruct":
        figure = f"{found['mse']:.5f}"
        what = f"mean squared error of a pixel (0 to 1), on {count(photos, f'{part} photo')}"
        if pca := run.record.get("results", {}).get("pca_mse"):
            parts = run.record["results"]["pca_components"]
            notes.append(f"as many principal components ({parts}) reach {pca:.5f}")
        notes.append(f"mean absolute error {found['mae']:.5f}")
    elif task == "multilabel":
        figure = percent(found["map"])
        what = f"mean average precision (mAP) on {count(photos, f'{part} photo')}"
        notes.append(f"all labels right on {percent(found['exact'])}")
        notes.append(f"macro-F1 {percent(found['macro_f1'])}")
    else:
        low, high = wilson(round(found["accuracy"] * photos), photos)
        figure = percent(found["accuracy"], 2 if photos >= 2000 else 1)
        what = f"of {count(photos, f'{part} photo')} right"
        notes.append(f"95 % interval {percent(low)} to {percent(high)}")
        notes.append(f"macro-F1 {percent(found['macro_f1'])}")
    if part == "test":
        notes.append(_of_val(run, task))
    return {"figure": figure, "what": what, "notes": notes + _repeated(run.record)}


def _of_val(run: Run, task: str) -> str:
    results = run.record.get("results", {})
    name, text = {"reconstruct": ("mse", "error"), "multilabel": ("map", "mAP")}.get(
        task, ("accuracy", "accuracy")
    )
    value = results.get(name)
    said = "-" if value is None else f"{value:.5f}" if name == "mse" else percent(value)
    return f"{text} {said} on the {count(run.record['data']['val'], 'val photo')}"


def _repeated(record: Record) -> list[str]:
    """Return what other seeds and folds have given."""
    return [
        f"{len(each['macro_f1'])} {each['kind']}: mean {percent(each['mean'])}, 95 % interval "
        f"{percent(each['low'])} to {percent(each['high'])}"
        for each in record.get("evidence", {}).values()
    ]


# The data.


def data(run: Run) -> dict[str, Any]:
    """Return what the photos are: how many of each part and class, and what was left out."""
    record = run.record["data"]
    parts = [(name, record.get(name, 0)) for name in ("train", "val", "test") if record.get(name)]
    skipped = (
        list(run.rows("skipped.csv", ("path", "reason")))
        if run.path("skipped.csv").exists()
        else []
    )
    return {
        "root": record["root"],
        "parts": [(name, f"{photos:,}") for name, photos in parts],
        "drawn": bool(record.get("drawn")),
        "skipped": Counter(row["reason"] for row in skipped).most_common(6),
        "left_out": len(skipped),
        "doubted": run.record.get("suspicious") or 0,
        "classes": len(run.record["classes"]),
    }


def train_counts(run: Run) -> Counter[str]:
    """Return how many training photos each class has; nothing of a very large index."""
    record = run.record["data"]
    if sum(record.get(part, 0) for part in ("train", "val", "test")) > COUNTED:
        return Counter()
    now: Stat | None = None
    with suppress(OSError):  # to read it says why
        now = status_of(run.path("index.csv").stat())
    cells = _train_cells(run, now)
    if run.record.get("task") == "multilabel":
        return Counter(name for cell in cells.elements() for name in labels_in(cell))
    return cells


@lru_cache(maxsize=1)  # a page and what stands beside it ask for the same three times
def _train_cells(run: Run, _: Stat | None) -> Counter[str]:
    """Return how many training photos have each label, of a table as it is now."""
    return Counter(row["label"] for row in run.index() if row["split"] == "train")


def classes(run: Run) -> dict[str, Any]:
    """Return the table of classes: of many, those with the lowest F1."""
    part, figures, _ = measured(run)
    table = figures.get("classes") if part == "test" else run.record.get("classes_table")
    table = [row for row in table or [] if row.get("photos")]
    several = run.record.get("task") == "multilabel"
    key = "ap" if several else "f1"
    shown = table if len(table) <= ROWS else sorted(table, key=lambda row: row[key])[:ROWS]
    trained = train_counts(run)
    rows = []
    for row in shown:
        low, high = wilson(round(row["recall"] * row["photos"]), row["photos"])
        shares = [percent(row[name]) for name in (*(("ap",) if several else ()), "precision")]
        rows.append({
            "name": row["name"],
            "train": f"{trained[row['name']]:,}" if trained else "",
            "photos": f"{row['photos']:,}",
            "figures": shares,
            "recall": percent(row["recall"]),
            "interval": f"{100 * low:.0f} – {100 * high:.0f}",
            "strip": strip(row["recall"], low, high),
            "f1": percent(row["f1"]),
        })  # fmt: skip
    more = len(table) - len(shown)
    return {"part": part, "rows": rows, "several": several, "more": more,
            "names": [row["name"] for row in shown]}  # fmt: skip


# Charts.


def curves(run: Run) -> list[str]:
    """Return the charts of the training: of penalties that were tried, and of epochs."""
    epochs = [line for line in run.metrics() if line.get("lr")]
    tried = run.record.get("penalties") or []
    found = [_penalties(tried, run.record.get("penalty"))] if len(tried) > 1 else []
    if len(epochs) > 1:
        step = -(-len(epochs) // EPOCHS)
        some = epochs[::step] if step > 1 else epochs
        found += [_losses(some), _scores(some, run.record.get("best_epoch"))]
    return [chart for chart in found if chart]


def _penalties(tried: Sequence[Record], chosen: float | None) -> str:
    points = [(row["penalty"], row["loss"]) for row in tried]
    bounds = [row["loss"] + sign * row["error"] for row in tried for sign in (-1, 1)]
    best = min(tried, key=lambda row: row["loss"])
    chart = Chart(
        Axis.around("penalty, weaker to the left", [x for x, _ in points], log=True),
        Axis.around("log-loss of photos held out", bounds),
        "Penalties tried",
        f"The least loss, {best['loss']:.3f}, is at the penalty {best['penalty']:.2g}.",
    )
    for row in tried:
        chart.bar(row["penalty"], row["loss"] - row["error"], row["loss"] + row["error"], "line")
    chart.line(points, "c0")
    for row in tried:
        taken = row["penalty"] == chosen
        tip = f"{row['penalty']:.2g}: loss {row['loss']:.4f}, accuracy {percent(row['accuracy'])}"
        chart.dot((row["penalty"], row["loss"]), "c1" if taken else "c0", 6 if taken else 4, tip)
        if taken:
            chart.note((row["penalty"], row["loss"]), f"chosen: {row['penalty']:.2g}", lift=-20)
    return chart.svg()


def _numbers(epochs: Sequence[Record], name: str) -> list[tuple[float, float]]:
    return [(line["epoch"], line[name]) for line in epochs if isinstance(line.get(name), float)]


def _losses(epochs: Sequence[Record]) -> str:
    train, val = _numbers(epochs, "train_loss"), _numbers(epochs, "val_loss")
    if not (train or val):
        return ""
    values = sorted(loss for _, loss in (*train, *val) if np.isfinite(loss))
    # The first losses of a training from random weights would flatten all the others.
    top = min(values[-1], 4 * values[len(values) // 2] or values[-1])
    ends = f"The val loss goes from {val[0][1]:.3f} to {val[-1][1]:.3f}." if val else ""
    chart = Chart(_epoch_axis(epochs), Axis.around("", [0.0, top]), "Loss", ends)
    chart.line(train, "c1", "train")
    chart.line(val, "c0", "val")
    return chart.svg()


def _scores(epochs: Sequence[Record], best: int | None) -> str:
    for name, what in (("accuracy", "Accuracy"), ("map", "mAP"), ("mse", "Squared error")):
        if not (points := _numbers(epochs, name)):
            continue
        unit = "" if name == "mse" else "%"
        axis = Axis.around("", [y for _, y in points], unit=unit)
        last = f"{points[-1][1]:.5f}" if name == "mse" else percent(points[-1][1])
        chart = Chart(_epoch_axis(epochs), axis, f"{what} of the val photos", f"{last} at the end.")
        chart.line(points, "c0")
        kept = [point for point in points if point[0] == best]
        for point in kept:
            chart.dot(point, "c1", 5, f"epoch {best} is kept")
            left = point[0] > (points[0][0] + points[-1][0]) / 2
            chart.note(point, f"kept: epoch {best}", "end" if left else "start", lift=-20)
        return chart.svg()
    return ""


def _epoch_axis(epochs: Sequence[Record]) -> Axis:
    return Axis("epoch", epochs[0]["epoch"], max(epochs[-1]["epoch"], epochs[0]["epoch"] + 1))


def doubt(answers: Sequence[Answer]) -> list[str]:
    """Return the reliability diagram and the risk-coverage curve."""
    if len(answers) < 2:
        return []
    probability, right = confidence(answers)
    return [_reliability(probability, right), _risk(probability, right)]


def _reliability(probability: Any, right: Any) -> str:
    photos, mean, accuracy = reliability(probability, right)
    ece = calibration_error(probability, right)
    share = Axis("probability that the run gives its answer", 0.0, 1.0, "%")
    chart = Chart(
        share, Axis("share of right answers", 0.0, 1.0, "%"), "Can the probabilities be believed?",
        f"Points on the diagonal can. The calibration error over {BINS} bins is {percent(ece)}.",
    )  # fmt: skip
    chart.line([(0.0, 0.0), (1.0, 1.0)], "soft", dash="4 4")
    full = np.flatnonzero(photos)
    chart.line([(mean[k], accuracy[k]) for k in full], "c0")
    for k in full:
        tip = f"{count(int(photos[k]), 'photo')}: {percent(accuracy[k])} right"
        chart.dot((mean[k], accuracy[k]), "c0", 3 + 7 * float(photos[k] / photos.max()) ** 0.5, tip)
    chart.note((1.0, 0.04), f"calibration error {percent(ece)}", "end", lift=0)
    return chart.svg()


def _risk(probability: Any, right: Any) -> str:
    _, kept, risk = risk_coverage(probability, right)
    share = kept / len(right)
    chart = Chart(
        Axis("photos answered, the surest first", 0.0, 1.0, "%"),
        Axis("wrong among them", 0.0, max(0.02, 1.1 * float(risk.max())), "%"),
        "What is it worth to answer less often?",
        f"Of all photos {percent(risk[-1])} are wrong, of the surer half "
        f"{percent(risk[np.searchsorted(share, 0.5)])}.",
    )
    chart.steps([(float(share[k]), float(risk[k])) for k in evenly(range(len(kept)), 500)], "c0")
    chart.note((1.0, 0.0), f"area {aurc(probability, right):.3f}", "end")
    return chart.svg()


# What the run can be used as.


def exports(run: Run) -> list[tuple[str, str, str, str, str]]:
    """Return the exported files, a row each: place, kind, size, proof, begin of the sha256."""
    found = []
    for name, proof in sorted(run.record.get("exported", {}).items()):
        agree = ""
        if proof.get("agree") is not None:
            agree = f"same answer on {proof['agree']:,} of {proof.get('photos', 0):,} photos"
        differ = proof.get("max_diff")
        largest = f"values differ by {differ:.1e} at most" if isinstance(differ, float) else ""
        told = ", ".join(filter(None, (agree, largest))) or "-"
        length = size(proof["bytes"]) if proof.get("bytes") else "-"
        digest = str(proof.get("sha256", ""))
        short = f"{digest[:12]}…" if digest else ""  # run.json has all of it
        found.append((str(proof.get("path", "")), name, length, told, short))
    return found
