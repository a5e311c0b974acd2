"""Pictures that are in memory already, opened by Pillow or as an array: as their files are read."""

from __future__ import annotations

import threading

from PIL import Image

from zoo.data import decoder_warnings
from zoo.data.decode import Picture, refusals, to_mode, upright, whole
from zoo.data.limits import check_pixels

_decoding = threading.Lock()  # Pillow decodes a picture where it lies: one thread at a time


def given(image: Image.Image, mode: str) -> Picture:
    """Return a picture that somebody has opened, upright, in `RGB` or `L`.

    It is what its file is read as, but for a large JPEG, which is not decoded smaller here. Raises
    ImageError where it cannot be decoded, or is larger than is read.
    """
    check_pixels(*image.size)
    with decoder_warnings.decoding(), refusals():
        with _decoding:
            image.load()
        return whole(to_mode(upright(image), mode))
