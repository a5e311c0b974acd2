"""From a file to an upright picture in RGB or grey, or an ImageError that says why not.

What is decoded is limited: an allow-list of formats, a cap on pixels and on bytes, the first
frame only, regular files only. A truncated file is an error, never a half-grey picture.
"""

from __future__ import annotations

import os
import stat
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import (
    AvifImagePlugin,
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


def decode(data: bytes, mode: str = "RGB") -> Image.Image:
    """The upright first frame in `RGB` or `L`. Raises ImageError with a reason of one line."""
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
        width, height = image.size
        if width * height > max_pixels():
            raise ImageError(
                f"{width} x {height} is {width * height / 1e6:.0f} megapixels, "
                f"more than {max_pixels() / 1e6:.0f} (set ZOO_MAX_PIXELS to allow it)"
            )
        image.load()
        return to_mode(upright(image), mode)
    except ZooError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"not a picture in a format that is read ({', '.join(FORMATS)})") from None
    except Exception as error:  # Pillow raises nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(reason[:200]) from None


def max_pixels() -> int:
    """The cap on width x height: MAX_PIXELS or $ZOO_MAX_PIXELS."""
    text = os.environ.get("ZOO_MAX_PIXELS", "")
    if text and not text.isdecimal():
        raise UsageError(f"ZOO_MAX_PIXELS={text} is no number of pixels", "give one: 64000000")
    return int(text or MAX_PIXELS)


def upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF orientation says; damaged EXIF data count as none."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


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
