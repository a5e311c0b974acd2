"""OpenVINO for exported IRs: a .xml, which says what it is, with a .bin of its weights beside it.

The IR names the digest of its .bin: another one beside it would run, and answer anything.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from zoo import records, weights
from zoo.disk import opened
from zoo.engine import Array
from zoo.engine.exported import ExportedModel
from zoo.engine.openvino import runtime, version
from zoo.errors import WeightsError, first_line
from zoo.machine import cores

MOST = 2**28  # bytes of a .xml
ABOUT = ["zoo", "metadata"]  # where an IR keeps them
BIN = "zoo.bin_sha256"


class OpenVinoFile(ExportedModel):
    """An exported IR, compiled."""

    word = "openvino"

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        core = runtime().Core()
        try:
            opened(path, MOST).close()
            model = core.read_model(path)
            about = records.from_json(str(model.get_rt_info(ABOUT).astype(str)))
        except OSError as error:
            self.path = path
            self.refuse(error.strerror or str(error))
        except Exception as error:  # OpenVINO's exceptions have no common type
            raise WeightsError(
                f"{path} is no IR that zoo has exported: {first_line(error)}",
                "`zoo export openvino RUN` makes one",
            ) from None
        super().__init__(path, about, f"openvino {version()} cpu fp32")
        if weights.hash_of(path.with_suffix(".bin")) != about.get(BIN):
            self.refuse(f"{path.with_suffix('.bin').name} beside it is not the one of this file")
        how = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads or cores()}
        self._compiled = core.compile_model(model, "CPU", how)

    def values(self, batch: Array) -> list[Array]:
        """Return what a request of its own gives."""
        found = self._compiled.create_infer_request().infer([np.ascontiguousarray(batch)])
        return [np.array(values) for values in found.to_tuple()]


def write(onnx: Path, about: dict[str, str], path: Path) -> None:
    """Write the IR of an ONNX file, in fp32, with the metadata and the digest of its weights.

    labels and model_type are also where OpenVINO's Model API reads them.
    """
    openvino = runtime()
    model = openvino.Core().read_model(onnx)
    openvino.save_model(model, path, compress_to_fp16=False)
    digest = weights.hash_of(path.with_suffix(".bin"))
    model.set_rt_info(json.dumps(about | {BIN: digest}, ensure_ascii=False), ABOUT)
    labels = " ".join(name.replace(" ", "_") for name in json.loads(about["zoo.classes"]))
    model.set_rt_info("Classification", ["model_info", "model_type"])
    model.set_rt_info(labels, ["model_info", "labels"])
    openvino.save_model(model, path, compress_to_fp16=False)
