"""From a file to an upright picture in RGB or grey, or an ImageError that says why not.

What is decoded is limited: an allow-list of formats, a structure that photos have (structure.py),
a cap on pixels and on memory, over all threads too (limits.py), the first frame only, regular files
only. What cannot be told before is decoded in a process of its own (decode_process.py). A truncated
file is an error, never a half-grey picture.

A large JPEG can be decoded at a half, a quarter or an eighth of its size: libjpeg leaves the finer
frequencies out, which takes a third of the time or less. Picture keeps where its pixels lie.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import (
    AvifImagePlugin,
    ExifTags,
    Image,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from zoo.data import container, decode_process, decoder_warnings, pixel_values, unsupported
from zoo.data.limits import check_pixels, cost, room
from zoo.data.structure import LARGE, Checked, check
from zoo.errors import DataError, ImageError, ZooError

# JPEG includes the MPO of phones, several JPEGs in a file, of which the first is read.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo")
OTHER_SUFFIXES = (
    ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip
SUFFIXES = frozenset(JPEG_SUFFIXES + OTHER_SUFFIXES)
# Image.open knows a format once its plugin is imported; Pillow itself loads only the commonest.
PLUGINS = (AvifImagePlugin, TiffImagePlugin, WebPImagePlugin)
MAX_BYTES = 512 * 1024 * 1024
SCALES = (8, 4, 2)  # at which a JPEG of LARGE pixels or more may be decoded
BAND = 1 << 20  # pixels of a large picture that are brought into another mode at a time
# Modes whose pixels become RGB or grey one by one, whatever the others are.
BY_PIXEL = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr")
# EXIF orientations whose upright picture begins at the stored one's last column or row.
FROM_THE_RIGHT, FROM_BELOW, ON_ITS_SIDE = (2, 3, 6, 7), (3, 4, 7, 8), (5, 6, 7, 8)
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow's own cap, for this process: ours is lower, and one that a user can raise.
Image.MAX_IMAGE_PIXELS = None


def looks_like_image(path: Path | str) -> bool:
    """Return whether a file counts as a picture, be it in a format that is read or not.

    By its suffix, else by its first bytes.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix in SUFFIXES or suffix in unsupported.BY_SUFFIX:
        return True
    head = _head_of(path)
    return unsupported.begins_well(head) or unsupported.by_content(head) is not None


def _head_of(path: Path | str) -> bytes:
    """Return the first bytes of a regular file; none where they cannot be read."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return b""
        with open(path, "rb") as file:
            return file.read(unsupported.HEAD)
    except OSError:
        return b""


def unsupported_kind(path: Path | str) -> unsupported.Kind | None:
    """Return the format of a photo that is not read for its format's sake, else None.

    Only a file with a suffix that says so is looked into: it is for counting before decoding.
    """
    if os.path.splitext(path)[1].lower() not in unsupported.BY_SUFFIX:
        return None
    head = _head_of(path)
    return unsupported.kind(path, head, read=unsupported.begins_well(head))


def read_bytes(path: Path | str) -> bytes:
    """Return the bytes of a regular file, or of the picture FILE#N in a container.

    A file that has such a name itself comes first. Raises ImageError, also for none and for more
    than MAX_BYTES.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(_not_a_file(path, status.st_mode))
        _check_length(status.st_size, "the file")
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError as error:
        inside = _in_container(os.fspath(path))
        if inside is None:
            raise ImageError(f"cannot be read: {error.strerror}") from None
        _check_length(len(inside), "the cell")
        data = inside
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from None
    except ValueError:  # a zero byte, of a list that is no text
        raise ImageError("cannot be read: no file has such a name") from None
    # No picture begins like this but AVIF. (No byte at all: it is being written over.)
    if (data[:1] < b" " or data[:4] == b"PAR1") and container.is_container(path):
        raise ImageError(_whole_container(path))
    must_be_read(data, path)
    return data


def must_be_read(data: bytes, path: Path | str = "") -> None:
    """Raise ImageError for bytes that are none, too many, or a photo in a format that is not read.

    path: whose suffix counts, too.
    """
    _check_length(len(data), "the file")
    head = data[: unsupported.HEAD]
    if (kind := unsupported.kind(path, head, read=unsupported.begins_well(head))) is not None:
        raise ImageError(kind.reason)


def _check_length(length: int, what: str) -> None:
    if length == 0:
        raise ImageError(f"{what} is empty")
    if length > MAX_BYTES:
        raise ImageError(f"{length / 1e6:.0f} MB is more than {MAX_BYTES / 1e6:.0f} MB")


def _not_a_file(path: Path | str, mode: int) -> str:
    """Return why a path is no file: a folder, where that cannot even be listed."""
    if stat.S_ISDIR(mode):
        try:
            os.scandir(path).close()
        except OSError as error:
            return f"a folder that cannot be listed: {error.strerror}"
    return "not a regular file"


def _in_container(address: str) -> bytes | None:
    """Return the picture FILE#N; None where FILE is no container. Raises ImageError."""
    try:
        return container.read(address)
    except DataError as error:
        raise ImageError(f"{error.what}; {error.hint}") from None


def _whole_container(path: Path | str) -> str:
    """Return why a file of many pictures is not one."""
    try:
        count = len(container.load(path))
    except DataError as error:
        return f"{error.what}; {error.hint}"
    return f"{count:,} pictures in one file: name one of them, from FILE#0 to FILE#{count - 1}"


@dataclass(frozen=True, slots=True)
class Picture:
    """An upright picture of `width` x `height` pixels, whose image may be smaller by `scale`.

    origin: where the picture's left upper corner lies in the image, which is up to a pixel larger
    than the picture where `scale` does not divide its sides. mode: what `rows` are brought into,
    where a large image is not yet in it: whole, it would take up to five times its memory.
    """

    image: Image.Image
    width: int
    height: int
    scale: int = 1
    origin: tuple[float, float] = (0.0, 0.0)
    mode: str = ""

    def rows(self, top: int, bottom: int) -> Iterator[tuple[int, Image.Image]]:
        """Return the image's rows in `mode`, in bands: where each begins, and its pixels."""
        step = max(1, BAND // self.image.width)
        for begin in range(top, bottom, step):
            box = (0, begin, self.image.width, min(begin + step, bottom))
            yield begin, to_mode(self.image.crop(box), self.mode)

    def complete(self) -> Picture:
        """Return the picture with its image in `mode`."""
        if not self.mode:
            return self
        image = Image.new(self.mode, self.image.size)
        for begin, band in self.rows(0, image.height):
            image.paste(band, (0, begin))
        return replace(self, image=image, mode="")

    def part(self, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """Return the image's own coordinates of left, upper, right, lower in the picture."""
        if self.scale == 1:
            return box
        x, y = self.origin
        left, upper, right, lower = (side / self.scale for side in box)
        limits = self.image.size
        return (left + x, upper + y, min(right + x, limits[0]), min(lower + y, limits[1]))


def whole(image: Image.Image) -> Picture:
    """Return an image that is the picture itself."""
    return Picture(image, *image.size)


def decode(data: bytes, mode: str = "RGB") -> Image.Image:
    """Return the upright first frame in `RGB` or `L`. Raises ImageError."""
    return decode_for(data, mode, lambda width, height: 1.0).image


def decode_for(data: bytes, mode: str, spare: Callable[[int, int], float]) -> Picture:
    """Decode for a use to which a large JPEG may be smaller.

    spare: how many times smaller at most, from the upright picture's width and height. Only JPEGs
    of LARGE pixels or more become smaller; all others are the same to the last bit.
    """
    checked = check(data)
    if checked.isolated:
        pixels = decode_process.decoded(checked, {"mode": mode}, whole=True)
        return whole(Image.fromarray(pixels if mode == "RGB" else pixels[..., 0]))
    with decoded(checked, mode, spare) as picture:
        return picture.complete()


@contextmanager
def decoded(checked: Checked, mode: str, spare: Callable[[int, int], float]) -> Iterator[Picture]:
    """Decode in this process, and hold the memory that it takes while the picture is used.

    A large picture may be in another mode: see Picture.rows. Raises ImageError.
    """
    with decoder_warnings.decoding(), refusals():
        image = pixel_values.opened(checked.data, (checked.format,) if checked.format else FORMATS)
        size = image.size
        check_pixels(*size)
        scale = _drafted(image, spare) if size[0] * size[1] >= LARGE else 1
        bytes_taken = cost(image, checked.extra)
    with room().taken(bytes_taken + len(checked.data)):
        with decoder_warnings.decoding(), refusals():
            pixel_values.load(image, checked.data)
            picture = _loaded(image, mode, scale, size)
        yield picture


def _loaded(image: Image.Image, mode: str, scale: int, size: tuple[int, int]) -> Picture:
    """Return the upright picture of an image that was stored with that size."""
    turned = upright(image)
    if pixel_values.wide(turned):
        turned = pixel_values.eight_bits(turned)
    found, later = turned, mode
    large = turned.width * turned.height >= LARGE and turned.mode in BY_PIXEL
    if not large or (turned.mode == mode and "transparency" not in turned.info):
        found, later = to_mode(turned, mode), ""
    if scale == 1:
        return replace(whole(found), mode=later)
    turn = 1 if turned is image else orientation(image)
    return replace(_placed(found, size, scale, turn), mode=later)


@contextmanager
def refusals() -> Iterator[None]:
    """Turn whatever Pillow raises into an ImageError with a reason of one line."""
    try:
        yield
    except ZooError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"not a picture in a format that is read ({', '.join(FORMATS)})") from None
    except MemoryError:
        raise ImageError("there is not enough memory to decode it") from None
    except Exception as error:  # Pillow raises nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(decoder_warnings.with_said(reason[:200])) from None


def _drafted(image: Image.Image, spare: Callable[[int, int], float]) -> int:
    """Tell libjpeg to decode at 1/2, 1/4 or 1/8 where so much is to spare; return which it is."""
    if image.format not in ("JPEG", "MPO"):
        return 1
    width, height = image.size
    limit = spare(height, width) if orientation(image) in ON_ITS_SIDE else spare(width, height)
    for scale in SCALES:
        if scale <= limit:
            return scale if image.draft(None, (width // scale, height // scale)) else 1
    return 1


def _placed(image: Image.Image, size: tuple[int, int], scale: int, turn: int) -> Picture:
    """Return the upright image of a photo that was stored with so many pixels and that orientation.

    The last column and row of a smaller image stand for less than `scale` pixels of the photo;
    turned, they can be the first.
    """
    width, height = size[::-1] if turn in ON_ITS_SIDE else size
    x = image.width - width / scale if turn in FROM_THE_RIGHT else 0.0
    y = image.height - height / scale if turn in FROM_BELOW else 0.0
    return Picture(image, width, height, scale, (x, y))


def upright(image: Image.Image) -> Image.Image:
    """Return the picture turned as its EXIF orientation says; damaged EXIF data count as none."""
    turn = TURNS.get(orientation(image))
    return image if turn is None else image.transpose(turn)


def orientation(image: Image.Image) -> int:
    """Return 1 to 8, as EXIF has it; 1 where it says nothing or nonsense."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1
    return found if found in range(2, 9) else 1


def to_mode(image: Image.Image, mode: str) -> Image.Image:
    """Return any of Pillow's modes as `RGB` or `L`; transparency becomes white."""
    if image.mode == mode and "transparency" not in image.info:
        return image
    if pixel_values.wide(image):
        image = pixel_values.eight_bits(image)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        layer = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, layer)
    # Grey always by way of RGB, as an exported graph does it, whose input is RGB.
    return image if image.mode == mode else image.convert("RGB").convert(mode)
