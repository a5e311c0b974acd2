"""ONNX Runtime for exported files: raw uint8 pictures of any size in, probabilities out.

Nothing here imports torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from zoo.catalog.spec import Preprocess
from zoo.device import cores
from zoo.engine import Array
from zoo.errors import WeightsError


class OnnxModel:
    """An exported file: its task, classes, Preprocess and a session to run it.

    threshold: of a multi-label network, above which a class is a label of the picture.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        import onnxruntime

        self.path = path
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or cores()
        options.log_severity_level = 3
        try:
            self.session: Any = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the runtime's exceptions have no common type
            reason = str(error).splitlines()[0][:160]
            raise WeightsError(
                f"{path} is not an ONNX file that can run: {reason}",
                "`zoo export onnx RUN` makes one",
            ) from None
        about: dict[str, str] = self.session.get_modelmeta().custom_metadata_map
        self.about = about
        if "zoo.classes" not in about:
            raise WeightsError(
                f"{path} has no class names in its metadata, so it was not exported by zoo",
                "`zoo export onnx RUN` makes a file that carries them",
            )
        try:
            self.classes: tuple[str, ...] = tuple(json.loads(about["zoo.classes"]))
            self.preprocess = Preprocess.from_dict(json.loads(about["zoo.preprocess"]))
            self.input: str = about["zoo.input"]  # "image" or "tensor"
            limit = about.get("zoo.threshold")
            self.threshold = None if limit is None else float(limit)
        except (ValueError, KeyError, TypeError):
            self.refuse(path, "its metadata are damaged")
        self.task: str = about.get("zoo.task", "classify")
        output, *_ = self.session.get_outputs()
        if self.task != "reconstruct" and output.shape[-1] != len(self.classes):
            self.refuse(path, f"{len(self.classes)} names for {output.shape[-1]} classes")
        self.name = f"onnxruntime {onnxruntime.__version__} cpu"

    def refuse(self, path: Path, why: str) -> NoReturn:
        raise WeightsError(f"{path}: {why}", "export it anew: `zoo export onnx RUN`")

    def run(self, batch: Array) -> Array:
        """Probabilities N x K for uint8 N H W 3 (`image`), logits for float N C H W (`tensor`)."""
        return self.outputs(batch)[0]

    def outputs(self, batch: Array) -> list[Array]:
        """All that the file gives; of an autoencoder the picture again and its code.

        Raises WeightsError where that is not one row of numbers for each picture.
        """
        name = self.session.get_inputs()[0].name
        try:
            found: list[Array] = self.session.run(None, {name: batch})
        except Exception as error:  # the runtime's exceptions have no common type
            reason = " ".join(str(error).split())[:160]
            self.refuse(self.path, f"it cannot be run on a picture: {reason}")
        for values in found[:1]:
            shape = getattr(values, "shape", ())
            if shape[:1] != batch.shape[:1] or values.dtype.kind != "f":
                self.refuse(
                    self.path, f"it gives no row of numbers for each of {len(batch)} pictures"
                )
        return found


class OnnxEngine:
    """An OnnxModel as an `Engine`: one picture a call (sizes differ), a thread for each core."""

    batch = 1
    decoders = 0

    def __init__(self, model: OnnxModel, workers: int) -> None:
        self.model, self.workers, self.name = model, workers, model.name

    def start_worker(self) -> None:
        pass

    def __call__(self, pixels: Array) -> Array:
        return self.model.run(pixels)
