"""zoo finetune: freeze, retrain the head, write a run folder."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.screen import Screen, percent, print_json, put, talk
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.finetune.events import FeaturesDone
    from zoo.finetune.loop import Epoch
    from zoo.finetune.plan import Plan
    from zoo.finetune.team import Team
    from zoo.recipe import Recipe
    from zoo.run import Run

Text = str | None


def command(
    model: Annotated[Text, typer.Argument(help="As in `zoo list`, torchvision/X, timm/X.")] = None,
    data: Annotated[Text, typer.Argument(help="CLASS/*.jpg or {train,val}/CLASS/*.jpg.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Run folder.")] = None,
    freeze: Annotated[bool | None, typer.Option(help="Freeze up to the cut (default).")] = None,
    cut: Annotated[Text, typer.Option(help="Last frozen stage, as layer3 or layer4.1.")] = None,
    head: Annotated[Text, typer.Option(help="linear, or mlp:512.")] = None,
    weights: Annotated[Text, typer.Option(help="Tag, file, run, or none.")] = None,
    task: Annotated[
        Text, typer.Option(help="classify, or multilabel: several labels a photo; as the data are.")
    ] = None,
    optimizer: Annotated[
        Text, typer.Option("--solver", "--optimizer", help="auto, lbfgs, adamw, adam or sgd.")
    ] = None,
    penalty: Annotated[float | None, typer.Option(help="Of lbfgs (cross-validated).")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the photos (30).")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Photos a step (32).")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak rate (chosen, with its reason).")] = None,
    momentum: Annotated[float | None, typer.Option(help="Of sgd (0).")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="AdamW's (0.01).")] = None,
    schedule: Annotated[
        Text, typer.Option(help="cosine, exponential, constant or head-then-all.")
    ] = None,
    unfreeze: Annotated[
        Text, typer.Option(help="STAGE@EPOCH: trained too from then on; head-then-all: STAGE.")
    ] = None,
    layer_decay: Annotated[
        float | None, typer.Option(help="Factor on the rate a stage further from the head.")
    ] = None,
    warmup: Annotated[float | None, typer.Option(help="Share of the steps (0.1).")] = None,
    patience: Annotated[
        int | None, typer.Option(help="Stop after so many epochs without a better one.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Of training at most.")] = None,
    clip: Annotated[float | None, typer.Option(help="Largest norm of the gradients.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Batches in a step (1).")] = None,
    compile: Annotated[
        bool | None, typer.Option(help="torch.compile for the trained part.")
    ] = None,
    ema: Annotated[float | None, typer.Option(help="Running mean of the weights (0).")] = None,
    mixup: Annotated[float | None, typer.Option(help="Alpha: rows are mixed (0).")] = None,
    cutmix: Annotated[float | None, typer.Option(help="Alpha: boxes are pasted (0).")] = None,
    label_smoothing: Annotated[float | None, typer.Option(help="0 to 1 (0).")] = None,
    views: Annotated[int | None, typer.Option(help="Views of each photo.")] = None,
    flip: Annotated[
        bool | None, typer.Option(help="Views may be mirrored (default: not small grey ones).")
    ] = None,
    augment: Annotated[
        Text, typer.Option(help="none, light, trivial, randaugment, autoaugment: each epoch anew.")
    ] = None,
    cache_budget: Annotated[
        Text, typer.Option(help="For kept features, as 20GB; 50% of the free disk.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Threads that decode (all cores).")] = None,
    balance: Annotated[Text, typer.Option(help="auto, none, weights or sampler.")] = None,
    best: Annotated[Text, typer.Option(help="accuracy, map, macro_f1, loss, last.")] = None,
    fit: Annotated[Text, typer.Option(help="crop, pad or squash.")] = None,
    calibrate: Annotated[
        bool | None, typer.Option(help="A temperature goes into the head (default).")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Train with so many: mean, deviation, interval (1).")
    ] = None,
    folds: Annotated[int | None, typer.Option(help="Cross-validate over all photos too.")] = None,
    skip_unreadable: Annotated[
        bool | None, typer.Option("--skip-unreadable", help="Though it is over 10 % of the photos.")
    ] = None,
    log: Annotated[Text, typer.Option(help="csv, tensorboard, or both.")] = None,
    val_fraction: Annotated[float | None, typer.Option(help="Without a val part (0.2).")] = None,
    keep_duplicates: Annotated[
        bool | None,
        typer.Option("--keep-duplicates", help="Photos of val that are in train too stay."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of split, order and head (0).")] = None,
    precision: Annotated[Text, typer.Option(help="fp32, or bf16 at a measured price.")] = None,
    device: Annotated[Text, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = None,
    engine: Annotated[Text, typer.Option(help="auto, torch or openvino.")] = None,
    force: Annotated[
        bool | None, typer.Option("--force", help="Go on where bf16 disagrees with fp32.")
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML file of settings.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Finish this run.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, stop.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The result as JSON on stdout.")] = False,
) -> None:
    """Retrain a network's head on your photos; everything goes into a run folder.

    Prints the plan with the reason of every choice, then trains. The path of the run is all that
    goes to stdout. Ctrl-C leaves a run that --resume finishes.
    """
    flags = dict(locals())
    from zoo import recipe as recipes

    if resume is not None:
        continue_run(resume, flags)
        return
    begin(recipes.make(given(flags), recipe), output, dry_run, json)


NOT_SETTINGS = ("output", "recipe", "resume", "dry_run", "json")


def given(flags: dict[str, Any]) -> dict[str, Any]:
    """The settings of a recipe among a command's flags, where they were given."""
    chosen = {name: value for name, value in flags.items() if name not in NOT_SETTINGS}
    return {name: value for name, value in chosen.items() if value is not None}


def begin(settings: Recipe, output: Path | None, dry_run: bool, json: bool) -> None:
    """Plans, prints the plan, and carries it out in a new run folder."""
    from zoo.finetune import team as teams

    with Screen() as screen, teams.meeting() as team:
        from zoo.finetune import plan as plans

        screen.quiet = not team.first
        folder, again = place(settings, output) if team.first else (Path(), False)
        folder, again = team.everyone([os.fspath(folder), again])[0]
        if again:
            go_on(Path(folder), team, screen, json)
            return
        with team.in_turn():
            plan = plans.make(settings, screen.bytes, begin=not dry_run)
        try:
            teams.check(settings, team)
            if team.first:
                show_plan(plan)
                show_team(team)
            if dry_run:
                if team.first:
                    talk("dry run: nothing was computed, nothing was written")
                return
            from zoo.finetune import job

            carry_out(job.start(plan, Path(folder), screen, team), screen, json)
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


def show_team(team: Team) -> None:
    if not team.alone:
        talk(f"processes  {team.world}, of torchrun: each takes its share of every batch")


def continue_run(folder: Path, flags: dict[str, Any]) -> None:
    json = bool(flags["json"])
    others = [name for name in ("output", "recipe", "dry_run") if flags[name]]
    if named := [*given(flags), *others]:
        raise UsageError(
            f"--resume takes every setting from the run, but {', '.join(named)} was given too",
            f"`zoo finetune --resume {folder}` alone",
        )
    from zoo.finetune import team as teams

    with Screen() as screen, teams.meeting() as team:
        screen.quiet = not team.first
        go_on(folder, team, screen, json)


def go_on(folder: Path, team: Team, screen: Screen, json: bool) -> None:
    """Finishes a run, or says that it is finished."""
    from zoo.run import Run

    run = Run.open(folder)
    if run.record["status"] == "failed":
        run.finished()  # says why it cannot go on
    if run.record["status"] == "finished":
        if team.first:
            talk(f"{folder} is finished already; nothing to do")
            run.tidy()
            show_result(run, json)
        return
    with run.held() if team.first else nullcontext():
        from zoo.finetune import job
        from zoo.finetune import plan as plans

        with team.in_turn():
            plan = plans.make(job.recipe_of(run), screen.bytes, begin=True)
        try:
            if team.first:
                talk(f"resuming {folder}")
                show_team(team)
            carry_out(job.resume(plan, run, screen, team), screen, json)
        finally:
            plan.stop()


def carry_out(job: Any, screen: Screen, json: bool) -> None:
    from zoo.cli.results import show_report
    from zoo.finetune.events import FeaturesDone, Finished, Note

    header = False
    if not job.team.first:
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
    widest = max(len(line.value) for line in plan.lines if len(line.value) < 50)
    for line in plan.lines:
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
