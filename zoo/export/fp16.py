"""A run to an ONNX file whose network has fp16 weights and computes in fp16, measured.

The Preprocess and the softmax stay in fp32: pixels and probabilities are rounded once. On a CPU
most layers are computed in fp32 all the same, and the file is half as large; GPUs and phones gain.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zoo.disk import writing
from zoo.export.basis import About
from zoo.export.convert import convert
from zoo.export.formats import find
from zoo.export.graph import behind, without_preprocess
from zoo.export.records import Exported, Order
from zoo.run import Run

if TYPE_CHECKING:
    import onnx

FP32 = ["Softmax", "Sigmoid", "LayerNormalization", "InstanceNormalization", "GroupNormalization"]


def export_run(run: Run, order: Order) -> Exported:
    """Write the file and return it, measured. See `convert`."""
    about = About.of_run(run)

    def written(base: Path, path: Path) -> None:
        import onnx

        model = onnx.load(base)
        said = {one.key: one.value for one in model.metadata_props}
        network = halved(without_preprocess(model, about.preprocess))
        if order.kind == "image":
            network = behind(about.preprocess, network)
        onnx.helper.set_model_props(network, said | {"zoo.precision": "fp16"})
        with writing(path):
            onnx.save(network, path)

    return convert(run, order, find("onnx", "fp16"), written)


def halved(network: onnx.ModelProto) -> onnx.ModelProto:
    """Return a network in fp16 that takes and gives fp32, by ONNX Runtime's own converter."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    for number, node in enumerate(network.graph.node):
        node.name = node.name or f"node{number}"
    found: onnx.ModelProto = convert_float_to_float16(
        network, keep_io_types=True, op_block_list=FP32
    )
    return found
