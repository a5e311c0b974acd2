"""zoo predict: a row for every picture of a folder."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from zoo.cli import predict_job
from zoo.cli.console import Screen, talk
from zoo.cli.options import flag, force, network, options, output, pictures, setting, shared
from zoo.cli.tally import Tally
from zoo.errors import UsageError
from zoo.text import count, percent

if TYPE_CHECKING:
    from zoo.predict import inputs
    from zoo.predict.policy import Policy
    from zoo.predict.rows import Predictor
    from zoo.predict.sorting import Sorted
    from zoo.scale.plan import Settings

DOUBT, SORTING = "Doubt", "Sorting"


@dataclass(frozen=True)
class Flags:
    model: str = network("A run folder, a model of `zoo list`, or an .onnx file.")
    inputs: list[str] = pictures()
    weights: str | None = shared("weights")
    trust_changed: bool = shared("trust_changed")
    device: str = setting("device")
    precision: Literal["fp32", "bf16", "int8"] | None = shared("precision")
    engine: Literal["auto", "torch", "openvino", "onnxruntime"] = shared("engine")
    tta: int = shared("tta")
    force: bool = force("go on where bf16 or int8 answers otherwise than fp32 for over 2 %")
    output: Path | None = output("File to write: .csv, .jsonl or .parquet. Default: CSV on stdout.")
    top: int = flag("Classes in a row, the likeliest first.", default=1, min=1)
    csv_safe: bool = shared("csv_safe")
    json: bool = flag("Print a JSON array, a row an object; --top as lists.", default=False)
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
    job: str | None = flag(
        "Folder of a job, made and kept: typed again after it was killed, the command goes on. "
        "Default: FILE.job beside -o FILE for more than 20,000 pictures, until all is written.",
    )


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
        sorts = flags.sort_into is not None
        if job := predict_job.place_of(flags.job, flags.output, found.total, sorts):
            wanted = predict_job.Wanted(job, flags.job is not None, flags.output, flags.csv_safe)
            settings = _settings(flags, asked, several)
            shards = predict_job.done(wanted, settings, flags.device, found, ours, screen)
            predict_job.write(wanted, shards, partial(tally.counting, screen=screen))
        else:
            rows = asked.applied(ours.rows(found.each, top))
            if flags.sort_into is not None:
                place, flag = flags.sort_into, f"--sort-into {flags.sort_into}" if several else ""
                policy.check_several(flags.model, flag)
                folders = stack.enter_context(sorting.filling(place, flags.copy))
                rows = folders.following(rows)
            counted = tally.counting(rows, found.total, screen)
            form = writers.Form(asked.top, several, flags.csv_safe, asked.columns, flags.json)
            screen.rows_go_to(flags.output)
            writers.write(counted, flags.output, sys.stdout, form)
    tally.show(" ".join(flags.inputs), found, flags.output, asked)
    if flags.sort_into is not None:
        _show_sorted(folders, flags)
    if flags.reject_below is not None:
        _show_kept(flags.model, flags.reject_below)
    return 1 if flags.strict and tally.statuses["error"] else 0


def _check(flags: Flags) -> None:
    """Raise UsageError for flags that are none, before anything is computed."""
    from zoo.predict import sorting, writers

    writers.check(flags.output)
    writers.check_safe(flags.csv_safe, flags.output, flags.json)
    for wrong, given, without in (
        (flags.unknown_rate is not None and not flags.unknown,
         f"--unknown-rate {flags.unknown_rate} without --unknown", "give --unknown as well"),
        (flags.copy and flags.sort_into is None,
         "--copy without --sort-into", "name the folder to copy into: --sort-into DIR"),
        (flags.json and flags.job is not None,
         "--json with --job", "leave --json out: -o FILE.jsonl writes a file of JSON lines"),
    ):  # fmt: skip
        if wrong:
            raise UsageError(given, without)
    if flags.sort_into is not None:
        for one in flags.inputs:
            sorting.check(flags.sort_into, one, "--sort-into")


def _settings(flags: Flags, asked: Policy, several: bool) -> Settings:
    """Return what is computed, for the plan of a job."""
    from zoo.predict import policy
    from zoo.scale.plan import Settings

    rate = policy.share("--unknown-rate", flags.unknown_rate) or policy.RATE
    return Settings(
        "predict", flags.model, "", {}, weights=flags.weights, trusts=flags.trust_changed,
        engine=flags.engine, precision=flags.precision, views=flags.tta, top=asked.top,
        several=several, below=asked.below, limit=asked.limit,
        unknown=None if asked.unknown is None else rate,
    )  # fmt: skip


def _policy(flags: Flags) -> Policy:
    """Return what is made of the answers, and say what the run's val photos promise of it."""
    from zoo.head.conformal import CONFIDENCE
    from zoo.predict import policy

    doubt = policy.Doubt(
        flags.reject_below,
        policy.share("--max-error", flags.max_error),
        policy.share("--coverage", flags.coverage),
        flags.unknown,
        policy.share("--unknown-rate", flags.unknown_rate),
    )
    doubt.must_fit()
    asked, chosen = policy.made(flags.model, doubt, flags.top)
    if chosen is not None:
        talk(
            f"answers of {chosen.probability:.4g} or more are kept: {chosen.kept:,} of the run's "
            f"val photos, {chosen.errors:,} of them wrong; of new photos at most "
            f"{percent(chosen.bound)}, with {percent(CONFIDENCE, 0)} confidence"
        )
    if asked.limit is not None:
        share = percent(doubt.coverage)
        talk(f"sets: classes up to a sum of {asked.limit:.4g}, for {share} of new photos")
    if asked.unknown is not None:
        rate = percent(policy.RATE if doubt.rate is None else doubt.rate)
        talk(
            f"unknown: further than {asked.unknown.limit:.4g} from the training photos, as about "
            f"{rate} of new photos of the classes are"
        )
    return asked


def _opened(flags: Flags, found: inputs.Inputs, screen: Screen) -> Predictor:
    """Return what answers. Raises DisagreementError where it is not to be trusted."""
    from zoo.predict import agreement, policy, predictor

    how = predictor.Opening(
        flags.weights,
        flags.device,
        flags.precision,
        flags.engine,
        trusts=flags.trust_changed,
        views=flags.tta,
        features=flags.unknown,
    )
    model, how = predictor.of_folder(flags.model, how)
    other = agreement.counts(model, how)
    photos = agreement.pictures_for(model, found) if other else []
    ours = predictor.open_predictor(model, how, photos, screen.bytes)
    about = count(len(ours.classes), "class", "classes")
    if ours.threshold is not None:
        below = flags.reject_below
        policy.check_several(flags.model, "" if below is None else f"--reject-below {below:g}")
        about += f", labels are those with a probability of {ours.threshold:g} or more"
    talk(f"{ours.about}; {about}")
    if other:
        both = agreement.compared(model, how, other, ours, photos)
        talk(
            f"{both.ours} gives the same {both.what} as {both.theirs} on {both.same} of "
            f"{both.answers} {both.where}"
        )
        if not flags.force:
            both.must_hold()
    return ours


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
