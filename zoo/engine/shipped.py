"""The graph that an engine runs, from a template that is shipped: without torch, or tracing.

Of the catalogue's networks as their rows have them, whole or up to where a fine-tune of a linear
head cuts them. Which way a graph is made depends on that alone, never on what is at hand: with
torch or without, the same bytes come out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from zoo import catalog
from zoo.catalog import Preprocess, structures
from zoo.data.preprocess import normalise
from zoo.engine import Array, graph, graph_template
from zoo.engine.compiled import TORCH, Converted, Made, made_of
from zoo.engine.graph_template import chunks_of, missing
from zoo.errors import ConversionError, first_line

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class Shipped:
    """A template, the tensor at which it ends (its own end where there is none), and its weights.

    names: of the part's tensors, in the order of its state dict.
    """

    template: bytes
    output: str
    names: tuple[str, ...]

    def graph(self, state: Mapping[str, Array]) -> bytes:
        """Return the network with these numbers. Raises WeightsError."""
        return ready(self.template, state, self.output)

    def converted(self, state: Mapping[str, Array], preprocess: Preprocess) -> Converted:
        """Return what is kept of it, to be compared with the template as it is in ONNX Runtime.

        That the template is the network was proved when it was made, and tests prove it again.
        Raises WeightsError.
        """
        import onnx

        def given(pictures: Array) -> Array:
            model = onnx.load_from_string(self.template)
            if self.output:
                _end_at(model, self.output)
            hollow, values = graph_template.outside(model, state)
            inputs = np.stack([normalise(pixels, preprocess) for pixels in pictures])
            try:
                opened = graph.session(hollow, 1, values, once=True)
                found: Array = opened.run(None, {"tensor": inputs})[0]
                return found
            except Exception as error:  # the runtime's have no common type
                raise ConversionError(f"the stored graph: {first_line(error)}", TORCH) from error

        own = {name: np.asarray(state[name], order="C") for name in self.names}
        return Converted(own, partial(self.graph, state), given)


def shipped(made: Made, boundary: str | None, preprocess: Preprocess) -> Shipped | None:
    """Return what there is for a chain; None where its graph is to be traced.

    made, boundary: as `compiled.key_of` has them.
    """
    told = made["told"]
    row = catalog.ROWS.get(str(told[0])) if isinstance(told, list | tuple) else None
    if row is None or made["head"] not in ("", "linear"):
        return None
    if preprocess.shape != row.preprocess.shape:
        return None
    known, template = structures.find(row.name), None
    if known is not None and known.plan and _same(made, made_of(row, None, str(made["head"]))):
        template = graph_template.find(graph_template.shipped_key(row))
    if known is None or template is None:
        return None
    if boundary is None:
        return Shipped(template, "", tuple(known.tensors))
    if boundary != known.plan["cut"]["boundary"]:
        return None
    return Shipped(template, known.output, tuple(known.tensors)[: known.frozen])


def _same(one: Made, other: Made) -> bool:
    """Return whether two are equal, as JSON has them: tuples are lists there."""
    return json.dumps(dict(one), sort_keys=True) == json.dumps(dict(other), sort_keys=True)


def ready(template: bytes, state: Mapping[str, Array], output: str = "") -> bytes:
    """Return the network, up to a tensor of the template, with BatchNorms in the convolutions.

    As torch's exporter does it in eval mode; but its square root is not rounded as IEEE 754 has
    it, which NumPy's is, so that the bits depend on no machine. Raises WeightsError.
    """
    import onnx

    model = onnx.load_from_string(template)
    if output:
        _end_at(model, output)
    weights = {tensor.name: array for tensor, array in missing(model, state)}
    made = _folded(model, weights)
    own = [tensor for tensor in model.graph.initializer if tensor.HasField("raw_data")]
    del model.graph.initializer[:]
    model.graph.initializer.extend(own)
    for name in dict.fromkeys(name for node in model.graph.node for name in node.input):
        if name in made:
            kind = onnx.TensorProto.FLOAT
            model.graph.initializer.add(name=name, dims=made[name].shape, data_type=kind)
    return b"".join(chunks_of(model, made))


def _end_at(model: onnx.ModelProto, output: str) -> None:
    """Leave what a tensor is computed from, which is the model's answer then."""
    import onnx

    needed, nodes = {output}, []
    for node in reversed(model.graph.node):
        if needed & {*node.output}:
            nodes.append(node)
            needed.update(node.input)
    kept = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    for field, values in (("node", nodes[::-1]), ("initializer", kept)):
        model.graph.ClearField(field)
        getattr(model.graph, field).extend(values)
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(output))


def _folded(model: onnx.ModelProto, weights: dict[str, Array]) -> dict[str, Array]:
    """Take each BatchNorm behind a convolution into it; return the weights with new ones.

    In the order of torch's exporter.
    """
    uses = Counter(name for node in model.graph.node for name in node.input)
    convs = {node.output[0]: node for node in model.graph.node if node.op_type == "Conv"}
    nodes = []
    for node in model.graph.node:
        conv = convs.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if conv is None or uses[node.input[0]] > 1:
            nodes.append(node)
            continue
        scale, shift, mean, variance = (weights[name] for name in node.input[1:5])
        epsilon = next((one.f for one in node.attribute if one.name == "epsilon"), 1e-5)
        scale = scale / np.sqrt(variance + np.float32(epsilon))
        name, weight = conv.output[0], weights[conv.input[1]]
        bias = weights[conv.input[2]] - mean if len(conv.input) > 2 else -mean
        made = {
            f"{name}/weight": weight * scale.reshape(-1, *[1] * (weight.ndim - 1)),
            f"{name}/bias": bias * scale + shift,
        }
        weights |= made
        conv.input[:] = [conv.input[0], *made]
        conv.output[0] = node.output[0]
    model.graph.ClearField("node")
    model.graph.node.extend(nodes)
    return weights
