"""What to try next for a result: rules, each a condition on the evidence and a sentence.

A sentence has the command that does it, ready to be typed. The first rules that hold are said, so
what makes all else doubtful (a leak, wrong labels) stands before what may be worth a few points.
The terminal and the page of a run say the same.
"""

from __future__ import annotations

import itertools
import os
import shlex
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from zoo.metrics import ClassScore, Report, wilson
from zoo.report.sections import train_counts
from zoo.run import Run
from zoo.text import count, percent

GOOD = 0.9  # accuracy from which on a network is of use
DOUBTED = 0.02  # share of the labels that are probably wrong, from which on they come first
WEAK, FEW = 0.1, 200  # points of recall below the accuracy, and photos of a class, to want more
RARE = 0.5  # of the photos that a class has in the middle
APART = 0.08  # by which accuracy on held-out training photos may exceed what val allows
UNSURE = 0.1  # width of an interval of the accuracy


@dataclass(frozen=True, slots=True)
class Result:
    """What a run has come to, on its val or test photos. `data` is quoted for a shell.

    train: photos of each class. doubted: labels that are probably wrong. held_out: accuracy on
    training photos by cross-validation, learned: on those that were learned. frozen: nothing but
    a linear head was trained, and it was not computed. improving: the last epoch is the best.
    others: tells how many networks besides have weights on this machine. repeated: folds or seeds
    were measured.
    """

    run: str
    data: str
    report: Report
    train: Mapping[str, int] = field(default_factory=dict)
    doubted: int = 0
    held_out: float | None = None
    learned: float | None = None
    frozen: bool = False
    pretrained: bool = True
    improving: bool = False
    epochs: int = 1
    balanced: bool = False
    others: Callable[[], int] = int
    repeated: bool = False

    @classmethod
    def of(
        cls, run: Run, report: Report, chosen: Mapping[str, object], others: Callable[[], int] = int
    ) -> Result:
        """Return what a finished run's record says of it.

        report: of the photos measured on. chosen: the settings in the run's recipe.
        """
        record = run.record
        tried = {row["penalty"]: row["accuracy"] for row in record.get("penalties") or ()}
        epochs = [line for line in run.metrics() if line.get("lr")]
        return cls(
            str(run.folder),
            shlex.quote(_near(str(chosen["data"]))),
            report,
            train_counts(run),
            record.get("suspicious") or 0,
            tried.get(record.get("penalty")),
            record.get("train_accuracy"),
            bool(record.get("linear_head")) and record.get("best_by") != "computed",
            record["weights"]["tag"] != "none",
            len(epochs) > 1 and record["best_epoch"] == epochs[-1]["epoch"]
            and record["best_by"] != "last",
            int(str(chosen.get("epochs", 1))),
            chosen.get("balance") in ("weights", "sampler"),
            others,
            bool(record.get("evidence")),
        )  # fmt: skip

    @property
    def photos(self) -> int:
        """The photos measured on."""
        return sum(score.photos for score in self.report.classes)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy."""
        return wilson(round(self.report.accuracy * self.photos), self.photos)

    @property
    def again(self) -> str:
        """The command that does the same with other photos or settings, up to those."""
        return f"zoo finetune --recipe {shlex.quote(f'{self.run}/recipe.toml')}"

    @property
    def usual(self) -> float:
        """How many photos to learn from a class has in the middle."""
        return statistics.median(self.train.values()) if self.train else 0.0


def confused(report: Report) -> list[tuple[str, str, int, int]]:
    """Return (class, taken for, how often, of how many photos), the three most frequent.

    A single photo is a pair only where no other has more.
    """
    names = [score.name for score in report.classes]
    pairs = [
        (names[true], names[said], many, report.classes[true].photos)
        for true, row in enumerate(report.confusion)
        for said, many in enumerate(row)
        if many and true != said
    ]
    pairs.sort(key=lambda pair: (-pair[2], pair[3], pair[:2]))
    least = 2 if pairs and pairs[0][2] > 1 else 1
    return [pair for pair in pairs if pair[2] >= least][:3]


def weakest(report: Report) -> ClassScore | None:
    """Return the class of which the least is found; None where all is right."""
    there = [score for score in report.classes if score.photos]
    if not there or report.accuracy == 1:
        return None
    return min(there, key=lambda score: (score.recall, score.f1, score.name))


def _weak(one: Result) -> ClassScore | None:
    """Return the weakest class where it is far below the others."""
    score = weakest(one.report)
    return score if score and score.recall < one.report.accuracy - WEAK else None


def _wants_photos(one: Result, share: float) -> bool:
    """Return whether the weakest class has fewer than this share of the usual photos."""
    score = _weak(one)
    have = one.train.get(score.name, 0) if score else 0
    return 0 < have < min(FEW, share * one.usual)


def _more_photos(one: Result, usual: bool) -> str:
    """Return what is wanted of the weakest class. usual: compared with the other classes."""
    score = _weak(one)
    assert score is not None
    number = one.report.classes.index(score)
    answers = [0 if k == number else many for k, many in enumerate(one.report.confusion[number])]
    said = one.report.classes[answers.index(max(answers))].name
    have = f"{one.train[score.name]:,} to learn from"
    compared = f", where the usual is {one.usual:,.0f}" if usual else ""
    return (
        f"more photos of {score.name} that tell it from {said}: it has {have}{compared}; then "
        f"`{one.again}`"
    )


def _below(one: Result) -> bool:
    return one.report.accuracy < GOOD


@dataclass(frozen=True, slots=True)
class Rule:
    """A sentence that is said where the evidence is such."""

    name: str
    holds: Callable[[Result], bool]
    says: Callable[[Result], str]


RULES = (
    Rule(
        "random",
        lambda one: one.frozen and not one.pretrained,
        lambda one: (
            "its frozen part has random weights, and knows nothing: leave --weights none out, or "
            "train all of it with --no-freeze"
        ),
    ),
    Rule(
        "unlike",
        lambda one: one.held_out is not None and one.held_out > one.interval[1] + APART,
        lambda one: (
            f"{percent(one.held_out)} on training photos that were held out, and less on these: "
            "either training photos repeat each other or these are of another kind, "
            f"`zoo check {one.data}` looks"
        ),
    ),
    Rule(
        "labels",
        lambda one: one.doubted > 2 and one.doubted >= DOUBTED * sum(one.train.values()) > 0,
        lambda one: (
            f"{count(one.doubted, 'training label')} may be wrong: "
            f"`zoo check {one.data} --model {shlex.quote(one.run)} --html check.html` shows them"
        ),
    ),
    Rule(
        "longer",
        lambda one: one.improving and _below(one),
        lambda one: f"its last epoch was its best: `{one.again} --epochs {2 * one.epochs}`",
    ),
    Rule(
        "rare",
        lambda one: _wants_photos(one, RARE),
        lambda one: _more_photos(one, usual=True),
    ),
    Rule(
        "deeper",
        lambda one: one.frozen and one.pretrained and _below(one)
        and (one.learned is None or one.learned > one.report.accuracy)
        and min(one.train.values(), default=0) >= 20,
        lambda one: (
            "train on behind the head (minutes), which may be worth some points, as `zoo compare` "
            f"then tells: `{one.again} --schedule head-then-all --epochs 20`"
        ),
    ),
    Rule(
        "balance",
        lambda one: not one.balanced and one.report.macro_f1 < one.report.accuracy - 0.05
        and max(one.train.values(), default=0) > 2 * min(one.train.values(), default=0) > 0,
        lambda one: (
            "the rare classes are missed more than the others: "
            f"`{one.again} --balance weights`"
        ),
    ),
    Rule(
        "backbone",
        lambda one: _below(one) and one.pretrained and one.frozen and one.others() > 0,
        lambda one: (
            f"another network may suit them better: `zoo rank {one.data}` tries the "
            + (f"{many} others that are here" if (many := one.others()) > 1 else "other one here")
        ),
    ),
    Rule(
        "weak",
        lambda one: _below(one) and _wants_photos(one, 10.0) and not _wants_photos(one, RARE),
        lambda one: _more_photos(one, usual=False),
    ),
    Rule(
        "unsure",
        lambda one: one.interval[1] - one.interval[0] > UNSURE and not one.repeated
        and sum(one.train.values()) > 50 and _below(one),
        lambda one: (
            f"{count(one.photos, 'photo')} leave "
            f"{100 * (one.interval[1] - one.interval[0]):.0f} points open: "
            f"`{one.again} --folds 5` measures on all of them"
        ),
    ),
    Rule(
        "use",
        lambda one: True,
        lambda one: _use(one.run, "classify"),
    ),
)  # fmt: skip


def steps(one: Result, most: int) -> list[str]:
    """Return what to do next, in words and with the commands."""
    return list(itertools.islice((rule.says(one) for rule in RULES if rule.holds(one)), most))


def use(run: Run) -> str:
    """Return what a run is for, whatever it has come to."""
    return _use(str(run.folder), run.record.get("task", "classify"))


def _use(folder: str, task: str) -> str:
    run = shlex.quote(folder)
    if task == "reconstruct":
        return f"`zoo reconstruct {run} FOLDER`, `zoo embed {run} FOLDER`"
    return f"`zoo predict {run} FOLDER`, `zoo export onnx {run}`"


def _near(path: str) -> str:
    """Return a path as it is from here, where it lies below."""
    below = os.path.relpath(path) if os.path.isabs(path) else path
    return path if below.startswith(os.pardir) else below
