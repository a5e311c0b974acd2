"""What a picture file says of itself, looked at before a decoder believes it.

20,000 scans in a JPEG of 340 kB, a comment of 100 MB in a PPM, 2,000,000 empty chunks in a PNG:
each costs a decoder seconds. Here the parts of a file are counted in one pass over its headers;
what no photo has is refused, and what the pixels do not need is left out.

JPEG: ITU T.81, PNG: https://www.w3.org/TR/png-3, GIF: the 89a specification, TIFF: revision 6,
WebP: https://developers.google.com/speed/webp/docs/riff_container. PPM: zoo.data.pnm.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from zoo.data import pnm
from zoo.errors import ImageError

LARGE = 3_000_000  # pixels
SCANS = 32  # of a JPEG: libjpeg writes 10, mozjpeg up to about 20
SCANNED = 200_000_000  # pixels, times scans, from which a JPEG is isolated
SEGMENTS, EXIF_SEGMENTS = 2_000, 16  # before a JPEG's first scan
PADDING = 65_536  # bytes that belong to nothing
CHUNKS, UNUSED = 600_000, 100  # of a PNG; of those that say nothing about its pixels
PARTS, PART = 2_000, 128  # of its pixels; from so many on they hold this many bytes each
TEXT, TEXTS = 1_000_000, 16  # bytes of a text that may say how it is turned, and such texts
BLOCKS, KEPT_BLOCKS = 500_000, 300  # of 1 to 255 bytes before a GIF's first picture
TAGS, STRIPS = 4_096, 65_536  # of a TIFF
SIMPLE = (1, 5, 8, 32946, 32773)  # its compressions: none, LZW, deflate (two numbers), PackBits
TAG_BYTES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)  # of a value, by its type
POINTED = 64_000_000  # bytes that the entries of a block of tags may point at, in all
FRAMES = 10_000  # of a WebP
RLE_PIXELS, RLE_BYTES = 4_000_000, 2_000_000  # of a BMP whose runs Pillow unpacks in Python
DEFLATE = 1032  # bytes that deflate can pack into one


@dataclass(frozen=True, slots=True)
class Checked:
    """A file whose structure is that of a photo.

    data: what Pillow is given; the same pixels. format: Pillow's name, empty where it is none.
    size: width and height where the headers tell. extra: bytes that decoding takes beside the
    pixels. isolated: it is decoded in a process of its own, since its headers do not tell its cost.
    """

    data: bytes
    format: str = ""
    size: tuple[int, int] = (0, 0)
    extra: int = 0
    isolated: bool = False


def check(data: bytes) -> Checked:
    """Return the file as it may be decoded. Raises ImageError where no photo is made like it."""
    for magic, look in _LOOKS:
        if magic.match(data):
            try:
                return look(data)
            except (struct.error, IndexError):  # cut off: Pillow says so
                return Checked(data)
    return Checked(data)


def _refuse(what: str) -> NoReturn:
    raise ImageError(f"{what}, which no photo has: save it anew as a JPEG or PNG to have it read")


def _jpeg(data: bytes) -> Checked:
    """Count the segments before the picture, and its scans."""
    at, segments, padding, exif = 2, 0, 0, 0
    frame, size = b"", (0, 0)
    while (begin := data.find(b"\xff", at, at + PADDING)) >= 0:
        marker = data[begin + 1]
        padding += begin - at
        at = begin + (1 if marker == 0xFF else 2)
        if marker in (0, 1, 0xFF) or 0xD0 <= marker <= 0xD9:
            padding += 1
        elif marker == 0xDA:
            break
        else:
            length = max(2, int.from_bytes(data[at : at + 2], "big"))
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                frame = data[begin : at + length]
            segments += 1
            exif += marker == 0xE1 and data.startswith(b"Exif\0\0", at + 2)
            at += length
        if padding > PADDING or segments > SEGMENTS or exif > EXIF_SEGMENTS:
            _refuse(f"{segments:,} segments and {padding:,} bytes of padding before the picture")
    scans = _pairs(data, 0xFF, 0xDA)
    if scans > SCANS:  # or those bytes are in what follows the picture, such as a phone's film
        scans = _scans(data, at - 2)
    if scans > SCANS:
        _refuse(f"more than {SCANS} scans")
    if len(frame) < 10:
        return Checked(data, "JPEG")
    height, width, layers = struct.unpack_from(">HHB", frame, 5)
    size = (width, height)
    several = frame[1] not in (0xC0, 0xC1) or (layers > 1 and scans > 1)
    extra = _coefficients(frame, width * height, layers) if several else 0
    return Checked(data, "JPEG", size, extra, several and width * height * scans > SCANNED)


def _pairs(data: bytes, first: int, second: int) -> int:
    """Return how often two bytes follow each other; in a third of the time of `bytes.count`."""
    pair = first | second << 8
    return sum(
        int(np.count_nonzero(np.frombuffer(data, "<u2", (len(data) - at) // 2, at) == pair))
        for at in (0, 1)
    )


def _scans(data: bytes, at: int) -> int:
    """Return how many scans the first picture has from its first one on, or SCANS + 1."""
    found = 0
    while found <= SCANS and (marker := _MARKER.search(data, at)) is not None:
        at = marker.end()
        if marker[1] == b"\xd9":
            break
        found += marker[1] == b"\xda"
        at += int.from_bytes(data[at : at + 2], "big")
    return found


def _coefficients(frame: bytes, pixels: int, layers: int) -> int:
    """Return the bytes of all coefficients, which libjpeg keeps where a picture has scans."""
    factors = [(byte >> 4, byte & 15) for byte in frame[11 : 10 + 3 * layers : 3]]
    whole = max((a for a, _ in factors), default=1) * max((b for _, b in factors), default=1)
    return 2 * pixels * sum(a * b for a, b in factors) // max(1, whole)


def _png(data: bytes) -> Checked:
    """Count the chunks, and leave out text and profiles: Pillow unpacks them, nothing uses them."""
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    at, count, parts, stored, unused, texts = 8, 0, 0, 0, 0, 0
    cuts: list[tuple[int, int, bytes]] = []
    cut = -1  # where the last one ends: chunks side by side are one
    while at + 12 <= len(data):
        length, kind = _CHUNK(data, at)
        end = at + 12 + length
        if kind in _PNG_KEPT:
            if kind == b"IDAT":
                parts, stored = parts + 1, stored + min(length, len(data) - at)
                if parts > PARTS and stored < parts * PART:
                    _refuse(f"pixels in more than {PARTS:,} parts of {stored / parts:.0f} bytes")
            elif kind == b"IEND":
                break
        elif kind[0] & 32 and (kind != b"eXIf" or _bomb(data[at + 8 : end - 4])):
            unused += UNUSED if kind in _PNG_UNPACKED else 1
            cuts.append((cuts.pop()[0] if cut == at else at, end, b""))
            cut = end
            if data.startswith(_TURNING, at + 8) and texts < TEXTS:
                cuts[-1], cut = (*cuts[-1][:2], _turning(kind, data[at + 8 : end - 4])), -1
                texts += 1
        count += 1
        if count > CHUNKS:
            _refuse(f"more than {CHUNKS:,} chunks")
        at = end
    if stored * DEFLATE < height * (width * depth * _CHANNELS.get(colour, 1) // 8):
        raise ImageError(f"the file is cut short: {stored:,} bytes cannot hold {width} x {height}")
    return Checked(_without(data, cuts) if unused >= UNUSED else data, "PNG", (width, height))


def _without(data: bytes, cuts: list[tuple[int, int, bytes]]) -> bytes:
    pieces, at = [], 0
    for begin, end, instead in cuts:
        pieces += [data[at:begin], instead]
        at = end
    return b"".join([*pieces, data[at:]])


def _turning(kind: bytes, body: bytes) -> bytes:
    """Return a text that can say how the picture is turned, no longer than TEXT, else b"".

    That is XMP, which says it where it begins, and the EXIF of ImageMagick.
    """
    key, _, text = body.partition(b"\0")
    if kind == b"iTXt":
        packed, text = text[:1] == b"\1", text[2:].split(b"\0", 2)[-1]
        text = _unpacked(text) if packed else text[:TEXT]
        body = key + b"\0\0\0\0\0" + text.decode("utf-8", "ignore").encode()
    elif kind in (b"tEXt", b"zTXt"):
        text = _unpacked(text[1:]) if kind == b"zTXt" else text[:TEXT]
        kind, body = b"tEXt", key + b"\0" + text
    else:
        return b""
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def _unpacked(text: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(text, TEXT)
    except zlib.error:
        return b""


def _gif(data: bytes) -> Checked:
    """Count the blocks before the first picture; long comments are left out."""
    size = struct.unpack_from("<HH", data, 6)
    first = at = 13 + ((6 << (data[10] & 7)) if data[10] & 128 else 0)
    blocks, padding, control = 0, 0, b""
    while (byte := data[at]) not in b",;":
        begin = at
        if byte != 0x21:
            at, padding = at + 1, padding + 1
        else:
            at += 2
            while data[at] and blocks <= BLOCKS:
                at, blocks = at + 1 + data[at], blocks + 1
            at, blocks = at + 1, blocks + 1
            if data[begin + 1] == 0xF9:
                control += data[begin:at]
        if blocks > BLOCKS or padding > PADDING or len(control) > PADDING:
            _refuse(f"{max(blocks, padding):,} blocks before the first picture")
    if blocks > KEPT_BLOCKS:
        data = data[:first] + control + data[at:]
    return Checked(data, "GIF", size)


def _tiff(data: bytes) -> Checked:
    """Count the tags of the first directory, what they point at, and the strips."""
    order = "<" if data[:1] == b"I" else ">"
    big = 43 in data[2:4]
    (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
    if count > TAGS:
        _refuse(f"{count:,} tags in its first directory")
    told, pointed = {259: 1}, 0
    for number in range(count):
        place = at + (8 + 20 * number if big else 2 + 12 * number)
        tag, kind, values = struct.unpack_from(order + ("HHQ" if big else "HHI"), data, place)
        size = values * (TAG_BYTES[kind] if kind < len(TAG_BYTES) else 0)
        pointed += min(size, len(data))
        if tag in (273, 324) and values > STRIPS:  # where the strips or tiles are
            _refuse(f"{values:,} strips or tiles")
        if tag in (256, 257, 259) and kind in (3, 4):
            (told[tag],) = struct.unpack_from(
                order + ("H" if kind == 3 else "I"), data, place + (12 if big else 8)
            )
    if pointed > 2 * len(data) + POINTED:
        _refuse(f"tags that point at {pointed:,} bytes in a file of {len(data):,}")
    size_of = told.get(256, 0), told.get(257, 0)
    large = told[259] != 1 and size_of[0] * size_of[1] > LARGE
    return Checked(data, "TIFF", size_of, 0, large or told[259] not in SIMPLE)


def _webp(data: bytes) -> Checked:
    """Read the size of the canvas, and look at the EXIF chunk."""
    kind, size = data[12:16], (0, 0)
    if kind == b"VP8X":
        size = 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    elif kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        size = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif kind == b"VP8 ":
        size = struct.unpack_from("<H", data, 26)[0] & 0x3FFF, data[28] | (data[29] & 0x3F) << 8
    if data.count(b"ANMF") > FRAMES:
        _refuse(f"more than {FRAMES:,} frames")
    at, exif = 12, b"EXIF" in data
    while exif and at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if data.startswith(b"EXIF", at) and _bomb(data[at + 8 : at + 8 + length]):
            _refuse("EXIF data that point at the same bytes again and again")
        at += 8 + length + length % 2
    return Checked(data, "WEBP", size, 0, size[0] * size[1] > LARGE)


def _avif(data: bytes) -> Checked:
    """Read the largest size that is told; what is in the stream may be larger still."""
    sizes = [struct.unpack(">II", found[1]) for found in _ISPE.finditer(data, 0, 1 << 20)]
    largest = max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))
    return Checked(data, "AVIF", largest, 0, True)


def _bmp(data: bytes) -> Checked:
    """Refuse large pictures in runs, which Pillow unpacks byte by byte in Python."""
    width, height, _, _, compression = struct.unpack_from("<iiHHI", data, 18)
    size = (abs(width), abs(height))
    if struct.unpack_from("<I", data, 14)[0] < 40 or compression not in (1, 2):
        return Checked(data, "BMP")
    if size[0] * size[1] > RLE_PIXELS or len(data) > RLE_BYTES:
        raise ImageError(
            f"{size[0]} x {size[1]} pixels in runs (RLE): such a BMP is read up to "
            f"{RLE_PIXELS // 1_000_000} megapixels and {RLE_BYTES // 1_000_000} MB: save it as PNG"
        )
    return Checked(data, "BMP", size)


def _pnm(data: bytes) -> Checked:
    """Read the header; text becomes bytes."""
    size, data = pnm.binary(data)
    return Checked(data, "PPM", size)


def _bomb(exif: bytes) -> bool:
    """Tell whether the entries of an EXIF block may point at far more bytes than there are."""
    begin = 6 if exif.startswith(b"Exif\0\0") else 0
    order = "<" if exif[begin : begin + 1] == b"I" else ">"
    try:
        (at,) = struct.unpack_from(order + "I", exif, begin + 4)
        (count,) = struct.unpack_from(order + "H", exif, begin + at)
    except struct.error:
        return False
    return int(count) * len(exif) > POINTED and len(exif) > 65_536


_CHUNK = struct.Struct(">I4s").unpack_from
# What Pillow needs for the pixels of the first frame, and what it unpacks.
_PNG_KEPT = frozenset((b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"acTL", b"fcTL", b"fdAT"))
_PNG_UNPACKED = frozenset((b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf"))
_TURNING = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")  # texts that may turn it
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a PNG, by the colour type
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
_ISPE = re.compile(rb"ispe\0{4}(.{8})", re.DOTALL)
_LOOKS: tuple[tuple[re.Pattern[bytes], Callable[[bytes], Checked]], ...] = (
    (re.compile(rb"\xff\xd8\xff"), _jpeg),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), _png),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), _webp),
    (re.compile(rb"GIF8[79]a"), _gif),
    (re.compile(rb"BM"), _bmp),
    (re.compile(rb"(?:II|MM)(?:[*+]\0|\0[*+])"), _tiff),
    (re.compile(rb".{4}ftyp(?:avi[fs]|mif1|msf1)", re.DOTALL), _avif),
    (re.compile(rb"P[0-6fy]"), _pnm),
)
