"""What a run says of photos, which an exported file is compared with.

Computed by torch, or what the run wrote down when it was trained (see zoo.export.written).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from zoo import watch
from zoo.catalog import Preprocess
from zoo.data.samples import evenly
from zoo.data.views import plain_view
from zoo.device import Device
from zoo.engine import Array, Engine
from zoo.errors import ImageError, InputError
from zoo.machine import cores
from zoo.metrics import sigmoid, softmax
from zoo.network import Network
from zoo.run import Run

if TYPE_CHECKING:
    from torch import nn

FEWEST, PHOTOS = 4, 16  # of the proof; spread over the validation photos
_A_SECOND = 16e9  # multiply-adds, about

Picture = tuple[Path, Array]  # a photo, and the uint8 pixels of it that a network sees
Pictures = list[Picture]


@dataclass(frozen=True, slots=True)
class About:
    """What a reader of the file needs to know. threshold: of several labels a picture.

    licence: of the weights that the training began with, where it is known.
    """

    model: str
    preprocess: Preprocess
    classes: tuple[str, ...]
    threshold: float | None = None
    licence: str = ""

    @classmethod
    def of(cls, net: Network) -> About:
        licence = net.origin.get("licence") or ""
        return cls(net.spec.name, net.preprocess, net.classes, net.threshold, licence)

    @classmethod
    def of_run(cls, run: Run) -> About:
        about = run.record
        preprocess = Preprocess.from_dict(about["preprocess"])
        licence = about["weights"].get("licence") or ""
        classes = tuple(about["classes"])
        return cls(about["model"], preprocess, classes, about.get("threshold"), licence)

    def probabilities(self, scores: Array) -> Array:
        return softmax(scores) if self.threshold is None else sigmoid(scores)


@dataclass(frozen=True, slots=True)
class Reference:
    """What the run says of the photos: told N x K, the answers as truths; probabilities N x K.

    A probability that is not known is NaN. scores: N x K before softmax or sigmoid, where known.
    source: `torch`, or the file of the run that they were read from. chain: what computed them.
    """

    told: Array
    probabilities: Array
    source: str
    scores: Array | None = None
    chain: nn.Module | None = field(default=None, repr=False)

    def every_second(self, first: int = 0) -> Reference:
        scores = None if self.scores is None else self.scores[first::2]
        told, probabilities = self.told[first::2], self.probabilities[first::2]
        return replace(self, told=told, probabilities=probabilities, scores=scores)


class Recalled(NamedTuple):
    """Photos, with what the run says of them."""

    pictures: Pictures
    reference: Reference


def computed(scores: Array, about: About) -> Reference:
    """Return what the run says, from its class scores N x K."""
    probabilities = about.probabilities(scores)
    return Reference(answers(probabilities, about), probabilities, "torch", scores)


def torch_values(chain: nn.Module, preprocess: Preprocess, inputs: Array) -> Array:
    """Return what a chain gives in torch, in fp32 on the CPU."""
    from zoo.engine.torch import TorchEngine

    device = Device("cpu", "fp32", cores(), "the proof is made on the CPU")
    return in_batches(TorchEngine(chain, preprocess, device), inputs)


def in_batches(engine: Engine, inputs: Array) -> Array:
    """Return what an engine gives for any number of pictures."""
    parts = [inputs[at : at + engine.batch] for at in range(0, len(inputs), engine.batch)]
    return np.concatenate([engine(part) for part in parts])


def answers(probabilities: Array, about: About) -> Array:
    """Return N x K truths: the likeliest class, or all that reach the threshold."""
    if about.threshold is not None:
        return np.asarray(probabilities >= about.threshold)
    likeliest = probabilities.argmax(axis=1, keepdims=True)
    return np.asarray(np.arange(probabilities.shape[1]) == likeliest)


def enough(run: Run) -> int:
    """Return how many photos are a proof: a wrong weight shows on any; 16 where they are quick."""
    macs = run.record.get("spec", {}).get("macs") or _A_SECOND / PHOTOS
    return int(min(PHOTOS, max(FEWEST, _A_SECOND // macs)))


def readable(photos: Sequence[Path], preprocess: Preprocess, most: int = PHOTOS) -> Pictures:
    """Return up to so many photos, spread over the list, each with the network's uint8 input.

    Raises InputError where none can be read.
    """

    def view(photo: Path) -> Array | None:
        watch.check()
        with suppress(ImageError):
            return plain_view(photo, preprocess)
        return None

    chosen = evenly(photos, most)
    with ThreadPoolExecutor(cores()) as pool:
        found = zip(chosen, pool.map(view, chosen), strict=True)
        pictures = [(path, pixels) for path, pixels in found if pixels is not None]
    if not pictures:
        where = photos[0].parent if photos else "the run's index.csv"
        raise InputError(
            f"none of the {len(photos)} validation photos can be read (looked in {where}), "
            "and without photos there is no proof",
            "give others with --photos FOLDER",
        )
    return pictures
