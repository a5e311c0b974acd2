"""How much memory photos may take while they are decoded: each one, and all threads together."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from PIL import Image

from zoo.errors import ImageError, UsageError
from zoo.machine import cores

MAX_PIXELS = 64_000_000
LARGE_FILE, FILES = 8_000_000, 128_000_000  # bytes of one that waits its turn, and of all of them
PIXEL = 8  # bytes of memory for each of those pixels
CORE = 64_000_000  # bytes for each core, where that is more than one photo may take
# Bytes that a decoder takes for a pixel, all in all: WebP's and AVIF's have frames of their own,
# numbers of 16 and of 32 bits lie beside their copies on the way to 8 bits.
WHOLE = {"WEBP": 16, "AVIF": 16}
NUMBERS, LONG_NUMBERS = 8, 16
CLEAR, CLEAR_COLOUR = 6, 24  # more for a transparent value of 16 bits; for a colour
UNKNOWN = 24  # where the headers do not tell what the pixels are: see decode_process.py
KEPT = {"1": 1, "L": 1, "P": 1}  # bytes of a pixel in Pillow's memory; 4 in all other modes


def _max_pixels() -> int:
    """Return the cap on width x height: MAX_PIXELS or $ZOO_MAX_PIXELS."""
    text = os.environ.get("ZOO_MAX_PIXELS", "")
    if text and not text.isdecimal():
        raise UsageError(f"ZOO_MAX_PIXELS={text} is no number of pixels", "give one: 64000000")
    return int(text or MAX_PIXELS)


def max_bytes() -> int:
    """Return the cap on the memory that decoding one photo takes."""
    return PIXEL * _max_pixels()


def check_pixels(width: int, height: int) -> None:
    """Raise ImageError for a photo of more pixels than are read."""
    if width * height > _max_pixels():
        raise ImageError(
            f"{width} x {height} is {width * height / 1e6:.0f} megapixels, "
            f"more than {_max_pixels() / 1e6:.0f} (set ZOO_MAX_PIXELS to allow it)"
        )


def cost(image: Image.Image, extra: int = 0) -> int:
    """Return the bytes that decoding an opened image takes. Raises ImageError for too many.

    They are those of the file, as unpacked, and those that Pillow keeps. extra: others beside.
    """
    if image.format in WHOLE:
        each = WHOLE[image.format]
    elif image.mode in ("F", "I"):
        each = LONG_NUMBERS
    elif image.mode.startswith("I;"):
        each = NUMBERS + (CLEAR if "transparency" in image.info else 0)
    else:
        tiles = getattr(image, "tile", [])
        deep = 2 if any("16" in str(tile[3]) for tile in tiles[:1]) else 1
        each = len(image.getbands()) * deep + KEPT.get(image.mode, 4)
        if deep == 2 and "transparency" in image.info:  # decoded twice, and compared
            each += CLEAR_COLOUR
    return check_bytes(image.format or "", image.size, each * image.width * image.height + extra)


def check_bytes(kind: str, size: tuple[int, int], total: int) -> int:
    """Return the bytes that decoding takes. Raises ImageError where they are too many."""
    if total > max_bytes():
        raise ImageError(
            f"{size[0]} x {size[1]} as {kind} take {total / 1e6:,.0f} MB to "
            f"decode, more than {max_bytes() / 1e6:,.0f} "
            f"(set ZOO_MAX_PIXELS={-(-total // PIXEL)} to allow it)"
        )
    return total


class Room:
    """Bytes that threads share: one who wants more than is left waits, first come, first served.

    Who wants more than there is gets all of it.
    """

    def __init__(self, size: int) -> None:
        self.size = self.left = size
        self.turn, self.free = threading.Lock(), threading.Condition()

    @contextmanager
    def taken(self, count: int) -> Iterator[None]:
        """Hold so many bytes."""
        count = min(count, self.size)
        with self.turn, self.free:  # the turn is kept, so that small ones do not overtake
            while self.left < count:
                self.free.wait()
            self.left -= count
        try:
            yield
        finally:
            with self.free:
                self.left += count
                self.free.notify()


def room() -> Room:
    """Return the room of this process."""
    with _lock:  # two threads must not make two
        return _room_of(max(max_bytes(), CORE * cores()))


@lru_cache(maxsize=1)
def _room_of(size: int) -> Room:
    return Room(size)


@contextmanager
def file_room(path: Path | str) -> Iterator[None]:
    """Hold the bytes of a large file while it is in memory: few of them are there at once."""
    try:
        size = os.path.getsize(path)
    except (OSError, ValueError):
        size = 0
    if size < LARGE_FILE:
        yield
        return
    with _files.taken(size):
        yield


_files = Room(FILES)
_lock = threading.Lock()
