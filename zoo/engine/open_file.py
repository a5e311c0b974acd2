"""An exported file as an ExportedModel, by its suffix."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from pathlib import Path

from zoo.catalog import EXPORTED
from zoo.engine.exported import SUMS, ExportedModel
from zoo.engine.select import flags, int8_sums
from zoo.errors import Doubtful, WeightsError


def open_exported(path: Path, *, threads: int | None = 1) -> ExportedModel:
    """Open an exported file with its runtime. Raises WeightsError, warns where it is Doubtful.

    threads: of a call; None for as many as this process has processors.
    """
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        from zoo.engine.onnx import OnnxModel

        model = OnnxModel(path, threads=threads)
        if said := doubt_of(model.about, flags()):
            warnings.warn(f"{path} {said}", Doubtful, stacklevel=2)
        return model
    if suffix == ".xml":
        from zoo.engine.openvino_file import OpenVinoFile

        return OpenVinoFile(path, threads=threads)
    if suffix == ".pt2":
        from zoo.engine.torch_file import TorchFile

        return TorchFile(path, threads=threads)
    raise WeightsError(f"{path}: no exported file has this suffix", f"it is {', '.join(EXPORTED)}")


def doubt_of(about: Mapping[str, str], known: Collection[str]) -> str:
    """Return why a file may answer worse than it did where it was exported; empty where not.

    about: its metadata. known: what the processor can do, by `select.flags`.
    """
    narrow = int8_sums(known) == "16" != about.get(SUMS)
    if not narrow or about.get("zoo.precision") != "int8":
        return ""
    return (
        "computes in int8, and was not measured on a processor as this one (AVX2, no VNNI), where "
        "sums have 16 bits and may overflow: answers are right where it was exported; here `zoo "
        "evaluate` tells how good they are, and `zoo export onnx RUN` makes a file in fp32"
    )
