"""Photos with seeded changes: for whatever reads files of strangers."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from kit import encoded


def noise(width: int = 40, height: int = 30) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    )


def rle_bmp(width: int, height: int) -> bytes:
    """Rows of one pixel and an end of line, each filled up to its width."""
    body = b"\1\1\0\0" * height
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 2, 0)
    head = struct.pack("<2sIHHI", b"BM", 62 + len(body), 0, 0, 62)
    return head + info + bytes(8) + body


def small_photos() -> list[bytes]:
    image = noise(24, 18)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    clear = image.copy()
    clear.putalpha(Image.linear_gradient("L").resize(image.size))
    frames = {"save_all": True, "append_images": [image.rotate(90)]}
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>', zip=True)
    return [
        encoded(image, "JPEG", exif=exif),
        encoded(image, "JPEG", progressive=True, subsampling=0),
        encoded(image.convert("CMYK"), "JPEG"),
        encoded(clear, "PNG", exif=exif, pnginfo=text),
        encoded(image.quantize(16), "PNG", transparency=3),
        encoded(image.convert("L"), "PNG"),
        encoded(image, "WEBP", exif=exif),
        encoded(clear, "WEBP", lossless=True, **frames),
        encoded(image, "GIF", comment=b"a comment", **frames),
        encoded(image, "TIFF", exif=exif),
        encoded(image, "TIFF", compression="tiff_lzw"),
        encoded(image, "TIFF", compression="tiff_adobe_deflate"),
        encoded(image, "TIFF", compression="jpeg"),
        encoded(image, "BMP"),
        rle_bmp(24, 18),
        encoded(image, "AVIF", exif=exif),
        encoded(image, "PPM"),
        b"P3 #c\n24 18\n255\n" + b" ".join(b"%d" % value for value in np.asarray(image).ravel()),
        b"P5\n24 18\n300\n" + bytes(2 * 24 * 18),
    ]


def odd_photos(shared: Path) -> list[bytes]:
    """Return the files of data/hostile: odd photos, and such that are none."""
    files = [path for path in sorted((shared / "data" / "hostile").iterdir()) if path.is_file()]
    return [path.read_bytes() for path in files if path.suffix not in (".csv", ".sha256", ".txt")]


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """The file with one to four changes: bits, numbers at their limits, parts out, in or twice."""
    changed = bytearray(data)
    for _ in range(int(random.integers(1, 5))):
        early = random.random() < 0.6  # headers are more fragile than pixels
        at = int(random.integers(0, max(1, min(len(changed), 200) if early else len(changed))))
        size = int(random.integers(1, 40))
        how = random.integers(0, 6)
        if how == 0 and changed:
            changed[at] ^= 1 << int(random.integers(0, 8))
        elif how == 1:
            number = int(
                random.choice([0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 2**32 - 1])
            )
            order = "big" if random.random() < 0.5 else "little"
            changed[at : at + 4] = number.to_bytes(4, order)
        elif how == 2:
            del changed[at : at + size]
        elif how == 3:
            changed[at:at] = changed[at : at + size] * int(random.integers(1, 50))
        elif how == 4:
            changed[at : at + size] = random.bytes(size)
        else:
            del changed[int(random.integers(0, len(changed) + 1)) :]
    return bytes(changed)
