"""zoo info: one model in full, stage by stage, and where the cut falls; or a run, or its file."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import catalog
from zoo.catalog import ModelSpec
from zoo.cli import info_file
from zoo.cli.console import out, out_table, print_json, table
from zoo.cli.list_models import accuracy, record, size, weights_record
from zoo.cli.options import NETWORK, flag, force, network, options, shared
from zoo.errors import UsageError
from zoo.text import count, short

if TYPE_CHECKING:
    from zoo.catalog import Preprocess
    from zoo.catalog.structures import StageInfo

if TYPE_CHECKING:
    from zoo.catalog.structures import StageInfo


@dataclass(frozen=True)
class Flags:
    model: str = network("A model, torchvision/NAME, timm/NAME, a run folder or an .onnx file.")
    variant: list[str] | None = flag(
        "Show this variant of a model, as kernels=16,32; give it again for another choice.", NETWORK
    )
    classes: bool = flag("Print the classes of its weights, in order.", default=False)
    svg: Path | None = flag("Draw its chain of stages, with the cut, into this file, as net.svg.")
    force: bool = force()
    json: bool = shared("json")


@options
def command(flags: Flags) -> None:
    """Show one network: its stages with shapes and memory, the cut, its variants and weights.

    For a run folder or an exported file: what it was trained from, and how good it is.
    """
    name = flags.model
    if flags.variant and (catalog.is_exported(name) or os.path.isdir(name)):
        raise UsageError(
            f"--variant {flags.variant[0]} for {name}: a network that is trained is what it is",
            "leave it out, or give a model of `zoo list`",
        )
    if flags.svg is not None:
        _check_svg(name, flags.svg)
    if catalog.is_exported(name):
        info_file.show_onnx(name, flags.classes, flags.json)
    elif catalog.is_run(name) and flags.svg is not None:
        _draw_run(name, flags.svg)
        out(flags.svg)
    elif catalog.is_run(name):
        info_file.show_run(name, flags.classes, flags.json)
    else:
        _show_model(name, flags)


def _show_model(name: str, flags: Flags) -> None:
    if not catalog.of_library(name):
        _check_name(name)
    from zoo import recipe
    from zoo.cli.info_stages import described

    spec, stages = described(name, recipe.variants(flags.variant or ()))
    if flags.classes:
        _show_classes(spec, flags.json)
        return
    if flags.svg is not None:
        draw_chain(flags.svg, spec.name, stages, spec.preprocess, spec.cut)
        out(flags.svg)
        return
    if flags.json:
        placed = [{**weights_record(one), "path": _path(one)} for one in spec.weights]
        print_json(
            {**record(spec), "weights": placed, "stage_table": [asdict(stage) for stage in stages]}
        )
        return
    info_file.show(f"{spec.name}: {spec.family}, {spec.year}" if spec.year else spec.name,
                   _about(spec))  # fmt: skip
    parts = (_stage_table(spec, stages), _variants(spec), _weights_table(spec), _origins(spec))
    for part in filter(None, parts):
        out()
        out_table(part)


def _check_name(name: str) -> None:
    """Raises for what is neither a run folder nor a model."""
    if "/" in name and catalog.base(name) not in catalog.ROWS:
        raise catalog.no_network(name)
    catalog.find(name)


def _path(weights: catalog.Weights) -> str | None:
    """Return where the file of these weights is on this machine, if it is."""
    from zoo import weights as store

    path = store.held(weights)
    return str(path) if path else None


def _show_classes(spec: ModelSpec, as_json: bool) -> None:
    """Print one line for each output: its number, WordNet id and name."""
    from zoo.catalog import classes

    listed = spec.default_weights.classes if spec.default_weights else ""
    if not spec.num_classes and spec.task == "classify":
        raise UsageError(
            f"{spec.name} gives features, not classes",
            f"`zoo finetune {spec.name} PHOTOS` fits a head for your classes",
        )
    if listed not in classes.LISTS:
        what = f"the list '{listed}', whose names are not in zoo" if listed else "no classes yet"
        raise UsageError(
            f"{spec.name} has {what}",
            f"lists in zoo: {', '.join(classes.LISTS)}; `zoo list --trained` has its models",
        )
    columns = {"wnid": classes.wnids(listed), "name": classes.names(listed)}
    info_file.list_outputs(columns, as_json)


# The row


def _about(spec: ModelSpec) -> list[tuple[str, str]]:
    if spec.task == "reconstruct":
        purpose = [
            ("task", "reconstruct: gives a picture back from a short code, without labels"),
            ("code", f"what leaves {spec.code}; --freeze keeps the encoder for your classes"),
        ]
    else:
        purpose = [
            ("classes", _describe_classes(spec)),
            ("head", _describe_head(spec)),
        ]
    return [
        ("paper", spec.paper),
        ("note", spec.note),
        ("input", info_file.describe_input(spec.preprocess)),
        ("parameters", f"{spec.params:,}"),
        ("MACs", f"{spec.macs:,} for one picture"),
        ("memory", _describe_memory(spec)),
        *purpose,
        ("training", "with auxiliary heads, which are not saved" if spec.auxiliary else ""),
    ]


def _describe_classes(spec: ModelSpec) -> str:
    from zoo.catalog import classes

    listed = spec.default_weights.classes if spec.default_weights else ""
    if not spec.num_classes:
        return "none: it gives features, to fine-tune a head on or for `zoo embed`"
    if listed not in classes.LISTS:
        return f"{spec.num_classes:,}"
    names = classes.names(listed)
    ends = f"{names[0]} … {names[-1]}"
    return f"{spec.num_classes:,}: {listed}, {ends}; --classes lists them with their WordNet ids"


def _describe_head(spec: ModelSpec) -> str:
    if not spec.num_classes:
        return f"{spec.head}, a new one for your classes; its weights have none"
    return f"{spec.head}, replaced by a new one for your classes"


def _describe_memory(spec: ModelSpec) -> str:
    """See ModelSpec.activations."""
    if not spec.memory:
        return ""
    parameters, activations = size(4 * spec.params), size(spec.activations)
    return f"{size(spec.memory)}: {parameters} of parameters + {activations} per picture, in fp32"


def _variants(spec: ModelSpec) -> list[str]:
    """Return what can be chosen of the network; the first choice is the row's."""
    rows = [
        (f"{knob.name}={knob.usual}", knob.wanted.removeprefix("one of: "))
        for knob in spec.variants
    ]
    return table(rows, ("--variant", "or else")) if rows else []


def _stage_table(spec: ModelSpec, stages: Sequence[StageInfo]) -> list[str]:
    """Return one line for each stage, with what --freeze freezes and what it trains.

    memory: of all that is alive at the stage's worst moment, for one picture, without parameters.
    """
    rows, state = [], "frozen"
    for stage in stages:
        shape = " x ".join(str(length) for length in stage.shape)
        counts = (short(stage.params), short(stage.macs), size(stage.activations))
        if stage.name == spec.cut:
            said, state = "frozen <- cut", "trained"
        else:
            said = state if stage.params or state == "frozen" else ""
        rows.append((stage.name, stage.kind, shape, *counts, said))
    header = ("stage", "kind", "output", "params", "MACs", "memory", "--freeze")
    return table(rows, header, "   rrr", ("memory", "kind"))


# Its weights


def _weights_table(spec: ModelSpec) -> list[str]:
    if not spec.weights:
        return ["no pretrained weights: train it, or give --weights FILE"]
    rows = [
        (
            weights.tag + (" (default)" if index == 0 else ""),
            accuracy(weights.acc1),
            accuracy(weights.acc5),
            size(weights.size),
            weights.licence or "not stated",
            "yes" if _path(weights) else "no",
        )
        for index, weights in enumerate(spec.weights)
    ]
    header = ("weights", "top-1", "top-5", "file size", "licence", "on this machine")
    return table(rows, header, " rrr", ("top-5", "file size"))


def _origins(spec: ModelSpec) -> list[str]:
    """Return which file each set of weights is, and who published its accuracy."""
    rows = [(weights.tag, weights.file, weights.source) for weights in spec.weights]
    return table(rows, ("weights", "file", "published by")) if rows else []


def _check_svg(model: str, file: Path) -> None:
    """Raises UsageError for a place that is no SVG, and for a file that has no stages."""
    if file.suffix.lower() != ".svg":
        raise UsageError(f"--svg {file}: the drawing is an SVG", f"--svg {file.stem}.svg")
    if catalog.is_exported(model):
        raise UsageError(
            f"{model} is an exported file, which has no stages",
            "name the run that it was exported from: "
            f"`zoo info RUN --svg {shlex.quote(str(file))}`",
        )


def _draw_run(folder: str, file: Path) -> None:
    """Write the drawing of a finished run's network, with the cut that it was trained with."""
    from dataclasses import replace

    from zoo import models, network
    from zoo.run import Run

    run = Run.open(Path(folder)).finished()
    net = network.of_run(run)
    spec = replace(net.spec, preprocess=net.preprocess)
    title = f"{folder}: {run.record['model']}"
    cut = run.record.get("cut")
    draw_chain(file, title, models.describe(net.chain, spec), net.preprocess, cut)


def draw_chain(
    file: Path, title: str, stages: Sequence[StageInfo], preprocess: Preprocess, cut: str | None
) -> None:
    """Write the drawing of these stages. cut: the last frozen stage, None where all is trained."""
    from zoo.disk import atomic
    from zoo.report.chain import Stage, chain

    names = [stage.name for stage in stages]
    top = cut.partition(".")[0] if cut else ""
    at = names.index(top) if top in names else None
    side = " x ".join(map(str, preprocess.shape))
    boxes = [Stage("picture", (side,))]
    for number, stage in enumerate(stages):
        shape = " x ".join(str(length) for length in stage.shape)
        parameters = f"{short(stage.params)} parameters" if stage.params else ""
        state = "frozen" if at is not None and number <= at else "trained"
        kind = f"{stage.kind}, cut after {cut}" if number == at and cut != top else stage.kind
        lines = tuple(filter(None, (kind, shape, parameters)))
        boxes.append(Stage(stage.name, lines, state if stage.params or state == "frozen" else ""))
    params, macs = sum(one.params for one in stages), sum(one.macs for one in stages)
    about = f"{count(params, 'parameter')}, {macs:,} MACs for one picture of {side}"
    drawing = chain(title, about, boxes, None if at is None else at + 1)
    with atomic(file) as opened:
        opened.write(drawing.svg().encode())
