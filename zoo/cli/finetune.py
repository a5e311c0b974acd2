"""zoo finetune: freeze, retrain the head, write a run folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli import auto, flags
from zoo.cli.console import Screen, show_plan, talk
from zoo.cli.finetune_job import carry_out, prepared_of, show_team
from zoo.cli.finetune_resume import continue_run, go_on
from zoo.cli.names import with_full_name

if TYPE_CHECKING:
    from zoo.finetune.prepare import Prepared
    from zoo.recipe import Recipe
    from zoo.train.distributed import Ranks


@flags.settings("finetune", auto.Flags, flags.Way, without=("force",))
def command(given: dict[str, object], wanted: auto.Flags, way: flags.Way) -> None:
    """Retrain a network's head on your photos; everything goes into a run folder.

    Prints the plan with the reason of every choice, then trains. The path of the run is all that
    goes to stdout. Ctrl-C leaves a run that --resume finishes. With the model auto several networks
    are tried on the training photos first, as `zoo rank` does it, and the best is taken.
    """
    from zoo import recipe as recipes

    if way.resume is None:
        begin(recipes.make(given, way.recipe), way, wanted)
    else:
        continue_run(way.resume, [*given, *flags.named(wanted)], way)


def begin(settings: Recipe, way: flags.Way, wanted: auto.Flags = auto.NOTHING) -> None:
    """Plan, print the plan, and carry it out in a new run folder. wanted: where auto chooses."""
    from zoo.train.distributed import torchrun

    settings = with_full_name(settings)
    if way.sheet:
        from zoo.predict.writers import check

        check(way.sheet, (".png",), "--sheet")
    with Screen() as screen, torchrun() as ranks:
        chosen = _chosen(settings, way, wanted, screen, ranks)
        if chosen is None:
            return
        from zoo.finetune import kept_facts
        from zoo.finetune.place import place_of

        settings, about = chosen
        kept_facts.read_ahead(settings)
        screen.quiet = not ranks.main
        folder, again = (
            place_of(settings.model, settings.data, way.output) if ranks.main else (Path(), False)
        )
        folder, again = ranks.all_gather([os.fspath(folder), again])[0]
        if again:
            go_on(Path(folder), ranks, screen, way)
            return
        screen.doing("looking at photos and network")
        with ranks.main_first():
            prepared = prepared_of(settings, screen, ranks, way)
        prepared.about |= about
        with prepared:
            from zoo.finetune import begin, checks  # beside what `prepare` has begun

            checks.check_team(settings, ranks)
            if ranks.main:
                _show(prepared, ranks, way)
            if not way.dry_run:
                carry_out(begin.start(prepared, Path(folder), screen, ranks), screen, way)


def _chosen(
    settings: Recipe, way: flags.Way, wanted: auto.Flags, screen: Screen, ranks: Ranks
) -> tuple[Recipe, dict[str, object]] | None:
    """Return the recipe with the network's name, and what run.json says of the choice.

    None of a dry run, where several would be tried.
    """
    if settings.model != auto.NAME:
        auto.refuse(settings.model, wanted)
        return settings, {}
    from zoo.finetune.place import place_of

    if way.output is not None and way.output.exists():
        place_of(settings.model, settings.data, way.output)  # it is refused
    picked = auto.pick(settings, wanted, way.dry_run, screen, ranks)
    return (picked[0], {"choice": picked[1]}) if picked else None


def _show(prepared: Prepared, ranks: Ranks, way: flags.Way) -> None:
    """Print the plan, and draw what the network is fed where that was asked for."""
    from zoo.finetune.describe import lines

    show_plan(lines(prepared.plan))
    show_team(ranks)
    if way.sheet:
        from zoo.cli.finetune_report import draw_fed

        draw_fed(prepared.plan, way.sheet)
    if way.dry_run:
        what = "nothing but the sheet" if way.sheet else "nothing"
        talk(f"dry run: nothing was computed, {what} was written")
