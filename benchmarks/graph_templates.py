"""The graphs without weights that are shipped, and what else is known of the catalogue's networks.

python -m benchmarks.graph_templates [NAME ...] makes them anew.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, astuple
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch

from zoo import catalog, device, models, recipe
from zoo.catalog import ModelSpec, structures
from zoo.engine import graph, graph_template
from zoo.errors import ZooError
from zoo.finetune import examine
from zoo.models.cut import cut
from zoo.weights.tensors import types

if TYPE_CHECKING:
    from torch import nn

LARGEST = 100_000  # bytes of one that is shipped
SAID = ("head", "per_class", "why", "better")  # of NetworkFacts


def shipped_key(row: ModelSpec) -> str:
    """Of the network as it is, or with a linear head for other classes: the same graph."""
    return graph_template.shipped_key(row)


def made(row: ModelSpec) -> bytes:
    chain, preprocess = models.build(row), row.preprocess
    return graph_template.make(chain, preprocess.shape, ("logits",))


def structure(row: ModelSpec, template: bytes | None) -> dict[str, Any]:
    """What structures.json says of a row. template: its graph, where one is shipped."""
    device.seed_all("weights", 0)
    chain = models.build(row).eval()
    codes = {dtype: code for code, dtype in types().items()}
    state = chain.state_dict()
    tensors = {name: [codes[value.dtype], *value.shape] for name, value in state.items()}
    stages = [list(astuple(stage)) for stage in models.describe(chain, row)]
    found: dict[str, Any] = {"stages": stages, "tensors": tensors, "plan": {}, "output": ""}
    return found | {"frozen": 0} | (planned(row, chain, template) if template else {})


def planned(row: ModelSpec, chain: nn.Sequential, template: bytes) -> dict[str, Any]:
    """What a fine-tune of a linear head asks of a network, and where its graph is cut for it."""
    asked = recipe.make({"model": row.name, "data": "photos", "weights": "none"})
    facts, _ = examine.examine(asked, 2, None)
    (one,) = facts.cuts
    assert one.name is not None
    frozen = cut(chain, one.name).frozen.eval()
    names = list(frozen.state_dict())
    assert list(chain.state_dict())[: len(names)] == names, "the frozen part comes first"
    output = leaving(template, chain, frozen, row.preprocess.shape)
    if not output:
        return {}
    kept = {key: value for key, value in asdict(one).items() if key != "tensors"}
    plan = {name: getattr(facts, name) for name in SAID} | {"cut": kept}
    return {"plan": plan, "output": output, "frozen": len(names)}


def leaving(
    template: bytes, chain: nn.Sequential, frozen: nn.Sequential, shape: graph.Shape
) -> str:
    """The tensor of a template that is what leaves the frozen part: by its numbers."""
    state = {name: value.numpy() for name, value in chain.state_dict().items()}
    model, inputs = graph_template.filled(template, state), graph.noise(shape)
    names = [name for node in model.graph.node for name in node.output if "/Constant" not in name]
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    values = zip(names, graph.run(model.SerializeToString(), inputs), strict=True)
    with torch.inference_mode():
        wanted = frozen(torch.from_numpy(inputs)).numpy()
    size = max(1e-12, float(np.abs(wanted).max()))
    for name, value in values:
        if value.shape == wanted.shape and np.abs(value - wanted).max() < 1e-5 * size:
            return name
    return ""


def main() -> None:
    graph_template.SHIPPED.mkdir(exist_ok=True)
    known = json.loads(structures.FILE.read_text()) if structures.FILE.exists() else {}
    for name in sys.argv[1:] or catalog.ROWS:
        row, template = catalog.find(name), None
        if row.task == "classify":
            content = made(row)
            template = content if len(content) <= LARGEST else None
            if template:
                (graph_template.SHIPPED / f"{shipped_key(row)}.onnx").write_bytes(template)
            print(f"{name}: {len(content)} bytes" + " (not shipped)" * (template is None))
        try:
            known[name] = structure(row, template)
        except ZooError as error:
            print(f"{name}: {error}")
    rows = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(known[name], separators=(',', ':'))}"
        for name in catalog.ROWS
        if name in known
    )
    structures.FILE.write_text("{\n" + rows + "\n}\n")


if __name__ == "__main__":
    main()
