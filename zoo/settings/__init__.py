"""Every setting of a training in one table: its type, default, limits, help and commands.

The record `Recipe` is the table. The flags of the commands, their help and the docs' table of
settings are made of it (`cli/flags.py`, `benchmarks/readme.py`), and `recipe.py` checks values by
it; a setting is declared nowhere else. What a row can say is in `setting.py`; the rows of training
in steps are in `steps.py`. Needs the standard library only.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from zoo.head.kinds import PATTERN, WANTED
from zoo.settings.setting import (
    DATA,
    DISTILL,
    FIT,
    HARDWARE,
    HEAD,
    NAMED,
    OUTPUT,
    PHOTOS,
    SECTIONS,  # fmt: skip
    TUNE,
    WHAT,
    Setting,
    row,
)
from zoo.settings.steps import Steps

__all__ = [
    "DATA", "HARDWARE", "OUTPUT", "PHOTOS", "SECTIONS", "WHAT", "Recipe", "Setting", "table"
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe(Steps):
    """The settings of one fine-tune; `None` means that the tool chooses and says why."""

    # fmt: off
    model: str = row(
        "Network to start from: a name of `zoo list`, torchvision/NAME or timm/NAME; for "
        "finetune also auto, which tries several and takes one.",
        WHAT, MISSING, on=NAMED,
    )
    data: str = row(
        "Folder of photos (CLASS/*.jpg or {train,val}/CLASS/*.jpg), of IDX files, or of Parquet "
        "with photos inside; a CSV or Parquet manifest, or mnist, fashion-mnist, xo.",
        WHAT, MISSING, on=NAMED,
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
    teacher: str | None = row("Run whose answers `zoo distill` learns.", WHAT, on=DISTILL)
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
    balance: Literal["auto", "none", "weights", "sampler"] = row(
        "How rare classes count: weights makes them count more in the loss, sampler shows them "
        "more often. Default: auto, weights from a ratio of 3 to 1.",
        HEAD, "auto", on=NAMED,
    )
    calibrate: bool = row(
        "Fit a temperature on the validation photos and put it into the head.",
        HEAD, True, on=FIT,
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
        PHOTOS, "none", on=NAMED,
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
        values = {name: getattr(self, name) for name in table()}
        return {name: value for name, value in values.items() if value not in (None, {})}

    def save(self, path: Path) -> None:
        """Write the resolved recipe as TOML; what is None is left out."""
        import tomli_w

        text = tomli_w.dumps(self.record())
        path.write_text(text, encoding="utf-8", errors="surrogateescape")


@functools.cache
def table() -> dict[str, Setting]:
    """Return every setting by its name, section by section, as they are declared."""
    kinds = typing.get_type_hints(Recipe)
    found = []
    for one in fields(Recipe):
        default = {} if one.name == "variant" else one.default
        about: Any = one.metadata
        found.append(Setting(one.name, kinds[one.name], default, **about))
    return {one.name: one for one in sorted(found, key=lambda one: SECTIONS.index(one.section))}
