"""PBM, PGM and PPM: a header that is read within limits, and pixels as Pillow reads quickest.

Pillow reads headers byte by byte and numbers in plain text, or of an unusual maximum, one by one
in Python. Here both become the binary kind with the values that Pillow gives them.
https://netpbm.sourceforge.net/doc/ppm.html
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zoo.errors import ImageError

HEADER = 4_096  # bytes, comments included
TEXT = 64_000_000  # bytes of a picture in plain text
COMMENTS = 100_000
AT_ONCE = 1 << 20

_GAP = rb"(?:[ \t\n\v\f\r]|#[^\r\n]*+[\r\n])*+"
_NUMBER = rb"([0-9]{1,10})"
_HEAD = re.compile(
    rb"(?:(P[14])[ \t\n\v\f\r]%(gap)b%(number)b[ \t\n\v\f\r]%(gap)b%(number)b"
    rb"|(P[2356]|P0CMYK|Py[A-Z]+|Pf)[ \t\n\v\f\r]%(gap)b%(number)b[ \t\n\v\f\r]%(gap)b"
    rb"%(number)b[ \t\n\v\f\r]%(gap)b([-+.0-9eE]{1,10}))[ \t\n\v\f\r]"
    % {b"gap": _GAP, b"number": _NUMBER}
)


_RAW = re.compile(rb"P([56])\n([1-9][0-9]{0,2}) ([1-9][0-9]{0,2})\n255\n")


def raw_image(data: bytes) -> Image.Image | None:
    """Return a small binary PGM or PPM whose file is a plain header and pixels; None for others.

    Such are the pictures of IDX files, of which there are many: a decoder costs ten times as much.
    """
    head = _RAW.match(data)
    if head is None:
        return None
    mode, size = "L" if head[1] == b"5" else "RGB", (int(head[2]), int(head[3]))
    if len(data) - head.end() != size[0] * size[1] * len(mode):
        return None
    return Image.frombytes(mode, size, data[head.end() :])


def binary(data: bytes) -> tuple[tuple[int, int], bytes]:
    """Return the size, and the file with its pixels in binary. Raises ImageError."""
    head = _HEAD.match(data[:HEADER])
    if head is None:
        raise ImageError(
            f"no header of a PBM, PGM or PPM in its first {HEADER:,} bytes: "
            "it begins with P1 to P6, the width, the height and the largest value"
        )
    kind = head[1] or head[4]
    size = (int(head[2] or head[5]), int(head[3] or head[6]))
    if kind in (b"P1", b"P2", b"P3") and len(data) > TEXT:
        raise ImageError(
            f"{len(data) / 1e6:.0f} MB of pixels in plain text, more than {TEXT / 1e6:.0f}: "
            "save it in the binary kind (P4 to P6)"
        )
    if kind in (b"P4", b"Pf"):
        return size, data
    if kind == b"P1":
        return size, _bits(data[head.end() :], size)
    maximum = _maximum(head[7])
    if kind in (b"P2", b"P3"):
        return size, _from_text(data[head.end() :], kind, size, maximum)
    if maximum == 255 or (kind == b"P5" and maximum == 65535):
        return size, data
    if kind not in (b"P5", b"P6"):
        raise ImageError(f"the largest value is {maximum}: {kind.decode()} is read with 255")
    stored = np.uint8 if maximum < 256 else np.dtype(">u2")
    left = (len(data) - head.end()) // np.dtype(stored).itemsize
    count = min(left, size[0] * size[1] * (3 if kind == b"P6" else 1))
    values = np.frombuffer(data, stored, count, head.end())
    deep = kind == b"P5" and maximum > 255
    return size, _file(kind, size, _scaled(maximum, deep)[values], deep)


def _maximum(word: bytes) -> int:
    if not word.isdigit() or not 0 < int(word) < 65536:
        raise ImageError(f"the largest value is {word.decode()}: it is from 1 to 65535")
    return int(word)


def _scaled(maximum: int, deep: bool) -> NDArray[np.uint16 | np.uint8]:
    """Return what Pillow makes of each value: 0 to 255, or to 65535 where it is deep."""
    top = 65535 if deep else 255
    values = np.arange(256 if maximum < 256 else 65536) / maximum * top
    return np.minimum(top, np.rint(values)).astype(np.uint16 if deep else np.uint8)


def _file(kind: bytes, size: tuple[int, int], values: NDArray[np.generic], deep: bool) -> bytes:
    stored = values.astype(">u2" if deep else np.uint8, copy=False)
    return b"%b\n%d %d\n%d\n%b" % (kind, *size, 65535 if deep else 255, stored.tobytes())


def _without_comments(text: bytes) -> bytes:
    if text.count(b"#") > COMMENTS:
        raise ImageError(f"more than {COMMENTS:,} comments among its pixels: save it as PNG")
    return re.sub(rb"#[^\r\n]*+[\r\n]?", b"", text)


def _bits(text: bytes, size: tuple[int, int]) -> bytes:
    """Return a P1 as a P4: digits, with or without blanks between them."""
    digits = _without_comments(text).translate(None, b" \t\n\v\f\r")[: size[0] * size[1]]
    if digits.translate(None, b"01"):
        raise ImageError("a pixel of a plain PBM is neither 0 nor 1")
    rows = len(digits) // size[0] if size[0] else 0
    pixels = np.frombuffer(digits, np.uint8, rows * size[0]).reshape(rows, size[0])
    return b"P4\n%d %d\n%b" % (*size, np.packbits(pixels & 1, axis=1).tobytes())


def _from_text(text: bytes, kind: bytes, size: tuple[int, int], maximum: int) -> bytes:
    """Return a P2 or P3 as a P5 or P6."""
    text = _without_comments(text)
    deep = kind == b"P2" and maximum > 255
    table, left = _scaled(maximum, deep), size[0] * size[1] * (3 if kind == b"P3" else 1)
    parts, at = [], 0
    while at < len(text) and left:
        end = at + AT_ONCE
        blank = _BLANK.search(text, end)
        part = text[at : blank.start() if blank else len(text)]
        at += len(part)
        values = _numbers(part, maximum)[:left]
        left -= len(values)
        parts.append(table[values])
    pixels = np.concatenate(parts) if parts else table[:0]
    return _file(b"P5" if kind == b"P2" else b"P6", size, pixels, deep)


def _numbers(text: bytes, maximum: int) -> NDArray[np.int64]:
    """Return the numbers of a part of the text. Raises ImageError."""
    if _FOREIGN.search(text) or _LONG.search(text):
        raise ImageError("among its pixels is what is no number from 0 to 65535")
    if text.isspace() or not text:
        return np.zeros(0, np.int64)
    values = np.fromstring(text, np.int64, sep=" ")
    if values.max() > maximum:
        raise ImageError(f"a pixel is {values.max()}, more than the largest value, {maximum}")
    return values


_BLANK = re.compile(rb"[ \t\n\v\f\r]")
_FOREIGN = re.compile(rb"[^0-9 \t\n\v\f\r]")
_LONG = re.compile(rb"[0-9]{11}")
