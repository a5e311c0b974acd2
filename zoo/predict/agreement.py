"""How often two predictors answer alike; for a run measured once and then remembered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import PIL

from zoo import __version__, weights
from zoo.disk import digest_of, read_sealed, write_sealed
from zoo.errors import WriteError
from zoo.predict.inputs import Input
from zoo.predict.predictor import is_run
from zoo.predict.rows import Predictor


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
        with suppress(WriteError):
            write_sealed(place, json.dumps({"same": same, "count": count}).encode())
    return same, count


def _place(model: str, ours: Predictor, inputs: Sequence[Input]) -> Path | None:
    """Return the file in which the agreement of a run is remembered."""
    if not is_run(model):
        return None
    network = [weights.hash_of(Path(model, name)) for name in ("model.safetensors", "run.json")]
    photos = digest_of([Path(item.file) for item in inputs])
    words = f"{__version__} {PIL.__version__} {network} {ours.engine.name} {photos}"
    digest = hashlib.sha256(words.encode()).hexdigest()
    return weights.cache_folder() / "known" / f"agreement-{digest[:32]}"


def agreement(ours: Predictor, exact: Predictor, inputs: Sequence[Input]) -> tuple[int, int]:
    """Return (equal answers, answers) of two predictors on the same inputs.

    A picture that only one of them answers is answered otherwise; one that neither does is none.
    """
    pairs = zip(ours.rows(inputs), exact.rows(inputs), strict=True)
    answered = [(a, b) for a, b in pairs if "ok" in (a.status, b.status)]
    same = sum(a.status == b.status and a.answer == b.answer for a, b in answered)
    return same, len(answered)
