"""A network in whole numbers: 8 bits for weights and for what flows between layers.

Static, per channel: each layer's range is measured on photos beforehand, and each output channel of
a layer has a scale of its own (Krishnamoorthi 2018, arXiv:1806.08342). Rounding moves the mean of a
layer's output; what it moves is known from the weights and the mean of the layer's input, and is
taken off the bias (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias
Correction", arXiv:1906.04721, section 4.2, with measured means). That is what networks of
depthwise convolutions need.

The result is a graph in ONNX's QDQ form, which ONNX Runtime and OpenVINO run in whole numbers.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.disk import scratch
from zoo.engine import Array
from zoo.engine.graph import quiet, session
from zoo.errors import ParityError, first_line

if TYPE_CHECKING:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader

LAYERS = ("Conv", "Gemm")
# Not the arithmetic of normalisations (Mul, Pow, Div, AveragePool over channels): squares of
# activations do not fit into 8 bits.
OPERATORS = [*LAYERS, "ConvTranspose", "MatMul", "Add", "Concat", "MaxPool", "GlobalAveragePool",
             "Relu", "Clip", "Flatten"]  # fmt: skip
BATCH = 8
CALIBRATION = 64  # photos


def quantise(model: bytes, calibration: Array) -> bytes:
    """Return a model that takes `tensor` as one that computes in int8.

    calibration: what it is going to see, normalised, N C S S; some dozens of photos. Raises
    ParityError where the runtime's tool cannot.
    """
    import onnx

    printed = io.StringIO()  # the tool prints and logs what it does
    with quiet(), contextlib.redirect_stdout(printed), scratch("int8") as folder:
        plain, result = folder / "plain.onnx", folder / "int8.onnx"
        try:
            prepare(model, plain)
            network = onnx.load(plain)
            correct(network, calibration)
            onnx.save(network, plain)
            _convert(plain, result, calibration, _left_out(network))
        except Exception as error:  # of the tool's there are many types
            raise ParityError(
                f"the network cannot be written in int8: {first_line(error)}",
                "`zoo export onnx` without --int8 writes it in fp32",
            ) from error
        return result.read_bytes()


def prepare(model: bytes, path: Path) -> None:
    """Write the model with shapes inferred, BatchNorm in the convolutions, constants computed."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(onnx.load_from_string(model), path, skip_symbolic_shape=True)


def _left_out(network: onnx.ModelProto) -> list[str]:
    """Return what stays in fp32: the last layer, and additions of a constant.

    Nothing behind the last layer averages its rounding away; those additions belong to
    normalisations and not to residuals.
    """
    fixed = {tensor.name for tensor in network.graph.initializer}
    for node in network.graph.node:
        if node.op_type == "Constant":
            fixed.update(node.output)
    adds = [node for node in network.graph.node if node.op_type == "Add"]
    layers = [node.name for node in network.graph.node if node.op_type in LAYERS]
    return [node.name for node in adds if fixed & set(node.input)] + layers[-1:]


def _convert(plain: Path, result: Path, calibration: Array, exclude: list[str]) -> None:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    quantize_static(
        plain,
        result,
        _reader(calibration),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=OPERATORS,
        nodes_to_exclude=exclude,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def _reader(calibration: Array) -> CalibrationDataReader:
    """Return the photos one by one, as the tool wants them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Photos(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(calibration)

        def get_next(self) -> dict[str, Array] | None:
            photo = next(self.left, None)
            return None if photo is None else {"tensor": photo[None]}

    return Photos()


# The bias correction.


def correct(network: onnx.ModelProto, calibration: Array) -> None:
    """Take what rounding the weights adds to the mean of each layer's output off its bias."""
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in network.graph.initializer}
    layers = [
        node
        for node in network.graph.node
        if node.op_type in LAYERS and len(node.input) == 3 and {*node.input[1:]} <= tensors.keys()
    ]
    means = _input_means(network, [node.input[0] for node in layers], calibration)
    for node in layers:
        weight, bias = (numpy_helper.to_array(tensors[name]) for name in node.input[1:])
        settings = {one.name: one.i for one in node.attribute}
        if node.op_type == "Gemm" and not settings.get("transB"):
            weight = weight.T
        shift = moved(weight, means[node.input[0]], settings.get("group", 1))
        node.input[2] = f"{node.output[0]}/bias"  # its own: equal ones may be one tensor
        own = numpy_helper.from_array((bias - shift).astype(np.float32), node.input[2])
        network.graph.initializer.append(own)
    _drop_unused(network)


def _drop_unused(network: onnx.ModelProto) -> None:
    used = {name for node in network.graph.node for name in node.input}
    kept = [tensor for tensor in network.graph.initializer if tensor.name in used]
    del network.graph.initializer[:]
    network.graph.initializer.extend(kept)


def moved(weight: Array, mean: Array, groups: int) -> Array:
    """Return by how much rounding the weights moves the mean output: O.

    weight: O x I / groups x kernel. mean: of each input channel, I; borders are taken as the rest.
    """
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    scale = np.abs(rows).max(axis=1, keepdims=True) / 127
    scale[scale == 0] = 1
    error = (np.round(rows / scale) * scale - rows).reshape(*weight.shape[:2], -1).sum(axis=2)
    each = np.split(error, groups)
    parts = zip(each, mean.reshape(groups, -1), strict=True)
    return np.concatenate([error @ mean for error, mean in parts])


def _input_means(network: onnx.ModelProto, names: list[str], photos: Array) -> dict[str, Array]:
    """Return the mean of each channel of these tensors over the photos and places."""
    import onnx

    watched = onnx.ModelProto()
    watched.CopyFrom(network)
    wanted = sorted({*names} - {"tensor"})
    del watched.graph.output[:]
    watched.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in wanted)
    opened = session(watched.SerializeToString(), 1)
    sums: dict[str, Array] = {"tensor": photos.sum(axis=0, dtype=np.float64).mean(axis=(1, 2))}
    for at in range(0, len(photos), BATCH):
        found = opened.run(wanted, {"tensor": photos[at : at + BATCH]})
        for name, value in zip(wanted, found, strict=True):
            rest = tuple(axis for axis in range(2, value.ndim))
            sums[name] = sums.get(name, 0) + value.mean(axis=rest, dtype=np.float64).sum(axis=0)
    return {name: total / len(photos) for name, total in sums.items()}
