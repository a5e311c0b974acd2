"""zoo lr: the learning-rate range test."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli import flags
from zoo.cli.console import Screen, out, print_json, show_plan, talk, talk_table, warn_unreadable
from zoo.cli.finetune_report import show_features
from zoo.cli.names import with_full_name
from zoo.cli.options import force, output, shared
from zoo.settings import table

if TYPE_CHECKING:
    from zoo.finetune.lr_finder import Point, Suggestion
    from zoo.finetune.plan import Plan
    from zoo.finetune.prepare import Prepared
    from zoo.recipe import Recipe

# Lines of the plan that say what a whole training would do.
_NOT_OURS = ("training", "kept")


@dataclass(frozen=True)
class Flags:
    output: Path | None = output("Write the curve: a .png, or a .csv.")
    recipe: Path | None = shared("recipe")
    force: bool = force()
    json: bool = shared("json")


@flags.settings("lr", Flags)
def command(settings: dict[str, object], own: Flags) -> None:
    """Find a learning rate: 100 steps with a rising rate, and where the loss falls.

    Takes the settings of `zoo finetune`. The suggested rate is all that goes to stdout; nothing is
    kept but the features in the cache.
    """
    from zoo import recipe as recipes
    from zoo.predict.writers import check

    check(own.output, (".png", ".csv"))
    ours = with_full_name(recipes.make(settings, own.recipe, "lr"))
    with Screen() as screen:
        from zoo.finetune import lr_finder
        from zoo.finetune.prepare import prepare

        test = lr_finder.in_steps(ours)
        prepared = prepare(test, screen.bytes)
        prepared.plan = without_test(prepared.plan)
        _show_ours(prepared.plan, ours)
        points = measured(prepared, screen)
        found = lr_finder.suggestion(points)
    _show_curve(points, found)
    step = _next_step(settings, own.recipe, ours, test, found.valley)
    _show_suggestion(points, found, step)
    if own.output is not None:
        title = f"{ours.model}: {test.optimizer}, batches of {test.batch_size}"
        write(own.output, points, found, title)
        talk(f"the curve is in {own.output}")
    if own.json:
        print_json(summary(points, found, ours, test, step))
    else:
        out(plain(found.valley))


def without_test(plan: Plan) -> Plan:
    """Return the plan without the test photos, which are for a training's end."""
    return replace(plan, index=plan.index.without_test())


def _show_ours(plan: Plan, ours: Recipe) -> None:
    from zoo.finetune.describe import Line, lines

    why = "as asked for"
    if ours.optimizer in ("auto", "lbfgs"):
        why = "a rate is of training in steps"
        why += "; lbfgs computes a linear head at once, without one" * ours.freeze
    kept = [
        replace(line, reason=line.reason.replace(", see skipped.csv", ""))
        for line in lines(plan)
        if line.what not in _NOT_OURS
    ]
    show_plan([*kept, Line("solver", plan.solver, why)])


def measured(prepared: Prepared, screen: Screen) -> list[Point]:
    from zoo.finetune import lr_finder
    from zoo.finetune.events import FeaturesDone

    def show(event: object) -> None:
        if isinstance(event, FeaturesDone):
            show_features(replace(event, bad={}), prepared.plan.recipe)
            warn_unreadable(list(event.bad.items()))

    screen.show = show
    return lr_finder.curve(prepared, screen)


def _show_curve(points: list[Point], found: Suggestion) -> None:
    """Show about fifteen of the points."""
    every = max(1, len(points) // 15)
    rows = [
        (f"{point.lr:.1e}", f"{point.loss:.4f}", f"{smooth:.4f}")
        for point, smooth in list(zip(points, found.smooth, strict=True))[::every]
    ]
    talk()
    talk_table(rows, ("rate", "loss", "smoothed"), right="rrr")
    talk()


def _show_suggestion(points: list[Point], found: Suggestion, step: str) -> None:
    from zoo.finetune import lr_finder

    if len(points) < lr_finder.STEPS:
        least = f"{min(found.smooth):.3g}"
        talk(f"stopped at {points[-1].lr:.1e}: the loss grows again, from {least} at best")
    (first, last), (high, low) = found.fall, found.losses
    talk(f"valley     {plain(found.valley)}  the middle of the way down, from {high:.3g} at a rate "
         f"of {first:.1e} to {low:.3g} at {last:.1e}: suggested")  # fmt: skip
    talk(f"steepest   {plain(found.steepest)}  where the loss falls fastest")
    talk(f"next: {step}")


def plain(rate: float) -> str:
    """Return a rate in two digits: the curve says no more."""
    return f"{rate:.2g}"


def _next_step(
    settings: Mapping[str, object], file: Path | None, ours: Recipe, test: Recipe, rate: float
) -> str:
    """Return the fine-tune with these settings and the rate."""
    if ours.optimizer == "lbfgs":
        settings = {**settings, "optimizer": test.optimizer}
    words = ["zoo", "finetune"]
    words += [str(settings[name]) for name in ("model", "data") if name in settings]
    words += ["--recipe", str(file)] if file else []
    for name, value in settings.items():
        words += [] if name in ("model", "data") else table()[name].words(value)
    return shlex.join([*words, "--lr", plain(rate)])


def write(output: Path, points: list[Point], found: Suggestion, title: str) -> None:
    rates, losses = [point.lr for point in points], [point.loss for point in points]
    if output.suffix.lower() == ".csv":
        from zoo.run import write_csv

        write_csv(output, ("lr", "loss", "smoothed"), zip(rates, losses, found.smooth, strict=True))
        return
    from zoo.report.rates import draw

    marks = {"valley": found.valley, "steepest": found.steepest}
    draw(output, rates, losses, found.smooth, marks, title)


def summary(
    points: list[Point], found: Suggestion, ours: Recipe, test: Recipe, step: str
) -> dict[str, object]:
    return {
        "model": ours.model,
        "solver": test.optimizer,
        "suggested": float(plain(found.valley)),
        "valley": found.valley,
        "steepest": found.steepest,
        "fall": {"rates": found.fall, "losses": found.losses},
        "next": step,
        "curve": [
            {"lr": point.lr, "loss": point.loss, "smoothed": smooth}
            for point, smooth in zip(points, found.smooth, strict=True)
        ],
    }
