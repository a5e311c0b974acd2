"""What a result teaches: the classes that are confused, the weakest, and what to try next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli import layout
from zoo.cli.console import fact, talk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.metrics import Report
    from zoo.run import Run


def show_confused(report: Report) -> None:
    """Print who is taken for whom most, and the class of which the least is found."""
    from zoo.report.next_steps import confused, weakest

    pairs = [(f"{true} → {said}", f"{many:,} of {photos:,}")
             for true, said, many, photos in confused(report)]  # fmt: skip
    for number, line in enumerate(layout.aligned(pairs)):
        fact("" if number else "confused", line)
    if (score := weakest(report)) and len(report.classes) > 2:
        found = f"{round(score.recall * score.photos):,} of its {score.photos:,} found"
        fact("weakest", f"{score.name}, {found}")


def show_next(run: Run, report: Report | None) -> None:
    """Print what to try next, in two lines at most. report: of classes, where it has any."""
    from zoo.api.page import next_steps

    for text in next_steps(run, report):
        talk(f"next: {text}")


def show_measured(models: Sequence[str], part: str | None, report: Report) -> None:
    """Print what one network confuses, or a committee; and of a run what to try next.

    part: of the photos measured on. What those of the training say is nothing of new ones.
    """
    from zoo.catalog import is_run
    from zoo.run import Run

    show_confused(report)
    if len(models) == 1 and is_run(models[0]) and part not in ("train", "all"):
        show_next(Run.open(Path(models[0])), report)
