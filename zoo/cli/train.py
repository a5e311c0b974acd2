"""zoo train: a network from random weights; fine-tuning without weights and without a cut."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.catalog import ROWS
from zoo.errors import RecipeError

Text = str | None
DATA = "Folder of photos or IDX files, manifest, or mnist, fashion-mnist, cifar10."


def command(
    model: Annotated[Text, typer.Argument(help="As in `zoo list`, torchvision/X, timm/X.")] = None,
    data: Annotated[Text, typer.Argument(help=DATA)] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Run folder.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML file of settings.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the photos (30).")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Photos a step (32).")] = None,
    optimizer: Annotated[Text, typer.Option(help="adamw, adam or sgd.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak rate (chosen, with its reason).")] = None,
    momentum: Annotated[float | None, typer.Option(help="Of sgd (0).")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Of weights (0.01).")] = None,
    schedule: Annotated[Text, typer.Option(help="cosine, exponential or constant.")] = None,
    decay: Annotated[float | None, typer.Option(help="Of an exponential schedule (0.6).")] = None,
    warmup: Annotated[float | None, typer.Option(help="Share of the steps (0.1).")] = None,
    ema: Annotated[float | None, typer.Option(help="Running mean of the weights (0).")] = None,
    patience: Annotated[
        int | None, typer.Option(help="Stop after so many epochs without a better one.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Of training at most.")] = None,
    clip: Annotated[float | None, typer.Option(help="Largest norm of the gradients.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Batches in a step (1).")] = None,
    compile: Annotated[bool | None, typer.Option(help="Through torch.compile.")] = None,
    mixup: Annotated[float | None, typer.Option(help="Alpha: rows are mixed (0).")] = None,
    cutmix: Annotated[float | None, typer.Option(help="Alpha: boxes are pasted (0).")] = None,
    loss: Annotated[Text, typer.Option(help="cross_entropy; mse, mae or bce.")] = None,
    label_smoothing: Annotated[float | None, typer.Option(help="0 to 1 (0).")] = None,
    distort: Annotated[Text, typer.Option(help="none, affine or elastic.")] = None,
    distort_strength: Annotated[float | None, typer.Option(help="A factor (1).")] = None,
    views: Annotated[int | None, typer.Option(help="Views of each photo; 1 is plain.")] = None,
    flip: Annotated[
        bool | None, typer.Option(help="Views may be mirrored (default: not small grey ones).")
    ] = None,
    augment: Annotated[
        Text, typer.Option(help="none, light, trivial, randaugment, autoaugment: each epoch anew.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Threads that decode (all cores).")] = None,
    activation: Annotated[Text, typer.Option(help="Variant: see `zoo info MODEL`.")] = None,
    norm: Annotated[Text, typer.Option(help="Variant: none, batch or layer.")] = None,
    dropout: Annotated[float | None, typer.Option(help="Variant: 0 to 1.")] = None,
    initial: Annotated[Text, typer.Option(help="Variant: the first weights.")] = None,
    pooling: Annotated[Text, typer.Option(help="Variant, of lenet.")] = None,
    connections: Annotated[Text, typer.Option(help="Variant, of lenet.")] = None,
    balance: Annotated[Text, typer.Option(help="auto, none, weights or sampler.")] = None,
    best: Annotated[Text, typer.Option(help="accuracy, macro_f1, loss, last: epoch kept.")] = None,
    fit: Annotated[Text, typer.Option(help="crop, pad or squash.")] = None,
    calibrate: Annotated[
        bool | None, typer.Option(help="A temperature goes into the head (default).")
    ] = None,
    skip_unreadable: Annotated[
        bool | None, typer.Option("--skip-unreadable", help="Though it is over 10 % of the photos.")
    ] = None,
    log: Annotated[Text, typer.Option(help="csv, tensorboard, or both.")] = None,
    val_fraction: Annotated[float | None, typer.Option(help="Without a val part (0.2).")] = None,
    keep_duplicates: Annotated[
        bool | None,
        typer.Option("--keep-duplicates", help="Photos of val that are in train too stay."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of split, order and weights (0).")] = None,
    device: Annotated[Text, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Finish this run.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, stop.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The result as JSON on stdout.")] = False,
) -> None:
    """Train a network from random weights: classes, or for an autoencoder its own input.

    The recipes/ folder has settings with measured results, as in `zoo train --recipe
    recipes/lenet-mnist.toml`. The path of the run is all that goes to stdout.
    """
    flags = dict(locals())
    from zoo import recipe as recipes
    from zoo.cli.finetune import begin, continue_run, given

    if resume is not None:
        continue_run(resume, flags)
        return
    settings = recipes.make(from_scratch(given(flags), recipe), recipe, "train")
    begin(settings, output, dry_run, json)


def from_scratch(given: dict[str, Any], file: Path | None) -> dict[str, Any]:
    """The flags with what training from scratch means. Raises RecipeError for another recipe."""
    from zoo import recipe as recipes

    base = recipes.load(file) if file else {}
    for name, scratch in (("freeze", False), ("cut", None), ("weights", "none")):
        if name in base and base[name] != scratch:
            raise RecipeError(
                f"{file} says {name} = {base[name]!r}, which is fine-tuning",
                f"`zoo finetune --recipe {file}`",
            )
    row = ROWS.get(str(given.get("model", base.get("model"))))
    if row is None:
        return given | {"freeze": False, "weights": "none"}
    if (base.get("task", row.task) == "reconstruct") != (row.task == "reconstruct"):
        raise RecipeError(
            f"{file} says task = '{base['task']}', {row.name} can only {row.task}",
            "leave task out: the network says what it learns",
        )
    task = {} if row.task == "classify" else {"task": row.task}
    return given | {"freeze": False, "weights": "none", **task}
