"""What is known of the models of torchvision and timm without importing either: libraries.tsv.

The table is made by `python -m benchmarks.catalogue` from one version of each; its first line says
which. What is not known is empty there: 0 or None here. The installed versions may have more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from functools import cache
from itertools import groupby
from pathlib import Path

from zoo.catalog.spec import ModelSpec, Preprocess, Weights

TABLE = Path(__file__).with_name("libraries.tsv")
HUB = "https://huggingface.co/"
COLUMNS = (
    "model", "family", "paper", "year", "classes", "size", "preprocess", "params", "macs",
    "activations", "tag", "url", "source", "list", "licence", "acc1", "acc5", "mebibytes",
)  # fmt: skip
PARAMS = COLUMNS.index("params")
KEPT = ("crop", "fit", "interpolation", "mean", "std", "channels")  # of a Preprocess, but its size


def read(names: Collection[str] | None = None, most: int | None = None) -> tuple[ModelSpec, ...]:
    """Return the rows in the table's order, or those of these names.

    most: parameters of a row; the others are passed over, which takes a tenth of the time.
    """
    _, _, lines = _table()
    if names is not None:
        lines = [line for line in lines if line.partition("\t")[0] in names]
    found: Iterable[list[str]] = (line.split("\t") for line in lines)
    if most is not None:
        found = (line for line in found if 0 < int(line[PARAMS] or 0) <= most)
    groups = groupby(found, key=lambda line: line[0])
    return tuple(_row(list(each)) for _, each in groups)


def find(name: str, tag: str | None = None) -> ModelSpec | None:
    """Return the row of torchvision/NAME, timm/ARCH.TAG or timm/ARCH, which is that of its default.

    tag: of timm's weights, instead. None for what the table does not have, and where the installed
    library is of another version: it may have other weights under this name.
    """
    from importlib.metadata import PackageNotFoundError, version  # not for `zoo list`

    library = name.partition("/")[0]
    try:
        if version(library) != made_from().get(library):
            return None
    except PackageNotFoundError:
        pass
    arch = name.partition(".")[0]
    wanted = f"{arch}.{tag.lower()}" if library == "timm" and tag is not None else name
    found = next((one for one in names() if wanted in (one, one.partition(".")[0])), None)
    return replace(read([found])[0], name=name) if found else None


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
        file, source = f"timm--{name[5:]}.safetensors", f"{HUB}{hub}"
        url = f"{source}/resolve/main/model.safetensors"
    sha256 = re.search(r"-([0-9a-f]{8,})\.pth$", file) if file.endswith(".pth") else None
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
    return Preprocess.from_dict({"size": size, **_table()[1][int(kind or 0)]})
