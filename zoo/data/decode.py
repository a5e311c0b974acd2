"""From a file to an upright picture in RGB or grey, or an ImageError that says why not.

What is decoded is limited: an allow-list of formats, a cap on pixels and on bytes, the first
frame only, regular files only. A truncated file is an error, never a half-grey picture.

A large JPEG can be decoded at a half, a quarter or an eighth of its size: libjpeg leaves the finer
frequencies out, which takes a third of the time or less. Picture keeps where its pixels lie.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import (
    AvifImagePlugin,
    ExifTags,
    Image,
    ImageOps,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from zoo.data import container
from zoo.errors import DataError, ImageError, UsageError, ZooError

# JPEG includes the MPO of phones, several JPEGs in a file, of which the first is read.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo")
OTHER_SUFFIXES = (".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".ppm", ".pgm", ".pbm")
SUFFIXES = frozenset(JPEG_SUFFIXES + OTHER_SUFFIXES)
# Image.open knows a format once its plugin is imported; Pillow itself loads only the commonest.
PLUGINS = (AvifImagePlugin, TiffImagePlugin, WebPImagePlugin)
MAX_PIXELS = 64_000_000
MAX_BYTES = 512 * 1024 * 1024
LARGE = 3_000_000  # pixels from which a JPEG may be decoded at less than its size
SCALES = (8, 4, 2)
# EXIF orientations whose upright picture begins at the stored one's last column or row.
FROM_THE_RIGHT, FROM_BELOW, ON_ITS_SIDE = (2, 3, 6, 7), (3, 4, 7, 8), (5, 6, 7, 8)

MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")

# Pillow's own cap, for this process: ours is lower, and one that a user can raise.
Image.MAX_IMAGE_PIXELS = None


def looks_like_image(path: Path | str) -> bool:
    """Whether a file counts as a picture: by its suffix, else by its first bytes."""
    if os.path.splitext(path)[1].lower() in SUFFIXES:
        return True
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, "rb") as file:
            head = file.read(16)
    except OSError:
        return False
    riff = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return head.startswith(MAGIC) or riff or head[4:12] in (b"ftypavif", b"ftypavis")


def read_bytes(path: Path | str) -> bytes:
    """The bytes of a regular file of at most MAX_BYTES, or of the picture FILE#N in a container.

    A file that has such a name itself comes first. Raises ImageError.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("not a regular file")
        if status.st_size == 0:
            raise ImageError("the file is empty")
        if status.st_size > MAX_BYTES:
            raise ImageError(f"{status.st_size / 1e6:.0f} MB is more than {MAX_BYTES / 1e6:.0f} MB")
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError as error:
        inside = in_container(os.fspath(path))
        if inside is not None:
            return inside
        raise ImageError(f"cannot be read: {error.strerror}") from None
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from None
    except ValueError:  # a zero byte, of a list that is no text
        raise ImageError("cannot be read: no file has such a name") from None
    if data[0] < 0x20 and container.is_container(path):  # no picture begins like this but AVIF
        raise ImageError(whole_container(path))
    return data


def in_container(address: str) -> bytes | None:
    """The picture FILE#N; None where FILE is no container. Raises ImageError."""
    try:
        return container.read(address)
    except DataError as error:
        raise ImageError(f"{error.what}; {error.hint}") from None


def whole_container(path: Path | str) -> str:
    """Why a file of many pictures is not one."""
    try:
        count = len(container.load(path))
    except DataError as error:
        return f"{error.what}; {error.hint}"
    return f"{count:,} pictures in one file: name one of them, from FILE#0 to FILE#{count - 1}"


@dataclass(frozen=True, slots=True)
class Picture:
    """An upright picture of `width` x `height` pixels, whose image may be smaller by `scale`.

    origin: where the picture's left upper corner lies in the image, which is up to a pixel larger
    than the picture where `scale` does not divide its sides.
    """

    image: Image.Image
    width: int
    height: int
    scale: int = 1
    origin: tuple[float, float] = (0.0, 0.0)

    def part(self, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """The image's own coordinates of left, upper, right, lower in the picture."""
        if self.scale == 1:
            return box
        x, y = self.origin
        left, upper, right, lower = (side / self.scale for side in box)
        limits = self.image.size
        return (left + x, upper + y, min(right + x, limits[0]), min(lower + y, limits[1]))


def whole(image: Image.Image) -> Picture:
    """An image that is the picture itself."""
    return Picture(image, *image.size)


def decode(data: bytes, mode: str = "RGB") -> Image.Image:
    """The upright first frame in `RGB` or `L`. Raises ImageError with a reason of one line."""
    return decode_for(data, mode, lambda width, height: 1.0).image


def decode_for(data: bytes, mode: str, spare: Callable[[int, int], float]) -> Picture:
    """`decode`, for a use to which a large JPEG may be smaller.

    spare: how many times smaller at most, from the upright picture's width and height. Only JPEGs
    of LARGE pixels or more become smaller; all others are the same to the last bit.
    """
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
        width, height = image.size
        if width * height > max_pixels():
            raise ImageError(
                f"{width} x {height} is {width * height / 1e6:.0f} megapixels, "
                f"more than {max_pixels() / 1e6:.0f} (set ZOO_MAX_PIXELS to allow it)"
            )
        scale = drafted(image, spare) if width * height >= LARGE else 1
        image.load()
        turned = upright(image)
        found = to_mode(turned, mode)
        if scale == 1:
            return whole(found)
        turn = 1 if turned is image else orientation(image)
        return placed(found, (width, height), scale, turn)
    except ZooError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"not a picture in a format that is read ({', '.join(FORMATS)})") from None
    except Exception as error:  # Pillow raises nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(reason[:200]) from None


def drafted(image: Image.Image, spare: Callable[[int, int], float]) -> int:
    """Tells libjpeg to decode at 1/2, 1/4 or 1/8 where there is so much to spare; which it is."""
    if image.format not in ("JPEG", "MPO"):
        return 1
    width, height = image.size
    limit = spare(height, width) if orientation(image) in ON_ITS_SIDE else spare(width, height)
    for scale in SCALES:
        if scale <= limit:
            return scale if image.draft(None, (width // scale, height // scale)) else 1
    return 1


def placed(image: Image.Image, size: tuple[int, int], scale: int, turn: int) -> Picture:
    """The upright image of a photo that was stored with so many pixels and that orientation.

    The last column and row of a smaller image stand for less than `scale` pixels of the photo;
    turned, they can be the first.
    """
    width, height = size[::-1] if turn in ON_ITS_SIDE else size
    x = image.width - width / scale if turn in FROM_THE_RIGHT else 0.0
    y = image.height - height / scale if turn in FROM_BELOW else 0.0
    return Picture(image, width, height, scale, (x, y))


def max_pixels() -> int:
    """The cap on width x height: MAX_PIXELS or $ZOO_MAX_PIXELS."""
    text = os.environ.get("ZOO_MAX_PIXELS", "")
    if text and not text.isdecimal():
        raise UsageError(f"ZOO_MAX_PIXELS={text} is no number of pixels", "give one: 64000000")
    return int(text or MAX_PIXELS)


def upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF orientation says; damaged EXIF data count as none."""
    if orientation(image) == 1:
        return image
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def orientation(image: Image.Image) -> int:
    """1 to 8, as EXIF has it; 1 where it says nothing or nonsense."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1
    return found if found in range(2, 9) else 1


def to_mode(image: Image.Image, mode: str) -> Image.Image:
    """Any of Pillow's modes as `RGB` or `L`; transparency becomes white."""
    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        image = eight_bits(image)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, layer)
    # Grey always by way of RGB, as an exported graph does it, whose input is RGB.
    return image if image.mode == mode else image.convert("RGB").convert(mode)


def eight_bits(image: Image.Image) -> Image.Image:
    """16-bit integers divided by 257; floats from [0, 1] or [0, 255]. Others are an error."""
    values = np.asarray(image).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(values).all() or low < 0 or high > 65535:
        raise ImageError(f"values from {low:g} to {high:g}: neither 0 to 1, 0 to 255 nor 16 bits")
    if image.mode == "F" and high > 255:
        raise ImageError(f"float values up to {high:g}: neither 0 to 1 nor 0 to 255")
    scale = (255.0 if high <= 1 else 1.0) if image.mode == "F" else 1 / 257
    return Image.fromarray(np.rint(values * scale).astype(np.uint8), "L")
