"""A sweep: the same fine-tune for every combination of some settings.

Each combination is a run folder of its own in the sweep's, so that an interrupted sweep goes on
where it was, and any of its runs can predict. Features that several of them need are computed once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo import recipe as recipes
from zoo.errors import (
    Interrupted,
    OutOfMemory,
    RecipeError,
    RunError,
    UsageError,
    WriteError,
    ZooError,
    nearest,
)
from zoo.finetune import begin, job
from zoo.finetune.prepare import prepare
from zoo.recipe import Recipe
from zoo.run import Run
from zoo.watch import Watch

Settings = Mapping[str, object]
MOST = 1000
FOLDS = 5
# Settings that rows must have in common to be compared.
ONCE = {
    "data": "it is the second word of the command",
    "seeds": "combinations are compared by --folds",
    "folds": "give it as a flag: --folds",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A combination and what came of it; error: why nothing did.

    accuracy: over the folds, or of the val photos where there are none. deviation: of its mean.
    """

    settings: Settings
    run: Path
    accuracy: float | None
    error_of_mean: float | None
    val_accuracy: float | None
    seconds: float
    error: str = ""


def grid(words: Sequence[str]) -> list[Settings]:
    """`lr=0.1,0.01 head=linear,mlp:64` as all combinations. Raises UsageError."""
    values: dict[str, list[object]] = {}
    for name, several in map(setting, words):
        if name in values:
            raise UsageError(
                f"'{name}' is given twice", f"give its values together: {name}=VALUE,VALUE"
            )
        values[name] = list({repr(one): one for one in several}.values())
    found: list[Settings] = [
        dict(zip(values, choice, strict=True)) for choice in itertools.product(*values.values())
    ]
    if not words or len(found) < 2:
        raise UsageError(
            f"{len(found)} combination to sweep over" if words else "no setting to sweep over",
            "give values with commas between them, as in lr=0.01,0.001 head=linear,mlp:128",
        )
    if len(found) > MOST:
        raise UsageError(f"{len(found):,} combinations", f"give at most {MOST:,}")
    return found


def setting(word: str) -> tuple[str, list[object]]:
    name, equals, text = word.partition("=")
    name = name.replace("-", "_")
    if not equals or not text:
        raise UsageError(f"'{word}' is no setting", "give NAME=VALUE,VALUE as in lr=0.01,0.001")
    if name in ONCE:
        raise UsageError(f"'{name}' is of the whole sweep", ONCE[name])
    if name not in recipes.table():
        close = nearest(name, [known for known in recipes.table() if known not in ONCE])
        raise UsageError(f"unknown setting '{name}'", close or "`zoo finetune --help` has them")
    parts = [part.strip() for part in text.split(",")]
    if name == "variant":
        return name, [recipes.variants([part]) for part in parts]
    return name, [value(part) for part in parts]


def value(text: str) -> bool | int | float | str:
    """Return the value as TOML would have it: a number, true or false, else a word."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def recipes_of(base: Settings, file: Path | None, words: Sequence[str]) -> list[Recipe]:
    """Return a recipe for each combination, all checked. Raises RecipeError."""
    found = []
    for chosen in grid(words):
        try:
            found.append(recipes.make({**base, **chosen}, file, "sweep"))
        except RecipeError as error:
            raise RecipeError(f"{named(chosen)}: {error.what}", error.hint) from None
    return found


def named(chosen: Settings) -> str:
    return " ".join(f"{name}={value}" for name, value in chosen.items())


def sweep(found: list[Recipe], chosen: list[Settings], folder: Path, watch: Watch) -> Iterator[Row]:
    """Train each in turn; one that cannot be trained is a row with its error."""
    for number, (recipe, settings) in enumerate(zip(found, chosen, strict=True), start=1):
        place = folder / f"{number:03d}"
        try:
            run = carry_out(recipe, place, watch)
        except (Interrupted, WriteError, RunError, OutOfMemory) as error:
            if not isinstance(error, RunError):
                error.what = f"{named(settings)}: {error.what}"
            if error.resume:
                again = "the same command again goes on"
                error.hint, error.resume = f"{error.hint}, then {again}".removeprefix(", then "), ""
            raise
        except ZooError as error:
            yield Row(settings, place, None, None, None, 0.0, error.what)
        else:
            yield row(settings, run)


def carry_out(recipe: Recipe, place: Path, watch: Watch) -> Run:
    """Return the finished run of this recipe in its place: it may be there already."""
    if not place.exists():
        task = begin.start(prepare(recipe), place, watch)
    else:
        run = Run.open(place)
        if not same(recipe, recipes.make({}, place / "recipe.toml")):
            raise RunError(f"{place} is of another sweep", "choose another folder with -o")
        if run.record["status"] == "finished":
            return run
        task = begin.resume(prepare(begin.recipe_of(run)), run, watch)
    job.run(task)
    return Run.open(place)


def same(asked: Recipe, there: Recipe) -> bool:
    """Whether a run's recipe is what becomes of this one: with whole paths, and choices made."""
    chosen = {"optimizer": "auto", "task": None, "flip": None}
    for name in recipes.table():
        ours, theirs = getattr(asked, name), getattr(there, name)
        path = name in ("data", "weights") and ours and theirs
        if path and Path(ours).absolute() == Path(theirs):
            continue
        if ours != theirs and not (name in chosen and ours == chosen[name]):
            return False
    return True


def row(settings: Settings, run: Run) -> Row:
    about = run.record
    results = about.get("results", {})
    own = results.get("accuracy", results.get("map"))
    folds = about.get("evidence", {}).get("folds")
    if not folds:
        return Row(settings, run.folder, own, None, own, about.get("seconds", 0.0))
    error = folds["deviation"] / len(folds["macro_f1"]) ** 0.5
    return Row(settings, run.folder, folds["mean"], error, own, about.get("seconds", 0.0))


def best_of(rows: Sequence[Row]) -> Row | None:
    """Return the most accurate row; of equals the first."""
    there = [row for row in rows if row.accuracy is not None]
    return max(there, key=lambda row: row.accuracy or 0.0, default=None)


def as_good(row: Row, best: Row) -> bool:
    """Whether a row lies within a standard error of the best one."""
    if row.accuracy is None or best.accuracy is None:
        return False
    return row.accuracy >= best.accuracy - (best.error_of_mean or 0.0)
