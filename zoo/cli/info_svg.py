"""zoo info --svg: the chain of a model or of a run as a drawing, with the cut."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import catalog
from zoo.errors import UsageError
from zoo.text import count, short

if TYPE_CHECKING:
    from zoo.catalog import Preprocess
    from zoo.catalog.structures import StageInfo


def check(model: str, file: Path) -> None:
    """Raises UsageError for a place that is no SVG, and for a file that has no stages."""
    if file.suffix.lower() != ".svg":
        raise UsageError(f"--svg {file}: the drawing is an SVG", f"--svg {file.stem}.svg")
    if catalog.is_exported(model):
        raise UsageError(
            f"{model} is an exported file, which has no stages",
            "name the run that it was exported from: "
            f"`zoo info RUN --svg {shlex.quote(str(file))}`",
        )


def draw_run(folder: str, file: Path) -> None:
    """Write the drawing of a finished run's network, with the cut that it was trained with."""
    from dataclasses import replace

    from zoo import models, network
    from zoo.run import Run

    run = Run.open(Path(folder)).finished()
    net = network.of_run(run)
    spec = replace(net.spec, preprocess=net.preprocess)
    title = f"{folder}: {run.record['model']}"
    cut = run.record.get("cut")
    draw(file, title, models.describe(net.chain, spec), net.preprocess, cut)


def draw(
    file: Path, title: str, stages: Sequence[StageInfo], preprocess: Preprocess, cut: str | None
) -> None:
    """Write the drawing of these stages. cut: the last frozen stage, None where all is trained."""
    from zoo.disk import atomic
    from zoo.report.chain import Stage, chain

    names = [stage.name for stage in stages]
    top = cut.partition(".")[0] if cut else ""
    at = names.index(top) if top in names else None
    side = " x ".join(map(str, preprocess.shape))
    boxes = [Stage("picture", (side,))]
    for number, stage in enumerate(stages):
        shape = " x ".join(str(length) for length in stage.shape)
        parameters = f"{short(stage.params)} parameters" if stage.params else ""
        state = "frozen" if at is not None and number <= at else "trained"
        kind = f"{stage.kind}, cut after {cut}" if number == at and cut != top else stage.kind
        lines = tuple(filter(None, (kind, shape, parameters)))
        boxes.append(Stage(stage.name, lines, state if stage.params or state == "frozen" else ""))
    params, macs = sum(one.params for one in stages), sum(one.macs for one in stages)
    about = f"{count(params, 'parameter')}, {macs:,} MACs for one picture of {side}"
    drawing = chain(title, about, boxes, None if at is None else at + 1)
    with atomic(file) as opened:
        opened.write(drawing.svg().encode())
