"""The settings of training in steps: rows of the table that a head which is solved for has not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zoo.settings.setting import DEEPER, DISTILL, FIT, NAMED, TUNE, row


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """The settings of the section "Deeper training" (see `Recipe`)."""

    # fmt: off
    temperature: float = row(
        "What a teacher's scores and the network's are divided by where they are compared.",
        DEEPER, 4.0, on=DISTILL, gt=0, le=100,
    )
    truth: float = row(
        "Share of the photos' own labels in what is learned from a teacher, as 0.1.",
        DEEPER, 0.0, on=DISTILL, ge=0, lt=1,
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
        DEEPER, "auto", on=NAMED,
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
    # fmt: on
