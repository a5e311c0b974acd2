"""Programs of torch.export, opened only where this user's zoo wrote them.

`torch.export.load` is not for files of strangers: it hands shapes to sympy, which evaluates them as
Python, and unpickles what does not load without pickle. So the digest of each program that is
written here is noted in the user's cache, and no other file is opened, whatever lies beside it.
"""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import numpy as np

from zoo import records
from zoo.disk import atomic, cache_folder, make_private, opened
from zoo.engine import Array
from zoo.engine.exported import ExportedModel
from zoo.errors import WeightsError, first_line
from zoo.machine import cores

MOST = 2**33  # bytes
ABOUT = "zoo.json"  # a file in the archive


class TorchFile(ExportedModel):
    """A program that zoo has exported here."""

    word = "torch-export"

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        self.path, self.threads = path, threads or cores()
        try:
            with opened(path, MOST) as file:
                content = file.read()
        except OSError as error:
            self.refuse(error.strerror or str(error))
        if not os.path.isfile(_note(hashlib.sha256(content).hexdigest())):
            raise WeightsError(
                f"{path} was not written by zoo on this machine, and to load a program of "
                "torch.export can run code that is in it",
                "export it here: `zoo export torch-export RUN`; an .onnx file of anybody's opens",
            )
        import torch

        about = {ABOUT: ""}
        try:
            program = torch.export.load(io.BytesIO(content), extra_files=about)
            said = records.from_json(about[ABOUT])
        except Exception as error:  # torch's have no common type
            self.refuse(f"torch {torch.__version__} cannot load it: {first_line(error)}")
        self.module = program.module()
        super().__init__(path, said, f"torch {torch.__version__} cpu")

    def values(self, batch: Array) -> list[Array]:
        """Return what the program gives."""
        import torch

        torch.set_num_threads(self.threads)
        with torch.no_grad():
            found = self.module(torch.from_numpy(np.array(batch)))
        return [found.numpy()]


def noted(content: bytes) -> None:
    """Note that this user's zoo wrote a program."""
    make_private(cache_folder() / "programs")
    with atomic(_note(hashlib.sha256(content).hexdigest())):
        pass


def _note(digest: str) -> Path:
    return cache_folder() / "programs" / digest
