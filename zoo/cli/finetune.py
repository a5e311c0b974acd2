"""zoo finetune: freeze, retrain the head, write a run folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli import flags
from zoo.cli.console import Screen, print_json, put, talk
from zoo.errors import UsageError
from zoo.text import percent

if TYPE_CHECKING:
    from zoo.finetune.events import FeaturesDone
    from zoo.finetune.plan import Plan
    from zoo.recipe import Recipe
    from zoo.run import Run
    from zoo.train.distributed import Ranks
    from zoo.train.records import Epoch


@flags.settings("finetune")
def command(
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Run folder to make. Default: runs/MODEL-PHOTOS."),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="TOML file of settings; flags win over it.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Finish this run with the settings that it has.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and stop; nothing is written.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON on stdout.")
    ] = False,
    **given: Any,
) -> None:
    """Retrain a network's head on your photos; everything goes into a run folder.

    Prints the plan with the reason of every choice, then trains. The path of the run is all that
    goes to stdout. Ctrl-C leaves a run that --resume finishes.
    """
    from zoo import recipe as recipes

    chosen = flags.given(given)
    if resume is not None:
        continue_run(resume, [*chosen, *others(output, recipe, dry_run)], json)
        return
    begin(recipes.make(chosen, recipe), output, dry_run, json)


def others(output: Path | None, recipe: Path | None, dry_run: bool) -> list[str]:
    """The flags that are no settings and that a resumed run cannot take, where they were given."""
    found = {"output": output, "recipe": recipe, "dry_run": dry_run}
    return [name for name, value in found.items() if value]


def begin(settings: Recipe, output: Path | None, dry_run: bool, json: bool) -> None:
    """Plans, prints the plan, and carries it out in a new run folder."""
    from zoo.finetune import checks
    from zoo.train.distributed import torchrun

    with Screen() as screen, torchrun() as ranks:
        from zoo.finetune import planning

        screen.quiet = not ranks.main
        folder, again = place(settings, output) if ranks.main else (Path(), False)
        folder, again = ranks.all_gather([os.fspath(folder), again])[0]
        if again:
            go_on(Path(folder), ranks, screen, json)
            return
        with ranks.main_first():
            plan = planning.make(settings, screen.bytes, begin=not dry_run)
        try:
            checks.check_team(settings, ranks)
            if ranks.main:
                show_plan(plan)
                show_team(ranks)
            if dry_run:
                if ranks.main:
                    talk("dry run: nothing was computed, nothing was written")
                return
            from zoo.finetune import begin

            carry_out(begin.start(plan, Path(folder), screen, ranks), screen, json)
        finally:
            plan.stop()


def place(settings: Recipe, output: Path | None) -> tuple[Path, bool]:
    """The run folder, and whether it is there: begun by the torchrun that has started us again."""
    from zoo.run import Run

    folder = output or free_folder(settings)
    if Run.begun_here(folder):
        return folder, True
    refuse_existing(folder)
    return folder, False


def show_team(ranks: Ranks) -> None:
    if not ranks.single:
        talk(f"processes  {ranks.world}, of torchrun: each takes its share of every batch")


def continue_run(folder: Path, named: Sequence[str], json: bool) -> None:
    """Finish a run. named: what was given besides; raises UsageError for that."""
    if named:
        raise UsageError(
            f"--resume takes every setting from the run, but {', '.join(named)} was given too",
            f"`zoo finetune --resume {folder}` alone",
        )
    from zoo.train.distributed import torchrun

    with Screen() as screen, torchrun() as ranks:
        screen.quiet = not ranks.main
        go_on(folder, ranks, screen, json)


def go_on(folder: Path, ranks: Ranks, screen: Screen, json: bool) -> None:
    """Finishes a run, or says that it is finished."""
    from zoo.run import Run

    run = Run.open(folder)
    if run.record["status"] == "failed":
        run.finished()  # says why it cannot go on
    if run.record["status"] == "finished":
        if ranks.main:
            talk(f"{folder} is finished already; nothing to do")
            run.tidy()
            show_result(run, json)
        return
    with run.held() if ranks.main else nullcontext():
        from zoo.finetune import begin, planning

        with ranks.main_first():
            plan = planning.make(begin.recipe_of(run), screen.bytes, begin=True)
        try:
            if ranks.main:
                talk(f"resuming {folder}")
                show_team(ranks)
            carry_out(begin.resume(plan, run, screen, ranks), screen, json)
        finally:
            plan.stop()


def carry_out(job: Any, screen: Screen, json: bool) -> None:
    from zoo.cli.finetune_report import show_report
    from zoo.finetune.events import FeaturesDone, Finished, Note

    header = False
    if not job.ranks.main:
        for _ in job.events():
            pass
        return
    for event in job.events():
        if isinstance(event, Note | FeaturesDone | Finished):
            screen.close()  # else the bar of the epochs goes on below what is said
        if isinstance(event, Note):
            talk(event.text)
        elif isinstance(event, FeaturesDone):
            show_features(event, job.recipe)
        elif isinstance(event, Finished):
            show_report(event, job.run)
        else:
            if not header:
                talk(f"epoch  train loss  val loss  {SCORES[job.recipe.task]}")
                header = True
            show_epoch(event, job.recipe.epochs, job.plan.best)
    show_result(job.run, json)


SCORES = {
    "classify": "accuracy  macro-F1",
    "multilabel": "     mAP  macro-F1",
    "reconstruct": "       MSE",
}


def free_folder(settings: Recipe) -> Path:
    """runs/MODEL-PHOTOS, with a number behind it where that is taken."""
    from zoo.run import Run

    name = f"{settings.model.replace('/', '-')}-{Path(settings.data).resolve().name}"
    taken = [Path("runs") / name, *(Path("runs") / f"{name}-{n}" for n in range(2, 10_000))]
    return next(path for path in taken if not path.exists() or Run.begun_here(path))


def refuse_existing(folder: Path) -> None:
    """Before the weights are loaded; Run.create checks again."""
    from zoo.run import refuse

    if folder.exists():
        refuse(folder)


def show_plan(plan: Plan) -> None:
    from zoo.finetune.describe import lines

    told = lines(plan)
    widest = max(len(line.value) for line in told if len(line.value) < 50)
    for line in told:
        reason = f"  {line.reason}" if line.reason else ""
        talk(f"{line.what:<10} {line.value:<{widest}}{reason}")


def show_features(event: FeaturesDone, recipe: Recipe) -> None:
    what = "features" if recipe.freeze else "photos"
    rate = event.computed / event.seconds if event.seconds else 0
    done = f"{event.computed:,} computed ({rate:,.0f}/s)" if event.computed else "none to compute"
    cached = f", {event.cached:,} from the cache" if event.cached else ""
    talk(f"{what:<10} {done}{cached} in {event.seconds:.1f} s")
    if event.balance:
        talk(event.balance)
    if event.bad:
        talk(f"warning: {len(event.bad)} unreadable photos are left out, see skipped.csv:")
        for path, reason in list(event.bad.items())[:5]:
            talk(f"  {path}: {reason}")


def show_epoch(epoch: Epoch, epochs: int, best: str) -> None:
    """Every epoch of a short run, about thirty lines of a long one, and every new best."""
    shown = epoch.best and best != "last"
    for note in epoch.notes:
        talk(note)
    if shown or epoch.epoch == epochs or epoch.epoch % max(1, epochs // 30) == 0:
        mark = "  best" if shown and best != "optimum" else ""
        first = epoch.accuracy if epoch.map is None else epoch.map
        scores = (
            f"{percent(first):>8}  {percent(epoch.macro_f1):>8}"
            if epoch.mse is None
            else f"{epoch.mse:>10.6f}"
        )
        losses = f"{epoch.train_loss:>10.4f}  {epoch.val_loss:>8.4f}"
        talk(f"{epoch.epoch:>5}  {losses}  {scores}{mark}")


def show_result(run: Run, json: bool) -> None:
    if json:
        print_json({"run": str(run.folder), **run.record})
    else:
        put(run.folder)
    sys.stdout.flush()
