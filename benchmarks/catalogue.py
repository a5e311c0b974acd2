"""Makes zoo/catalog/libraries.tsv: what `zoo list` knows of the models of torchvision and timm.

python -m benchmarks.catalogue [--minutes 60] [--results results-imagenet.csv]

Licences, inputs and classes are those of the installed libraries' own configurations. Parameters,
multiply-adds, activations and the bytes of all tensors in float32 are measured on the meta
device, the models that timm names small first; what is in the file already for the same versions
is not measured again, so that a run can be interrupted. torchvision publishes its accuracies with
its weights. timm's package has none: they are in `results/results-imagenet.csv` of its repository,
a copy of which --results names; kept from the file where it is not given. A timm row whose address
is torchvision's own file has torchvision's accuracy. What is not known stays empty.
"""

from __future__ import annotations

import argparse
import csv
import gc
import json
import re
import resource
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

import torch
from torch import nn

from zoo.catalog import libraries
from zoo.catalog.shelves import WORTH_TRYING
from zoo.catalog.spec import ModelSpec, Weights, area, as_flag
from zoo.disk import replacing
from zoo.models import library
from zoo.models.meter import measure

MOST_SECONDS = 180  # of one model
MOST_BYTES = 8 << 30  # a constructor that cannot do without data allocates all of it
LATE = ("test_", "atto", "femto", "pico", "nano", "tiny", "small", "", "large", "huge", "giant",
        "7b")  # fmt: skip
SAVED_EACH = 50
Counts = tuple[int, int, int, int]  # parameters, multiply-adds, bytes of activations, of tensors
NOTHING: Counts = (0, 0, 0, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--results", type=Path, help="timm's results-imagenet.csv")
    parser.add_argument("--revision", default="", help="of that file, for the head of ours")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    rows = [*library.rows("torchvision"), *_default_first(library.rows("timm"))]
    made = {"timm": version("timm"), "torchvision": version("torchvision")}
    old, before = libraries.read(), libraries.made_from()
    if options.results:
        made["accuracies"] = options.revision
        accuracies = _published(options.results)
    else:
        made["accuracies"] = before.get("accuracies", "")
        accuracies = {
            row.name.lower(): (weights.acc1, weights.acc5)
            for row in old
            for weights in row.weights
            if row.name.startswith("timm/")
        }
    rows = [_with_accuracy(row, accuracies) for row in _of_torchvision(rows)]
    same = all(before.get(name) == made[name] for name in ("timm", "torchvision"))
    known = {_unit(row): _counts(row) for row in old} if same else {}
    _measure_all(rows, known, made, time.monotonic() + 60 * options.minutes)


def _default_first(rows: Iterable[ModelSpec]) -> Iterator[ModelSpec]:
    """Yield timm's rows; of each architecture the one that its bare name stands for is first."""
    for name, each in groupby(rows, key=lambda row: row.name.partition(".")[0]):
        default = library.from_timm.tags(name.removeprefix("timm/"))[:1]
        yield from sorted(each, key=lambda row: [one.tag for one in row.weights[:1]] != default)


def _measure_all(
    rows: list[ModelSpec], known: dict[str, Counts], made: dict[str, str], until: float
) -> None:
    """Measure what is lacking and write the table: first what building a model tells, then all."""
    worth = sorted(rows, key=lambda row: row.name in WORTH_TRYING)  # those decide who is first
    units = sorted({_unit(row): row for row in worth}.items(), key=_cheap_first)
    for measure_one, lacks in ((counted, 0), (measured, 2)):
        left = [one for one in units if not known.get(one[0], NOTHING)[lacks]]
        print(f"{len(left)} to be {measure_one.__name__}", flush=True)
        for count, (unit, row) in enumerate(left, start=1):
            if time.monotonic() > until:
                break
            try:
                with _seconds(MOST_SECONDS):
                    known[unit] = measure_one(row)
            except Exception as error:  # the models' own have no common type
                print(f"{row.name}: {type(error).__name__}: {str(error)[:120]}", flush=True)
            gc.collect()
            if count % SAVED_EACH == 0:
                print(count, row.name, flush=True)
                _write(rows, known, made)
    _write(rows, known, made)


def counted(row: ModelSpec) -> Counts:
    """Return the parameters and the bytes of a model that is built and not run."""
    model = library.skeleton(row, row.num_classes)
    tensors = sum(each.numel() * each.element_size() for each in model.state_dict().values())
    return sum(each.numel() for each in model.parameters()), 0, 0, tensors


def measured(row: ModelSpec) -> Counts:
    """Return what a model counts, as the library builds it for its own classes."""
    with torch.no_grad():
        model = library.skeleton(row, row.num_classes)
        (info,) = measure(nn.Sequential(model), row.preprocess)
    tensors = sum(each.numel() * each.element_size() for each in model.state_dict().values())
    return info.params, info.macs, info.activations, tensors


def _write(rows: list[ModelSpec], known: dict[str, Counts], made: dict[str, str]) -> None:
    write_table([_filled(row, known.get(_unit(row))) for row in rows], made)


def _filled(row: ModelSpec, counts: Counts | None) -> ModelSpec:
    params, macs, activations, tensors = counts or NOTHING
    weights = tuple(
        replace(one, mebibytes=one.mebibytes or round(tensors / 2**20, 3) or None)
        for one in row.weights
    )
    if not counts:  # torchvision states some itself
        return replace(row, weights=weights)
    return replace(
        row, params=params, macs=macs or row.macs, activations=activations, weights=weights
    )


def _counts(row: ModelSpec) -> Counts:
    size = row.default_weights.size if row.default_weights else 0
    return row.params, row.macs, row.activations, size or 0


def _unit(row: ModelSpec) -> str:
    """Return what tells rows with other counts apart: the network, its classes and its input."""
    return f"{row.name.partition('.')[0]} {row.num_classes} {as_flag(row.preprocess.size)}"


def _cheap_first(unit: tuple[str, ModelSpec]) -> tuple[bool, int, int, str]:
    """Return what small networks come first by; before them what a plain list shows."""
    row = unit[1]
    found = [place for place, word in enumerate(LATE) if word and word in row.name]
    late = max(found, default=LATE.index(""))
    return row.name not in WORTH_TRYING, late, area(row.preprocess.size), row.name


@contextmanager
def _seconds(most: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"more than {most} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(most)
    try:
        yield
    finally:
        signal.alarm(0)


# The table


def write_table(rows: Iterable[ModelSpec], made: Mapping[str, str]) -> None:
    """Write the table anew."""
    kinds: list[str] = []
    lines = ["\t".join(line) for row in rows for line in _lines(row, kinds)]
    head = json.dumps({"made": dict(made), "preprocess": [json.loads(kind) for kind in kinds]})
    with replacing(libraries.TABLE) as temporary:
        temporary.write_text(
            "\n".join([head, "\t".join(libraries.COLUMNS), *lines]) + "\n", "utf-8"
        )


def _lines(row: ModelSpec, kinds: list[str]) -> Iterator[list[str]]:
    for one in row.weights or (None,):
        how = one.preprocess if one else row.preprocess
        kind = json.dumps({key: how.to_dict()[key] for key in libraries.KEPT})
        if kind not in kinds:
            kinds.append(kind)
        begin = [row.name, row.family, row.paper, row.year, row.num_classes, as_flag(how.size),
                 kinds.index(kind), row.params, row.macs, row.activations]  # fmt: skip
        end: list[object] = [""] * 8
        if one:
            url, source = one.url, one.source
            if row.name.startswith("timm/"):
                url, source = (
                    url.removeprefix(libraries.HUB).removesuffix("/resolve/main/model.safetensors"),
                    "",
                )
                url = "" if url == row.name else url
            end = [
                one.tag,
                url,
                source,
                one.classes,
                one.licence,
                one.acc1,
                one.acc5,
                one.mebibytes,
            ]
        yield [_said(value) for value in begin] + [_said(value) for value in end]


def _said(value: object) -> str:
    return "" if value in (None, 0) and value is not False else str(value)


# Accuracies


def _published(file: Path) -> dict[str, tuple[float | None, float | None]]:
    """Return accuracies by the name in small letters: the table has SelecSls60, timm selecsls60."""
    with file.open(newline="", encoding="utf-8") as text:
        rows = list(csv.DictReader(text))
    return {
        f"timm/{row['model']}".lower(): (
            float(row["top1"]),
            float(row["top5"]) if row["top5"] else None,
        )
        for row in rows
    }


def _of_torchvision(rows: Iterable[ModelSpec]) -> Iterator[ModelSpec]:
    """Yield the rows; those of timm that name a file of torchvision get its accuracy."""
    files: dict[str, Weights] = {}
    for row in rows:
        if row.name.startswith("torchvision/"):
            files |= {one.file: one for one in row.weights}
        else:
            import timm

            found = timm.get_pretrained_cfg(row.name.partition("/")[2])
            name = re.sub(r".*/", "", found.url or "") if found else ""
            if name in files and row.weights:
                theirs = files[name]
                both = replace(row.weights[0], acc1=theirs.acc1, acc5=theirs.acc5)
                row = replace(row, weights=(both,))
        yield row


def _with_accuracy(
    row: ModelSpec, accuracies: dict[str, tuple[float | None, float | None]]
) -> ModelSpec:
    acc1, acc5 = accuracies.get(row.name.lower(), (None, None))
    if acc1 is None or not row.weights:
        return row
    return replace(row, weights=(replace(row.weights[0], acc1=acc1, acc5=acc5),))


if __name__ == "__main__":
    main()
