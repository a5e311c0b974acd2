"""Every setting of a training in one table: its type, default, limits, help and commands.

The record `Recipe` is the table. The flags of the commands, their help and the docs' table of
settings are made of it (`cli/flags.py`, `benchmarks/readme.py`), and `recipe.py` checks values by
it; a setting is declared nowhere else. Needs the standard library only.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from zoo.head.kinds import PATTERN, WANTED

WHAT, HEAD, DEEPER = "What to train", "Head", "Deeper training"
DATA, PHOTOS, HARDWARE, OUTPUT = "Data", "Photos", "Hardware", "Output"
SECTIONS = (WHAT, HEAD, DEEPER, DATA, PHOTOS, HARDWARE, OUTPUT)
TUNE, FIT = ("finetune",), ("finetune", "train", "distill")
_NAMED = ("finetune", "train", "lr")  # `zoo distill` has words of its own for these
EVERY, DISTILL = (*_NAMED, "distill"), ("distill",)


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table.

    kind: the type as it is annotated. commands: those that have a flag for it. limits: ge, gt, le
    and lt (at least, above, at most, below). pattern: what text must match, and what that is
    called. flags: where they are not the name. elsewhere: the help of a command where another is
    true.
    """

    name: str
    kind: object
    default: object
    help: str
    section: str
    commands: tuple[str, ...]
    limits: Mapping[str, float]
    pattern: tuple[str, str] = ("", "")
    flags: tuple[str, ...] = ()
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    def help_in(self, command: str) -> str:
        """Return the help of its flag in a command."""
        return self.elsewhere.get(command, self.described)

    @property
    def choices(self) -> tuple[str, ...]:
        """The values of a setting that has a list of them."""
        return next((typing.get_args(k) for k in self.kinds if typing.get_origin(k) is Literal), ())

    @property
    def kinds(self) -> tuple[object, ...]:
        """The types of its values, None's among them where it may be left to the tool."""
        return (self.kind, *typing.get_args(self.kind))

    @property
    def about(self) -> str:
        """What it does, in a sentence or two, with all choices."""
        words = self.help.partition(" Default: ")[0]
        if all(value in words for value in self.choices):
            return words
        return f"{words} One of {', '.join(self.choices)}."

    @property
    def unless_given(self) -> str:
        """The default in words; nothing where a setting has none, or is a switch that is off."""
        said = self.help.partition(" Default: ")[2].rstrip(".")
        if said or self.default is None or self.default is MISSING or self.default == {}:
            return said
        if isinstance(self.default, bool):
            return "on" if self.default else ""
        return self.default if isinstance(self.default, str) else f"{self.default:g}"

    @property
    def described(self) -> str:
        """The help of its flag."""
        return self.about + (f" Default: {self.unless_given}." if self.unless_given else "")


def row(
    help: str, section: str, default: object = None, *, on: tuple[str, ...] = EVERY, **more: object
) -> Any:
    """Return a field of Recipe that is a row of the table. more: limits, and what else it has."""
    limits = {name: more.pop(name) for name in ("ge", "gt", "le", "lt") if name in more}
    about = {"help": help, "section": section, "commands": on, "limits": limits, **more}
    if default == {}:
        return field(default_factory=dict, metadata=about)
    return field(default=default, metadata=about)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The settings of one fine-tune; `None` means that the tool chooses and says why."""

    # fmt: off
    model: str = row(
        "Network to start from: a name of `zoo list`, torchvision/NAME or timm/NAME; for "
        "finetune also auto, which tries several and takes one.",
        WHAT, MISSING, on=_NAMED,
    )
    data: str = row(
        "Folder of photos (CLASS/*.jpg or {train,val}/CLASS/*.jpg), of IDX files, or of Parquet "
        "with photos inside; a CSV or Parquet manifest, or mnist, fashion-mnist, xo.",
        WHAT, MISSING, on=_NAMED,
    )
    task: Literal["classify", "multilabel", "reconstruct"] | None = row(
        "What is learned: classify gives each photo one class, multilabel several or none, "
        "reconstruct gives the photo back (autoencoders). Default: as the data are.",
        WHAT, on=TUNE,
    )
    weights: str | None = row(
        "Weights to start from: a tag of `zoo info MODEL`, a file, a run folder, a folder with "
        "timm's config.json, hf-hub:ORG/NAME, or none for random ones. Default: the published "
        "ones.",
        WHAT, on=("finetune", "lr", "distill"),
    )
    freeze: bool = row(
        "Freeze the stages up to the cut, or train every stage.",
        WHAT, True, on=("finetune", "lr"),
    )
    cut: str | None = row(
        "Last frozen stage, as layer3; layer4.1 or blocks.10 cuts inside a stage. Default: "
        "the last one before the head.",
        WHAT, on=("finetune", "lr"),
    )
    variant: Mapping[str, str | float] = row(
        "Variant of the network, as norm=batch or dropout=0.2; give it again for another one. "
        "`zoo info MODEL` lists them.",
        WHAT, {}, on=FIT,
    )
    head: str = row(
        "New head: linear, solved for; mlp:512, one hidden layer of 512; prototype, class means by "
        "Mahalanobis distance, or prototype:cosine; knn:20, the 20 nearest training photos vote; "
        "text, see --text.",
        HEAD, "linear", on=("finetune", "lr"), pattern=(PATTERN, WANTED),
        elsewhere={"lr": "New head: linear, or mlp:512 with a hidden layer. Default: linear."},
    )
    text: str | None = row(
        "Text tower of a CLIP or SigLIP model, whose view of the class names begins the head: a "
        "folder of open_clip, or hf-hub:ORG/NAME. Default: beside the weights, with --head text.",
        HEAD, on=("finetune",),
    )
    optimizer: Literal["auto", "lbfgs", "adamw", "adam", "sgd"] = row(
        "How the head is trained: lbfgs computes the optimum of a linear head on kept features, "
        "adamw, adam and sgd train in steps. Default: auto, lbfgs where it can, else adamw.",
        HEAD, "auto", flags=("--solver", "--optimizer"),
        elsewhere=dict.fromkeys(
            ("train", "distill", "lr"),
            "What takes the steps of training: adamw, adam or sgd. Default: auto, adamw.",
        ),
    )
    penalty: float | None = row(
        "Strength of the L2 penalty of lbfgs. Default: chosen by cross-validation.",
        HEAD, on=TUNE, gt=0, le=1e6,
    )
    label_smoothing: float = row(
        "Share of each label that is spread over all classes, as 0.1.", HEAD, 0.0, ge=0, lt=1
    )
    teacher: str | None = row("Run whose answers `zoo distill` learns.", WHAT, on=DISTILL)
    temperature: float = row(
        "What a teacher's scores and the network's are divided by where they are compared.",
        DEEPER, 4.0, on=DISTILL, gt=0, le=100,
    )
    truth: float = row(
        "Share of the photos' own labels in what is learned from a teacher, as 0.1.",
        DEEPER, 0.0, on=DISTILL, ge=0, lt=1,
    )
    balance: Literal["auto", "none", "weights", "sampler"] = row(
        "How rare classes count: weights makes them count more in the loss, sampler shows them "
        "more often. Default: auto, weights from a ratio of 3 to 1.",
        HEAD, "auto", on=_NAMED,
    )
    calibrate: bool = row(
        "Fit a temperature on the validation photos and put it into the head.",
        HEAD, True, on=FIT,
    )
    epochs: int = row("Passes over the training photos.", DEEPER, 30, on=FIT, ge=1, le=100_000)
    batch_size: int = row("Photos in a batch.", DEEPER, 32, ge=1, le=65_536)
    lr: float | None = row(
        "Peak learning rate. Default: chosen, and printed with its reason.",
        DEEPER, on=FIT, gt=0, le=100,
    )
    momentum: float = row("Momentum of sgd.", DEEPER, 0.0, ge=0, lt=1)
    weight_decay: float = row(
        "Weight decay: decoupled for adamw, part of the gradient for the others.",
        DEEPER, 0.01, ge=0, le=100,
    )
    schedule: Literal["cosine", "exponential", "constant", "head-then-all"] = row(
        "How the learning rate falls; head-then-all trains the head first, then every stage at a "
        "lower rate.",
        DEEPER, "cosine", on=FIT,
        elsewhere=dict.fromkeys(
            ("train", "distill"),
            "How the learning rate falls: cosine, exponential or constant. Default: cosine.",
        ),
    )
    decay: float = row(
        "Factor on the learning rate in each epoch of the exponential schedule.",
        DEEPER, 0.6, on=FIT, gt=0, le=1,
    )
    warmup: float = row(
        "Share of the steps in which the rate rises to its peak.", DEEPER, 0.1, on=FIT, ge=0, lt=1
    )
    unfreeze: str | None = row(
        "Stages that are trained from an epoch on, as layer4@10,layer3@20; with head-then-all the "
        "last stage to be reached, as layer3.",
        DEEPER, on=TUNE,
    )
    layer_decay: float | None = row(
        "Factor on the rate for each stage further from the head. Default: 0.8 where the stage is "
        "pretrained.",
        DEEPER, on=("finetune", "lr"), gt=0, le=1,
    )
    ema: float = row(
        "Keep a running mean of the weights with this decay, as 0.999; 0 keeps the weights.",
        DEEPER, 0.0, on=FIT, ge=0, lt=1,
    )
    loss: Literal["auto", "cross_entropy", "mse", "mae", "bce"] = row(
        "Loss of training in steps. Of classes also mse and mae of the probabilities, and bce of "
        "each by itself. Default: auto, cross_entropy of classes, bce of several labels, mse of "
        "pixels.",
        DEEPER, "auto", on=_NAMED,
    )
    patience: int | None = row(
        "Stop after so many epochs without a better one.", DEEPER, on=FIT, ge=1, le=100_000
    )
    minutes: float | None = row(
        "Train for so many minutes at most; the rate falls within that time. With the model auto: "
        "choose it in so many.",
        DEEPER, on=FIT, gt=0, le=1e6,
    )
    clip: float | None = row("Largest norm of the gradients of a step, as 1.0.", DEEPER, gt=0)
    accumulate: int = row(
        "Batches whose gradients are added up for one step.", DEEPER, 1, ge=1, le=65_536
    )
    compile: bool = row("Run the trained part through torch.compile.", DEEPER, False, on=FIT)
    best: Literal["auto", "accuracy", "map", "macro_f1", "loss", "last"] = row(
        "What chooses the epoch that is kept, on the validation photos; map is for several labels "
        "a photo, last keeps the last epoch.",
        DEEPER, "auto", on=FIT,
    )
    mixup: float = row(
        "Mix photos with others: alpha of the Beta distribution, as 0.2; 0 mixes none.",
        DEEPER, 0.0, ge=0, le=10,
    )
    cutmix: float = row(
        "Paste boxes of other photos: alpha of the Beta distribution, as 1.0; 0 pastes none.",
        DEEPER, 0.0, ge=0, le=10,
    )
    val_fraction: float = row(
        "Share of the photos put aside for validation where there is no val part.",
        DATA, 0.2, gt=0, lt=1,
    )
    seed: int = row(
        "Seed of the split, of the order of the photos and of new layers.",
        DATA, 0, ge=0, le=2**63 - 1,
    )
    seeds: int = row(
        "Train with so many seeds and report mean, deviation and interval.",
        DATA, 1, on=TUNE, ge=1, le=1000,
    )
    keep_duplicates: bool = row(
        "Keep photos of val and test that are in train too, by their content.",
        DATA, False, on=FIT,
    )
    skip_unreadable: bool = row(
        "Go on where more than 10 % of the photos cannot be read.", DATA, False
    )
    folds: int | None = row(
        "Cross-validate over all photos in so many folds, beside the training itself.",
        DATA, on=TUNE, ge=2, le=1000,
    )
    views: int | None = row(
        "Views (crops, mirrored or not) of each photo; 1 is the plain one. Default: chosen.",
        PHOTOS, ge=1, le=1000,
    )
    flip: bool | None = row(
        "Let views be mirror images. Default: on, but for small grey pictures, as digits are.",
        PHOTOS,
    )
    augment: Literal["none", "light", "trivial", "randaugment", "autoaugment"] = row(
        "Transforms of torchvision, new in each epoch, for stages that are trained.",
        PHOTOS, "none", on=_NAMED,
    )
    distort: Literal["none", "affine", "elastic"] = row(
        "Distort small pictures anew in each epoch.", PHOTOS, "none", on=("train",)
    )
    distort_strength: float = row(
        "Factor on the distortions.", PHOTOS, 1.0, on=("train",), gt=0, le=4
    )
    size: str | int | None = row(
        "Pixels of the input, as 288 for a square or 192x256 for height and width, where the "
        "network takes others than its own. Default: as the weights were trained.",
        PHOTOS, ge=8, le=4096,
        pattern=(r"\d{1,4}(x\d{1,4})?", "pixels, as 288, or HEIGHTxWIDTH, as 192x256"),
    )
    fit: Literal["crop", "pad", "squash"] | None = row(
        "How a photo takes the shape of the input. Default: as the weights were trained.", PHOTOS
    )
    device: str = row(
        "Device: auto, cpu, cuda, cuda:N or mps.", HARDWARE, "auto",
        pattern=(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", "auto, cpu, cuda, cuda:N or mps"),
    )
    precision: Literal["fp32", "bf16"] = row(
        "Precision of the frozen part and of trained stages; how often bf16 agrees with fp32 is "
        "measured and printed.",
        HARDWARE, "fp32", on=("finetune", "lr"),
    )
    engine: Literal["auto", "torch", "openvino"] = row(
        "What runs the frozen part. Default: auto, the quickest that is here.",
        HARDWARE, "auto", on=TUNE,
    )
    workers: int | None = row(
        "Threads that decode photos. Default: all cores.", HARDWARE, ge=1, le=1024
    )
    cache_budget: str | None = row(
        "Room for kept features, as 20GB or 50%. Default: 50% of the free disk.",
        HARDWARE, on=TUNE,
    )
    force: bool = row(
        "Go on where bf16 gives another class than fp32 for more than 2 % of the photos, and "
        "overwrite the file of --sheet.",
        HARDWARE, False, on=TUNE, flags=("-f", "--force"),
    )
    log: str | None = row(
        "More logs beside metrics.jsonl: csv, tensorboard, mlflow, wandb, or several, as "
        "csv,tensorboard.",
        OUTPUT, on=FIT,
    )
    # fmt: on

    def record(self) -> dict[str, object]:
        """Return the settings that are not None, as they stand in a file."""
        return {name: value for name, value in asdict(self).items() if value not in (None, {})}

    def save(self, path: Path) -> None:
        """Write the resolved recipe as TOML; what is None is left out."""
        import tomli_w

        text = tomli_w.dumps(self.record())
        path.write_text(text, encoding="utf-8", errors="surrogateescape")


@functools.cache
def table() -> dict[str, Setting]:
    """Return every setting by its name, in the order in which they are declared."""
    kinds = typing.get_type_hints(Recipe)
    found = {}
    for one in fields(Recipe):
        default = {} if one.name == "variant" else one.default
        about: Any = one.metadata
        found[one.name] = Setting(one.name, kinds[one.name], default, **about)
    return found
