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

FILTERS = ("bilinear", "bicubic")
LUMA = (19595, 38470, 7471)  # ITU-R 601 in 16-bit fixed point, as Pillow has it
PRECISION = 2.0**22  # of Pillow's weights for 8-bit pictures
PREFIX = "pre/"


class Builder:
    """Nodes and constants under construction; each method adds one node and names its output."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any, kind: Any) -> str:
        import onnx

        name = f"{PREFIX}c{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.array(value, kind), name))
        return name

    def add(self, operator: str, *inputs: str | float, **attributes: Any) -> str:
        """One node; a plain number among the inputs is a constant in double precision."""
        import onnx

        names = [x if isinstance(x, str) else self.constant([x], np.float64) for x in inputs]
        name = f"{PREFIX}{len(self.nodes)}_{operator.lower()}"
        self.nodes.append(onnx.helper.make_node(operator, names, [name], **attributes))
        return name

    def cast(self, value: str, kind: str) -> str:
        import onnx

        return self.add("Cast", value, to=getattr(onnx.TensorProto, kind))

    def integers(self, *values: int) -> str:
        return self.constant(values, np.int64)


@dataclass(frozen=True, slots=True)
class Side:
    """One side of the picture, one element each: length and output int64, the box double."""

    length: str
    start: str
    end: str
    out: str


def preprocess_model(preprocess: Preprocess) -> onnx.ModelProto:
    """`image` uint8 N H W 3 -> `normalised` float32 N C S S.

    Raises UsageError for a filter that no published weights use.
    """
    import onnx

    if preprocess.interpolation not in FILTERS:
        raise UsageError(
            f"the graph has no {preprocess.interpolation} resize (it has {', '.join(FILTERS)})",
            "export the bare network: --input tensor",
        )
    build = Builder()
    picture = "image"
    down, across = sides(build, preprocess)
    windows = [window(build, side, preprocess.interpolation) for side in (down, across)]
    for axis, (first, last) in enumerate(windows, start=1):  # before anything gets larger
        picture = build.add("Slice", picture, first, last, build.integers(axis))
    if preprocess.channels == 1:
        picture = grey(build, picture)
    picture = build.cast(build.add("Transpose", picture, perm=[0, 3, 1, 2]), "FLOAT")
    weights = [
        shares(build, side, *ends, preprocess.interpolation, relative=side is down)
        for side, ends in zip((down, across), windows, strict=True)
    ]
    picture = whole(build, build.add("MatMul", picture, weights[1]))
    turned = build.add("Transpose", weights[0], perm=[1, 0])
    picture = whole(build, build.add("MatMul", turned, picture))
    if preprocess.fit == "pad":
        picture = padded(build, picture, down, across, preprocess)
    normalised(build, picture, preprocess)
    helper, kinds, size = onnx.helper, onnx.TensorProto, preprocess.size
    shape: list[str | int | None] = ["N", preprocess.channels, size, size]
    graph = helper.make_graph(
        build.nodes,
        "preprocess",
        [helper.make_tensor_value_info("image", kinds.UINT8, ["N", "H", "W", 3])],
        [helper.make_tensor_value_info("normalised", kinds.FLOAT, shape)],
        build.constants,
    )
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def grey(build: Builder, picture: str) -> str:
    """N H W 3 -> N H W 1, rounded as Pillow's convert("L")."""
    wide = build.cast(picture, "INT32")
    weighted = build.add("Mul", wide, build.constant(LUMA, np.int32))
    total = build.add("ReduceSum", weighted, build.integers(-1), keepdims=1)
    rounded = build.add("Add", total, build.constant(0x8000, np.int32))
    return build.add("Div", rounded, build.constant(0x10000, np.int32))


def sides(build: Builder, preprocess: Preprocess) -> tuple[Side, Side]:
    """Height and width of `image` with the box and the output size; see data.preprocess."""
    lengths = [build.add("Shape", "image", start=axis, end=axis + 1) for axis in (1, 2)]
    down, across = (side(build, length, lengths, preprocess) for length in lengths)
    return down, across


def side(build: Builder, length: str, lengths: list[str], preprocess: Preprocess) -> Side:
    size = build.integers(preprocess.size)
    pixels = build.cast(length, "DOUBLE")
    if preprocess.fit == "squash":
        return Side(length, build.constant([0], np.float64), pixels, size)
    if preprocess.fit == "pad":
        out = fitted(build, length, lengths, preprocess.size)
        return Side(length, build.constant([0], np.float64), pixels, out)
    product = build.add("Mul", length, build.integers(full_size(preprocess)))
    scaled = build.cast(build.add("Div", product, build.add("Min", *lengths)), "DOUBLE")
    room = build.add("Sub", scaled, float(preprocess.size))
    first = build.add("Round", build.add("Mul", room, 0.5))  # half to even, as Python
    last = build.add("Add", first, float(preprocess.size))
    start = build.add("Div", build.add("Mul", first, pixels), scaled)
    end = build.add("Div", build.add("Mul", last, pixels), scaled)
    return Side(length, start, end, size)


def fitted(build: Builder, length: str, lengths: list[str], size: int) -> str:
    """`padded_size` of one side."""
    longest = build.add("Max", *lengths)
    doubled = build.add("Mul", length, build.integers(2 * size))
    rounded = build.add("Add", doubled, longest)
    scaled = build.add("Div", rounded, build.add("Mul", longest, build.integers(2)))
    return build.add("Max", scaled, build.integers(1))


def whole(build: Builder, picture: str) -> str:
    """Rounded to 0 … 255, as Pillow does after each of its two passes."""
    rounded = build.add("Floor", build.add("Add", picture, build.constant(0.5, np.float32)))
    limits = build.constant(0, np.float32), build.constant(255, np.float32)
    return build.add("Clip", rounded, *limits)


def window(build: Builder, side: Side, interpolation: str) -> tuple[str, str]:
    """First and last + 1 of the pixels that take part: the box and what the filter sees beside it.

    The same as in data.preprocess.across_then_down.
    """
    scale = build.add("Div", build.add("Sub", side.end, side.start), build.cast(side.out, "DOUBLE"))
    reach = build.add("Mul", build.add("Max", scale, 1.0), float(REACH[interpolation]))
    margin = build.add("Add", build.add("Ceil", reach), 1.0)
    before = build.cast(build.add("Sub", build.add("Floor", side.start), margin), "INT64")
    behind = build.cast(build.add("Add", build.add("Ceil", side.end), margin), "INT64")
    first = build.add("Max", before, build.integers(0))
    return first, build.add("Min", behind, side.length)


def shares(
    build: Builder, side: Side, first: str, last: str, interpolation: str, *, relative: bool
) -> str:
    """What each pixel of the window gives to each output: in x out, columns sum to 1.

    relative: the box is counted from the window's first pixel, as Pillow's second pass has it.
    Pillow keeps boxes in single precision, so the ends go through it.
    """
    start, end = side.start, side.end
    if relative:
        offset = build.cast(first, "DOUBLE")
        start, end = build.add("Sub", start, offset), build.add("Sub", end, offset)
        last = build.add("Sub", last, first)
        first = build.integers(0)
    start, end = build.cast(start, "FLOAT"), build.cast(end, "FLOAT")
    span = build.cast(build.add("Sub", end, start), "DOUBLE")
    scale = build.add("Div", span, build.cast(side.out, "DOUBLE"))
    stretch = build.add("Max", scale, 1.0)
    step = build.add("Add", numbers(build, build.integers(0), side.out), 0.5)
    centres = build.add("Add", build.add("Mul", step, scale), build.cast(start, "DOUBLE"))
    places = build.add("Add", numbers(build, first, last), 0.5)
    column = build.add("Unsqueeze", places, build.integers(1))
    distance = build.add("Div", build.add("Sub", column, centres), stretch)
    weights = kernel(build, build.add("Abs", distance), interpolation)
    total = build.add("ReduceSum", weights, build.integers(0), keepdims=1)
    fixed = build.add("Round", build.add("Mul", build.add("Div", weights, total), PRECISION))
    return build.cast(build.add("Div", fixed, PRECISION), "FLOAT")


def numbers(build: Builder, first: str, last: str) -> str:
    """first, first + 1, … last - 1 in double precision."""
    ends = [build.add("Squeeze", end, build.integers(0)) for end in (first, last)]
    return build.cast(build.add("Range", *ends, build.constant(1, np.int64)), "DOUBLE")


def kernel(build: Builder, x: str, interpolation: str) -> str:
    """Pillow's filters of a distance >= 0: the triangle, or the cubic with a = -0.5."""
    if interpolation == "bilinear":
        return build.add("Max", build.add("Sub", 1.0, x), 0.0)
    squared = build.add("Mul", x, x)
    cubed = build.add("Mul", squared, x)
    near = build.add("Sub", build.add("Mul", cubed, 1.5), build.add("Mul", squared, 2.5))
    near = build.add("Add", near, 1.0)
    far = build.add("Sub", build.add("Mul", squared, 2.5), build.add("Mul", cubed, 0.5))
    far = build.add("Add", build.add("Sub", far, build.add("Mul", x, 4.0)), 2.0)
    outer = build.add("Where", build.add("Less", x, 2.0), far, 0.0)
    return build.add("Where", build.add("Less", x, 1.0), near, outer)


def padded(build: Builder, picture: str, down: Side, across: Side, preprocess: Preprocess) -> str:
    """The resized picture in the middle of a grey square."""
    size, before, after = build.integers(preprocess.size), [], []
    for side in (down, across):
        room = build.add("Sub", size, side.out)
        start = build.add("Div", room, build.integers(2))
        before.append(start)
        after.append(build.add("Sub", room, start))
    pads = build.add("Concat", *before, *after, axis=0)
    colour = build.constant(fill(preprocess), np.float32)
    return build.add("Pad", picture, pads, colour, build.integers(2, 3))


def normalised(build: Builder, picture: str, preprocess: Preprocess) -> None:
    """0 … 255 to (x / 255 - mean) / std, the operations of the torch engine in their order."""
    import onnx

    shape = (1, preprocess.channels, 1, 1)
    mean = build.constant(np.reshape(preprocess.mean, shape), np.float32)
    std = build.constant(np.reshape(preprocess.std, shape), np.float32)
    unit = build.add("Div", picture, build.constant(255, np.float32))
    centred = build.add("Sub", unit, mean)
    build.nodes.append(onnx.helper.make_node("Div", [centred, std], ["normalised"]))


def with_probabilities(network: onnx.ModelProto, several: bool) -> onnx.ModelProto:
    """The network with `probabilities` in place of `logits`: of all classes, or of each alone."""
    import onnx

    kind: dict[str, Any] = {"op_type": "Sigmoid"} if several else {"op_type": "Softmax", "axis": -1}
    node = onnx.helper.make_node(inputs=["logits"], outputs=["probabilities"], **kind)
    network.graph.node.append(node)
    network.graph.output[0].name = "probabilities"
    return network


def joined(
    network: onnx.ModelProto, preprocess: Preprocess, *, several: bool = False
) -> onnx.ModelProto:
    """One model: Preprocess, network, softmax; with several labels a picture sigmoid."""
    return behind(preprocess, with_probabilities(network, several))


def behind(preprocess: Preprocess, network: onnx.ModelProto) -> onnx.ModelProto:
    """One model: Preprocess, network; which becomes it. Its weights may still be missing."""
    before = preprocess_model(preprocess)
    before.graph.node[-1].output[0] = "tensor"  # what the network takes
    after = list(network.graph.node)
    del network.graph.node[:], network.graph.input[:]
    network.graph.node.extend([*before.graph.node, *after])
    network.graph.input.extend(before.graph.input)
    network.graph.initializer.extend(before.graph.initializer)
    network.ir_version = before.ir_version
    return network
