"""zoo predict: a row for every picture of a folder."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.cli.console import SAFE, Screen, talk
from zoo.cli.flags import TrustChanged
from zoo.errors import DataError, DisagreementError, UsageError
from zoo.text import count as counted
from zoo.text import percent, printable

if TYPE_CHECKING:
    from zoo.predict.inputs import Input, Inputs
    from zoo.predict.predictor import Opening, Prediction, Predictor

AGREEMENT_PICTURES = 64
REASONS, SHOWN = 1000, 3  # why rows are errors: so many are counted, so many are shown
REJECT = "Rows whose probability is below this are `rejected`, and have no label."


def command(
    model: Annotated[str, typer.Argument(help="A run folder, a model's name, or a .onnx file.")],
    inputs: Annotated[str, typer.Argument(help="Folder, picture, 'glob', list.txt, or - (stdin).")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help=".csv, .jsonl or .parquet; else stdout.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes a row.")] = 1,
    weights: Annotated[str | None, typer.Option(help="For a model's name: tag or file.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    precision: Annotated[
        str | None, typer.Option(help="fp32, bf16 or int8; a run has its own.")
    ] = None,
    engine: Annotated[str, typer.Option(help="auto, torch or openvino.")] = "auto",
    force: Annotated[
        bool, typer.Option("--force", help="Go on where bf16 or int8 disagrees with fp32.")
    ] = False,
    trust_changed: TrustChanged = False,
    reject_below: Annotated[float | None, typer.Option(help=REJECT)] = None,
    csv_safe: Annotated[bool, typer.Option("--csv-safe", help=SAFE)] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 if a row is an error.")] = False,
) -> int:
    """One row for every picture, in order: its class with the probability, or why there is none."""
    from zoo.predict import inputs as sources
    from zoo.predict import predictor, reject, writers

    reject.check(reject_below)
    if precision not in (None, "fp32", "bf16", "int8"):
        raise UsageError(f"--precision {precision}", "give fp32, bf16 or int8")
    writers.check(output)
    writers.check_safe(csv_safe, output)
    found = sources.find(inputs, sys.stdin)
    with Screen() as screen:
        how = predictor.Opening(weights, device, precision, engine, trusts=trust_changed)
        other = compared_with(model, precision, engine)
        photos = first_pictures(model, found) if other else []
        ours = predictor.open_predictor(model, how, photos, screen.bytes)
        about = counted(len(ours.classes), "class", "classes")
        if ours.threshold is not None:
            reject.check_several(model, reject_below)
            about += f", labels are those with a probability of {ours.threshold:g} or more"
        talk(f"{ours.about}; {about}")
        if other:
            must_agree(model, other, how, ours, photos, force)
        top = min(top, len(ours.classes))
        statuses: Counter[str] = Counter()
        reasons: Counter[str] = Counter()

        def rows() -> Iterator[Prediction]:
            given = reject.rejecting(ours.rows(found.each, top), reject_below or 0)
            for done, row in enumerate(given, start=1):
                statuses[row.status] += 1
                if row.error and (row.error in reasons or len(reasons) < REASONS):
                    reasons[row.error] += 1
                yield row
                screen.progress("pictures", done, found.total)

        several = ours.threshold is not None
        count = writers.write(rows(), output, top, sys.stdout, several=several, safe=csv_safe)
    if not count:
        raise DataError(f"{inputs} names no pictures", "give one path a line")
    show_summary(statuses, found, output, reject_below)
    for reason, many in reasons.most_common(SHOWN):
        talk(f"  {counted(many, 'error')}: {reason}")
    if reject_below is not None:
        show_kept(model, reject_below)
    return 1 if strict and statuses["error"] else 0


def first_pictures(model: str, found: Inputs) -> list[Input]:
    """What a lower precision is measured on: a run's val photos, else the first of this folder."""
    from zoo.predict import predictor

    photos = predictor.val_photos(model, AGREEMENT_PICTURES)
    if not photos:
        photos = list(itertools.islice(found.each, AGREEMENT_PICTURES))
        found.each = itertools.chain(photos, found.each)
    return photos


def compared_with(model: str, precision: str | None, engine: str) -> str:
    """The precision whose answers count, where others are asked for; else nothing.

    Of a run its own, on the engine that is chosen for it: its head was trained on those features.
    """
    from zoo.engine.select import choose
    from zoo.predict import predictor
    from zoo.run import Run

    if not predictor.is_run(model):
        return "fp32" if precision in ("bf16", "int8") else ""
    own: str = Run.open(Path(model)).record.get("precision", "fp32")
    if (precision or own) != own:
        return own
    elsewhere = own != "fp32" and engine not in ("auto", choose("auto", "cpu", own)[0])
    return own if elsewhere else ""  # in fp32 all engines agree


def must_agree(
    model: str,
    precision: str,
    how: Opening,
    ours: Predictor,
    photos: list[Input],
    force: bool,
) -> None:
    """What it costs to compute otherwise than in this precision.

    Raises DisagreementError where that is too much, unless it is to go on.
    """
    from zoo.metrics import ENOUGH
    from zoo.predict import agreement, predictor

    def exact() -> Predictor:
        return predictor.open_predictor(model, replace(how, precision=precision, engine="auto"))

    same, count = agreement.measured(model, ours, exact, photos)
    what = "class" if ours.threshold is None else "labels"
    run = predictor.is_run(model)
    theirs = run and predictor.val_photos(model, 1)
    where = "of the run's val photos" if theirs else "of the first pictures"
    who = precision if precision == "fp32" or not run else f"the run itself, in {precision}"
    talk(f"{ours.engine.name} gives the same {what} as {who} on {same} of {count} {where}")
    if count and same < ENOUGH * count and not force:
        raise DisagreementError(
            f"{ours.engine.name} answers {count - same} of {count} {where} otherwise than {who}: "
            "more than 2 %",
            "leave --precision and --engine out, or go on all the same with --force",
        )


def show_summary(
    statuses: Counter[str], found: Inputs, output: Path | None, reject_below: float | None
) -> None:
    where = f" in {output}" if output else ""
    errors = statuses["error"]
    about = [f"{errors:,} of them {'an error' if errors == 1 else 'errors'}"] if errors else []
    if reject_below is not None:
        about.append(f"{statuses['rejected']:,} rejected (below {reject_below:g})")
    talk(", ".join([f"{counted(statuses.total(), 'row')}{where}", *about]))
    show_left_out(found)


def show_left_out(found: Inputs) -> None:
    """What lies in a folder and has no row, and what could not be looked into."""
    from zoo.data.left_out import told

    if skipped := found.skipped:
        names = ", ".join(printable(name) for name in skipped[:5])
        more = f" and {len(skipped) - 5} more" if len(skipped) > 5 else ""
        many = counted(len(skipped), "file is no picture and has", "files are no pictures and have")
        talk(f"{many} no row: {names}{more}")
    if left := told(found.passed):
        talk(f"left out: {left}")
    for folder, reason in found.closed[:5]:
        talk(f"warning: the folder {folder} cannot be listed: {reason}; it is one error row")
    if more_folders := found.closed[5:]:
        talk(f"warning: {counted(len(more_folders), 'more folder')} cannot be listed")


def show_kept(model: str, below: float) -> None:
    """What the threshold does on photos whose classes are known."""
    from zoo.predict import reject

    found = reject.kept(Path(model), below)
    if found and found.coverage:
        talk(
            f"of the run's val photos {below:g} keeps {percent(found.coverage)}, "
            f"{percent(found.risk)} of them wrong"
        )
    elif found:
        talk(f"of the run's val photos {below:g} keeps none")
