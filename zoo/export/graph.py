"""The Preprocess as an ONNX graph: raw uint8 pictures of any size to the network's input.

The same whole-pixel box as `data.preprocess`, then one antialiased Resize on uint8, which ONNX
Runtime computes in fixed point as Pillow does: a byte differs by 1 at most (tests/test_export.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.catalog import Preprocess
from zoo.data.preprocess import fill
from zoo.errors import UsageError

if TYPE_CHECKING:
    import onnx

OPSET = 20
MODES = {"nearest": "nearest", "bilinear": "linear", "bicubic": "cubic"}
LUMA = (19595, 38470, 7471)  # ITU-R 601 in 16-bit fixed point, as Pillow has it
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

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        import onnx

        name = f"{PREFIX}{len(self.nodes)}_{operator.lower()}"
        self.nodes.append(onnx.helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def cast(self, value: str, kind: str) -> str:
        import onnx

        return self.add("Cast", value, to=getattr(onnx.TensorProto, kind))

    def integers(self, *values: int) -> str:
        return self.constant(values, np.int64)


def preprocess_model(preprocess: Preprocess) -> onnx.ModelProto:
    """`image` uint8 N H W 3 -> `normalised` float32 N C S S. Raises UsageError for Lanczos."""
    import onnx

    if preprocess.interpolation not in MODES:
        raise UsageError(
            f"ONNX has no {preprocess.interpolation} resize",
            "export the bare network: --input tensor",
        )
    build = Builder()
    picture = grey(build, "image") if preprocess.channels == 1 else "image"
    picture = build.add("Transpose", cropped(build, picture, preprocess), perm=[0, 3, 1, 2])
    small = (
        padded(build, picture, preprocess)
        if preprocess.fit == "pad"
        else squared(build, picture, preprocess)
    )
    normalised(build, small, preprocess)
    size = preprocess.size
    helper, kinds = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        build.nodes,
        "preprocess",
        [helper.make_tensor_value_info("image", kinds.UINT8, ["N", "H", "W", 3])],
        [
            helper.make_tensor_value_info(
                "normalised", kinds.FLOAT, ["N", preprocess.channels, size, size]
            )
        ],
        build.constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])


def grey(build: Builder, picture: str) -> str:
    """N H W 3 -> N H W 1, rounded as Pillow's convert("L")."""
    wide = build.cast(picture, "INT32")
    weighted = build.add("Mul", wide, build.constant(LUMA, np.int32))
    total = build.add("ReduceSum", weighted, build.integers(-1), keepdims=1)
    rounded = build.add("Add", total, build.constant(0x8000, np.int32))
    return build.cast(build.add("Div", rounded, build.constant(0x10000, np.int32)), "UINT8")


def sides(build: Builder, picture: str, axis: int) -> tuple[str, str]:
    """Height and width of a batch whose height is on this axis: int64, one element each."""
    height = build.add("Shape", picture, start=axis, end=axis + 1)
    return height, build.add("Shape", picture, start=axis + 1, end=axis + 2)


def cropped(build: Builder, picture: str, preprocess: Preprocess) -> str:
    """The centre box of N H W C, in whole pixels; double precision, as Python has it."""
    if preprocess.fit != "crop":
        return picture
    height, width = sides(build, picture, 1)
    shorter = build.cast(build.add("Min", height, width), "DOUBLE")
    scaled = build.add("Mul", shorter, build.constant([preprocess.crop], np.float64))
    side = build.cast(build.add("Round", scaled), "INT64")  # to even, as Python
    side = build.add("Max", side, build.integers(1))
    two = build.integers(2)
    starts, ends = [], []
    for length in (height, width):
        start = build.add("Div", build.add("Sub", length, side), two)
        starts.append(start)
        ends.append(build.add("Add", start, side))
    first = build.add("Concat", *starts, axis=0)
    last = build.add("Concat", *ends, axis=0)
    return build.add("Slice", picture, first, last, build.integers(1, 2))


def resized(build: Builder, picture: str, height: str, width: str, mode: str) -> str:
    """N C H W uint8 to another height and width, as Pillow does it."""
    batch = build.add("Shape", picture, start=0, end=2)
    sizes = build.add("Concat", batch, height, width, axis=0)
    attributes: dict[str, Any] = {"mode": MODES[mode]}
    if mode == "nearest":
        attributes["nearest_mode"] = "round_prefer_ceil"
    else:
        # Weights outside the picture are left out and the rest scaled up, as Pillow does.
        attributes |= {"antialias": 1, "exclude_outside": 1}
    if mode == "bicubic":
        attributes["cubic_coeff_a"] = -0.5
    return build.add("Resize", picture, "", "", sizes, **attributes)


def squared(build: Builder, picture: str, preprocess: Preprocess) -> str:
    size = build.integers(preprocess.size)
    return resized(build, picture, size, size, preprocess.interpolation)


def padded(build: Builder, picture: str, preprocess: Preprocess) -> str:
    """The whole picture in its own proportions on a grey square; see `padded_size`."""
    height, width = sides(build, picture, 2)
    longest = build.add("Max", height, width)
    twice = build.add("Mul", longest, build.integers(2))
    size, one = build.integers(preprocess.size), build.integers(1)
    new, before, after = [], [], []
    for length in (height, width):
        scaled = build.add("Mul", length, build.integers(2 * preprocess.size))
        fitted = build.add("Div", build.add("Add", scaled, longest), twice)
        fitted = build.add("Max", fitted, one)
        room = build.add("Sub", size, fitted)
        start = build.add("Div", room, build.integers(2))
        new.append(fitted)
        before.append(start)
        after.append(build.add("Sub", room, start))
    small = resized(build, picture, new[0], new[1], preprocess.interpolation)
    pads = build.add("Concat", *before, *after, axis=0)
    colour = build.constant(fill(preprocess), np.uint8)
    return build.add("Pad", small, pads, colour, build.integers(2, 3))


def normalised(build: Builder, picture: str, preprocess: Preprocess) -> None:
    """uint8 to (x / 255 - mean) / std, the operations of the torch engine in their order."""
    import onnx

    shape = (1, preprocess.channels, 1, 1)
    mean = build.constant(np.reshape(preprocess.mean, shape), np.float32)
    std = build.constant(np.reshape(preprocess.std, shape), np.float32)
    unit = build.add("Div", build.cast(picture, "FLOAT"), build.constant(255, np.float32))
    centred = build.add("Sub", unit, mean)
    build.nodes.append(onnx.helper.make_node("Div", [centred, std], ["normalised"]))


def with_softmax(network: onnx.ModelProto) -> onnx.ModelProto:
    """The network with `probabilities` in place of `logits`."""
    import onnx

    node = onnx.helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1)
    network.graph.node.append(node)
    output = network.graph.output[0]
    output.name = "probabilities"
    return network


def joined(network: onnx.ModelProto, preprocess: Preprocess) -> onnx.ModelProto:
    """One model: Preprocess, network, softmax."""
    import onnx

    before = preprocess_model(preprocess)
    before.ir_version = network.ir_version
    return onnx.compose.merge_models(
        before, with_softmax(network), io_map=[("normalised", "tensor")]
    )
