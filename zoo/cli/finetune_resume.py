"""A fine-tune that was begun before: gone on with, or said to be finished."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli import flags
from zoo.cli.console import Screen, talk
from zoo.cli.finetune_job import carry_out, prepared_of, show_result, show_team
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.train.distributed import Ranks


def continue_run(folder: Path, named: Sequence[str], way: flags.Way) -> None:
    """Finish a run. named: settings that were given too, for which UsageError is raised."""
    from zoo.run import Run

    named = [*named, *(n for n in ("output", "recipe", "dry_run", "sheet") if getattr(way, n))]
    if named:
        raise UsageError(
            f"--resume takes every setting from the run, but {', '.join(named)} was given too",
            f"`{Run.open(folder).resume}` alone",
        )
    from zoo.train.distributed import torchrun

    with Screen() as screen, torchrun() as ranks:
        screen.quiet = not ranks.main
        go_on(folder, ranks, screen, way)


def go_on(folder: Path, ranks: Ranks, screen: Screen, way: flags.Way) -> None:
    """Finish a run, or say that it is finished."""
    from zoo.run import Run

    run = Run.open(folder)
    if run.record["status"] == "failed":
        run.finished()  # says why it cannot go on
    if run.record["status"] == "finished":
        if ranks.main:
            talk(f"{folder} is finished already; nothing to do")
            run.tidy()
            show_result(run, way.json)
        return
    with run.held() if ranks.main else nullcontext():
        from zoo.finetune import begin

        with ranks.main_first():
            prepared = prepared_of(begin.recipe_of(run), screen, ranks, way)
        with prepared:
            if ranks.main:
                talk(f"resuming {folder}")
                show_team(ranks)
            carry_out(begin.resume(prepared, run, screen, ranks), screen, way)
