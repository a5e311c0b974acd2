"""The proof of an exported file: its answers on real photos beside those of the run.

The run's answers are computed by torch, or are those that it wrote down when it was trained
(val.csv): of each photo what it was taken for, and how probable that was. The file computes its own
from the photo's raw pixels, and the network in it, alone, from the pixels that the run saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo import watch
from zoo.catalog import Preprocess
from zoo.data.decode import decode, read_bytes
from zoo.data.preprocess import normalise
from zoo.data.samples import SEPARATOR
from zoo.data.views import plain_view
from zoo.engine import Array
from zoo.engine.open import spread
from zoo.errors import ImageError, InputError, ParityError, RunError
from zoo.export.contract import Run as RunFile
from zoo.export.contract import compared, odd_photos
from zoo.machine import cores
from zoo.metrics import sigmoid, softmax
from zoo.network import Network
from zoo.run import Run

BARE = 1e-4  # of the largest class score, or of a probability, for the network alone
PIXELS_MAX, PIXELS_MEAN = 0.05, 0.005  # of a probability, from raw pixels
FEWEST, PHOTOS = 4, 16  # of the proof; spread over the validation photos
A_SECOND = 16e9  # multiply-adds, about
SATURATED = 0.9999  # a probability above says little about the score behind it

Pictures = list[tuple[Path, Array]]


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
    source: `torch`, or the file of the run that they were read from.
    """

    told: Array
    probabilities: Array
    source: str
    scores: Array | None = None

    def every_second(self) -> Reference:
        scores = None if self.scores is None else self.scores[::2]
        return Reference(self.told[::2], self.probabilities[::2], self.source, scores)


def computed(scores: Array, about: About) -> Reference:
    probabilities = about.probabilities(scores)
    return Reference(answers(probabilities, about), probabilities, "torch", scores)


def answers(probabilities: Array, about: About) -> Array:
    """N x K truths: the likeliest class, or all that reach the threshold."""
    if about.threshold is not None:
        return np.asarray(probabilities >= about.threshold)
    likeliest = probabilities.argmax(axis=1, keepdims=True)
    return np.asarray(np.arange(probabilities.shape[1]) == likeliest)


def margin(probabilities: Array, about: About) -> Array:
    """How far the answer to each photo is from being another one."""
    if about.threshold is not None:
        return np.asarray(np.abs(probabilities - about.threshold).min(axis=1))
    ranked = np.sort(probabilities, axis=1)
    return np.asarray(ranked[:, -1] - ranked[:, -2])


def enough(run: Run) -> int:
    """How many photos are a proof: one wrong weight shows on any; all 16 where they are quick."""
    macs = run.record.get("spec", {}).get("macs") or A_SECOND / PHOTOS
    return int(min(PHOTOS, max(FEWEST, A_SECOND // macs)))


def readable(photos: Sequence[Path], preprocess: Preprocess, most: int = PHOTOS) -> Pictures:
    """Up to so many photos, spread over the list, each with the network's uint8 input.

    Raises InputError where none can be read.
    """

    def view(photo: Path) -> Array | None:
        watch.check()
        with suppress(ImageError):
            return plain_view(photo, preprocess)
        return None

    chosen = spread(photos, most)
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


def written(run: Run) -> dict[Path, tuple[list[str], list[float]]]:
    """What val.csv says of each photo: its labels with their probabilities. Empty without one."""
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


def recalled(
    run: Run, photos: Sequence[Path], about: About, most: int
) -> tuple[Pictures, Reference] | None:
    """Up to so many of the photos with what the run wrote down of them.

    None where it did not write, of too few, in another precision, or what says little.
    """
    rows, places = written(run), {name: k for k, name in enumerate(about.classes)}
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
    return pictures, Reference(told, probabilities, "val.csv")


# The comparison.


def compare_network(ours: Array, theirs: Reference, about: About) -> float:
    """Largest difference of the bare network's class scores, relative to the largest of them.

    Where the run's scores are not known, of its probabilities.
    """
    if theirs.scores is not None:
        largest = max(1.0, float(np.abs(theirs.scores).max()))
        return float(np.abs(ours - theirs.scores).max() / largest)
    return float(np.nanmax(np.abs(about.probabilities(ours) - theirs.probabilities)))


def compare(probabilities: Array, theirs: Reference, about: About) -> dict[str, Any]:
    """The file's probabilities beside the run's. Raises ParityError for another clear answer."""
    difference = np.abs(probabilities - theirs.probabilities)
    same = (answers(probabilities, about) == theirs.told).all(axis=1)
    clear = margin(probabilities, about) > PIXELS_MAX
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
) -> dict[str, Any]:
    """The file beside its own network on photos of odd sizes and kinds, decoded by the contract.

    Raises ParityError for another clear answer.
    """
    photos = odd_photos([path for path, _ in pictures], about.preprocess)
    found = pool.map(lambda odd: compared([odd], whole, network, about.preprocess)[0], photos)
    ours, scores = (np.concatenate(each) for each in zip(*found, strict=True))
    theirs = computed(scores, about)
    try:
        result = compare(ours, theirs, about)
    except ParityError as error:
        raise ParityError(f"{error.what} of odd sizes and kinds", error.hint) from None
    worst = int(np.abs(ours - theirs.probabilities).max(axis=1).argmax())
    names = {"photos": "odd_photos", "agree": "odd_agree", "max_diff": "odd_max_diff"}
    return {new: result[old] for old, new in names.items()} | {"odd_worst": photos[worst].what}


def check(result: dict[str, Any]) -> None:
    """Raises ParityError above the tolerances."""
    limits = {"network_diff": BARE, "max_diff": PIXELS_MAX, "mean_diff": PIXELS_MEAN}
    for name, limit in limits.items():
        if not result[name] <= limit:
            raise ParityError(
                f"the exported file disagrees with the run: {name} is {result[name]:.2g}, "
                f"at most {limit:g} is allowed",
                "please report it with the model's name; no file was written",
            )


# What the file says.


def prove(
    path: Path, kind: str, network: bytes, pictures: Pictures, theirs: Reference, about: About
) -> dict[str, Any]:
    """Compares a file, and the bare network in it, with the run; raises ParityError.

    network: may take its weights from the file's folder. It runs on every second photo: a wrong
    number in it shows on any. Each photo runs on one core.
    """
    from zoo.engine.graph import session
    from zoo.engine.onnx import OnnxModel

    def of_file(picture: tuple[Path, Array]) -> Array:
        watch.check()
        if kind == "image":
            return model.run(np.asarray(decode(read_bytes(picture[0])))[None])
        return model.run(normalise(picture[1], about.preprocess)[None])

    def of_tensor(tensor: Array) -> Array:
        return alone.result().run(None, {"tensor": tensor})[0]  # type: ignore[no-any-return]

    def of_network(picture: tuple[Path, Array]) -> Array:
        watch.check()
        return of_tensor(normalise(picture[1], about.preprocess)[None])

    with ThreadPoolExecutor(max(2, cores())) as pool:
        bare = kind == "image"  # else the file is the bare network
        alone = pool.submit(session, network, 1, path.parent) if bare else Future()
        model = OnnxModel(path, threads=1)
        whole = pool.map(of_file, pictures)
        scores = np.concatenate(list(pool.map(of_network, pictures[::2]))) if bare else None
        ours = np.concatenate(list(whole))
        odd = compare_odd(pool, pictures, model.run, of_tensor, about) if bare else {}
    result = odd | compare(ours if bare else about.probabilities(ours), theirs, about)
    scores, beside = (ours, theirs) if scores is None else (scores, theirs.every_second())
    result |= {"network_diff": compare_network(scores, beside, about), "runtime": model.name}
    result["network_photos"] = len(scores)
    check(result)
    return result
