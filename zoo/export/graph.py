"""The Preprocess as an ONNX graph: raw uint8 pictures of any size to the network's input.

ONNX has a Resize, but none of a box between pixels that looks beyond its border, as Pillow's does;
without, photos differ by up to 129 of 255 at edges. So the two passes are two matrix products
with the weights that Pillow computes, in its precision (22 bits) and with its rounding after
each. On noise a byte in fifty differs, by 1 (tests/test_export.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.catalog import Preprocess
from zoo.data.preprocess import REACH, fill, full_size
from zoo.engine.graph import IR_VERSION, OPSET
from zoo.errors import UsageError

if TYPE_CHECKING:
    import onnx
    from numpy.typing import ArrayLike, DTypeLike

FILTERS = ("bilinear", "bicubic")
LUMA = (19595, 38470, 7471)  # ITU-R 601 in 16-bit fixed point, as Pillow has it
PRECISION = 2.0**22  # of Pillow's weights for 8-bit pictures
PREFIX = "pre/"


class Builder:
    """Nodes and constants under construction; each method adds one and returns what it gives."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: ArrayLike, kind: DTypeLike) -> Value:
        import onnx

        name = f"{PREFIX}c{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.array(value, kind), name))
        return Value(self, name)

    def add(self, operator: str, *inputs: Value | float, **attributes: Any) -> Value:
        """Add one node; a plain number among the inputs is a constant in double precision."""
        import onnx

        given = [x if isinstance(x, Value) else self.constant([x], np.float64) for x in inputs]
        name = f"{PREFIX}{len(self.nodes)}_{operator.lower()}"
        names = [value.name for value in given]
        self.nodes.append(onnx.helper.make_node(operator, names, [name], **attributes))
        return Value(self, name)

    def integers(self, *values: int) -> Value:
        return self.constant(values, np.int64)


@dataclass(frozen=True, slots=True)
class Value:
    """What a node gives, by its name; arithmetic with it adds nodes."""

    build: Builder
    name: str

    def __add__(self, other: Value | float) -> Value:
        return self.build.add("Add", self, other)

    def __sub__(self, other: Value | float) -> Value:
        return self.build.add("Sub", self, other)

    def __mul__(self, other: Value | float) -> Value:
        return self.build.add("Mul", self, other)

    def __truediv__(self, other: Value | float) -> Value:
        return self.build.add("Div", self, other)

    def to(self, kind: str) -> Value:
        import onnx

        return self.build.add("Cast", self, to=getattr(onnx.TensorProto, kind))


@dataclass(frozen=True, slots=True)
class Side:
    """One side of the picture, one element each: length and output int64, the box double."""

    length: Value
    start: Value
    end: Value
    out: Value


def preprocess_model(preprocess: Preprocess) -> onnx.ModelProto:
    """Return the graph from `image` uint8 N H W 3 to `normalised` float32, N and the shape.

    Raises UsageError for a filter that no published weights use.
    """
    import onnx

    if preprocess.interpolation not in FILTERS:
        raise UsageError(
            f"the graph has no {preprocess.interpolation} resize (it has {', '.join(FILTERS)})",
            "export the bare network: --input tensor",
        )
    build = Builder()
    _normalised(build, _resized(build, preprocess), preprocess)
    helper, kinds = onnx.helper, onnx.TensorProto
    shape: list[str | int | None] = ["N", *preprocess.shape]
    graph = helper.make_graph(
        build.nodes,
        "preprocess",
        [helper.make_tensor_value_info("image", kinds.UINT8, ["N", "H", "W", 3])],
        [helper.make_tensor_value_info("normalised", kinds.FLOAT, shape)],
        build.constants,
    )
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def _resized(build: Builder, preprocess: Preprocess) -> Value:
    """Return the input in 0 … 255, float32 N C H W; across and then down, as Pillow."""
    picture = Value(build, "image")
    lengths = [build.add("Shape", picture, start=axis, end=axis + 1) for axis in (1, 2)]
    down, across = (_side(build, number, lengths, preprocess) for number in (0, 1))
    windows = [_window(build, side, preprocess.interpolation) for side in (down, across)]
    for axis, (first, last) in enumerate(windows, start=1):  # before anything gets larger
        picture = build.add("Slice", picture, first, last, build.integers(axis))
    if preprocess.channels == 1:
        picture = _grey(build, picture)
    picture = build.add("Transpose", picture, perm=[0, 3, 1, 2]).to("FLOAT")
    weights = [
        _shares(build, side, window, preprocess.interpolation, relative=side is down)
        for side, window in zip((down, across), windows, strict=True)
    ]
    picture = _whole(build, build.add("MatMul", picture, weights[1]))
    turned = build.add("Transpose", weights[0], perm=[1, 0])
    picture = _whole(build, build.add("MatMul", turned, picture))
    return _padded(build, picture, (down, across), preprocess)


def _grey(build: Builder, picture: Value) -> Value:
    """Return N H W 1 of N H W 3, rounded as Pillow's convert("L").

    All numbers are whole and below 2^24, which is exact in float32; of int32 OpenVINO makes others.
    """
    weighted = picture.to("FLOAT") * build.constant(LUMA, np.float32)
    total = build.add("ReduceSum", weighted, build.integers(-1), keepdims=1)
    rounded = total + build.constant(0x8000, np.float32)
    return build.add("Floor", rounded * build.constant(2.0**-16, np.float32))


def _side(build: Builder, number: int, lengths: list[Value], preprocess: Preprocess) -> Side:
    """Return a side of `image`, 0 down or 1 across, with the box and the output size.

    The arithmetic is that of data.preprocess.
    """
    seen, length = preprocess.shape[1 + number], lengths[number]
    if preprocess.fit == "pad":
        out, pixels = _fitted(build, length, lengths, preprocess), length.to("DOUBLE")
        return Side(length, build.constant([0], np.float64), pixels, out)
    size, pixels = build.integers(seen), length.to("DOUBLE")
    if preprocess.fit == "squash":
        return Side(length, build.constant([0], np.float64), pixels, size)
    full = zip(full_size(preprocess), lengths, strict=True)
    resized = build.add("Max", *(length * build.integers(most) / side for most, side in full))
    scaled = resized.to("DOUBLE")
    first = build.add("Round", (scaled - float(seen)) * 0.5)  # half to even, as Python
    last = first + float(seen)
    return Side(length, first * pixels / scaled, last * pixels / scaled, size)


def _fitted(build: Builder, length: Value, lengths: list[Value], preprocess: Preprocess) -> Value:
    """Return `padded_size` of one side."""
    limits = zip(preprocess.shape[1:], lengths, strict=True)
    fitting = [
        (length * build.integers(2 * most) + side) / (side * build.integers(2))
        for most, side in limits
    ]
    return build.add("Max", build.add("Min", *fitting), build.integers(1))


def _whole(build: Builder, picture: Value) -> Value:
    """Return the picture rounded to 0 … 255, as Pillow does after each of its two passes."""
    rounded = build.add("Floor", picture + build.constant(0.5, np.float32))
    limits = build.constant(0, np.float32), build.constant(255, np.float32)
    return build.add("Clip", rounded, *limits)


def _window(build: Builder, side: Side, interpolation: str) -> tuple[Value, Value]:
    """Return first and last + 1 of the pixels that take part: the box and what is seen beside it.

    The same as in data.preprocess.across_then_down.
    """
    scale = (side.end - side.start) / side.out.to("DOUBLE")
    reach = build.add("Max", scale, 1.0) * float(REACH[interpolation])
    margin = build.add("Ceil", reach) + 1.0
    before = (build.add("Floor", side.start) - margin).to("INT64")
    behind = (build.add("Ceil", side.end) + margin).to("INT64")
    first = build.add("Max", before, build.integers(0))
    return first, build.add("Min", behind, side.length)


def _shares(
    build: Builder, side: Side, window: tuple[Value, Value], interpolation: str, *, relative: bool
) -> Value:
    """Return what each pixel of the window gives to each output: in x out, columns sum to 1.

    relative: the box is counted from the window's first pixel, as Pillow's second pass has it.
    Pillow keeps boxes in single precision, so the ends go through it.
    """
    (first, last), start, end = window, side.start, side.end
    if relative:
        offset = first.to("DOUBLE")
        start, end = start - offset, end - offset
        last, first = last - first, build.integers(0)
    start, end = start.to("FLOAT"), end.to("FLOAT")
    scale = (end - start).to("DOUBLE") / side.out.to("DOUBLE")
    stretch = build.add("Max", scale, 1.0)
    step = _numbers(build, build.integers(0), side.out) + 0.5
    centres = step * scale + start.to("DOUBLE")
    places = build.add("Unsqueeze", _numbers(build, first, last) + 0.5, build.integers(1))
    distance = (places - centres) / stretch
    weights = _kernel(build, build.add("Abs", distance), interpolation)
    total = build.add("ReduceSum", weights, build.integers(0), keepdims=1)
    fixed = build.add("Round", weights / total * PRECISION)
    return (fixed / PRECISION).to("FLOAT")


def _numbers(build: Builder, first: Value, last: Value) -> Value:
    """Return first, first + 1, … last - 1 in double precision."""
    ends = [build.add("Squeeze", end, build.integers(0)) for end in (first, last)]
    return build.add("Range", *ends, build.constant(1, np.int64)).to("DOUBLE")


def _kernel(build: Builder, x: Value, interpolation: str) -> Value:
    """Return Pillow's filter of a distance >= 0: the triangle, or the cubic with a = -0.5."""
    if interpolation == "bilinear":
        return build.add("Max", build.add("Sub", 1.0, x), 0.0)
    squared = x * x
    cubed = squared * x
    near = cubed * 1.5 - squared * 2.5 + 1.0
    far = squared * 2.5 - cubed * 0.5 - x * 4.0 + 2.0
    outer = build.add("Where", build.add("Less", x, 2.0), far, 0.0)
    return build.add("Where", build.add("Less", x, 1.0), near, outer)


def _padded(
    build: Builder, picture: Value, sides: tuple[Side, Side], preprocess: Preprocess
) -> Value:
    """Return the picture in the middle of a grey one; as it is where it fills the input."""
    if preprocess.fit != "pad":
        return picture
    before, after = [], []
    for side, size in zip(sides, preprocess.shape[1:], strict=True):
        room = build.integers(size) - side.out
        before.append(room / build.integers(2))
        after.append(room - before[-1])
    pads = build.add("Concat", *before, *after, axis=0)
    colour = build.constant(fill(preprocess), np.float32)
    return build.add("Pad", picture, pads, colour, build.integers(2, 3))


def _normalised(build: Builder, picture: Value, preprocess: Preprocess) -> None:
    """Add (x / 255 - mean) / std, the operations of the torch engine in their order."""
    import onnx

    shape = (1, preprocess.channels, 1, 1)
    mean = build.constant(np.reshape(preprocess.mean, shape), np.float32)
    std = build.constant(np.reshape(preprocess.std, shape), np.float32)
    centred = picture / build.constant(255, np.float32) - mean
    build.nodes.append(onnx.helper.make_node("Div", [centred.name, std.name], ["normalised"]))


def _with_probabilities(network: onnx.ModelProto, several: bool) -> onnx.ModelProto:
    """Return the network with `probabilities` for `logits`: of all, or of each class by itself."""
    import onnx

    ends = (["logits"], ["probabilities"])
    make = onnx.helper.make_node
    node = make("Sigmoid", *ends) if several else make("Softmax", *ends, axis=-1)
    network.graph.node.append(node)
    network.graph.output[0].name = "probabilities"
    return network


def joined(
    network: onnx.ModelProto, preprocess: Preprocess, *, several: bool = False
) -> onnx.ModelProto:
    """Return one model: Preprocess, network, softmax; with several labels a picture sigmoid."""
    return behind(preprocess, _with_probabilities(network, several))


def behind(preprocess: Preprocess, network: onnx.ModelProto) -> onnx.ModelProto:
    """Return one model: Preprocess, network; which becomes it. Its weights may still be missing."""
    before = preprocess_model(preprocess)
    before.graph.node[-1].output[0] = "tensor"  # what the network takes
    after = list(network.graph.node)
    del network.graph.node[:], network.graph.input[:]
    network.graph.node.extend([*before.graph.node, *after])
    network.graph.input.extend(before.graph.input)
    network.graph.initializer.extend(before.graph.initializer)
    network.ir_version = before.ir_version
    return network


def without_preprocess(model: onnx.ModelProto, preprocess: Preprocess) -> onnx.ModelProto:
    """Return the network of a model, which becomes it: what `behind` was given."""
    import onnx

    before = [node for node in model.graph.node if node.output[0].startswith(PREFIX)]
    if not before:
        return model
    after = [node for node in model.graph.node if not node.output[0].startswith(PREFIX)]
    kept = [one for one in model.graph.initializer if not one.name.startswith(PREFIX)]
    shape: list[str | int] = ["N", *preprocess.shape]
    del model.graph.node[:], model.graph.input[:], model.graph.initializer[:]
    model.graph.node.extend(node for node in after if node.output[0] != "tensor")
    model.graph.initializer.extend(kept)
    tensor = onnx.helper.make_tensor_value_info("tensor", onnx.TensorProto.FLOAT, shape)
    model.graph.input.append(tensor)
    return model
