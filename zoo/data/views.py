"""Views: deterministic augmented crops of a picture, f(seed, picture, view number).

View 0 is the plain centre view. Every other view is a random resized crop with a mirror image in
half of the cases and a little change of brightness, contrast and colour; it depends on the
picture's content and nothing else, so it can be drawn again alone and its features can be kept.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from zoo.catalog.spec import Preprocess
from zoo.data import decode_process, decoder_warnings
from zoo.data.decode import (
    FORMATS,
    Picture,
    decode,
    decoded,
    must_be_read,
    read_bytes,
    refusals,
    to_mode,
    upright,
    whole,
)
from zoo.data.limits import check_pixels, file_room
from zoo.data.pnm import raw_image
from zoo.data.preprocess import (
    Box,
    Pixels,
    apply,
    as_it_is,
    in_mode,
    mode,
    resize,
    spare,
    to_array,
)
from zoo.data.structure import LARGE, Checked, check
from zoo.errors import ImageError

AREA = (0.35, 1.0)  # share of the picture; Inception's 0.08 loses small objects
RATIO = (3 / 4, 4 / 3)
JITTER = 0.2
GLYPH = 64  # pixels of the longer side up to which a grey picture may be a digit or a letter
GREY = 8  # of 255, by which the colours of a grey pixel may differ

Source = Path | str | bytes | Image.Image  # a file, the content of one, or a picture in memory


def view(
    image: Image.Image | Picture,
    preprocess: Preprocess,
    number: int = 0,
    *,
    seed: int = 0,
    digest: str = "",
    flip: bool = True,
) -> Pixels:
    """Return view `number` of an upright picture with this digest: uint8, H x W x C."""
    if number == 0:
        return apply(image, preprocess)
    picture = in_mode(image, preprocess)
    random = generator("view", seed, digest, number)
    part = crop_box(picture.width, picture.height, random, _proportions(preprocess))
    small = resize(picture, preprocess, part)
    mirrored = random.random() < 0.5
    if flip and mirrored:
        small = ImageOps.mirror(small)
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        amount = 1 + JITTER * (2 * random.random() - 1)
        if change is not ImageEnhance.Color or preprocess.channels == 3:
            small = change(small).enhance(amount)
    return to_array(small, preprocess)


def view_of(
    data: bytes,
    preprocess: Preprocess,
    number: int = 0,
    *,
    seed: int = 0,
    digest: str = "",
    flip: bool = True,
    apart: bool = False,
) -> Pixels:
    """Return the view of a file's bytes; a large JPEG is decoded no larger than that needs.

    apart: in a process of its own, whatever it is. Raises ImageError.
    """
    if number == 0:
        pixels = as_it_is(data, preprocess)
        if pixels is not None:
            return pixels
    if (image := raw_image(data)) is not None:
        return view(image, preprocess, number, seed=seed, digest=digest, flip=flip)
    checked = check(data)
    which: decode_process.Which = {"number": number, "seed": seed, "digest": digest, "flip": flip}
    if apart or checked.isolated:
        job: decode_process.Job = {"view": which, "preprocess": preprocess.to_dict()}
        return decode_process.decoded(checked, job, whole=False)
    return view_here(checked, preprocess, which)


def view_here(checked: Checked, preprocess: Preprocess, which: decode_process.Which) -> Pixels:
    """Return the view, decoded in this process whatever it costs."""

    def most(width: int, height: int) -> float:
        part = None
        if which["number"]:
            random = generator("view", which["seed"], which["digest"], which["number"])
            part = crop_box(width, height, random, _proportions(preprocess))
        return spare(width, height, preprocess, part)

    with decoded(checked, mode(preprocess), most) as picture:
        return view(picture, preprocess, **which)


class LastPhoto(threading.local):
    """The photo that a thread has decoded last, where several views of each are drawn in turn.

    It is decoded once for all of them, unless it is large (some views of a large JPEG are decoded
    smaller than others) or isolated. The pixels are those of `view_of`.
    """

    digest = ""
    picture: Picture | None = None

    def view_of(
        self,
        data: bytes,
        preprocess: Preprocess,
        number: int = 0,
        *,
        seed: int = 0,
        digest: str,
        flip: bool = True,
    ) -> Pixels:
        """Return the view of a file's bytes, which have this digest. Raises ImageError."""
        if self.digest != digest:
            self.picture = _decoded_whole(data, preprocess)
            self.digest = digest
        if self.picture is None:
            return view_of(data, preprocess, number, seed=seed, digest=digest, flip=flip)
        return view(self.picture, preprocess, number, seed=seed, digest=digest, flip=flip)


def _decoded_whole(data: bytes, preprocess: Preprocess) -> Picture | None:
    """Return a photo whose views all see the same pixels; None where each decodes it by itself."""
    checked = check(data)
    width, height = checked.size
    if checked.isolated or not 0 < width * height < LARGE:
        return None
    with decoded(checked, mode(preprocess), lambda width, height: 1.0) as picture:
        return picture


def numbered_view(
    source: Source,
    number: int,
    *,
    preprocess: Preprocess,
    flip: bool = True,
    last: LastPhoto | None = None,
) -> Pixels:
    """Return a view of a picture under the seed 0: uint8, H x W x C. Raises ImageError.

    last: keeps the photo for its other views.
    """
    draw = last.view_of if last else view_of
    with _read(source) as read:
        if isinstance(read, bytes):
            digest = hashlib.sha256(read).hexdigest()
            return draw(read, preprocess, number, digest=digest, flip=flip)
        picture = _given_picture(read, mode(preprocess))
        digest = hashlib.sha256(picture.image.tobytes()).hexdigest()
        return view(picture, preprocess, number, digest=digest, flip=flip)


def plain_view(source: Source, preprocess: Preprocess) -> Pixels:
    """Return view 0 of a picture: uint8, H x W x C. Raises ImageError."""
    with _read(source) as read:
        if isinstance(read, bytes):
            return view_of(read, preprocess)
        return view(_given_picture(read, mode(preprocess)), preprocess)


@contextmanager
def _read(source: Source) -> Iterator[bytes | Image.Image]:
    """Yield the content of a file, or the picture that is in memory. Raises ImageError."""
    if isinstance(source, bytes | Image.Image):
        with decoder_warnings.photo("a picture in memory"):
            if isinstance(source, bytes):
                must_be_read(source)
            yield source
    else:
        with decoder_warnings.photo(str(source)), file_room(source):
            yield read_bytes(source)


def small_and_grey(paths: Iterable[Path | str]) -> bool:
    """Return whether all of these pictures are grey and small, as those of digits and letters are.

    What they show is another thing in a mirror. A picture that cannot be read says nothing.
    """
    seen = False
    for path in paths:
        try:
            data = read_bytes(path)
            if max(Image.open(BytesIO(data), formats=FORMATS).size) > GLYPH:
                return False
            colours = np.asarray(decode(data)).astype(int)
        except (ImageError, OSError, ValueError, SyntaxError):
            continue
        if (colours.max(axis=2) - colours.min(axis=2)).max() > GREY:
            return False
        seen = True
    return seen


def generator(*key: object) -> np.random.Generator:
    """Return random numbers that depend on nothing but the key."""
    text = ":".join(str(part) for part in key)
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16]))


def crop_box(width: int, height: int, random: np.random.Generator, proportions: float = 1.0) -> Box:
    """Return a box with a random share of the area and a random ratio, inside the picture.

    proportions: width beside height of the network's input, which RATIO is a factor on.
    """
    area = width * height * random.uniform(*AREA)
    ratio = math.exp(random.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
    ratio *= proportions
    across = min(width, max(1, round(math.sqrt(area * ratio))))
    down = min(height, max(1, round(math.sqrt(area / ratio))))
    left = int(random.integers(0, width - across + 1))
    upper = int(random.integers(0, height - down + 1))
    return (left, upper, left + across, upper + down)


def _proportions(preprocess: Preprocess) -> float:
    return preprocess.width / preprocess.height


_decoding = threading.Lock()  # Pillow decodes a picture where it lies: one thread at a time


def _given_picture(image: Image.Image, mode: str) -> Picture:
    """Return a picture that somebody has opened, upright, in `RGB` or `L`.

    It is what its file is read as, but for a large JPEG, which is not decoded smaller here. Raises
    ImageError where it cannot be decoded, or is larger than is read.
    """
    check_pixels(*image.size)
    with decoder_warnings.decoding(), refusals():
        with _decoding:
            image.load()
        return whole(to_mode(upright(image), mode))
