"""What an autoencoder gives back for each picture, beside what it was given."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo.catalog import Preprocess
from zoo.data.preprocess import normalise
from zoo.data.views import plain_view
from zoo.engine import Array, Engine
from zoo.engine.pipeline import answers
from zoo.errors import ImageError, UsageError
from zoo.predict.inputs import Input
from zoo.predict.predictor import Opening, open_network
from zoo.run import Run


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """One row: the picture as the network sees it and what it gives back, uint8 S x S x C.

    mse, mae: of the network's own values, as in training. error: why there is none of these.
    """

    path: str
    status: str
    before: Array | None = None
    after: Array | None = None
    mse: float = float("nan")
    mae: float = float("nan")
    error: str = ""


@dataclass(slots=True)
class Seen:
    """An input on its way through the engine, with its pixels once they are read."""

    item: Input
    pixels: Array | None = None


@dataclass(frozen=True, slots=True)
class Reconstructor:
    """An engine that gives pictures back."""

    engine: Engine
    preprocess: Preprocess
    about: str

    def rows(self, inputs: Iterable[Input]) -> Iterator[Reconstruction]:
        """Yield one Reconstruction for each input, in order, in constant memory."""

        def load(seen: Seen) -> Array:
            seen.pixels = plain_view(seen.item.file, self.preprocess)
            return seen.pixels

        for seen, result in answers((Seen(item) for item in inputs), load, self.engine):
            if isinstance(result, ImageError):
                yield Reconstruction(seen.item.shown, "error", error=str(result))
                continue
            assert seen.pixels is not None
            rest = result - normalise(seen.pixels, self.preprocess)
            yield Reconstruction(
                seen.item.shown,
                "ok",
                seen.pixels,
                to_pixels(result, self.preprocess),
                float(np.square(rest, dtype=np.float64).mean()),
                float(np.abs(rest, dtype=np.float64).mean()),
            )


def open_reconstructor(folder: str, device: str = "auto", *, trusts: bool = False) -> Reconstructor:
    """Return the Reconstructor of an autoencoder's run. Raises UsageError for a classifier's."""
    from zoo.engine.torch import TorchEngine

    must_reconstruct(folder)
    net, place, text = open_network(folder, Opening(device=device, trusts=trusts))
    return Reconstructor(TorchEngine(net.chain, net.preprocess, place), net.preprocess, text)


def must_reconstruct(folder: str) -> None:
    """Raises UsageError for the run of a classifier."""
    about = Run.open(Path(folder)).finished().record
    if about.get("task", "classify") != "reconstruct":
        raise UsageError(
            f"{folder} is a run of {about['model']}, which tells {len(about['classes'])} classes "
            "apart and gives no pictures back",
            f"`zoo embed {shlex.quote(str(folder))} FOLDER` writes what it makes of each picture; "
            "`zoo train autoencoder PHOTOS` makes a run that reconstructs",
        )


def to_pixels(values: Array, preprocess: Preprocess) -> Array:
    """Return C x S x S values of a network as the nearest uint8 S x S x C; undoes normalise."""
    mean = np.array(preprocess.mean, np.float32).reshape(-1, 1, 1)
    std = np.array(preprocess.std, np.float32).reshape(-1, 1, 1)
    bytes_ = np.rint((values * std + mean) * 255).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(bytes_.transpose(1, 2, 0))
