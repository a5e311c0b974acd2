"""A recipe from a TOML file and flags (flags win), checked against the table of settings.

Every problem is reported at once, with the nearest known name, before anything heavy is imported.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from zoo.disk import opened
from zoo.errors import RecipeError, UsageError, meant, nearest
from zoo.records import shown
from zoo.settings import Recipe, table
from zoo.settings.setting import Setting
from zoo.text import must_be_short

__all__ = ["Recipe", "load", "make", "ours", "table", "unfreezings", "variants"]

MOST, TEXT = 1_000_000, 8192  # bytes of a TOML file, characters of a value
# Of the settings whose values are not for every task, besides auto.
FITTING: dict[str, dict[str, tuple[str, ...]]] = {
    "classify": {
        "loss": ("cross_entropy", "mse", "mae", "bce"),
        "best": ("accuracy", "macro_f1", "loss", "last"),
    },
    "multilabel": {
        "loss": ("bce",),
        "best": ("map", "macro_f1", "loss", "last"),
        "optimizer": ("adamw", "adam", "sgd"),
        "balance": ("none", "weights"),
    },
    "reconstruct": {
        "loss": ("mse", "mae", "bce"),
        "best": ("loss", "last"),
    },
}


def ours() -> dict[str, Path]:
    """Return the recipes that come with zoo, by name: `lenet-mnist`."""
    here = Path(__file__).parent
    found = [*here.glob("recipes/*.toml")] or [*here.parent.glob("recipes/*.toml")]  # a clone
    return {path.stem: path for path in sorted(found)}


def load(path: Path) -> dict[str, object]:
    """Return the settings of a TOML file or of a recipe of ours by its name, unchecked.

    Raises RecipeError.
    """
    import tomllib

    hint = "give a TOML file, or a name of `zoo recipes`, with `--recipe`"
    try:
        with opened(_place(path), MOST) as file:
            values = tomllib.loads(file.read().decode("utf-8", "surrogateescape"))
        must_be_short(values)
        return values
    except FileNotFoundError:
        near = nearest(path.stem, ours())
        raise RecipeError(f"no recipe at {path}", f"{near} {hint}".strip()) from None
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}", hint) from None
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise RecipeError(f"{path} is not TOML: {why}", "see recipes/ for examples") from None


def _place(path: Path) -> Path:
    """Return the file that a path or a name means; a file that is there goes first."""
    named = ours().get(path.stem) if path.suffix in ("", ".toml") and not path.exists() else None
    return named if named and path.parent in (Path(), Path("recipes")) else path


def make(
    flags: Mapping[str, object], file: Path | None = None, command: str = "finetune"
) -> Recipe:
    """Return the recipe: defaults, then the file's settings, then flags that are not None.

    Raises one RecipeError with every problem.
    """
    values = load(file) if file else {}
    chosen = {key: value for key, value in flags.items() if value is not None}
    both = values.get("variant"), chosen.get("variant", {})
    if isinstance(both[0], dict) and isinstance(both[1], dict):
        chosen["variant"] = both[0] | both[1]
    recipe = Recipe(**checked(values | chosen, command))
    clash = ""
    if not recipe.freeze and recipe.cut is not None:
        clash = f"--no-freeze with --cut {recipe.cut}: a cut is where freezing ends"
    elif not recipe.freeze and recipe.schedule == "head-then-all":
        clash = "--no-freeze with --schedule head-then-all: the head first takes a frozen rest"
    elif recipe.views is not None and recipe.augment != "none":
        clash = f"--views {recipe.views} with --augment {recipe.augment}: views are kept, "
        clash += "augmented photos are new in each epoch"
    if clash:
        raise RecipeError(clash, "leave one of the two out")
    check_task(recipe)
    check_idle(recipe)
    return recipe


def checked(values: Mapping[str, object], command: str = "finetune") -> dict[str, Any]:
    """Return the values as they are, numbers of the type that they have in the table.

    Raises one RecipeError with every problem: its value, what would have been right, and for
    unknown names the nearest ones.
    """
    problems, hint = [], (look := f"run `zoo {command} --help` for the settings")
    missing = [
        name for name, one in table().items() if one.default is MISSING and name not in values
    ]
    for name in values.keys() - table().keys():
        close = nearest(name, table())
        problems.append(f"unknown setting '{name}'" + (f" ({close})" if close else ""))
    for name, one in table().items():
        if name in missing:
            problems.append(f"'{name}' is missing")
            hint = f"`zoo {command} MODEL PHOTOS`, or a recipe that says it; {look}"
        elif name in values and (right := wanted(one, values[name])):
            problems.append(f"{name} = {shown(values[name])}: expected {right}")
            flags = one.flags or ("--" + name.replace("_", "-"),)
            flag = next(word for word in flags if word.startswith("--"))
            about = f"{flag}: {one.help_in(command)}" if command in one.commands else hint
            hint = f"{meant(name, values[name], one.choices)} {about}".strip()
    if problems:
        if len(problems) > max(1, len(missing)):
            hint = look
        raise RecipeError("; ".join(problems), hint)
    return {name: _of_its_type(table()[name], value) for name, value in values.items()}


def _of_its_type(one: Setting, value: object) -> object:
    if type(value) is int and int not in one.kinds:
        return float(value)
    return int(value) if isinstance(value, str) and int in one.kinds and value.isdigit() else value


def wanted(one: Setting, value: object) -> str:
    """Return what would have been right in the place of a value; nothing where it is right."""
    if value is None and type(None) in one.kinds:
        return ""
    if one.choices:
        return "" if value in one.choices else f"one of {', '.join(one.choices)}"
    if one.name == "variant":
        pairs = value.items() if isinstance(value, dict) else [("", None)]
        fine = all(isinstance(k, str) and type(v) in (str, int, float) for k, v in pairs)
        return "" if fine else "names with a text or a number each"
    if one.name == "size":
        return _wanted_size(one, value)
    if str in one.kinds:
        if not isinstance(value, str) or len(value) > TEXT or "\0" in value:
            return f"text of at most {TEXT:,} characters"
        return "" if re.fullmatch(one.pattern[0] or ".*", value, re.S) else one.pattern[1]
    if bool in one.kinds:
        return "" if isinstance(value, bool) else "true or false"
    right = type(value) is int or (type(value) is float and math.isfinite(value))
    right = right and (type(value) is int or int not in one.kinds)
    right = right and all(getattr(operator, name)(value, n) for name, n in one.limits.items())
    words = {"ge": "of at least", "gt": "above", "le": "of at most", "lt": "below"}
    said = " and ".join(f"{words[name]} {limit:,}" for name, limit in one.limits.items())
    return "" if right else f"a {'whole ' * (int in one.kinds)}number {said}".rstrip()


def _wanted_size(one: Setting, value: object) -> str:
    sides = [value]
    if isinstance(value, str) and re.fullmatch(one.pattern[0], value):
        sides = [int(side) for side in value.split("x")]
    least, most = one.limits["ge"], one.limits["le"]
    fine = all(type(side) is int and least <= side <= most for side in sides)
    return "" if fine else f"{one.pattern[1]}: whole numbers from {least:,} to {most:,}"


def variants(words: Sequence[str]) -> dict[str, str | float]:
    """Return `norm=batch` and the like as a dictionary. Raises RecipeError."""
    found: dict[str, str | float] = {}
    for word in words:
        name, _, text = word.partition("=")
        if not name or not text:
            raise RecipeError(f"--variant {word}", "give NAME=VALUE, as in --variant norm=batch")
        try:
            found[name] = float(text)
        except ValueError:
            found[name] = text
    return found


def unfreezings(recipe: Recipe) -> list[tuple[int, str]]:
    """Return the epochs and stages of `layer4@10,layer3@20`. Raises UsageError.

    The epoch of head-then-all, which says itself when, is 0, and its stage `all` unless given.
    """
    text = recipe.unfreeze
    if recipe.schedule == "head-then-all":
        if text and not re.fullmatch(r"[\w.-]+", text):
            raise UsageError(
                f"--schedule head-then-all with --unfreeze {text}: it says itself when",
                "give the stage alone, as in --unfreeze layer3",
            )
        return [(0, text or "all")]
    found = []
    for part in text.split(",") if text is not None else ():
        match = re.fullmatch(r"\s*([\w.-]+)@(\d{1,6})\s*", part)
        if not match:
            raise UsageError(
                f"--unfreeze {text}: expected STAGE@EPOCH, as in layer4@10",
                "give the stage and the epoch from which on it is trained; with --schedule "
                "head-then-all the stage alone",
            )
        found.append((int(match[2]), match[1]))
    return found


def check_idle(recipe: Recipe) -> None:
    """Raises RecipeError for a setting that would do nothing beside the others."""
    pixels, several = recipe.task == "reconstruct", recipe.task == "multilabel"
    idle = (
        ("text", recipe.head not in ("linear", "text"), "is of head = 'text'"),
        ("momentum", recipe.optimizer != "sgd", "is of optimizer = 'sgd'"),
        ("decay", recipe.schedule != "exponential", "is of schedule = 'exponential'"),
        ("distort", recipe.freeze, "moves photos anew in each epoch; frozen features are kept"),
        ("distort_strength", recipe.distort == "none", "is of distort = 'affine' or 'elastic'"),
        ("label_smoothing", pixels, "is of classes, not of pixels"),
        ("balance", pixels, "is of classes, not of pixels"),
        ("penalty", several, "is of optimizer = 'lbfgs', which is for one class a photo"),
        ("mixup", pixels, "is of classes, not of pixels"),
        ("cutmix", pixels, "is of classes, not of pixels"),
        ("unfreeze", not recipe.freeze, "thaws what is frozen, and --no-freeze freezes nothing"),
        ("cache_budget", not recipe.freeze, "is of the frozen part's features"),
        ("cache_budget", recipe.augment != "none", "is of kept features, not of augmented photos"),
        ("patience", recipe.best == "last", "waits for a better epoch, and best = 'last'"),
        ("augment", recipe.distort != "none", "does not go with distort"),
        ("seeds", pixels, "is of classes, not of pixels"),
        ("folds", pixels, "is of classes, not of pixels"),
        ("teacher", recipe.freeze, "is of a network that is trained whole: freeze = false"),
        ("loss", recipe.teacher, "is of labels, not of a teacher"),
        ("temperature", not recipe.teacher, "is of `zoo distill`"),
        ("truth", not recipe.teacher, "is of `zoo distill`"),
        ("label_smoothing", recipe.teacher and not recipe.truth, "is of labels, not of a teacher"),
        ("balance", recipe.teacher, "is of labels, not of a teacher"),
        ("augment", recipe.teacher, "draws photos that the teacher has not seen"),
        ("seeds", recipe.teacher, "is of labels, not of a teacher"),
        ("folds", recipe.teacher, "is of labels, not of a teacher"),
    )
    for name, useless, why in idle:
        value = getattr(recipe, name)
        if useless and value != table()[name].default:
            raise RecipeError(f"{name} = {value!r} would do nothing: it {why}", "leave it out")


def check_task(recipe: Recipe) -> None:
    """Raises RecipeError for settings that do not go together with the task."""
    pixels = recipe.task == "reconstruct"
    # The data may still choose between these two; then this is asked again.
    tasks = [recipe.task] if recipe.task else ["classify", "multilabel"]
    if recipe.task == "multilabel" and recipe.loss in ("mse", "mae"):
        raise RecipeError(
            f"loss = '{recipe.loss}' for several labels a photo: most are absent, and where a "
            "network always says no it is nearly 0",
            "give bce or auto: a yes or no for each label",
        )
    for name in FITTING[tasks[0]]:
        value = getattr(recipe, name)
        fitting = dict.fromkeys(one for task in tasks for one in FITTING[task][name])
        if value not in (*fitting, "auto"):
            raise RecipeError(
                f"{name} = '{value}' for the task {' or '.join(tasks)}",
                f"give {' or '.join((*fitting, 'auto'))}",
            )
    if pixels and recipe.freeze:
        raise RecipeError(
            "an autoencoder that reconstructs is trained whole", "`zoo train MODEL DATA`"
        )
