"""Whether a lower precision or another engine answers as what it stands for does.

For a run that is measured once and then remembered.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import PIL

from zoo import __version__, catalog, weights
from zoo.disk import digest_of, read_sealed, write_sealed
from zoo.engine.select import choose
from zoo.engine.store import known_at
from zoo.errors import DisagreementError
from zoo.metrics import ENOUGH
from zoo.predict.inputs import Input, Inputs
from zoo.predict.predictor import Opening, open_predictor, val_photos
from zoo.predict.rows import Predictor
from zoo.run import Run

PICTURES = 64  # that it is measured on


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many answers are those that count: same of `answers`, on the pictures `where`.

    ours: what was asked for. theirs: whose answers count. what: is compared, in words.
    """

    ours: str
    theirs: str
    what: str
    where: str
    same: int
    answers: int

    def must_hold(self) -> None:
        """Raises DisagreementError where more than 2 % are answered otherwise."""
        if self.answers and self.same < ENOUGH * self.answers:
            raise DisagreementError(
                f"{self.ours} answers {self.answers - self.same} of {self.answers} {self.where} "
                f"otherwise than {self.theirs}: more than 2 %",
                "leave --precision and --engine out, or go on all the same with --force",
            )


def counts(model: str, how: Opening) -> str:
    """Return the precision whose answers count, where others are requested; else nothing.

    For a run that is its own, on the engine that is chosen for it: its head was trained on those
    features.
    """
    if not catalog.is_run(model):
        return "fp32" if how.precision in ("bf16", "int8") else ""
    own: str = Run.open(Path(model)).record.get("precision", "fp32")
    if (how.precision or own) != own:
        return own
    elsewhere = own != "fp32" and how.engine not in ("auto", choose("auto", "cpu", own)[0])
    return own if elsewhere else ""  # in fp32 all engines agree


def pictures_for(model: str, found: Inputs) -> list[Input]:
    """Return what it is measured on: a run's val photos, else the first of the pictures."""
    photos = val_photos(model, PICTURES)
    if not photos:
        photos = list(itertools.islice(found.each, PICTURES))
        found.each = itertools.chain(photos, found.each)
    return photos


def compared(
    model: str, how: Opening, precision: str, ours: Predictor, photos: Sequence[Input]
) -> Agreement:
    """Compare what was opened with the same model in the precision that counts."""
    exact = replace(how, precision=precision, engine="auto")
    same, answers = measured(model, ours, lambda: open_predictor(model, exact), photos)
    run = catalog.is_run(model)
    theirs = "of the run's val photos" if run and val_photos(model, 1) else "of the first pictures"
    who = precision if precision == "fp32" or not run else f"the run itself, in {precision}"
    what = "class" if ours.threshold is None else "labels"
    return Agreement(ours.engine.name, who, what, theirs, same, answers)


def measured(
    model: str, ours: Predictor, exact: Callable[[], Predictor], inputs: Sequence[Input]
) -> tuple[int, int]:
    """Return (equal answers, answers) on these pictures. exact: opens what ours is compared with.

    What was found of a run holds as long as its network, the engine and the photos are the same.
    """
    place = _place(model, ours, inputs)
    with suppress(OSError, ValueError, KeyError, TypeError):
        if place and (content := read_sealed(place)) is not None:
            found = json.loads(content)
            if 0 <= int(found["same"]) <= int(found["count"]):
                return int(found["same"]), int(found["count"])
    same, count = agreement(ours, exact(), inputs)
    if place:
        write_sealed(place, json.dumps({"same": same, "count": count}).encode())
    return same, count


def _place(model: str, ours: Predictor, inputs: Sequence[Input]) -> Path | None:
    """Return the file in which the agreement of a run is remembered."""
    if not catalog.is_run(model):
        return None
    network = [weights.hash_of(Path(model, name)) for name in ("model.safetensors", "run.json")]
    photos = digest_of([Path(item.file) for item in inputs])
    versions = (__version__, PIL.__version__)
    return known_at("agreement-", [*versions, network, ours.engine.name, photos])


def agreement(ours: Predictor, exact: Predictor, inputs: Sequence[Input]) -> tuple[int, int]:
    """Return (equal answers, answers) of two predictors on the same inputs.

    A picture that only one of them answers is answered otherwise; one that neither does is none.
    """
    pairs = zip(ours.rows(inputs), exact.rows(inputs), strict=True)
    answered = [(a, b) for a, b in pairs if "ok" in (a.status, b.status)]
    same = sum(a.status == b.status and a.answer == b.answer for a, b in answered)
    return same, len(answered)
