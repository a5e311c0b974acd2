"""zoo finetune: freeze, retrain the head, write a run folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli import auto, flags
from zoo.cli.console import Screen, talk
from zoo.cli.finetune_job import carry_out, prepared_of, show_team
from zoo.cli.finetune_resume import continue_run, go_on
from zoo.cli.names import with_full_name
from zoo.cli.plan_lines import show_lines

if TYPE_CHECKING:
    from zoo.recipe import Recipe


@flags.settings("finetune", auto.Flags)
def command(
    output: flags.RunFolder = None,
    recipe: flags.RecipeFile = None,
    resume: flags.Resume = None,
    dry_run: flags.DryRun = False,
    sheet: flags.Sheet = None,
    no_report: flags.NoReport = False,
    ray: flags.Ray = None,
    json: flags.Json = False,
    **given: object,
) -> None:
    """Retrain a network's head on your photos; everything goes into a run folder.

    Prints the plan with the reason of every choice, then trains. The path of the run is all that
    goes to stdout. Ctrl-C leaves a run that --resume finishes. With the model auto several networks
    are tried on the training photos first, as `zoo rank` does it, and the best is taken.
    """
    from zoo import recipe as recipes

    chosen = flags.given(given)
    way = flags.Way(output, dry_run, sheet, json, not no_report, ray)
    if resume is None:
        wanted = auto.taken_from(chosen)
        begin(recipes.make(chosen, recipe), way, wanted)
    else:
        own = {"output": output, "recipe": recipe, "dry_run": dry_run or None, "sheet": sheet}
        continue_run(resume, [*chosen, *flags.given(own)], way)


def begin(settings: Recipe, way: flags.Way, wanted: auto.Flags = auto.NOTHING) -> None:
    """Plan, print the plan, and carry it out in a new run folder. wanted: where auto chooses."""
    from zoo.finetune.place import place_of
    from zoo.train.distributed import torchrun

    output, settings = way.output, with_full_name(settings)
    if way.sheet:
        from zoo.predict.writers import check

        check(way.sheet, (".png",), "--sheet")
    with Screen() as screen, torchrun() as ranks:
        about: dict[str, object] = {}
        if settings.model == auto.NAME:
            if output is not None and output.exists():
                place_of(settings.model, settings.data, output)  # it is refused
            picked = auto.pick(settings, wanted, way.dry_run, screen, ranks)
            if picked is None:
                return
            settings, about["choice"] = picked
        else:
            auto.refuse(settings.model, wanted)
        from zoo.finetune import begin, checks
        from zoo.finetune.describe import lines

        screen.quiet = not ranks.main
        folder, again = (
            place_of(settings.model, settings.data, output) if ranks.main else (Path(), False)
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
            checks.check_team(settings, ranks)
            if ranks.main:
                show_lines(lines(prepared.plan))
                show_team(ranks)
                if way.sheet:
                    from zoo.cli.finetune_report import draw_fed

                    draw_fed(prepared.plan, way.sheet)
            if not way.dry_run:
                carry_out(begin.start(prepared, Path(folder), screen, ranks), screen, way)
            elif ranks.main:
                what = "nothing but the sheet" if way.sheet else "nothing"
                talk(f"dry run: nothing was computed, {what} was written")
