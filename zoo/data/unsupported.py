"""Photos in formats that are not read: each is told apart, counted, and its row says what to do.

They are known by their first bytes, else by their suffix: a JPEG that is called .heic is a JPEG,
and a HEIC photo that is called .jpg is none. A camera's raw file begins like a TIFF, and what a
reader of TIFFs finds in it is a small preview.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from zoo.text import count

HEAD = 64  # bytes that tell a format
TIFF_MAGIC = (b"II*\0", b"MM\0*")
AVIF_BRANDS = (b"avif", b"avis")
HEIC_BRANDS = (
    b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kind:
    """A format: what it is called, its suffixes and first bytes, and a command that converts it."""

    name: str
    suffixes: tuple[str, ...]
    convert: str
    magic: tuple[bytes, ...] = ()

    @property
    def reason(self) -> str:
        """Return what the row of such a photo says."""
        return f"{self.name}, a format that is not read: convert it to JPEG, as with {self.convert}"


MAGICK = "`magick mogrify -format jpg *{}`"
HEIC = Kind(
    "HEIC",
    (".heic", ".heif", ".heics", ".heifs", ".hif", ".avci"),
    "`heif-convert IN.heic OUT.jpg` (on a Mac `sips -s format jpeg`)",
)
RAW = Kind(
    "RAW",
    (
        ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".gpr", ".iiq",
        ".kdc", ".mef", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2",
        ".rwl", ".sr2", ".srf", ".srw", ".x3f",
    ),
    "`darktable-cli IN OUT.jpg`, or the camera's own program",
    (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"IIU\0", b"\0MRM", b"FOVb"),
)  # fmt: skip
KINDS = (
    HEIC,
    RAW,
    Kind("JPEG XL", (".jxl",), "`djxl IN.jxl OUT.jpg`", (b"\0\0\0\x0cJXL \r\n\x87\n",)),
    Kind(
        "JPEG 2000",
        (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".jpm"),
        MAGICK.format(".jp2"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    ),
    Kind("JPEG XR", (".jxr", ".wdp", ".hdp"), MAGICK.format(".jxr"), (b"II\xbc",)),
    Kind("TGA", (".tga",), MAGICK.format(".tga")),
    Kind("Photoshop", (".psd", ".psb"), MAGICK.format(".psd"), (b"8BPS\0",)),
    Kind("OpenEXR", (".exr",), MAGICK.format(".exr"), (b"v/1\x01",)),
    Kind("Radiance HDR", (), MAGICK.format(".hdr"), (b"#?RADIANCE", b"#?RGBE")),
    Kind("DICOM", (".dcm", ".dicom"), "`dcmj2pnm --write-jpeg IN.dcm OUT.jpg`"),
)
BY_SUFFIX = {suffix: kind for kind in KINDS for suffix in kind.suffixes}


def by_content(head: bytes) -> Kind | None:
    """Return the format that a file with these first bytes has, where they tell."""
    if head[4:8] == b"ftyp":
        brands = [head[at : at + 4] for at in range(8, min(len(head), HEAD), 4) if at != 12]
        if any(brand in AVIF_BRANDS for brand in brands):
            return None
        if brands[:1] == [b"crx "]:
            return RAW
        return HEIC if any(brand in HEIC_BRANDS for brand in brands) else None
    if head[:2] in (b"II", b"MM") and head[8:10] == b"CR":  # Canon's, in a TIFF
        return RAW
    return next((kind for kind in KINDS if kind.magic and head.startswith(kind.magic)), None)


MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")


def begins_well(head: bytes) -> bool:
    """Return whether these are the first bytes of a picture in a format that is read."""
    riff = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return head.startswith(MAGIC) or riff or head[4:12] in (b"ftypavif", b"ftypavis")


def kind(path: Path | str, head: bytes, *, read: bool) -> Kind | None:
    """Return the format of a photo that is not read; None for what may be read, and for no photo.

    read: whether the first bytes are those of a format that is read.
    """
    found = by_content(head)
    if found is None:
        found = BY_SUFFIX.get(os.path.splitext(path)[1].lower())
        if read and not (found is RAW and head.startswith(TIFF_MAGIC)):
            return None
    return found


def counted(kinds: Iterable[Kind]) -> str:
    """Return how many photos there are of each format, as `12 HEIC photos and 1 RAW photo`."""
    counts = Counter(each.name for each in kinds)
    parts = [count(number, f"{name} photo") for name, number in counts.most_common()]
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))
