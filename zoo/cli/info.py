"""zoo info: one model in full, stage by stage, and where the cut falls; or a run, or its file."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from zoo import catalog
from zoo.catalog import ModelSpec
from zoo.cli.console import out, print_json, table
from zoo.cli.info_file import describe_input
from zoo.cli.list_models import accuracy, record, size
from zoo.errors import RunError, UsageError
from zoo.text import short


def command(
    model: Annotated[
        str, typer.Argument(help="A model, torchvision/X, timm/X, a run, or an .onnx file.")
    ],
    classes: Annotated[
        bool, typer.Option("--classes", help="Only the classes of its weights, in order.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """One network: stages with shapes, counts and memory, the cut, its variants, its weights.

    Of a run folder or an exported file: what it was made of, and how good it is.
    """
    from zoo.cli import info_file

    if model.lower().endswith(".onnx"):
        info_file.show_onnx(model, classes, json)
        return
    own = os.path.exists(os.path.join(model, "run.json"))
    if own or (os.path.isdir(model) and model not in catalog.ROWS):
        info_file.show_run(model, classes, json)
        return
    if not catalog.of_library(model):
        check_name(model)
    from dataclasses import asdict

    from zoo import models

    spec = models.resolve(model)
    if classes:
        show_classes(spec, json)
        return
    stages = models.describe(models.build(spec), spec)
    if json:
        print_json({**full(spec), "stage_table": [asdict(stage) for stage in stages]})
        return
    out(f"{spec.name}: {spec.family}, {spec.year}" if spec.year else spec.name)
    for label, text in about(spec):
        out(f"  {label:<11}{text}")
    parts = [stage_table(spec, stages), variants(spec), weights_table(spec), origins(spec)]
    out("\n" + "\n\n".join("\n".join(part) for part in parts if part))


def check_name(name: str) -> None:
    """Raises for what is neither a run folder nor a model."""
    if "/" in name and catalog.base(name) not in catalog.ROWS:
        raise RunError(
            f"there is no run folder {name}, and no model of that name",
            "give a run, an .onnx file or a name of `zoo list`",
        )
    catalog.find(name)


def full(spec: ModelSpec) -> dict[str, Any]:
    """The row as JSON, with where each weights file lies, if it is on this machine."""
    made = record(spec)
    for weights, shown in zip(spec.weights, made["weights"], strict=True):
        shown["path"] = held(weights)
    return made


def held(weights: catalog.Weights) -> str | None:
    from zoo import weights as store

    path = store.held(weights)
    return str(path) if path else None


# Classes


def show_classes(spec: ModelSpec, as_json: bool) -> None:
    """One line per output: its number, WordNet id and name."""
    from zoo.catalog import classes

    listed = spec.default_weights.classes if spec.default_weights else ""
    if listed not in classes.LISTS:
        what = f"the list '{listed}', whose names are not kept here" if listed else "no classes yet"
        raise UsageError(
            f"{spec.name} has {what}",
            f"lists that are kept: {', '.join(classes.LISTS)}; `zoo list --trained` has its models",
        )
    pairs = zip(classes.wnids(listed), classes.names(listed), strict=True)
    rows = [(index, wnid, name) for index, (wnid, name) in enumerate(pairs)]
    if as_json:
        print_json([{"index": i, "wnid": wnid, "name": name} for i, wnid, name in rows])
        return
    out(
        "\n".join(
            table([(str(i), wnid, name) for i, wnid, name in rows], ("output", "wnid", "name"), "r")
        )
    )


def describe_classes(spec: ModelSpec) -> str:
    from zoo.catalog import classes

    listed = spec.default_weights.classes if spec.default_weights else ""
    if listed not in classes.LISTS:
        return f"{spec.num_classes:,}"
    names = classes.names(listed)
    ends = f"{names[0]} … {names[-1]}"
    return f"{spec.num_classes:,}: {listed}, {ends}; --classes lists them with their WordNet ids"


# The row


def about(spec: ModelSpec) -> list[tuple[str, str]]:
    rows = [
        ("paper", spec.paper),
        ("note", spec.note),
        ("input", describe_input(spec.preprocess)),
        ("parameters", f"{spec.params:,}"),
        ("mult-adds", f"{spec.macs:,} for one picture"),
        ("memory", describe_memory(spec)),
    ]
    if spec.task == "reconstruct":
        rows += [
            ("task", "reconstruct: gives a picture back from a short code, without labels"),
            ("code", f"what leaves {spec.code}; --freeze keeps the encoder for your classes"),
        ]
    else:
        rows += [
            ("classes", describe_classes(spec)),
            ("head", f"{spec.head}, replaced by a new one for your classes"),
        ]
    if spec.auxiliary:
        rows += [("training", "with auxiliary heads, which are left out of what is saved")]
    return [(label, text) for label, text in rows if text]


def describe_memory(spec: ModelSpec) -> str:
    """See ModelSpec.activations."""
    if not spec.memory:
        return ""
    parameters, activations = size(4 * spec.params), size(spec.activations)
    return f"{size(spec.memory)}: {parameters} of parameters + {activations} per picture, in fp32"


def variants(spec: ModelSpec) -> list[str]:
    """What the network can be asked to be otherwise; the first choice is the row's."""
    rows = [
        (name, f"{', '.join(choices)}" if choices else "a number from 0 to below 1")
        for name, choices in spec.variants
    ]
    return table(rows, ("variant", "choices, the default first")) if rows else []


def stage_table(spec: ModelSpec, stages: list[Any]) -> list[str]:
    """One line per stage; what --freeze freezes, and what it trains.

    memory: of all that is alive at the stage's worst moment, for one picture, without parameters.
    """
    rows, frozen = [], True
    for stage in stages:
        shape = " x ".join(str(length) for length in stage.shape)
        state = "frozen" if frozen else "trained"
        if not frozen and not stage.params:
            state = ""
        counts = (short(stage.params), short(stage.macs), size(stage.activations))
        rows.append((stage.name, stage.kind, shape, *counts, state))
        if stage.name == spec.cut:
            frozen = False
            rows[-1] = (*rows[-1][:-1], "frozen <- cut")
    header = ("stage", "kind", "output", "params", "mult-adds", "memory", "--freeze")
    return table(rows, header, "   rrr")


# Its weights


def weights_table(spec: ModelSpec) -> list[str]:
    if not spec.weights:
        return ["no pretrained weights: train it, or give --weights FILE"]
    rows = [
        (
            weights.tag + (" (default)" if index == 0 else ""),
            accuracy(weights.acc1),
            accuracy(weights.acc5),
            size(weights.size),
            weights.licence or "not stated",
            "yes" if held(weights) else "no",
        )
        for index, weights in enumerate(spec.weights)
    ]
    header = ("weights", "top-1", "top-5", "file size", "licence", "on this machine")
    return table(rows, header, " rrr")


def origins(spec: ModelSpec) -> list[str]:
    """Which file each set of weights is, and who published its accuracy."""
    rows = [(weights.tag, weights.file, weights.source) for weights in spec.weights]
    return table(rows, ("weights", "file", "published by")) if rows else []
