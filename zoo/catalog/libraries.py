"""What is known of the models of torchvision and timm without importing either: libraries.tsv.

The table is made by `python -m benchmarks.catalogue` from one version of each; its first line says
which. What is not known is empty there: 0 or None here. The installed versions may have more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from itertools import groupby
from pathlib import Path

from zoo.catalog.spec import ModelSpec, Preprocess, Weights

TABLE = Path(__file__).with_name("libraries.tsv")
_HUB = "https://huggingface.co/"
_COLUMNS = (
    "model", "family", "paper", "year", "classes", "size", "preprocess", "params", "macs",
    "activations", "tag", "url", "source", "list", "licence", "acc1", "acc5", "mebibytes",
)  # fmt: skip
_KEPT = ("crop", "fit", "interpolation", "mean", "std", "channels")  # of a Preprocess, but its size


def read(names: Collection[str] | None = None) -> tuple[ModelSpec, ...]:
    """Return the rows in the table's order, or those of these names."""
    _, _, lines = _table()
    found = [line.split("\t") for line in lines]
    groups = groupby(found, key=lambda line: line[0])
    return tuple(_row(list(each)) for name, each in groups if names is None or name in names)


def made_from() -> Mapping[str, str]:
    """Return the versions of the libraries that the table was made from."""
    return _table()[0]


def names() -> list[str]:
    """Return every model of the table once, as `torchvision/NAME` or `timm/ARCH.TAG`."""
    return list(dict.fromkeys(line.partition("\t")[0] for line in _table()[2]))


@cache
def _table() -> tuple[dict[str, str], list[dict[str, object]], list[str]]:
    """Return versions, kinds of preprocessing and the lines of the rows."""
    try:
        first, _, *lines = TABLE.read_text("utf-8").splitlines()
    except (FileNotFoundError, ValueError):
        return {}, [], []
    head = json.loads(first)
    return head["made"], head["preprocess"], lines


def _row(lines: list[list[str]]) -> ModelSpec:
    """Return the row of a model, which has a line for each set of weights, or one without."""
    name, family, paper, year, classes, size, kind, params, macs, activations, *_ = lines[0]
    return ModelSpec(
        name=name,
        family=family,
        builder="library",
        paper=paper,
        year=int(year or 0),
        params=int(params or 0),
        macs=int(macs or 0),
        stages=(),
        cut="",
        head="",
        num_classes=int(classes or 0),
        preprocess=_preprocess(size, kind),
        weights=tuple(_weights(line) for line in lines if line[10] or line[11]),
        activations=int(activations or 0),
    )


def _weights(line: list[str]) -> Weights:
    name, size, kind = line[0], line[5], line[6]
    tag, url, source, listed, licence, acc1, acc5, mebibytes = line[10:]
    file = url.rpartition("/")[2]
    if name.startswith("timm/"):
        hub = url or name
        file, source = f"timm--{name[5:]}.safetensors", f"{_HUB}{hub}"
        url = f"{source}/resolve/main/model.safetensors"
    sha256 = re.search(r"-([0-9a-f]{8,})\.pth$", file)
    return Weights(
        tag=tag,
        url=url,
        file=file,
        sha256=sha256[1] if sha256 else "",
        classes=listed,
        acc1=float(acc1) if acc1 else None,
        acc5=float(acc5) if acc5 else None,
        licence=licence,
        source=source,
        preprocess=_preprocess(size, kind),
        mebibytes=float(mebibytes) if mebibytes else None,
    )


@cache
def _preprocess(size: str, kind: str) -> Preprocess:
    return Preprocess.from_dict({"size": int(size), **_table()[1][int(kind or 0)]})


def write(rows: Iterable[ModelSpec], made: Mapping[str, str]) -> None:
    """Write the table anew."""
    from zoo.disk import replacing

    kinds: list[str] = []
    lines = ["\t".join(line) for row in rows for line in _lines(row, kinds)]
    head = json.dumps({"made": dict(made), "preprocess": [json.loads(kind) for kind in kinds]})
    with replacing(TABLE) as temporary:
        temporary.write_text("\n".join([head, "\t".join(_COLUMNS), *lines]) + "\n", "utf-8")
    _table.cache_clear()
    _preprocess.cache_clear()


def _lines(row: ModelSpec, kinds: list[str]) -> Iterator[list[str]]:
    for one in row.weights or (None,):
        how = one.preprocess if one else row.preprocess
        kind = json.dumps({key: how.to_dict()[key] for key in _KEPT})
        if kind not in kinds:
            kinds.append(kind)
        begin = [row.name, row.family, row.paper, row.year, row.num_classes, how.size,
                 kinds.index(kind), row.params, row.macs, row.activations]  # fmt: skip
        end: list[object] = [""] * 8
        if one:
            url, source = one.url, one.source
            if row.name.startswith("timm/"):
                url, source = (
                    url.removeprefix(_HUB).removesuffix("/resolve/main/model.safetensors"),
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
