"""zoo info: one model in full, stage by stage, and where the cut falls."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from zoo import catalog
from zoo.catalog import ModelSpec, Preprocess
from zoo.cli.screen import print_json, short, table


def command(
    model: Annotated[str, typer.Argument(help="A model of the catalogue, torchvision/X, timm/X.")],
    json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """One network: stages with shapes, parameters and multiply-adds, the cut, its weights."""
    if "/" not in model:
        catalog.find(model)
    from dataclasses import asdict

    from zoo import models

    spec = models.resolve(model)
    stages = models.describe(models.build(spec), spec)
    if json:
        print_json({**asdict(spec), "stage_table": [asdict(stage) for stage in stages]})
        return
    print(f"{spec.name}: {spec.family}, {spec.year}" if spec.year else spec.name)
    for label, text in about(spec):
        print(f"  {label:<11}{text}")
    print()
    print("\n".join(stage_table(spec, stages)))
    print()
    print("\n".join(weights_table(spec)))


def about(spec: ModelSpec) -> list[tuple[str, str]]:
    rows = [("paper", spec.paper), ("note", spec.note)]
    rows += [
        ("input", describe_input(spec.preprocess)),
        ("parameters", f"{spec.params:,}"),
        ("mult-adds", f"{spec.macs:,} for one picture"),
        ("classes", f"{spec.num_classes:,}"),
        ("head", f"{spec.head}, replaced by a new one for your classes"),
    ]
    return [(label, text) for label, text in rows if text]


def describe_input(preprocess: Preprocess) -> str:
    kind = "grey" if preprocess.channels == 1 else "RGB"
    how = f"centre {preprocess.crop:.3g} of the shorter side" if preprocess.fit == "crop" else ""
    mean = ", ".join(f"{value:.3g}" for value in preprocess.mean)
    std = ", ".join(f"{value:.3g}" for value in preprocess.std)
    size = f"{preprocess.size} x {preprocess.size} {kind}"
    return f"{size}, {how or preprocess.fit}, {preprocess.interpolation}, mean {mean}, std {std}"


def stage_table(spec: ModelSpec, stages: list[Any]) -> list[str]:
    """One line per stage; what --freeze freezes, and what it trains."""
    rows, frozen = [], True
    for stage in stages:
        shape = " x ".join(str(length) for length in stage.shape)
        state = "frozen" if frozen else "trained"
        if not frozen and not stage.params:
            state = ""
        rows.append((stage.name, stage.kind, shape, short(stage.params), short(stage.macs), state))
        if stage.name == spec.cut:
            frozen = False
            rows[-1] = (*rows[-1][:-1], "frozen <- cut")
    return table(rows, ("stage", "kind", "output", "params", "mult-adds", "--freeze"), "   rr")


def weights_table(spec: ModelSpec) -> list[str]:
    if not spec.weights:
        return ["no pretrained weights: train it, or give --weights FILE"]
    rows = [
        (
            weights.tag + (" (default)" if index == 0 else ""),
            f"{weights.acc1:.2f}" if weights.acc1 else "-",
            f"{weights.acc5:.2f}" if weights.acc5 else "-",
            weights.licence or "not stated",
            weights.file,
            weights.source,
        )
        for index, weights in enumerate(spec.weights)
    ]
    return table(rows, ("weights", "top-1", "top-5", "licence", "file", "source"), " rr")
