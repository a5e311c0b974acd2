"""A run to an ONNX file of fixed shapes: pictures of one size, so many a call.

What depends on a picture's size alone, the weights of the resize among it, is computed here and
stored: no float64, no shapes that are computed are left for runtimes that know none.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.data.preprocess import full_size
from zoo.disk import writing
from zoo.export.convert import convert
from zoo.export.formats import find
from zoo.export.records import Exported, Order, Shape
from zoo.run import Run

if TYPE_CHECKING:
    import onnx


def export_run(run: Run, order: Order) -> Exported:
    """Write the file and return it, measured. See `convert`."""
    shape = order.shape
    assert shape is not None

    def written(base: Path, path: Path) -> None:
        import onnx

        model = onnx.load(base)
        _fix(model, shape)
        onnx.checker.check_model(model)
        with writing(path):
            onnx.save(model, path)

    return convert(run, order, find("onnx", "size"), written)


def _fix(model: onnx.ModelProto, shape: Shape) -> None:
    """Have a model take pictures of this shape only, and compute what depends on it alone."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    wanted = [shape.batch, shape.height, shape.width]
    for dim, value in zip(dims, wanted[: 3 if dims[3].dim_value == 3 else 1], strict=False):
        if value is not None:
            dim.dim_value = value
    if shape.batch is not None:
        for output in model.graph.output:
            output.type.tensor_type.shape.dim[0].dim_value = shape.batch
    if shape.height is not None:
        _compute(model)


def _compute(model: onnx.ModelProto) -> None:
    """Replace by constants what the size of the input alone decides."""
    import onnx

    graph, known = model.graph, {one.name for one in model.graph.initializer}
    kept, left = [], []  # nodes
    for node in graph.node:  # in the order in which they are computed
        sizes = node.op_type == "Shape" and node.input[0] == graph.input[0].name and _sides(node)
        if sizes or all(name in known for name in node.input if name):
            known.update(node.output)
            left.append(node)
        else:
            kept.append(node)
    needed = {name for node in kept for name in node.input}
    needed |= {one.name for one in graph.output}
    wanted = [name for node in left for name in node.output if name in needed]
    values = _values(model, left, wanted)
    del graph.node[:]
    graph.node.extend(kept)
    used = [one for one in graph.initializer if one.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(used)
    arrays = zip(wanted, values, strict=True)
    graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in arrays)


def _sides(node: onnx.NodeProto) -> bool:
    """Return whether a Shape asks for height and width alone."""
    start = next((one.i for one in node.attribute if one.name == "start"), 0)
    return start > 0


def _values(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], wanted: list[str]
) -> list[np.ndarray]:
    """Return what these nodes give for a picture of the size that the model takes."""
    import onnx

    from zoo.engine.graph import session

    if not wanted:
        return []
    part, taken = onnx.ModelProto(), {name for node in nodes for name in node.input}
    part.CopyFrom(model)
    del part.graph.node[:], part.graph.output[:], part.graph.initializer[:]
    part.graph.node.extend(nodes)
    part.graph.initializer.extend(one for one in model.graph.initializer if one.name in taken)
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    sides = [dim.dim_value or 1 for dim in model.graph.input[0].type.tensor_type.shape.dim]
    opened = session(part.SerializeToString(), 1)
    return list(opened.run(wanted, {part.graph.input[0].name: np.zeros(sides, np.uint8)}))


def own_size(run: Run) -> Shape:
    """Return the smallest picture of which a run sees the middle, one a call."""
    from zoo.export.basis import About

    return Shape(1, *full_size(About.of_run(run).preprocess))
