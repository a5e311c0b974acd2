"""Two things that `zoo explain` draws of small networks: all steps of a photo, and the loss around.

They are modes as those of explain_modes.py.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import catalog
from zoo.cli.console import talk
from zoo.cli.explain_modes import Asked, Mode, each_view, photo_card
from zoo.errors import ImageError, RunError, UsageError
from zoo.text import count

if TYPE_CHECKING:
    from zoo.data.preprocess import Pixels
    from zoo.network import Network
    from zoo.predict.inputs import Input
    from zoo.report.cards import Card
    from zoo.run import Run

SMALL = 5_000_000  # multiply-adds of a network whose batches are too small for several threads
SHOWN = 10  # classes whose first val photo is drawn where none is named


def _steps(asked: Asked) -> Iterator[Card]:
    """Yield the page of each photo."""
    from zoo.report.cards import Card

    net = asked.network()
    for item, pixels in each_view(replace(asked, photos=_photos(asked)), net):
        yield pixels if isinstance(pixels, Card) else _page(net, pixels, item)


def _photos(asked: Asked) -> Sequence[Input]:
    """Return the photos that were named, else the first of each class among a run's val photos."""
    if asked.photos:
        return asked.photos
    folder = Path(asked.flags.model)
    if not catalog.holds_run(folder):
        raise UsageError(
            "no photo to explain",
            f"name one: `zoo explain {shlex.quote(str(folder))} photo.png --steps`",
        )
    from zoo.predict.inputs import Input
    from zoo.run import Run

    run = Run.open(folder)
    first: dict[str, Path] = {}
    for path, label in run.labelled("val"):
        first.setdefault(label, path)
    root = run.record["data"]["root"]
    some = list(first.values())[:SHOWN]
    return [Input(str(path), os.path.relpath(path, root)) for path in some]


def _page(net: Network, pixels: Pixels, item: Input) -> Card:
    import numpy as np

    from zoo.explain.steps import steps
    from zoo.metrics import sigmoid, softmax
    from zoo.report.cards import Panel
    from zoo.report.steps import Answer, page

    found = steps(net, pixels)
    record: dict[str, object] = {}
    answer, title = Answer((), found.scores), f"its steps through {net.spec.name}"
    if net.spec.task == "classify":
        scores = found.scores
        names = net.classes or tuple(f"class {k}" for k in range(len(scores)))
        shares = softmax(scores[None])[0] if net.threshold is None else sigmoid(scores)
        votes = found.votes
        answer = Answer(names, shares, *((votes.products, votes.biases) if votes else ()))
        best = int(np.argmax(scores))
        title = f"{names[best]} {100 * float(shares[best]):.1f} %"
        record = {"label": names[best], "scores": dict(zip(names, scores.tolist(), strict=True))}
    card = photo_card(item, title, (), record)
    drawing = page(found.picture, found.steps, answer, card.title)
    return replace(card, panels=(Panel(drawing.picture()),), svg=drawing.svg())


def _landscape(asked: Asked) -> Iterator[Card]:
    """Yield the picture of the loss around a run's weights; its numbers go beside it as CSV."""
    import torch

    from zoo import models
    from zoo.explain import landscape as around
    from zoo.report.cards import Card, Panel, is_file
    from zoo.report.landscape import draw

    run = _run(asked.flags.model, trusts=asked.flags.trust_changed)
    net = asked.network()
    labelled = run.labelled("train")
    macs = sum(stage.macs for stage in models.describe(net.chain, net.spec))
    if macs < SMALL:
        torch.set_num_threads(1)  # small steps are quickest on one thread
    grid, many = around.affordable(macs, len(labelled))
    loss, used = _loss(net, labelled, many)
    said = _Progress(asked, grid * grid, used)
    seed = asked.flags.seed
    found = around.landscape(net.chain, loss, grid, seed, said)
    place = asked.flags.output
    table = place.with_suffix(".csv") if is_file(place) else place / "landscape.csv"
    _write_table(table, found)
    talk(f"loss {found.centre:.6g} in the middle; all {grid * grid} numbers in {table}")
    title = (
        f"{asked.flags.model}: the loss around it, {count(used, 'photo')} of train, "
        f"{grid} x {grid} points, seed {seed}"
    )
    record = {
        "loss": found.centre, "photos": used, "seed": seed, "table": str(table),
        "along": found.along.tolist(), "losses": found.losses.tolist(),
    }  # fmt: skip
    yield Card("landscape", title, (Panel(draw(found.along, found.losses)),), record=record)


def _run(folder: str, *, trusts: bool) -> Run:
    """Return the run. Raises UsageError where there is none, or none whose loss is drawn."""
    from zoo.run import Run

    if not catalog.holds_run(folder):
        raise UsageError(
            f"--landscape of {folder}: the loss is that of a run, on photos of its training",
            f"train one: `zoo train {folder} PHOTOS -o runs/a`, `zoo explain runs/a --landscape`",
        )
    run = Run.open(Path(folder), trusts=trusts).finished()
    if run.record.get("task") == "multilabel":
        raise UsageError(
            f"{folder} tells several labels a photo, whose loss is not drawn",
            "--landscape is for a run of one class a photo, or of an autoencoder",
        )
    return run


def _loss(net: Network, labelled: list[tuple[Path, str]], many: int) -> tuple[Any, int]:
    """Return the mean loss over some of a run's photos, evenly, and how many could be read."""
    import numpy as np
    import torch

    from zoo.data.preprocess import normalise
    from zoo.data.samples import evenly
    from zoo.data.views import plain_view
    from zoo.explain.landscape import mean_loss

    pictures, labels = [], []
    for path, label in evenly(labelled, many):
        try:
            pictures.append(normalise(plain_view(str(path), net.preprocess), net.preprocess))
        except ImageError:
            continue
        labels.append(net.classes.index(label) if net.classes else 0)
    if not pictures:
        raise RunError(
            f"none of the photos of the training can be read: they were in {labelled[0][0].parent}",
            "put them back where they were; the loss is measured on them",
        )
    place = next(net.chain.parameters()).device
    batch = torch.from_numpy(np.stack(pictures)).to(place)
    known = torch.tensor(labels, device=place) if net.classes else None
    return mean_loss(batch, known), len(pictures)


@dataclass(slots=True)
class _Progress:
    """Says after a few points how long all of them will take."""

    asked: Asked
    points: int
    photos: int
    first: int = 5

    def __call__(self, done: int, seconds: float) -> None:
        if done == min(self.first, self.points):
            whole = seconds / done * self.points
            took = f"{whole:.0f} s" if whole < 120 else f"{whole / 60:.0f} minutes"
            talk(f"{self.points} points of {count(self.photos, 'photo')}: about {took}")
        self.asked.screen.progress("points", done, self.points)


def _write_table(path: Path, found: Any) -> None:
    from zoo.run import write_csv

    rows: Sequence[tuple[object, ...]] = [
        (f"{x:.6g}", f"{y:.6g}", f"{loss:.8g}")
        for y, row in zip(found.along, found.losses, strict=True)
        for x, loss in zip(found.along, row, strict=True)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(path, ("first", "second", "loss"), rows)


MODES = (
    Mode("steps", "steps", _steps, photos=False),
    Mode("landscape", "loss landscape", _landscape, photos=False),
)
