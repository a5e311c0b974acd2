"""What is measured: a network of a name, of a run, or an exported file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import catalog
from zoo.catalog import Preprocess
from zoo.engine import Array
from zoo.errors import InputError

if TYPE_CHECKING:
    from zoo.run import Run


@dataclass(frozen=True, slots=True)
class Subject:
    """kind: model, run or onnx. macs: multiply-adds for one picture; None: not known.
    precision: that of a run.

    Can be sent to another process: networks are built there.
    """

    name: str
    kind: str
    preprocess: Preprocess
    macs: int | None
    precision: str = "fp32"
    trusts: bool = False  # a network that was changed after the run was finished

    @property
    def file(self) -> Path | None:
        return Path(self.name) if self.kind == "onnx" else None

    def chain(self) -> Any:
        """The network in torch; of a name with random weights, which cost as much as others."""
        from zoo import network

        if self.kind == "run":
            return network.of_run(self.run()).chain
        return network.pretrained(self.name, "none").chain

    def run(self) -> Run:
        from zoo.run import Run

        return Run.open(Path(self.name), trusts=self.trusts).finished()

    def onnx(self) -> bytes:
        from zoo.engine.graph import to_onnx

        return to_onnx(self.chain(), self.preprocess.channels, self.preprocess.size)

    def pictures(self, photo: str, count: int) -> list[Array]:
        """What goes into the engine, one by one: noise; of a file that takes photos this photo."""
        side, channels = self.preprocess.size, self.preprocess.channels
        random = np.random.default_rng(0)
        if self.file is None:
            return list(random.integers(0, 256, (count, side, side, channels), np.uint8))
        from zoo.engine.onnx import OnnxModel

        if OnnxModel(self.file).input == "tensor":
            return list(random.standard_normal((count, channels, side, side), np.float32))
        from zoo.data.decode import decode, read_bytes

        return [np.asarray(decode(read_bytes(photo)))] * count


def find(name: str, *, trusts: bool = False) -> Subject:
    """Raises UnknownModel, RunError, InputError or WeightsError."""
    if name.lower().endswith(".onnx"):
        return of_file(name, trusts)
    if os.path.isdir(name) and (name not in catalog.ROWS or Path(name, "run.json").exists()):
        from zoo import network
        from zoo.run import Run

        run = Run.open(Path(name), trusts=trusts).finished()
        network.model_file(run)
        about = run.record
        preprocess = Preprocess.from_dict(about["preprocess"])
        macs = network.recorded(about).macs or None
        return Subject(name, "run", preprocess, macs, about["precision"], trusts)
    if catalog.of_library(name):
        from zoo import models

        row = models.resolve(name)
    else:
        row = catalog.find(name)
    return Subject(name, "model", row.preprocess, row.macs or None)


def of_file(name: str, trusts: bool) -> Subject:
    from zoo.engine.onnx import OnnxModel
    from zoo.network import must_be_exported

    if not os.path.isfile(name):
        raise InputError(f"there is no file {name}", "`zoo export onnx RUN` makes one")
    if not trusts:
        must_be_exported(Path(name))
    model = OnnxModel(Path(name))
    row = catalog.ROWS.get(catalog.base(model.about.get("zoo.model", "")))
    return Subject(name, "onnx", model.preprocess, row.macs if row else None)
