"""How a photo becomes the uint8 array that an exported file takes: part of its answer.

`pixels` is all of it, for a program without zoo: docs/export.md has it, the metadata of every file
have it as `zoo.decoding`, and the proof of a file asks it about `odd_photos`. What zoo itself does
is in zoo.data.decode, which also knows the rarer kinds that DECODING names.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from zoo.catalog import Preprocess
from zoo.data.decode import decode, read_bytes
from zoo.data.preprocess import KEEP, apply, framed, full_size, normalise
from zoo.data.structure import LARGE
from zoo.data.views import view_of
from zoo.disk import scratch
from zoo.engine import Array

OPEN = Path("/proc/self/fd")  # names of what this process has open
Run = Callable[[Array], Array]


def pixels(path: str | Path) -> Array:
    with open(path, "rb") as file:  # by a name Pillow turns some TIFFs wrongly
        image: Image.Image = ImageOps.exif_transpose(Image.open(file))  # upright
    if image.mode.startswith("I"):  # 16 bits
        image = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    if image.has_transparency_data:  # what is transparent is white
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))[None]  # 1 x height x width x 3


def code() -> str:
    """Return `pixels` as a program of its own, without what only a reader of types needs."""
    source = inspect.getsource(pixels).replace(": Image.Image", "")
    head, body = source.split("\n", 1)
    assert head.startswith("def pixels(path")
    return f"import numpy as np\nfrom PIL import Image, ImageOps\n\n\ndef pixels(path):\n{body}"


def decoding() -> str:
    """Return the text of the metadata: the rule in words, and as a program."""
    return (
        "Pictures are uint8 RGB, N x H x W x 3: the first frame, upright as EXIF says, what is "
        "transparent on white, 16 bits / 257, grey, palette and CMYK by Pillow's convert('RGB'), "
        "ICC profiles ignored. Save as 8 bits first: TIFFs in planes, of floats, of 12 or 32 bits, "
        "or of 16 with white at 0, and PNGs of other than 8 bits with a transparent colour."
        f"\n\n{code()}"
    )


@dataclass(frozen=True, slots=True)
class Odd:
    """A file in a way of storing photos that a run's own photos may not have.

    large: zoo decodes it small, and so to other pixels.
    """

    what: str
    data: bytes
    large: bool = False


def odd_photos(paths: Sequence[Path], preprocess: Preprocess) -> list[Odd]:
    """Return photos of odd sizes and kinds, made of these real ones.

    The largest is as large as a JPEG must be to be decoded at a half for this Preprocess, up to 6
    megapixels.
    """
    images = [decode(read_bytes(path)) for path in paths[:3]]
    first, second, third = (images[k % len(images)] for k in range(3))
    height, width = 403, 61
    fading = Image.fromarray(np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1)))
    alpha = second.resize((width, height))
    alpha.putalpha(fading)
    deep = np.asarray(third.convert("L").resize((1201, 97)), np.uint16) * 257 + 77
    palette = first.resize((37, 53)).quantize(64)
    exif = {turn: Image.Exif() for turn in (5, 6)}
    for turn, each in exif.items():
        each[0x0112] = turn
    short = min(2448, max(1501, math.ceil(2 * KEEP * max(full_size(preprocess)))))
    wide = max(short + 100, math.ceil(LARGE / short))
    large = first.resize((wide, short), Image.Resampling.BILINEAR)
    ink = third.resize((603, 477), Image.Resampling.BILINEAR).convert("CMYK")  # to be shrunk
    grey = alpha.convert("LA").resize((99, 100))
    return [
        Odd("a palette with a transparent colour", _stored(palette, transparency=7)),
        Odd("a tall picture with alpha", _stored(alpha)),
        Odd("a panorama of 16 bits", _stored(Image.fromarray(deep))),
        Odd("grey with alpha, mirrored on its side", _stored(grey, exif=exif[5])),
        Odd("a JPEG in CMYK", _stored(ink, "JPEG")),
        Odd(
            "a large JPEG on its side, which zoo may decode small",
            _stored(large, "JPEG", exif=exif[6]),
            large=True,
        ),
    ]


def _stored(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, compress_level=1, **options)  # of PNG: quickly
    return file.getvalue()


SAME_SHARE = 0.05  # of the numbers of a picture may be off by one level of 255
SMALL_MEAN, SMALL_MOST = 0.3, 4  # levels, of a large JPEG; of real photos 0.05 to 0.23, and 2
Levels = Callable[[Array, Array], Array]


def pixel_test(preprocess: Preprocess) -> Levels:
    """Return what tells by how many levels of 255 a raw picture comes to other pixels than a view.

    The view is uint8 H W C; the picture goes through the Preprocess of a file, which is a graph of
    its own here.
    """
    from zoo.engine.graph import session
    from zoo.export.graph import preprocess_model

    steps = session(preprocess_model(preprocess).SerializeToString(), 1)
    std = 255 * np.reshape(preprocess.std, (-1, 1, 1))

    def levels(raw: Array, view: Array) -> Array:
        given = steps.run(None, {"image": raw})[0][0]
        return np.asarray(np.abs(given - normalise(view, preprocess)) * std)

    return levels


def _is_same(off: Array) -> bool:
    """Return whether pixels that are off by so many levels are the same ones: all but rounding.

    A number in twenty may be off by one.
    """
    return bool(off.max() < 1.5 and (off > 0.5).mean() <= SAME_SHARE)


def _is_small(raw: Array, view: Array, preprocess: Preprocess) -> bool:
    """Return whether a view is a picture that was decoded small: close to that of the whole.

    The whole is resized as zoo does, in a tenth of the time that a graph takes for it.
    """
    whole = apply(Image.fromarray(raw[0]), preprocess)
    off = np.abs(np.subtract(whole, view, dtype=np.int16))
    return bool(off.max() < SMALL_MOST and off.mean() <= SMALL_MEAN)


def alike(pool: ThreadPoolExecutor, pictures: Sequence[tuple[Path, Array]], levels: Levels) -> bool:
    """Return whether the raw pixels of photos come to those that a run saw, as `pixel_test` has it.

    A file gives one and the same answer to both then. pictures: photos, with the run's view.
    """

    def comes(picture: tuple[Path, Array]) -> bool:
        path, view = picture
        return _is_same(levels(np.asarray(decode(read_bytes(path)))[None], view))

    return all(pool.map(comes, pictures))


def apart(
    odd: Odd, preprocess: Preprocess, levels: Levels | None = None
) -> tuple[Array, Array] | None:
    """Return what a photo is by the contract, 1 H W 3, and the run's view of it, H W C.

    None where both are the same pixels: up to rounding, by the levels between them, or of a large
    one up to what decoding it small comes to.
    """
    with _file_of(odd.data) as path:
        raw = pixels(path)
    view = view_of(odd.data, preprocess)
    if levels is not None and (
        _is_small(raw, view, preprocess) if odd.large else _is_same(levels(raw, view))
    ):
        return None
    return raw, view


@contextmanager
def _file_of(data: bytes) -> Iterator[Path]:
    """Yield a file with this content, in memory where that can be: a disk may be at work."""
    with ExitStack() as until_the_end:
        path = _in_memory(until_the_end)
        path = path or until_the_end.enter_context(scratch("odd")) / "photo"
        path.write_bytes(data)
        yield path


def _in_memory(until_the_end: ExitStack) -> Path | None:
    """Return the name of a file in memory; None where the system has none, or allows none."""
    with suppress(AttributeError, OSError):
        number = os.memfd_create("photo")
        until_the_end.callback(os.close, number)
        path = OPEN / str(number)
        return path if path.exists() else None
    return None


def seen(view: Array, network: Run | None, preprocess: Preprocess) -> Array:
    """Return what a view of the run's is for the network of a file, or where that is None, for it.

    The file takes it in a frame, which its Preprocess cuts off again.
    """
    return framed(view, preprocess)[None] if network is None else normalise(view, preprocess)[None]


def compared(
    odd: Odd, whole: Run, network: Run | None, preprocess: Preprocess, levels: Levels | None = None
) -> tuple[Array, Array] | None:
    """Return what a file gives for a photo by the contract, and its network for the run's view.

    whole: the file's function of raw pictures. network: of what it has behind its Preprocess; where
    it is None, the file itself is given the view. None where both see the same pixels, see `apart`;
    else the two differ by what the contract, the resize in the graph and a large JPEG decoded small
    come to.
    """
    pair = apart(odd, preprocess, levels)
    if pair is None:
        return None
    raw, view = pair
    return whole(raw), (network or whole)(seen(view, network, preprocess))
