"""A recipe from a TOML file and flags (flags win), checked against the table of settings.

Every problem is reported at once, with the nearest known name, before anything heavy is imported.
"""

from __future__ import annotations

import functools
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.disk import opened
from zoo.errors import RecipeError, nearest
from zoo.records import shown
from zoo.settings import Recipe, table

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

__all__ = ["Recipe", "load", "make", "table", "variants"]

MOST = 1_000_000  # bytes of a TOML file
# Of the settings whose values are not for every task, besides auto.
FITTING: dict[str, dict[str, tuple[str, ...]]] = {
    "classify": {
        "loss": ("cross_entropy",),
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


def load(path: Path) -> dict[str, Any]:
    """The settings of a TOML file, unchecked. Raises RecipeError."""
    import tomllib

    hint = "give a TOML file with `--recipe FILE`"
    try:
        with opened(path, MOST) as file:
            return tomllib.loads(file.read().decode("utf-8", "surrogateescape"))
    except FileNotFoundError:
        raise RecipeError(f"no recipe at {path}", hint) from None
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}", hint) from None
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise RecipeError(f"{path} is not TOML: {why}", "see recipes/ for examples") from None


def make(flags: dict[str, Any], file: Path | None = None, command: str = "finetune") -> Recipe:
    """Defaults <- TOML <- flags that are not None. Raises one RecipeError with every problem."""
    values = load(file) if file else {}
    chosen = {key: value for key, value in flags.items() if value is not None}
    if isinstance(values.get("variant"), dict):
        chosen["variant"] = values["variant"] | chosen.get("variant", {})
    recipe = Recipe(**checked(values | chosen, command))
    if not recipe.freeze and recipe.cut is not None:
        raise RecipeError(
            f"--no-freeze with --cut {recipe.cut}: a cut is where freezing ends",
            "leave one of the two out",
        )
    if not recipe.freeze and recipe.schedule == "head-then-all":
        raise RecipeError(
            "--no-freeze with --schedule head-then-all: the head first takes a frozen rest",
            "leave one of the two out",
        )
    if recipe.views is not None and recipe.augment != "none":
        raise RecipeError(
            f"--views {recipe.views} with --augment {recipe.augment}: views are kept, "
            "augmented photos are new in each epoch",
            "leave one of the two out",
        )
    check_task(recipe)
    check_idle(recipe)
    return recipe


def checked(values: Mapping[str, Any], command: str = "finetune") -> dict[str, Any]:
    """Return the values with every default. Raises one RecipeError with every problem."""
    from pydantic import ValidationError

    try:
        return _model()(**values).model_dump()
    except ValidationError as error:
        hint = f"run `zoo {command} --help` for the settings"
        raise RecipeError(problems(error), hint) from None


@functools.cache
def _model() -> type[BaseModel]:
    """The table as pydantic checks it: types are strict, other names are forbidden."""
    from pydantic import AfterValidator, ConfigDict, Field, create_model, field_validator

    def short(value: object) -> object:
        if isinstance(value, str) and (len(value) > 8192 or "\0" in value):
            raise ValueError("expected at most 8,192 characters, none of them a zero byte")
        return value

    def matching(pattern: str, expected: str) -> AfterValidator:
        def check(value: str) -> str:
            if not re.fullmatch(pattern, value):
                raise ValueError(f"expected {expected}")
            return value

        return AfterValidator(check)

    columns: dict[str, Any] = {}
    for name, one in table().items():
        limits: dict[str, Any] = dict(one.limits)
        default = ... if one.default is MISSING else one.default
        kind = typing.Annotated[one.kind, matching(*one.pattern)] if one.pattern[0] else one.kind
        columns[name] = (kind, Field(default, **limits))
    config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    checks: dict[str, Any] = {"short": field_validator("*", mode="after")(short)}
    return create_model("Settings", __config__=config, __validators__=checks, **columns)


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


def check_idle(recipe: Recipe) -> None:
    """Raises RecipeError for a setting that would do nothing beside the others."""
    pixels, several = recipe.task == "reconstruct", recipe.task == "multilabel"
    idle = (
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


def problems(error: ValidationError) -> str:
    """Every problem in one line, each with its value and, for unknown names, the nearest ones."""
    lines = []
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            close = nearest(name, table())
            lines.append(f"unknown setting '{name}'" + (f" ({close})" if close else ""))
        elif item["type"] == "missing":
            lines.append(f"'{name}' is missing")
        else:
            message = item["msg"].removeprefix("Value error, ")
            lines.append(f"{name} = {shown(item['input'])}: {message[0].lower()}{message[1:]}")
    return "; ".join(lines)
