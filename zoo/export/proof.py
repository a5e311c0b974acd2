"""The proof of an exported file: its answers on real photos beside those of the run.

The run's answers are computed by torch, or are those that it wrote down when it was trained
(val.csv): of each photo what it was taken for, and how probable that was. The file computes its own
from the photo's raw pixels, and the network in it, alone, from the pixels that the run saw.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from zoo import watch
from zoo.catalog import Preprocess
from zoo.data.decode import decode, read_bytes
from zoo.data.preprocess import normalise
from zoo.data.samples import SEPARATOR, evenly
from zoo.data.views import plain_view
from zoo.device import Device
from zoo.engine import Array, Engine
from zoo.errors import ImageError, InputError, ParityError, RunError
from zoo.export.contract import Run as RunFile
from zoo.export.contract import compared, odd_photos
from zoo.export.records import Fields
from zoo.machine import cores
from zoo.metrics import sigmoid, softmax
from zoo.network import Network
from zoo.run import Run

if TYPE_CHECKING:
    from torch import nn

BARE = 1e-4  # of the largest class score, or of a probability, for the network alone
PIXELS_MAX, PIXELS_MEAN = 0.05, 0.005  # of a probability, from raw pixels
LIMITS = {"network_diff": BARE, "max_diff": PIXELS_MAX, "mean_diff": PIXELS_MEAN}
FEWEST, PHOTOS = 4, 16  # of the proof; spread over the validation photos
A_SECOND = 16e9  # multiply-adds, about
SATURATED = 0.9999  # a probability above says little about the score behind it

Picture = tuple[Path, Array]  # a photo, and the uint8 pixels of it that a network sees
Pictures = list[Picture]


@dataclass(frozen=True, slots=True)
class About:
    """What a reader of the file needs to know. threshold: of several labels a picture."""

    model: str
    preprocess: Preprocess
    classes: tuple[str, ...]
    threshold: float | None = None

    @classmethod
    def of(cls, net: Network) -> About:
        return cls(net.spec.name, net.preprocess, net.classes, net.threshold)

    @classmethod
    def of_run(cls, run: Run) -> About:
        about = run.record
        preprocess = Preprocess.from_dict(about["preprocess"])
        return cls(about["model"], preprocess, tuple(about["classes"]), about.get("threshold"))

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

    def every_second(self) -> Reference:
        scores = None if self.scores is None else self.scores[::2]
        told, probabilities = self.told[::2], self.probabilities[::2]
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


def _margin(probabilities: Array, about: About) -> Array:
    """Return how far the answer to each photo is from being another one."""
    if about.threshold is not None:
        return np.asarray(np.abs(probabilities - about.threshold).min(axis=1))
    ranked = np.sort(probabilities, axis=1)
    return np.asarray(ranked[:, -1] - ranked[:, -2])


def enough(run: Run) -> int:
    """Return how many photos are a proof: a wrong weight shows on any; 16 where they are quick."""
    macs = run.record.get("spec", {}).get("macs") or A_SECOND / PHOTOS
    return int(min(PHOTOS, max(FEWEST, A_SECOND // macs)))


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


# What the run wrote down.


def _written(run: Run) -> dict[Path, tuple[list[str], list[float]]]:
    """Return what val.csv says of each photo: its labels with their probabilities."""
    root = Path(run.record["data"]["root"])
    several = run.record.get("threshold") is not None
    rows: dict[Path, tuple[list[str], list[float]]] = {}
    with suppress(RunError, ValueError):
        for row in run.rows("val.csv", ("path", "predicted", "probability")):
            names, shares = row["predicted"], row["probability"]
            labels = (names.split(SEPARATOR) if names else []) if several else [names]
            each = (shares.split(SEPARATOR) if shares else []) if several else [shares]
            if len(labels) == len(each):
                rows[root / row["path"]] = labels, [float(share) for share in each]
    return rows


def recalled(run: Run, photos: Sequence[Path], about: About, most: int) -> Recalled | None:
    """Return up to so many of the photos with what the run wrote down of them.

    None where it did not write, of too few, in another precision, or what says little.
    """
    rows, places = _written(run), {name: k for k, name in enumerate(about.classes)}
    known = [path for path in photos if path in rows and places.keys() >= set(rows[path][0])]
    if run.record["precision"] != "fp32" or len(known) < FEWEST:
        return None
    pictures = readable(known, about.preprocess, most)
    told = np.zeros((len(pictures), len(places)), bool)
    probabilities = np.full(told.shape, np.nan)
    for number, (path, _) in enumerate(pictures):
        for label, share in zip(*rows[path], strict=True):
            told[number, places[label]] = True
            probabilities[number, places[label]] = share
    if not (probabilities < SATURATED).any():
        return None
    return Recalled(pictures, Reference(told, probabilities, "val.csv"))


# The comparison.


def compare_network(ours: Array, theirs: Reference, about: About) -> float:
    """Return the largest difference of a class score of the bare network, beside the largest.

    Where the run's scores are not known, of its probabilities.
    """
    if theirs.scores is not None:
        largest = max(1.0, float(np.abs(theirs.scores).max()))
        return float(np.abs(ours - theirs.scores).max() / largest)
    return float(np.nanmax(np.abs(about.probabilities(ours) - theirs.probabilities)))


def _compare(probabilities: Array, theirs: Reference, about: About) -> Fields:
    """Compare the file's answers with the run's. Raises ParityError for another clear one."""
    difference = np.abs(probabilities - theirs.probabilities)
    same = (answers(probabilities, about) == theirs.told).all(axis=1)
    clear = _margin(probabilities, about) > PIXELS_MAX
    if not same[clear].all():
        raise ParityError(
            f"the exported file gives another class than the run on {int((~same & clear).sum())} "
            f"of {len(same)} photos",
            "please report it with the model's name; no file was written",
        )
    return {
        "photos": len(same),
        "max_diff": float(np.nanmax(difference)),
        "mean_diff": float(np.nanmean(difference)),
        "agree": int(same.sum()),
        "reference": theirs.source,
    }


def compare_odd(
    pool: ThreadPoolExecutor, pictures: Pictures, whole: RunFile, network: RunFile, about: About
) -> Fields:
    """Compare the file with its network on photos of odd sizes and kinds, as the contract has them.

    Raises ParityError for another clear answer.
    """
    photos = odd_photos([path for path, _ in pictures], about.preprocess)
    found = pool.map(lambda odd: compared([odd], whole, network, about.preprocess)[0], photos)
    ours, scores = (np.concatenate(each) for each in zip(*found, strict=True))
    theirs = computed(scores, about)
    try:
        result = _compare(ours, theirs, about)
    except ParityError as error:
        raise ParityError(f"{error.what} of odd sizes and kinds", error.hint) from None
    worst = int(np.abs(ours - theirs.probabilities).max(axis=1).argmax())
    names = {"photos": "odd_photos", "agree": "odd_agree", "max_diff": "odd_max_diff"}
    return {new: result[old] for old, new in names.items()} | {"odd_worst": photos[worst].what}


def check(differences: Mapping[str, float], limits: Mapping[str, float] = LIMITS) -> None:
    """Raises ParityError above the tolerances."""
    for name, limit in limits.items():
        if not differences[name] <= limit:
            raise ParityError(
                f"the exported file disagrees with the run: {name} is {differences[name]:.2g}, "
                f"at most {limit:g} is allowed",
                "please report it with the model's name; no file was written",
            )


# What the file says.


def given(picture: Picture, kind: str, preprocess: Preprocess) -> Array:
    """Return what a file takes for a photo: its raw pixels, or those that the run sees."""
    watch.check()
    path, pixels = picture
    if kind == "image":
        return np.asarray(decode(read_bytes(path)))[None]
    return normalise(pixels, preprocess)[None]


def each(
    pool: ThreadPoolExecutor, run: RunFile, pictures: Pictures, kind: str, preprocess: Preprocess
) -> Iterator[Array]:
    """Return what a file or a network gives for each photo; each runs on one core."""
    return pool.map(lambda picture: run(given(picture, kind, preprocess)), pictures)


def as_function(network: bytes, folder: Path | None = None) -> RunFile:
    """Return a network as a function of its tensor. folder: of the file that has its weights."""
    from zoo.engine.graph import session

    opened = session(network, 1, folder)
    return lambda tensor: opened.run(None, {"tensor": tensor})[0]


def prove(path: Path, kind: str, network: bytes, recall: Recalled, about: About) -> Fields:
    """Compare a file, and the bare network in it, with the run; raises ParityError.

    network: may take its weights from the file's folder. It runs on every second photo: a wrong
    number in it shows on any.
    """
    from zoo.engine.onnx import OnnxModel

    (pictures, theirs), beside = recall, recall.reference
    with ThreadPoolExecutor(max(2, cores())) as pool:
        bare = pool.submit(as_function, network, path.parent) if kind == "image" else None
        model = OnnxModel(path, threads=1)
        whole = each(pool, model.run, pictures, kind, about.preprocess)
        if bare is None:  # the file is the bare network
            ours = scores = np.concatenate(list(whole))
            result = _compare(about.probabilities(ours), theirs, about)
        else:
            some = each(pool, bare.result(), pictures[::2], "tensor", about.preprocess)
            scores, beside = np.concatenate(list(some)), theirs.every_second()
            ours = np.concatenate(list(whole))
            odd = compare_odd(pool, pictures, model.run, bare.result(), about)
            result = odd | _compare(ours, theirs, about)
    result |= {"network_diff": compare_network(scores, beside, about), "runtime": model.name}
    result["network_photos"] = len(scores)
    seen = pictures if bare is None else pictures[::2]
    limit = network_limit(result["network_diff"], seen, beside, about)
    check(result, LIMITS | {"network_diff": limit})
    return result


def network_limit(apart: float, pictures: Pictures, theirs: Reference, about: About) -> float:
    """Return how far the bare network may differ: more than BARE where rounding explains it."""
    from zoo.engine.graph import agrees

    if apart <= BARE or theirs.chain is None:
        return BARE
    inputs = np.stack([normalise(pixels, about.preprocess) for _, pixels in pictures])
    return apart if agrees(apart, theirs.chain, inputs) else BARE
