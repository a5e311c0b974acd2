"""ONNX Runtime for exported files: raw uint8 pictures of any size in, probabilities out.

Nothing here imports torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zoo.disk import opened
from zoo.engine import Array
from zoo.engine.exported import ExportedModel
from zoo.engine.graph import session
from zoo.errors import WeightsError, first_line
from zoo.machine import cores

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

INPUTS = {"image": "tensor(uint8)", "tensor": "tensor(float)"}  # by what zoo.input says
MOST = 2**31  # bytes: a protobuf message ends there


class OnnxModel(ExportedModel):
    """An exported ONNX file and a session to run it."""

    def __init__(
        self, path: Path, *, threads: int | None = None, ready: InferenceSession | None = None
    ) -> None:
        """ready: a session of what is in the file, where there is one already."""
        import onnxruntime

        self.path = path
        try:
            if ready is None:
                opened(path, MOST).close()
            self.session = ready or session(str(path), threads or cores())
        except OSError as error:
            self.refuse(error.strerror or str(error))
        except Exception as error:  # the runtime's exceptions have no common type
            raise WeightsError(
                f"{path} is not an ONNX file that can run: {first_line(error)}",
                "`zoo export onnx RUN` makes one",
            ) from None
        about = self.session.get_modelmeta().custom_metadata_map
        super().__init__(path, about, f"onnxruntime {onnxruntime.__version__} cpu")
        self.must_fit()

    def must_fit(self) -> None:
        """Raises WeightsError where the graph takes or gives something else than is said of it."""
        pictures = (INPUTS[self.input], 4)
        given = [(one.type, len(one.shape or ())) for one in self.session.get_inputs()]
        if given != [pictures]:
            self.refuse(f"it takes {given}, and zoo.input is {self.input}")
        count = 2 if self.task == "reconstruct" else 1
        outputs = self.session.get_outputs()
        if len(outputs) < count or any(one.type != "tensor(float)" for one in outputs[:count]):
            self.refuse("it gives something else than a network that zoo exports")
        if self.distance_limit is not None and len(outputs) != 2:
            self.refuse("zoo.distance_limit is there, and no output distance")
        shape = list(outputs[0].shape or ())
        if self.task != "reconstruct" and (len(shape) != 2 or shape[1] != len(self.classes)):
            width = shape[-1] if shape else "no"
            self.refuse(f"{len(self.classes)} names for {width} classes")
        self.takes(self.session.get_inputs()[0].shape)

    def values(self, batch: Array) -> list[Array]:
        """Return what the session gives."""
        name = self.session.get_inputs()[0].name
        found: list[Array] = self.session.run(None, {name: batch})
        return found


class OnnxEngine:
    """An ExportedModel as an `Engine`: one picture a call (sizes differ), a thread a core."""

    batch = 1
    decoders = 0

    def __init__(self, model: ExportedModel, workers: int, distance: bool = False) -> None:
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
