"""zoo predict: a row for every picture of a folder."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from zoo.cli.console import Screen, talk
from zoo.cli.options import flag, network, options, output, pictures, setting, shared
from zoo.errors import DataError, DisagreementError, UsageError
from zoo.settings import HARDWARE
from zoo.text import count, percent, printable

if TYPE_CHECKING:
    from zoo.predict import inputs
    from zoo.predict.embed import Embedding
    from zoo.predict.policy import Policy, Unknown
    from zoo.predict.rows import Prediction, Predictor
    from zoo.predict.sorting import Sorted

DOUBT, SORTING = "Doubt", "Sorting"
AGREEMENT_PICTURES = 64
REASONS, SHOWN = 1000, 3  # why rows are errors: so many are counted, so many are shown
Row = TypeVar("Row", bound="Prediction | Embedding")


@dataclass(frozen=True)
class Flags:
    model: str = network("A run folder, a model of `zoo list`, or an .onnx file.")
    inputs: list[str] = pictures()
    weights: str | None = shared("weights")
    trust_changed: bool = shared("trust_changed")
    device: str = setting("device")
    precision: Literal["fp32", "bf16", "int8"] | None = flag(
        "Precision: fp32, bf16 or int8. Default: the run's own, else fp32.", HARDWARE
    )
    engine: Literal["auto", "torch", "openvino", "onnxruntime"] = flag(
        "What runs the network: auto, torch or openvino; an .onnx file auto or onnxruntime.",
        HARDWARE,
        "auto",
    )
    tta: int = shared("tta")
    force: bool = flag("Go on where bf16 or int8 disagrees with fp32.", HARDWARE, False)
    output: Path | None = output("File to write: .csv, .jsonl or .parquet. Default: CSV on stdout.")
    top: int = flag("Classes in a row, the likeliest first.", default=1, min=1)
    csv_safe: bool = shared("csv_safe")
    strict: bool = flag("Exit with 1 if a row is an error.", default=False)
    reject_below: float | None = flag(
        "Give no label, but `rejected`, below this probability, as 0.8.", DOUBT
    )
    max_error: str | None = flag(
        "Reject below the probability above which at most this share of answers is wrong, as 5%: "
        "an upper bound of 95 % confidence, from the run's val photos.",
        DOUBT,
    )
    unknown: bool = flag(
        "Give no label, but `unknown`, to pictures that are like no training photo, by the "
        "distance of their features, which is a column.",
        DOUBT,
        False,
    )
    unknown_rate: str | None = flag(
        "Share of pictures of known classes that may be called unknown. Default: 5%.", DOUBT
    )
    coverage: str | None = flag(
        "Add a column `set`: the classes, as few as can be, that hold the true one with this "
        "probability, as 0.95.",
        DOUBT,
    )
    sort_into: Path | None = flag(
        "Folder to make, with a link to each picture in a folder of its class; those without a "
        "label are in _rejected, _unknown and _error.",
        SORTING,
    )
    copy: bool = flag("Copy the pictures for --sort-into.", SORTING, False)


@options
def command(flags: Flags) -> int:
    """Name what every picture shows: a row each, in order, or the reason why there is none."""
    from zoo.predict import inputs, policy, sorting, writers

    _check(flags)
    asked = _policy(flags)
    found = inputs.find_all(flags.inputs, sys.stdin)
    tally = Tally()
    with Screen() as screen, ExitStack() as stack:
        ours = _opened(flags, found, screen)
        several = ours.threshold is not None
        asked = replace(asked, top=min(flags.top, len(ours.classes)))
        top = asked.top if asked.limit is None else len(ours.classes)
        rows = asked.applied(ours.rows(found.each, top))
        if flags.sort_into is not None:
            place, flag = flags.sort_into, f"--sort-into {flags.sort_into}" if several else ""
            policy.check_several(flags.model, flag)
            folders = stack.enter_context(sorting.filling(place, flags.copy))
            rows = folders.following(rows)
        counted = tally.counting(rows, found.total, screen)
        form = writers.Form(asked.top, several, flags.csv_safe, asked.columns)
        screen.rows_go_to(flags.output)
        writers.write(counted, flags.output, sys.stdout, form)
    tally.show(" ".join(flags.inputs), found, flags.output, asked)
    if flags.sort_into is not None:
        _show_sorted(folders, flags)
    if flags.reject_below is not None:
        _show_kept(flags.model, flags.reject_below)
    return 1 if flags.strict and tally.statuses["error"] else 0


class Tally:
    """How many rows have which status, and the reasons of those that are errors."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()

    def counting(self, rows: Iterable[Row], total: int | None, screen: Screen) -> Iterator[Row]:
        """Return the same rows, counted as they go by."""
        for done, row in enumerate(rows, start=1):
            self.statuses[row.status] += 1
            if row.error and (row.error in self.reasons or len(self.reasons) < REASONS):
                self.reasons[row.error] += 1
            yield row
            screen.progress("pictures", done, total)

    def show(
        self, target: str, found: inputs.Inputs, output: Path | None, asked: Policy | None = None
    ) -> None:
        """Say how many rows there are and what has none. Raises DataError where there is no row."""
        rows, errors = self.statuses.total(), self.statuses["error"]
        if not rows:
            raise DataError(f"{target} names no pictures", "give one path a line")
        about = [count(rows, "row") + (f" in {output}" if output else "")]
        if errors:
            about.append(f"{errors:,} of them {'an error' if errors == 1 else 'errors'}")
        if asked and asked.below:
            about.append(f"{self.statuses['rejected']:,} rejected (below {asked.below:g})")
        if asked and asked.unknown:
            further = f"(further than {asked.unknown.limit:.4g})"
            about.append(f"{self.statuses['unknown']:,} unknown {further}")
        talk(", ".join(about))
        show_left_out(found)
        for reason, many in self.reasons.most_common(SHOWN):
            talk(f"  {count(many, 'error')}: {reason}")


def _check(flags: Flags) -> None:
    """Raise UsageError for flags that are none, before anything is computed."""
    from zoo.predict import policy, sorting, writers

    policy.check(flags.reject_below)
    writers.check(flags.output)
    writers.check_safe(flags.csv_safe, flags.output)
    for wrong, given, without in (
        (flags.reject_below is not None and flags.max_error is not None,
         "--max-error with --reject-below", "both are a threshold: leave one of them out"),
        (flags.unknown_rate is not None and not flags.unknown,
         f"--unknown-rate {flags.unknown_rate} without --unknown", "give --unknown as well"),
        (flags.copy and flags.sort_into is None,
         "--copy without --sort-into", "name the folder to copy into: --sort-into DIR"),
    ):  # fmt: skip
        if wrong:
            raise UsageError(given, without)
    if flags.sort_into is not None:
        for one in flags.inputs:
            sorting.check(flags.sort_into, one, "--sort-into")


def _policy(flags: Flags) -> Policy:
    """Return what is made of the answers, and say what the run's val photos promise of it."""
    from zoo.head.conformal import CONFIDENCE
    from zoo.predict import policy

    below, limit, unknown = flags.reject_below or 0.0, None, None
    most = policy.share("--max-error", flags.max_error)
    coverage = policy.share("--coverage", flags.coverage)
    rate = policy.share("--unknown-rate", flags.unknown_rate) or policy.RATE
    if most is not None:
        chosen = policy.max_error(policy.run_of(flags.model, f"--max-error {most:g}"), most)
        below = chosen.probability
        talk(
            f"answers of {below:.4g} or more are kept: {chosen.kept:,} of the run's val photos, "
            f"{chosen.errors:,} of them wrong; of new photos at most {percent(chosen.bound)}, with "
            f"{percent(CONFIDENCE, 0)} confidence"
        )
    if coverage is not None:
        limit = policy.sets(policy.run_of(flags.model, f"--coverage {coverage:g}"), coverage)
        talk(f"sets: classes up to a sum of {limit:.4g}, for {percent(coverage)} of new photos")
    if flags.unknown:
        unknown = _unknown(flags, rate)
        talk(
            f"unknown: further than {unknown.limit:.4g} from the training photos, as about "
            f"{percent(rate)} of new photos of the classes are"
        )
    return policy.Policy(flags.top, below, limit, unknown)


def _unknown(flags: Flags, rate: float) -> Unknown:
    """Return what tells unknown pictures, of a run or of a file that was exported with it."""
    from zoo.predict import policy

    if flags.model.lower().endswith(".onnx") and Path(flags.model).is_file():
        return policy.unknown_of_file(flags.model, flags.unknown_rate)
    return policy.unknown(policy.run_of(flags.model, "--unknown"), rate)


def _opened(flags: Flags, found: inputs.Inputs, screen: Screen) -> Predictor:
    """Return what answers. Raises DisagreementError where it is not to be trusted."""
    from zoo.predict import policy, predictor

    how = predictor.Opening(
        flags.weights,
        flags.device,
        flags.precision,
        flags.engine,
        trusts=flags.trust_changed,
        views=flags.tta,
        features=flags.unknown,
    )
    other = _compared_with(flags)
    photos = _first_pictures(flags.model, found) if other else []
    ours = predictor.open_predictor(flags.model, how, photos, screen.bytes)
    about = count(len(ours.classes), "class", "classes")
    if ours.threshold is not None:
        below = flags.reject_below
        policy.check_several(flags.model, "" if below is None else f"--reject-below {below:g}")
        about += f", labels are those with a probability of {ours.threshold:g} or more"
    talk(f"{ours.about}; {about}")
    if other:
        exact = replace(how, precision=other, engine="auto")
        _must_agree(
            flags, other, ours, lambda: predictor.open_predictor(flags.model, exact), photos
        )
    return ours


def _compared_with(flags: Flags) -> str:
    """Return the precision whose answers count, where others are requested; else nothing.

    For a run that is its own, on the engine that is chosen for it: its head was trained on those
    features.
    """
    from zoo.engine.select import choose
    from zoo.predict import predictor
    from zoo.run import Run

    if not predictor.is_run(flags.model):
        return "fp32" if flags.precision in ("bf16", "int8") else ""
    own: str = Run.open(Path(flags.model)).record.get("precision", "fp32")
    if (flags.precision or own) != own:
        return own
    elsewhere = own != "fp32" and flags.engine not in ("auto", choose("auto", "cpu", own)[0])
    return own if elsewhere else ""  # in fp32 all engines agree


def _first_pictures(model: str, found: inputs.Inputs) -> list[inputs.Input]:
    """Return what a lower precision is measured on: a run's val photos, else the first pictures."""
    from zoo.predict import predictor

    photos = predictor.val_photos(model, AGREEMENT_PICTURES)
    if not photos:
        photos = list(itertools.islice(found.each, AGREEMENT_PICTURES))
        found.each = itertools.chain(photos, found.each)
    return photos


def _must_agree(
    flags: Flags,
    precision: str,
    ours: Predictor,
    exact: Callable[[], Predictor],
    photos: list[inputs.Input],
) -> None:
    """Say what it costs to compute otherwise than in this precision, which `exact` opens.

    Raises DisagreementError where that is too much, unless --force is given.
    """
    from zoo.metrics import ENOUGH
    from zoo.predict import agreement, predictor

    same, answers = agreement.measured(flags.model, ours, exact, photos)
    what = "class" if ours.threshold is None else "labels"
    run = predictor.is_run(flags.model)
    theirs = run and predictor.val_photos(flags.model, 1)
    where = "of the run's val photos" if theirs else "of the first pictures"
    who = precision if precision == "fp32" or not run else f"the run itself, in {precision}"
    talk(f"{ours.engine.name} gives the same {what} as {who} on {same} of {answers} {where}")
    if answers and same < ENOUGH * answers and not flags.force:
        raise DisagreementError(
            f"{ours.engine.name} answers {answers - same} of {answers} {where} otherwise than "
            f"{who}: more than 2 %",
            "leave --precision and --engine out, or go on all the same with --force",
        )


def show_left_out(found: inputs.Inputs) -> None:
    """Say what is in a folder and has no row, and what could not be looked into."""
    from zoo.data.ignored import told

    if skipped := found.skipped:
        names = ", ".join(printable(name) for name in skipped[:5])
        more = f" and {len(skipped) - 5} more" if len(skipped) > 5 else ""
        many = count(len(skipped), "file is no picture and has", "files are no pictures and have")
        talk(f"{many} no row: {names}{more}")
    if left := told(found.passed):
        talk(f"left out: {left}")
    for folder, reason in found.closed[:5]:
        talk(f"warning: the folder {folder} cannot be listed: {reason}; it is one error row")
    if more_folders := found.closed[5:]:
        talk(f"warning: {count(len(more_folders), 'more folder')} cannot be listed")


def _show_sorted(folders: Sorted, flags: Flags) -> None:
    """Say how many pictures are in each folder."""
    counts = [f"{many:,} in {name}" for name, many in sorted(folders.counts.items())]
    more = f" and {len(counts) - 20} folders more" if len(counts) > 20 else ""
    what = "copies" if flags.copy else "links"
    talk(f"{what} in {flags.sort_into}: {', '.join(counts[:20]) or 'none'}{more}")
    if folders.missing:
        talk(f"{count(folders.missing, 'picture')} not there, and in no folder")


def _show_kept(model: str, below: float) -> None:
    """Say what the threshold does on photos whose classes are known."""
    from zoo.predict import policy

    found = policy.kept(Path(model), below)
    if found and found.coverage:
        talk(
            f"of the run's val photos {below:g} keeps {percent(found.coverage)}, "
            f"{percent(found.risk)} of them wrong"
        )
    elif found:
        talk(f"of the run's val photos {below:g} keeps none")
