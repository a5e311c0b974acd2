"""Recipe: every setting of a training in one flat frozen record. Defaults live here alone.

Read from a TOML file and from flags (flags win); every problem is reported at once, with the
nearest known name, before anything heavy is imported.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from zoo.disk import opened
from zoo.errors import RecipeError, nearest
from zoo.records import HEAD, shown

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
# Settings that are keywords of a network's builder; which of them a network has is in its row.
VARIANTS = ("activation", "norm", "dropout", "initial", "pooling", "connections")


class Recipe(BaseModel):
    """The settings of one fine-tune; `None` means that the tool chooses and says why."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    model: str = Field(description="a model of the catalogue, torchvision/NAME or timm/NAME")
    data: str = Field(
        description="folder of photos (CLASS/*.jpg or {train,val}/CLASS/*.jpg) or of IDX files, "
        "a CSV or Parquet manifest, or mnist, fashion-mnist, cifar10"
    )
    task: Literal["classify", "multilabel", "reconstruct"] | None = Field(
        None,
        description="classify, or multilabel: several labels a photo, or none; default: as the "
        "data are. reconstruct: an autoencoder learns to give back its input",
    )
    weights: str | None = Field(None, description="tag, file or run to start from, or `none`")
    freeze: bool = Field(True, description="freeze the stages up to the cut")
    cut: str | None = Field(None, description="last frozen stage; `layer4.1` cuts inside a stage")
    head: str = Field("linear", description="new head: `linear`, or `mlp:512` for a hidden layer")
    epochs: int = Field(30, ge=1, le=100_000, description="passes over the training photos")
    batch_size: int = Field(32, ge=1, le=65_536, description="photos per step")
    lr: float | None = Field(None, gt=0, le=100, description="peak learning rate")
    optimizer: Literal["auto", "lbfgs", "adamw", "adam", "sgd"] = Field(
        "auto",
        description="the solver; lbfgs: the optimum of a linear head on kept features; auto: "
        "lbfgs where it can, else adamw",
    )
    penalty: float | None = Field(
        None, gt=0, le=1e6, description="of lbfgs; default: chosen by cross-validation"
    )
    momentum: float = Field(0.0, ge=0, lt=1, description="of sgd")
    weight_decay: float = Field(
        0.01, ge=0, le=100, description="decoupled for adamw, part of the gradient for the others"
    )
    schedule: Literal["cosine", "exponential", "constant", "head-then-all"] = Field(
        "cosine",
        description="how the rate falls; exponential: by `decay` in each epoch; head-then-all: "
        "the head first, then down to a stage at a lower rate, each with a cosine",
    )
    unfreeze: str | None = Field(
        None, description="`layer4@10`: from epoch 10 on layer4 is trained too"
    )
    layer_decay: float | None = Field(
        None, gt=0, le=1, description="factor on the rate for each stage further from the head"
    )
    decay: float = Field(0.6, gt=0, le=1, description="factor of the exponential schedule")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps with a rising rate")
    ema: float = Field(
        0.0, ge=0, lt=1, description="a running mean of the weights is what is kept; 0: none"
    )
    loss: Literal["auto", "cross_entropy", "mse", "mae", "bce"] = Field(
        "auto", description="auto: cross_entropy of classes, mse of reconstructed pixels"
    )
    patience: int | None = Field(
        None, ge=1, le=100_000, description="stop after so many epochs without a better one"
    )
    minutes: float | None = Field(
        None, gt=0, le=1e6, description="of training at most; the rate falls in that time"
    )
    clip: float | None = Field(None, gt=0, description="largest norm of the gradients of a step")
    accumulate: int = Field(
        1, ge=1, le=65_536, description="batches whose gradients are one step's"
    )
    compile: bool = Field(False, description="the trained part goes through torch.compile")
    mixup: float = Field(0.0, ge=0, le=10, description="alpha: rows are mixed with others; 0: not")
    cutmix: float = Field(
        0.0, ge=0, le=10, description="alpha: boxes are pasted from other photos; 0: not"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share spread over all classes")
    views: int | None = Field(None, ge=1, le=1000, description="views of each photo; 1 is plain")
    flip: bool | None = Field(
        None,
        description="views may be mirror images; default: not those of small grey pictures, as "
        "digits are",
    )
    augment: Literal["none", "light", "trivial", "randaugment", "autoaugment"] = Field(
        "none", description="torchvision's transforms, new in each epoch; for trained stages"
    )
    distort: Literal["none", "affine", "elastic"] = Field(
        "none", description="moves small pictures anew in each epoch; elastic: affine and a field"
    )
    distort_strength: float = Field(1.0, gt=0, le=4, description="factor on the distortions")
    activation: str | None = Field(None, description="variant of the network: see `zoo info`")
    norm: str | None = Field(None, description="variant of the network: batch, layer or none")
    dropout: float | None = Field(None, ge=0, lt=1, description="variant of the network")
    initial: str | None = Field(None, description="variant of the network: its first weights")
    pooling: str | None = Field(None, description="variant of the network")
    connections: str | None = Field(None, description="variant of the network")
    balance: Literal["auto", "none", "weights", "sampler"] = Field(
        "auto", description="rare classes count more; auto: weights from a ratio of 3 to 1"
    )
    best: Literal["auto", "accuracy", "map", "macro_f1", "loss", "last"] = Field(
        "auto",
        description="chooses the epoch that is kept; map: mean average precision, of several "
        "labels a photo; last: none is chosen",
    )
    fit: Literal["crop", "pad", "squash"] | None = Field(
        None, description="how a photo becomes a square; default: as the weights were trained"
    )
    calibrate: bool = Field(
        True, description="a temperature fitted on the val photos goes into the head"
    )
    seeds: int = Field(1, ge=1, le=1000, description="trainings whose scores are compared")
    folds: int | None = Field(
        None, ge=2, le=1000, description="cross-validation over all photos beside the training"
    )
    cache_budget: str | None = Field(
        None, description="room for kept features, as 20GB or 50%; default: 50% of what is free"
    )
    workers: int | None = Field(None, ge=1, le=1024, description="threads that decode photos")
    log: str | None = Field(None, description="csv, tensorboard or both, beside metrics.jsonl")
    skip_unreadable: bool = Field(
        False, description="goes on where more than 10 % of the photos cannot be read"
    )
    val_fraction: float = Field(0.2, gt=0, lt=1, description="share put aside without a val part")
    keep_duplicates: bool = Field(
        False, description="photos of val and test that are in train too, by content, stay there"
    )
    seed: int = Field(0, ge=0, le=2**63 - 1, description="of the split, the order and the head")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="of the frozen part, and of what is trained besides the head"
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps")
    engine: Literal["auto", "torch", "openvino"] = Field(
        "auto", description="who runs the frozen part; auto: the quickest that is here"
    )
    force: bool = Field(
        False, description="a precision that disagrees with fp32 on more than 2 % goes on"
    )

    @field_validator("*", mode="after")
    @classmethod
    def _text(cls, value: object) -> object:
        if isinstance(value, str) and (len(value) > 8192 or "\0" in value):
            raise ValueError("expected at most 8,192 characters, none of them a zero byte")
        return value

    @field_validator("head")
    @classmethod
    def _head(cls, value: str) -> str:
        if not HEAD.fullmatch(value):
            raise ValueError("expected `linear` or `mlp:N`, as in mlp:512")
        return value

    @field_validator("device")
    @classmethod
    def _device(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", value):
            raise ValueError("expected auto, cpu, cuda, cuda:N or mps")
        return value

    @property
    def variant(self) -> dict[str, str | float]:
        """The keywords for the network's builder that are not left to it."""
        values = {name: getattr(self, name) for name in VARIANTS}
        return {name: value for name, value in values.items() if value is not None}

    def save(self, path: Path) -> None:
        """The resolved recipe as TOML; what is None is left out."""
        text = tomli_w.dumps(self.model_dump(exclude_none=True))
        path.write_text(text, encoding="utf-8", errors="surrogateescape")


def load(path: Path) -> dict[str, Any]:
    """The settings of a TOML file, unchecked. Raises RecipeError."""
    try:
        with opened(path, MOST) as file:
            return tomllib.loads(file.read().decode("utf-8", "surrogateescape"))
    except FileNotFoundError:
        raise RecipeError(f"no recipe at {path}", "give a TOML file with `--recipe FILE`") from None
    except OSError as error:
        raise RecipeError(
            f"{path} cannot be read: {error.strerror}", "give a TOML file with `--recipe FILE`"
        ) from None
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise RecipeError(f"{path} is not TOML: {why}", "see recipes/ for examples") from None


def make(flags: dict[str, Any], file: Path | None = None, command: str = "finetune") -> Recipe:
    """Defaults <- TOML <- flags that are not None. Raises one RecipeError with every problem."""
    values = load(file) if file else {}
    values |= {key: value for key, value in flags.items() if value is not None}
    try:
        recipe = Recipe(**values)
    except ValidationError as error:
        hint = f"run `zoo {command} --help` for the settings"
        raise RecipeError(problems(error), hint) from None
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
        if useless and value != Recipe.model_fields[name].default:
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
            close = nearest(name, Recipe.model_fields)
            lines.append(f"unknown setting '{name}'" + (f" ({close})" if close else ""))
        elif item["type"] == "missing":
            lines.append(f"'{name}' is missing")
        else:
            message = item["msg"].removeprefix("Value error, ")
            lines.append(f"{name} = {shown(item['input'])}: {message[0].lower()}{message[1:]}")
    return "; ".join(lines)
