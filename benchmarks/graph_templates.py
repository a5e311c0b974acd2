"""The graphs without weights that are shipped, made anew from the catalogue's networks.

python -m benchmarks.graph_templates [NAME ...]
"""

from __future__ import annotations

import sys

from zoo import catalog, models
from zoo.catalog import ModelSpec
from zoo.engine import graph_template

LARGEST = 100_000  # bytes of one that is shipped


def shipped_key(row: ModelSpec) -> str:
    """Of the network as it is, or with a linear head for other classes: the same graph."""
    return graph_template.key_of(row, {}, "linear", row.preprocess, ("logits",))


def made(row: ModelSpec) -> bytes:
    chain, preprocess = models.build(row), row.preprocess
    return graph_template.make(chain, preprocess.shape, ("logits",))


def main() -> None:
    graph_template.SHIPPED.mkdir(exist_ok=True)
    for name in sys.argv[1:] or catalog.ROWS:
        row = catalog.find(name)
        if row.task != "classify":
            continue
        content = made(row)
        if len(content) <= LARGEST:
            (graph_template.SHIPPED / f"{shipped_key(row)}.onnx").write_bytes(content)
        print(f"{name}: {len(content)} bytes" + " (not shipped)" * (len(content) > LARGEST))


if __name__ == "__main__":
    main()
