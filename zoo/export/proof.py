"""The proof of an exported file: its answers on real photos beside those of the run.

The run's answers are computed by torch, or are those that it wrote down when it was trained
(val.csv): of each photo what it was taken for, and how probable that was. The file computes its own
from the photo's raw pixels, and the network in it, alone, from the pixels that the run saw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo import watch
from zoo.catalog import Preprocess
from zoo.data.decode import decode, read_bytes
from zoo.data.preprocess import framed, normalise
from zoo.engine import Array
from zoo.errors import ParityError
from zoo.export.basis import FEWEST, About, Picture, Pictures, Recalled, Reference, answers
from zoo.export.contract import Levels, Odd, alike, apart, odd_photos, pixel_test, seen
from zoo.export.contract import Run as RunFile
from zoo.export.records import Fields
from zoo.machine import cores

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

BARE = 1e-4  # of the largest class score, or of a probability, for the network alone
PIXELS_MAX, PIXELS_MEAN = 0.05, 0.005  # of a probability, from raw pixels
Found = tuple[str, Array, Array]  # what a photo is, its raw pixels, the run's view of it
Asked = list[tuple[str, Future[Array], Future[Array]]]  # and what comes of the two
LIMITS = {"network_diff": BARE, "max_diff": PIXELS_MAX, "mean_diff": PIXELS_MEAN}


def _margin(probabilities: Array, about: About) -> Array:
    """Return how far the answer to each photo is from being another one."""
    if about.threshold is not None:
        return np.asarray(np.abs(probabilities - about.threshold).min(axis=1))
    ranked = np.sort(probabilities, axis=1)
    return np.asarray(ranked[:, -1] - ranked[:, -2])


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
    pool: ThreadPoolExecutor,
    photos: Sequence[Odd],
    whole: RunFile,
    network: RunFile | None,
    about: About,
) -> Fields:
    """Compare the file with its network on photos of odd sizes and kinds (`contract.odd_photos`).

    See `contract.compared`. Raises ParityError for another clear answer.
    """
    found = _others(pool, photos, about.preprocess, pixel_test(about.preprocess))
    return _odd(_asked(pool, found, whole, network, about), len(photos), about)


def _others(
    pool: ThreadPoolExecutor, photos: Sequence[Odd], preprocess: Preprocess, levels: Levels
) -> Iterator[Found]:
    """Begin to look for photos of which file and network see other pixels; return what they see."""

    def both(odd: Odd) -> Found | None:
        watch.check()
        pair = apart(odd, preprocess, levels)
        return None if pair is None else (odd.what, *pair)

    longest_first = sorted(photos, key=lambda odd: not odd.large)
    return (found for found in pool.map(both, longest_first) if found is not None)


def _asked(
    pool: ThreadPoolExecutor,
    found: Iterable[Found],
    whole: RunFile,
    network: RunFile | None,
    about: About,
) -> Asked:
    """Begin to ask the file, and the network in it, for probabilities of such photos."""

    def beside(view: Array) -> Array:
        given = seen(view, network, about.preprocess)
        return whole(given) if network is None else about.probabilities(network(given))

    return [(name, pool.submit(whole, raw), pool.submit(beside, view)) for name, raw, view in found]


def _odd(asked: Asked, count: int, about: About) -> Fields:
    """Return how so many odd photos are answered, of which these were asked about."""
    result: Fields = {"odd_photos": count, "odd_agree": count, "odd_max_diff": 0.0}
    if not asked:
        return result
    names, ours, others = zip(*asked, strict=True)
    mine, theirs = (np.concatenate([each.result() for each in one]) for one in (ours, others))
    beside = Reference(answers(theirs, about), theirs, "the file")
    try:
        found = _compare(mine, beside, about)
    except ParityError as error:
        raise ParityError(f"{error.what} of odd sizes and kinds", error.hint) from None
    worst = int(np.abs(mine - theirs).max(axis=1).argmax())
    result["odd_agree"] -= found["photos"] - found["agree"]
    return result | {"odd_max_diff": found["max_diff"], "odd_worst": names[worst]}


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
    """Return what a file takes for a photo: its raw pixels, or those that the run sees.

    framed: so that a file that takes raw pixels sees the same ones.
    """
    watch.check()
    path, pixels = picture
    if kind == "framed":
        return framed(pixels, preprocess)[None]
    if kind == "image":
        return np.asarray(decode(read_bytes(path)))[None]
    return normalise(pixels, preprocess)[None]


def each(
    pool: ThreadPoolExecutor,
    run: RunFile,
    pictures: Pictures,
    kinds: Sequence[str],
    preprocess: Preprocess,
) -> Array:
    """Return what a file or a network gives for photos, each on one core. kinds: see `given`."""
    rows = pool.map(lambda one, kind: run(given(one, kind, preprocess)), pictures, kinds)
    return np.concatenate(list(rows))


def as_function(network: bytes) -> RunFile:
    """Return a network as a function of its tensor."""
    from zoo.engine.graph import session

    opened = session(network, 1)
    return lambda tensor: opened.run(None, {"tensor": tensor})[0]


def prove(
    path: Path,
    kind: str,
    network: bytes | None,
    recall: Recalled,
    about: About,
    ready: Callable[[], InferenceSession] | None = None,
) -> Fields:
    """Compare a file, and the bare network in it, with the run; raises ParityError.

    network: that of the file, where the run's class scores are known. It runs on every second
    photo: a wrong number in it shows on any. Without, the file itself is given what the run saw of
    those: in the place of their raw pixels where these come to the same (`contract.alike`), and the
    other photos show the steps of this file; else besides, where answers differ by more than BARE.
    ready: makes a session of what is in the file, without reading it.
    """
    from zoo.engine.onnx import OnnxModel

    (pictures, beside), preprocess = recall, about.preprocess
    kinds, image = [kind] * len(pictures), kind == "image"
    odd: Iterable[Found] = ()
    with ThreadPoolExecutor(max(2, cores())) as pool:
        # Beside it, what needs no file.
        opening = pool.submit(lambda: OnnxModel(path, threads=1, ready=ready and ready()))
        alone = pool.submit(as_function, network) if network and image else None
        halves = image and not network and len(pictures) >= FEWEST
        if image:
            levels = pixel_test(preprocess)
            if halves := halves and alike(pool, pictures[::2], levels):
                kinds[::2] = ["framed"] * len(kinds[::2])
            photos = odd_photos([photo for photo, _ in pictures], preprocess)
            odd = _others(pool, photos, preprocess, levels)
        model, bare = opening.result(), alone.result() if alone else None
        scores = each(pool, model.run, pictures, kinds, preprocess)
        ours = scores if image else about.probabilities(scores)
        result = _compare(ours, beside, about) | {"runtime": model.name}
        if halves:
            raw = _compare(ours[1::2], beside.every_second(1), about)
            result |= {name: raw[name] for name in ("max_diff", "mean_diff")}
        if image:
            result |= _odd(_asked(pool, odd, model.run, bare, about), len(photos), about)
        if bare is not None or halves or (image and result["max_diff"] > BARE):
            pictures, beside = pictures[::2], beside.every_second()
            run, how = (bare, "tensor") if bare else (model.run, "framed")
            hows = [how] * len(pictures)
            scores = scores[::2] if halves else each(pool, run, pictures, hows, preprocess)
    if image and bare is None:
        apart = float(np.nanmax(np.abs(scores - beside.probabilities)))
    else:
        apart = compare_network(scores, beside, about)
    result |= {"network_diff": apart, "network_photos": len(pictures)}
    check(result, LIMITS | {"network_diff": network_limit(apart, pictures, beside, about)})
    return result


def network_limit(apart: float, pictures: Pictures, theirs: Reference, about: About) -> float:
    """Return how far the bare network may differ: more than BARE where rounding explains it."""
    from zoo.engine.graph import agrees

    if apart <= BARE or theirs.chain is None:
        return BARE
    inputs = np.stack([normalise(pixels, about.preprocess) for _, pixels in pictures])
    return apart if agrees(apart, theirs.chain, inputs) else BARE
