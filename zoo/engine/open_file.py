"""An exported file as an ExportedModel, by its suffix."""

from __future__ import annotations

from pathlib import Path

from zoo.catalog import EXPORTED
from zoo.engine.exported import ExportedModel
from zoo.errors import WeightsError


def open_exported(path: Path, *, threads: int | None = 1) -> ExportedModel:
    """Open an exported file with its runtime. Raises WeightsError.

    threads: of a call; None for as many as this process has processors.
    """
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        from zoo.engine.onnx import OnnxModel

        return OnnxModel(path, threads=threads)
    if suffix == ".xml":
        from zoo.engine.openvino_file import OpenVinoFile

        return OpenVinoFile(path, threads=threads)
    if suffix == ".pt2":
        from zoo.engine.torch_file import TorchFile

        return TorchFile(path, threads=threads)
    raise WeightsError(f"{path}: no exported file has this suffix", f"it is {', '.join(EXPORTED)}")
