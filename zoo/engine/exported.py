"""What exported files have in common, whichever runtime runs them: what they say of themselves.

Each takes raw uint8 pictures (`image`) or what the network takes (`tensor`), and has its classes
and its Preprocess with it. Nothing here imports a runtime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np
from PIL import Image

from zoo import extras, records
from zoo.catalog.spec import Preprocess
from zoo.engine import Array, padded
from zoo.errors import WeightsError, first_line

MOST_PICTURES, LONGEST = 1024, 16384  # of a file of fixed shapes
Fields = dict[str, Any]  # of the metadata, by name
SUMS = "zoo.int8_sums"  # of the processor on which a file in int8 was measured


def metadata(about: Mapping[str, str]) -> Fields:
    """Return what the metadata of a file say, checked. Raises ValueError."""
    said: Fields = {name: about[name] for name in about if name.startswith("zoo.")}
    for name in ("zoo.classes", "zoo.preprocess"):
        if name in said:
            said[name] = records.from_json(said[name])
    for name in ("zoo.threshold", "zoo.distance_limit"):
        if name in said:
            said[name] = float(said[name])
    records.ONNX(said, "")
    return said


class ExportedModel:
    """An exported file: its task, classes, Preprocess, and what runs it.

    threshold: of a multi-label network, above which a class is a label of the picture.
    distance_limit: of an output `distance` from the training photos, above which one is unknown.
    batch, size: how many pictures, of which height and width, where the file takes no others.
    """

    word: ClassVar[str] = "onnx"  # behind `zoo export`
    batch: int | None = None
    size: tuple[int, int] | None = None

    def __init__(self, path: Path, about: Mapping[str, str], name: str) -> None:
        """name: of the runtime. Raises WeightsError for metadata that are none of zoo's."""
        self.path, self.about, self.name = path, dict(about), name
        if "zoo.classes" not in about:
            raise WeightsError(
                f"{path} has no class names in its metadata, so it was not exported by zoo",
                f"`zoo export {self.word} RUN` makes a file that carries them",
            )
        try:
            said = metadata(about)
        except ValueError as error:
            self.refuse(f"its metadata are damaged: {error}")
        self.classes: tuple[str, ...] = tuple(said["zoo.classes"])
        self.preprocess = Preprocess.from_dict(said["zoo.preprocess"])
        self.input: str = said["zoo.input"]  # "image" or "tensor"
        self.threshold: float | None = said.get("zoo.threshold")
        self.distance_limit: float | None = said.get("zoo.distance_limit")
        self.task: str = said.get("zoo.task", "classify")
        if self.task == "multilabel" and self.threshold is None:
            self.refuse("its metadata are damaged: zoo.threshold is not there")

    def refuse(self, why: str) -> NoReturn:
        hint = f"export it anew: `zoo export {self.word} RUN`"
        if records.is_newer(version := self.about.get("zoo.version", "")):
            hint = f"zoo {records.shown(version)} has written it: `{extras.update()}`"
        raise WeightsError(f"{self.path}: {why}", hint)

    def takes(self, shape: Sequence[object]) -> None:
        """Note how many pictures of which size the file takes, where it takes no others."""
        batch, *sides = (one if isinstance(one, int) else None for one in shape)
        if batch is not None and not 1 <= batch <= MOST_PICTURES:
            self.refuse(f"it takes {batch} pictures a call, zoo gives 1 to {MOST_PICTURES}")
        self.batch = batch
        height, width = sides[:2]
        if self.input == "image" and height is not None and width is not None:
            if not (1 <= height <= LONGEST and 1 <= width <= LONGEST):
                self.refuse(f"it takes pictures of {height} x {width}, at most {LONGEST} a side")
            self.size = height, width

    def values(self, batch: Array) -> list[Array]:
        """Return what the runtime gives for as many pictures as it takes; it may raise anything."""
        raise NotImplementedError

    def fitting(self, pictures: Array) -> Array:
        """Return raw pictures, uint8 N H W 3, at the size that the file takes."""
        if self.input != "image" or self.size in (None, pictures.shape[1:3]):
            return pictures
        height, width = self.size
        how = Image.Resampling.BICUBIC
        return np.stack(
            [np.asarray(Image.fromarray(p).resize((width, height), how)) for p in pictures]
        )

    def run(self, batch: Array) -> Array:
        """Return N x K: probabilities of uint8 N H W 3 (`image`), logits of float N C H W."""
        return self.outputs(batch)[0]

    def outputs(self, batch: Array) -> list[Array]:
        """Return all that the file gives; of an autoencoder the picture again and its code.

        Raises WeightsError where that is not one row of numbers for each picture.
        """
        batch = self.fitting(batch)
        try:
            found = self._filled(batch) if self.batch else self.values(batch)
        except Exception as error:  # the runtimes' have no common type
            self.refuse(f"it cannot be run on a picture: {first_line(error)}")
        for values in found[:1]:
            shape = getattr(values, "shape", ())
            if shape[:1] != batch.shape[:1] or values.dtype.kind != "f":
                self.refuse(f"it gives no row of numbers for each of {len(batch)} pictures")
        return found

    def _filled(self, pictures: Array) -> list[Array]:
        """Return what a file of so many pictures a call gives for any number of them."""
        assert self.batch is not None
        parts = []
        for at in range(0, len(pictures), self.batch):
            part = pictures[at : at + self.batch]
            found = self.values(padded(part, self.batch))
            parts.append([values[: len(part)] for values in found])
        return [np.concatenate(each) for each in zip(*parts, strict=True)]
