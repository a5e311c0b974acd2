"""A run as an OpenVINO IR, made of its ONNX file."""

from __future__ import annotations

from pathlib import Path

from zoo.engine.onnx import OnnxModel
from zoo.engine.openvino_file import write
from zoo.export.convert import convert
from zoo.export.formats import find
from zoo.export.records import Exported, Order
from zoo.run import Run


def export_run(run: Run, order: Order) -> Exported:
    """Write the .xml with its .bin and return it, measured. See `convert`."""

    def written(base: Path, path: Path) -> None:
        write(base, OnnxModel(base, threads=1).about, path)

    return convert(run, order, find("openvino"), written)
