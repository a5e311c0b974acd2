"""Files and pixels: what cannot be read, odd names, tiny and long pictures, colours, crops."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

import numpy as np

from zoo.catalog import Preprocess
from zoo.catalog.spec import pixels
from zoo.check.look import SIDE, Looked, Photo
from zoo.check.records import Example, Finding, Severity
from zoo.data import ignored
from zoo.data.decode import JPEG_SUFFIXES
from zoo.data.preprocess import box
from zoo.text import count, percent

MANY_BAD = 0.05  # share of photos that cannot be read, from which on it is serious
SMALL = 0.5  # of the network's size: enlarged to it, a picture is mostly guessed
LONG = 3.0  # times as long as wide, or as wide as long
LOST = 0.6  # share of the detail outside of the crop from which on it is badly cut
SPREAD = 16  # times the pixels that the largest tenth has more than the smallest tenth
RARE = 0.05  # of grey photos among coloured ones, or the other way round: from here on a mixture
_SUFFIXES = {"JPEG": JPEG_SUFFIXES, "TIFF": (".tif", ".tiff"),
             "PPM": (".ppm", ".pgm", ".pbm", ".pnm")}  # fmt: skip


def findings(
    looked: Looked, skipped: Sequence[tuple[str, str]], preprocess: Preprocess
) -> list[Finding | None]:
    """Return what is wrong with the files of the data. skipped: as of an index."""
    return [
        _unreadable(looked),
        _misnamed(looked.photos),
        _passed_over(skipped),
        _tiny(looked.photos, preprocess),
        _long(looked.photos),
        _cut(looked.photos, preprocess),
        _colours(looked.photos),
        _sizes(looked.photos),
    ]


def _unreadable(looked: Looked) -> Finding | None:
    if not looked.bad:
        return None
    share = len(looked.bad) / (len(looked.bad) + len(looked.photos))
    severity: Severity = "serious" if share > MANY_BAD else "warning"
    examples = tuple(Example((path,), why) for path, why in looked.bad.items())
    one = count(len(looked.bad), "photo cannot be read", "photos cannot be read")
    return Finding(
        "unreadable", severity, one, "replace or remove them; training leaves them out", examples
    )


def _misnamed(photos: Sequence[Photo]) -> Finding | None:
    """Find files whose content is of another format than their names say."""
    examples = []
    for photo in photos:
        suffix = os.path.splitext(photo.path)[1].lower()
        right = _SUFFIXES.get(photo.format, (f".{photo.format.lower()}",))
        if photo.format and "#" not in suffix and suffix and suffix not in right:
            examples.append(Example((photo.path,), f"is a {photo.format}"))
    if not examples:
        return None
    what = count(len(examples), "file has", "files have") + " another format than the name says"
    return Finding("misnamed", "note", what, "rename; zoo reads by content", tuple(examples))


def _passed_over(skipped: Sequence[tuple[str, str]]) -> Finding | None:
    """Find what the index left out and nobody might miss."""
    examples = [Example((path,), why) for path, why in ignored.of_note(skipped)]
    if not examples:
        return None
    what = count(len(examples), "file or folder is", "files or folders are") + " passed over"
    advice = "look whether photos are among them"
    return Finding("passed_over", "note", what, advice, tuple(examples))


def _tiny(photos: Sequence[Photo], preprocess: Preprocess) -> Finding | None:
    least = round(SMALL * min(preprocess.height, preprocess.width))
    small = [photo for photo in photos if min(photo.width, photo.height) < least]
    if not small:
        return None
    if len(small) == len(photos):
        what = f"all photos are smaller than {least} pixels, the network's input is"
        advice = "a smaller --size, or a network made for small pictures, may do as well"
        return Finding("tiny", "note", f"{what} {pixels(preprocess.size)}", advice)
    what = count(len(small), "photo is", "photos are") + f" smaller than {least} pixels"
    advice = f"replace them: the network's input is {pixels(preprocess.size)} pixels"
    return Finding("tiny", "warning", what, advice, _sized(small), pictures=True)


def _long(photos: Sequence[Photo]) -> Finding | None:
    long = [p for p in photos if max(p.width, p.height) > LONG * min(p.width, p.height)]
    if not long:
        return None
    what = count(len(long), "photo is", "photos are") + f" more than {LONG:g} times as long as wide"
    advice = "crop them to what they show, or --fit pad"
    return Finding("long", "warning", what, advice, _sized(long), pictures=True)


def _sized(photos: Sequence[Photo]) -> tuple[Example, ...]:
    return tuple(Example((p.path,), f"{p.width} x {p.height}") for p in photos)


def _cut(photos: Sequence[Photo], preprocess: Preprocess) -> Finding | None:
    """Find photos most of whose detail lies outside of the part that the network sees."""
    if preprocess.fit != "crop":
        return None
    lost = [(_lost(photo, preprocess), photo) for photo in photos]
    bad = sorted((pair for pair in lost if pair[0] >= LOST), key=lambda pair: -pair[0])
    if not bad:
        return None
    examples = tuple(
        Example((p.path,), f"{percent(share, 0)} of the detail is outside") for share, p in bad
    )
    what = "the crop cuts off most of " + count(len(bad), "photo")
    advice = "--fit pad or --fit squash keeps the whole photo"
    return Finding("cut", "warning", what, advice, examples, pictures=True)


def _lost(photo: Photo, preprocess: Preprocess) -> float:
    """Return the share of a photo's edges that lies outside of the crop."""
    left, upper, right, lower = box(photo.width, photo.height, preprocess)
    grey = photo.grey.astype(np.float64)
    edges = np.abs(np.gradient(grey, axis=0)) + np.abs(np.gradient(grey, axis=1))
    places = np.arange(SIDE) + 0.5
    across = (places * photo.width / SIDE >= left) & (places * photo.width / SIDE <= right)
    down = (places * photo.height / SIDE >= upper) & (places * photo.height / SIDE <= lower)
    whole = edges.sum()
    return 1 - float(edges[np.ix_(down, across)].sum() / whole) if whole else 0.0


def _colours(photos: Sequence[Photo]) -> Finding | None:
    """Find grey photos among coloured ones, and how they lie in the classes."""
    grey = [photo for photo in photos if not photo.coloured]
    share = len(grey) / max(1, len(photos))
    if not grey or share == 1:
        return None
    few, what = (grey, "grey") if share <= 0.5 else ([p for p in photos if p.coloured], "coloured")
    severity: Severity = "note" if len(few) < RARE * len(photos) else "warning"
    said = f"{count(len(few), 'photo is', 'photos are')} {what}, the others are not"
    advice = "look whether colour tells a class by chance: a network would learn that"
    examples = tuple(Example((photo.path,), what) for photo in few)
    return Finding("colours", severity, said, advice, examples, pictures=True)


def _sizes(photos: Sequence[Photo]) -> Finding | None:
    """Find sizes so different that the same object is fine in one photo and coarse in another."""
    if len(photos) < 10:
        return None
    pixels = np.array([photo.width * photo.height for photo in photos])
    low, middle, high = np.quantile(pixels, [0.1, 0.5, 0.9])
    if high < SPREAD * low:
        return None
    common = Counter((photo.width, photo.height) for photo in photos).most_common(3)
    examples = tuple(Example((), f"{w} x {h}: {count(n, 'photo')}") for (w, h), n in common)
    what = f"sizes differ {high / low:.0f}-fold: a tenth is below {low / 1e6:.2g} megapixels"
    return Finding(
        "sizes", "note", f"{what}, a tenth above {high / 1e6:.2g}, half below {middle / 1e6:.2g}",
        "look whether size tells a class by chance", examples,
    )  # fmt: skip
