"""What the numbers stored in a picture mean, where Pillow leaves that to its user.

In TIFFs of more than 8 bits Pillow takes 0 for black though the file says that it is white; grey of
12 bits it reads as if of 16. Where a TIFF's samples lie in planes it forgets how they are stored;
where they are compressed it may turn a number's bytes twice. What lies beside the first frame of a
GIF has no colour, and Pillow gives it one. Of a PNG's transparent colour it keeps the number but
not its depth: 2 and 4 bits are spread over 8, the colour is not, and of 16-bit RGB only the high
bytes are left when the colour is looked for. What is found here goes into `image.info`, which stays
with a picture that is turned.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, NoReturn

import numpy as np
from PIL import Image, TiffImagePlugin

from zoo.data import decoder_warnings
from zoo.errors import ImageError

WHITE_IS_ZERO, BITS = "white is zero", "bits"  # keys of `info`
SPREAD = {"L;2": 85, "L;4": 17}  # Pillow's factors from 2 and 4 bits to 8
HIGH_BYTES, LOW_BYTES = "RGB;16B", "RGB;16L"  # of RGB in 16 bits, of which Pillow takes one
DARK = 16.0  # floats up to here, and above 1, are neither 0 to 1 nor a photo of 0 to 255
Values = np.ndarray[tuple[int, ...], np.dtype[Any]]
AT_ONCE = 1 << 20  # values that are scaled at a time
ADVICE = "save it as 8 or 16 bits, or as floats from 0 to 1"
OTHERWISE = "save it as PNG"

# TIFF's tags and some of their values.
TAG_BITS, TAG_COMPRESSION, TAG_PHOTOMETRIC, TAG_SAMPLES, TAG_FORMAT = 258, 259, 262, 277, 339
TAG_FILL, TAG_PLANES, TAG_SUBSAMPLING = 266, 284, 530
WHITE, BLACK, YCBCR, SIGNED = 0, 1, 6, 2
TOGETHER, APART = 1, 2  # how the samples of a pixel lie
FAX = (2, 3, 4, 32771)  # compressions in which white is zero where the tag is missing
# libtiff gives numbers as this machine has them; Pillow turns all but these as the file has them.
NATIVE = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "F;32BF": "F;32NF"}
FORMAT_NAMES = {1: "unsigned", 2: "signed", 3: "float", 5: "complex", 6: "complex"}


class Tiff(TiffImagePlugin.TiffImageFile):
    """Pillow's reader of TIFF, which is told what is white and says what it cannot read.

    A file without the tag has black at 0, as libtiff takes it; fax has white there.
    """

    def _setup(self) -> None:
        tags = self.tag_v2
        bits = tags.get(TAG_BITS, (1,))[0]
        grey, fax = tags.get(TAG_SAMPLES, 1) == 1, tags.get(TAG_COMPRESSION, 1) in FAX
        if TAG_PHOTOMETRIC not in tags and grey and not fax:
            tags[TAG_PHOTOMETRIC] = BLACK
        if tags.get(TAG_PHOTOMETRIC) == WHITE and bits > 8:
            tags[TAG_PHOTOMETRIC] = BLACK  # Pillow reads all of these, and inverts none
            self.info[WHITE_IS_ZERO] = True
        self.info[BITS] = bits
        if tags.get(TAG_SAMPLES, 1) == 1:  # Pillow would take the first letter of how it is stored
            tags[TAG_PLANES] = TOGETHER
        try:
            super()._setup()  # type: ignore[no-untyped-call,unused-ignore]
        except SyntaxError:
            self._refuse(bits, "", ADVICE)
        except IndexError:  # more planes than colours, uncompressed
            self._refuse(bits, ", in planes", OTHERWISE)
        self._set_right(bits)

    def _refuse(self, bits: int, lie: str, advice: str) -> NoReturn:
        """Raise the ImageError that says which pixels are not read. lie: how they lie."""
        tags = self.tag_v2
        kinds = {FORMAT_NAMES.get(each, "unknown") for each in tags.get(TAG_FORMAT, (1,))}
        what = f"{tags.get(TAG_SAMPLES, 1)} x {bits} bits, {' and '.join(sorted(kinds))}{lie}"
        raise ImageError(f"a TIFF of pixels that are not read ({what}): {advice}") from None

    def _set_right(self, bits: int) -> None:
        """Tell the decoder how the samples are stored. Raises ImageError where it knows no way."""
        tags, stored = self.tag_v2, self.tile[0].codec_name == "raw"
        halved = tags.get(TAG_PHOTOMETRIC) == YCBCR and tags.get(TAG_SUBSAMPLING) != (1, 1)
        if stored and halved:
            self._refuse(bits, ", colours at a lower resolution", OTHERWISE)
        ending = ""
        if tags.get(TAG_PLANES) == APART:
            unread = self.mode in ("LA", "La", "PA", "LAB")  # of LAB the signs would be lost
            unread |= stored and tags.get(TAG_FILL, 1) != 1
            kinds = {next(iter(tile.args or ("",))) for tile in self.tile}
            unread |= stored and not kinds <= {*self.getbands()}
            if stored and bits == 16:
                unread |= self.mode not in ("RGB", "RGBA")
                ending = ";16B" if tags.prefix == TiffImagePlugin.MM else ";16L"
            if unread:
                self._refuse(bits, ", in planes", OTHERWISE)
        for number, tile in enumerate(self.tile):
            kind, *others = tuple(tile.args or ())
            kind = kind + ending if stored else NATIVE.get(kind, kind)
            self.tile[number] = tile._replace(args=(kind, *others))

    @property
    def signed(self) -> bool:
        return SIGNED in self.tag_v2.get(TAG_FORMAT, (1,))


def opened(data: bytes, formats: tuple[str, ...]) -> Image.Image:
    """Return the undecoded picture of a file's bytes, with what its numbers mean in `info`."""
    if "TIFF" in formats and data.startswith(tuple(TiffImagePlugin.PREFIXES)):
        decoder_warnings.listen_to_libtiff()
        return Tiff(BytesIO(data))
    image = Image.open(BytesIO(data), formats=formats)
    key = image.info.get("transparency")
    if isinstance(key, int) and image.format == "PNG":
        image.info["transparency"] = key * SPREAD.get(_raw_mode(image), 1)
    return image


def load(image: Image.Image, data: bytes) -> None:
    """Decode the picture of these bytes in place. Raises ImageError for bytes with a sign."""
    deep = image.format == "PNG" and _raw_mode(image) == HIGH_BYTES
    boxes = [tile.extents for tile in getattr(image, "tile", []) if image.format == "GIF"]
    image.load()
    if boxes and boxes[0] != (0, 0, *image.size):
        _clear_outside(image, boxes[0])
    if deep and "transparency" in image.info:
        _clear_colour(image, data)
    if isinstance(image, Tiff) and image.signed and image.mode == "L":
        low, high = _extremes(np.asarray(image).view(np.int8))
        if low < 0:
            raise ImageError(f"values from {low:g} to {high:g}: none is below black; {ADVICE}")


def _clear_outside(image: Image.Image, box: tuple[int, int, int, int]) -> None:
    """Give the pixels beside the first frame of a GIF an alpha of 0; Pillow gives them a colour."""
    alpha = Image.new("L", image.size)
    alpha.paste(image.convert("RGBA").getchannel("A").crop(box), box)
    image.putalpha(alpha)
    image.info.pop("transparency", None)


def _raw_mode(image: Image.Image) -> str:
    """Return how the pixels of a PNG that is not yet decoded are stored, in Pillow's words."""
    tiles = getattr(image, "tile", [])
    return str(tiles[0].args) if tiles else ""


def _clear_colour(image: Image.Image, data: bytes) -> None:
    """Give the pixels of the transparent colour, all 16 bits of it, an alpha of 0.

    A second decoding has the low bytes; such files are rare.
    """
    low = Image.open(BytesIO(data), formats=("PNG",))
    low.tile = [tile._replace(args=LOW_BYTES) for tile in low.tile]
    low.load()
    key = np.array(image.info.pop("transparency"))
    clear = (np.asarray(image) == key >> 8).all(-1) & (np.asarray(low) == (key & 255)).all(-1)
    image.putalpha(Image.fromarray(np.where(clear, 0, 255).astype(np.uint8)))


def wide(image: Image.Image) -> bool:
    """Return whether its pixels are numbers of more than 8 bits, for `eight_bits`."""
    return image.mode.startswith("I") or image.mode == "F"


def eight_bits(image: Image.Image) -> Image.Image:
    """Return a picture of more than 8 bits as grey, with alpha where it has a transparent value.

    16 bits are divided by 257, 12 by 4095 / 255. Integers of 32 bits and those with a sign have no
    range of their own: up to 255 they are bytes, up to 65535 as those of 16 bits. Floats are from
    0 to 1, or from 0 to 255 where one is above 16. All else is an ImageError.
    """
    values = np.asarray(image)
    if image.mode == "I" and isinstance(image, Tiff) and not image.signed:
        values = values.view(np.uint32)
    scale = _factor(values, image)
    grey = np.empty(values.shape, np.uint8)
    rows = max(1, AT_ONCE // max(1, values.shape[1]))
    for at in range(0, len(values), rows):
        grey[at : at + rows] = np.rint(values[at : at + rows].astype(np.float64) * scale)
    if image.info.get(WHITE_IS_ZERO):
        np.subtract(255, grey, out=grey)
    key = image.info.get("transparency")
    if not isinstance(key, int):
        return Image.fromarray(grey)
    alpha = (values != key).astype(np.uint8) * np.uint8(255)
    return Image.merge("LA", (Image.fromarray(grey), Image.fromarray(alpha)))


def _factor(values: Values, image: Image.Image) -> float:
    """Return what the values are multiplied by to lie in 0 to 255. Raises ImageError."""
    low, high = _extremes(values)
    if not np.isfinite((low, high)).all() or low < 0:
        raise ImageError(f"values from {low:g} to {high:g}: neither 0 to 1 nor 0 to 255; {ADVICE}")
    if image.mode == "F":
        if high > 255 or 1 < high <= DARK:
            raise ImageError(f"float values up to {high:g}: neither 0 to 1 nor 0 to 255; {ADVICE}")
        return 255.0 if high <= 1 else 1.0
    if high > 65535:
        raise ImageError(f"values up to {high:g}, more than 16 bits can be; {ADVICE}")
    if image.mode == "I" and isinstance(image, Tiff):
        return 1.0 if high <= 255 else 1 / 257
    return 255 / 4095 if image.info.get(BITS) == 12 else 1 / 257


def _extremes(values: Values) -> tuple[float, float]:
    """Return the least and the largest value; NaN where one is."""
    return float(values.min()), float(values.max())
