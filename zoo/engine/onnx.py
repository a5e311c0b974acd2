"""ONNX Runtime for exported files: raw uint8 pictures of any size in, probabilities out.

Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from zoo import records
from zoo.catalog.spec import Preprocess
from zoo.disk import opened
from zoo.engine import Array
from zoo.engine.graph import session
from zoo.errors import WeightsError, first_line
from zoo.machine import cores

INPUTS = {"image": "tensor(uint8)", "tensor": "tensor(float)"}  # by what zoo.input says
MOST = 2**31  # bytes: a protobuf message ends there
Fields = dict[str, Any]  # of the metadata, by name


def metadata(about: Mapping[str, str]) -> Fields:
    """Return what the metadata of a file say, checked. Raises ValueError."""
    said: Fields = dict(about)
    for name in ("zoo.classes", "zoo.preprocess"):
        if name in said:
            said[name] = records.from_json(said[name])
    for name in ("zoo.threshold", "zoo.distance_limit"):
        if name in said:
            said[name] = float(said[name])
    records.ONNX(said, "")
    return said


class OnnxModel:
    """An exported file: its task, classes, Preprocess and a session to run it.

    threshold: of a multi-label network, above which a class is a label of the picture.
    distance_limit: of an output `distance` from the training photos, above which one is unknown.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        import onnxruntime

        self.path = path
        try:
            opened(path, MOST).close()
            self.session = session(str(path), threads or cores())
        except OSError as error:
            self.refuse(path, error.strerror or str(error))
        except Exception as error:  # the runtime's exceptions have no common type
            raise WeightsError(
                f"{path} is not an ONNX file that can run: {first_line(error)}",
                "`zoo export onnx RUN` makes one",
            ) from None
        self.path = path
        self.about: dict[str, str] = self.session.get_modelmeta().custom_metadata_map
        if "zoo.classes" not in self.about:
            raise WeightsError(
                f"{path} has no class names in its metadata, so it was not exported by zoo",
                "`zoo export onnx RUN` makes a file that carries them",
            )
        try:
            said = metadata(self.about)
        except ValueError as error:
            self.refuse(path, f"its metadata are damaged: {error}")
        self.classes: tuple[str, ...] = tuple(said["zoo.classes"])
        self.preprocess = Preprocess.from_dict(said["zoo.preprocess"])
        self.input: str = said["zoo.input"]  # "image" or "tensor"
        self.threshold: float | None = said.get("zoo.threshold")
        self.distance_limit: float | None = said.get("zoo.distance_limit")
        self.task: str = said.get("zoo.task", "classify")
        if self.task == "multilabel" and self.threshold is None:
            self.refuse(path, "its metadata are damaged: zoo.threshold is not there")
        self.must_fit(path)
        self.name = f"onnxruntime {onnxruntime.__version__} cpu"

    def must_fit(self, path: Path) -> None:
        """Raises WeightsError where the graph takes or gives something else than is said of it."""
        pictures = (INPUTS[self.input], 4)
        given = [(one.type, len(one.shape or ())) for one in self.session.get_inputs()]
        if given != [pictures]:
            self.refuse(path, f"it takes {given}, and zoo.input is {self.input}")
        count = 2 if self.task == "reconstruct" else 1
        outputs = self.session.get_outputs()
        if len(outputs) < count or any(one.type != "tensor(float)" for one in outputs[:count]):
            self.refuse(path, "it gives something else than a network that zoo exports")
        if self.distance_limit is not None and len(outputs) != 2:
            self.refuse(path, "zoo.distance_limit is there, and no output distance")
        shape = list(outputs[0].shape or ())
        if self.task != "reconstruct" and (len(shape) != 2 or shape[1] != len(self.classes)):
            width = shape[-1] if shape else "no"
            self.refuse(path, f"{len(self.classes)} names for {width} classes")

    def refuse(self, path: Path, why: str) -> NoReturn:
        raise WeightsError(f"{path}: {why}", "export it anew: `zoo export onnx RUN`")

    def run(self, batch: Array) -> Array:
        """Return N x K: probabilities of uint8 N H W 3 (`image`), logits of float N C H W."""
        return self.outputs(batch)[0]

    def outputs(self, batch: Array) -> list[Array]:
        """Return all that the file gives; of an autoencoder the picture again and its code.

        Raises WeightsError where that is not one row of numbers for each picture.
        """
        name = self.session.get_inputs()[0].name
        try:
            found: list[Array] = self.session.run(None, {name: batch})
        except Exception as error:  # the runtime's have no common type
            self.refuse(self.path, f"it cannot be run on a picture: {first_line(error)}")
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

    def __init__(self, model: OnnxModel, workers: int, distance: bool = False) -> None:
        """distance: stands before the numbers of each picture."""
        self.model, self.workers, self.name = model, workers, model.name
        self.distance = distance

    def start_worker(self) -> None:
        pass

    def __call__(self, pixels: Array) -> Array:
        if not self.distance:
            return self.model.run(pixels)
        import numpy as np

        answers, away = self.model.outputs(pixels)[:2]
        return np.concatenate([away.reshape(-1, 1), answers], axis=1)
