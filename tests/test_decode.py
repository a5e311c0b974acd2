"""Decoding: every mode and orientation, and every file that must be refused, in little memory."""

from __future__ import annotations

import csv
import itertools
import os
import struct
import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from kit import encoded
from PIL import Image

from zoo.data import decode as module
from zoo.data import limits
from zoo.data.decode import LARGE, SUFFIXES, decode, decode_for, looks_like_image, read_bytes
from zoo.errors import ImageError

ROOT = Path(__file__).parents[1]
PROC = Path("/proc/self/status")
LIMIT = 300 * 1024  # kB


def ramp(width: int = 30, height: int = 20) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 8, y * 12, 255 - x * 8], -1).astype(np.uint8))


def pixel(data: bytes, at: tuple[int, int] = (0, 0), mode: str = "RGB") -> object:
    image = decode(data, mode)
    assert image.mode == mode
    return image.getpixel(at)


def test_rgb_comes_out_as_it_went_in() -> None:
    assert np.array_equal(decode(encoded(ramp())), ramp())


def test_one_bit_is_black_and_white() -> None:
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    assert pixel(encoded(image), (0, 0)) == (0, 0, 0)
    assert pixel(encoded(image), (1, 0)) == (255, 255, 255)


def test_grey_keeps_its_value() -> None:
    data = encoded(Image.new("L", (3, 2), 77))
    assert pixel(data) == (77, 77, 77)
    assert pixel(data, mode="L") == 77


@pytest.mark.parametrize(("alpha", "expected"), [(0, 255), (255, 100), (51, 224)])
def test_transparency_becomes_white(alpha: int, expected: int) -> None:
    grey = encoded(Image.new("LA", (3, 2), (100, alpha)))
    assert pixel(grey) == (expected,) * 3
    assert pixel(grey, mode="L") == expected
    assert pixel(encoded(Image.new("RGBA", (3, 2), (100, 100, 100, alpha)))) == (expected,) * 3


def test_transparent_palette_entry_is_white_and_others_keep_their_colour() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    data = encoded(image, transparency=0)
    assert pixel(data, (0, 0)) == (255, 255, 255)
    assert pixel(data, (1, 0)) == (200, 100, 50)


@pytest.mark.parametrize(("mode", "clear", "solid"), [("L", 9, 8), ("RGB", (9, 9, 9), (8, 9, 9))])
def test_transparent_colour_is_white(mode: str, clear: object, solid: object) -> None:
    image = Image.new(mode, (2, 1), solid)
    image.putpixel((0, 0), clear)
    data = encoded(image, transparency=clear)
    assert pixel(data, (0, 0)) == (255, 255, 255)
    assert pixel(data, (1, 0)) == ((8, 8, 8) if mode == "L" else solid)


def test_cmyk_jpeg_has_the_colours_of_its_ink() -> None:
    image = ramp().convert("CMYK")
    found = decode(encoded(image, "JPEG", quality=100, subsampling=0))
    assert np.abs(np.asarray(found, int) - np.asarray(ramp(), int)).mean() < 3


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (257 * 77, 77), (65535, 255), (400, 2)])
def test_16_bit_grey_is_divided_by_257(value: int, expected: int) -> None:
    image = Image.fromarray(np.full((2, 3), value, np.uint16))
    assert image.mode == "I;16"
    for kind in ("PNG", "TIFF"):
        assert pixel(encoded(image, kind)) == (expected,) * 3


@pytest.mark.parametrize(
    ("values", "expected"), [((0.0, 1.0, 0.2), (0, 255, 51)), ((0.0, 255.0, 51.2), (0, 255, 51))]
)
def test_floats_are_from_0_to_1_or_from_0_to_255(
    values: tuple[float, ...], expected: tuple[int, ...]
) -> None:
    data = encoded(Image.fromarray(np.array([values], np.float32)), "TIFF")
    assert [pixel(data, (x, 0), "L") for x in range(3)] == list(expected)


@pytest.mark.parametrize("value", [-0.5, 300.0, float("nan"), float("inf")])
def test_floats_out_of_range_are_an_error(value: float) -> None:
    data = encoded(Image.fromarray(np.array([[0.0, value]], np.float32)), "TIFF")
    with pytest.raises(ImageError, match="value"):
        decode(data)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_comes_out_upright(orientation: int) -> None:
    flip = Image.Transpose
    stored = {  # how a camera held so stores the picture: the inverse of what the tag asks for
        1: (),
        2: (flip.FLIP_LEFT_RIGHT,),
        3: (flip.ROTATE_180,),
        4: (flip.FLIP_TOP_BOTTOM,),
        5: (flip.TRANSPOSE,),
        6: (flip.ROTATE_90,),
        7: (flip.TRANSVERSE,),
        8: (flip.ROTATE_270,),
    }
    image = ramp()
    for step in stored[orientation]:
        image = image.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(decode(encoded(image, exif=exif)), ramp())


def test_first_frame_of_an_animation_is_read() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert pixel(data) == (255, 0, 0)


@pytest.mark.parametrize("more", [{}, {"transparency": 1}, {"background": 1}])
def test_beside_the_first_frame_of_a_gif_there_is_nothing(more: dict[str, int]) -> None:
    """Pillow fills it with a colour of the frame: its transparent one, or its first."""
    frame = Image.new("P", (8, 6), 0)
    frame.putpalette([10, 200, 30, 255, 0, 0, 0, 0, 255])
    frame.putpixel((3, 2), 2)
    data = bytearray(encoded(frame, "GIF", **more))
    data[6:10] = struct.pack("<HH", 20, 16)  # the canvas
    at = data.rindex(b"\x2c" + bytes(4) + struct.pack("<HH", 8, 6))
    data[at + 1 : at + 5] = struct.pack("<HH", 5, 7)
    expected = Image.new("RGB", (20, 16), "white")
    expected.paste(frame.convert("RGB"), (5, 7))
    assert np.array_equal(decode(bytes(data)), expected)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_truncated_file_is_an_error_never_half_a_picture(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    decode(data)
    with pytest.raises(ImageError):
        decode(data[: len(data) // 2])


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"<html>404</html>", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_an_error_of_one_line(data: bytes) -> None:
    with pytest.raises(ImageError) as error:
        decode(data)
    assert error.value.what
    assert "\n" not in error.value.what
    assert "BytesIO" not in error.value.what


def test_formats_that_run_other_programs_are_not_read() -> None:
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    with pytest.raises(ImageError, match="format"):
        decode(script)


def test_files_that_cannot_be_read_say_so(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jpg"
    empty.touch()
    for path, reason in ((empty, "empty"), (tmp_path, "regular"), (tmp_path / "no", "No such")):
        with pytest.raises(ImageError, match=reason):
            read_bytes(path)


def test_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    with path.open("wb") as file:
        file.truncate(module.MAX_BYTES + 1)  # sparse: takes no room
    with pytest.raises(ImageError, match="more than 537 MB"):
        read_bytes(path)


@pytest.mark.parametrize("name", ["pipe.jpg", "pipe"])
def test_fifo_is_never_opened(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    code = (
        "import sys; from zoo.data.decode import looks_like_image, read_bytes\n"
        "from zoo.errors import ImageError\n"
        "looks_like_image(sys.argv[1])\n"
        "try: read_bytes(sys.argv[1])\n"
        "except ImageError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.strip() == "not a regular file", done.stderr


def test_pictures_are_known_by_suffix_or_by_their_first_bytes(tmp_path: Path) -> None:
    assert looks_like_image("A.JPG")
    assert {".jpg", ".png", ".webp", ".avif", ".tif"} <= SUFFIXES
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "AVIF"):
        path = tmp_path / kind
        path.write_bytes(encoded(ramp(), kind))
        assert looks_like_image(path), kind
    for name, data in (("notes.txt", b"hello"), ("sound", b"RIFF\0\0\0\0WAVEfmt ")):
        path = tmp_path / name
        path.write_bytes(data)
        assert not looks_like_image(path)
    assert not looks_like_image(tmp_path / "missing")


def bomb(width: int, height: int) -> bytes:
    """A one-bit PNG of zeros: a few kB that decode to gigabytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    header = width.to_bytes(4) + height.to_bytes(4) + bytes([1, 0, 0, 0, 0])
    squeeze, row = zlib.compressobj(9), bytes(width // 8 + 1)
    body = b"".join(squeeze.compress(row) for _ in range(height)) + squeeze.flush()
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_pixel_cap_names_the_size_and_how_to_raise_it() -> None:
    data = bomb(9000, 8000)
    assert len(data) < 20_000
    with pytest.raises(ImageError, match=r"9000 x 8000 is 72 megapixels.*ZOO_MAX_PIXELS"):
        decode(data)


@pytest.mark.parametrize(
    ("kind", "mode", "each"),
    [("JPEG", "RGB", 7), ("JPEG", "L", 2), ("PNG", "RGB", 7), ("PNG", "RGBA", 8), ("PNG", "1", 2),
     ("PNG", "P", 2), ("PNG", "I;16", 8), ("TIFF", "I", 16), ("TIFF", "F", 16), ("BMP", "RGB", 7),
     ("WEBP", "RGB", 16), ("AVIF", "RGB", 16)],
)  # fmt: skip
def test_the_cap_is_on_the_bytes_that_a_kind_of_pixels_takes(
    monkeypatch: pytest.MonkeyPatch, kind: str, mode: str, each: int
) -> None:
    """80 x 80 pixels are decoded with as many bytes, and refused with eight fewer."""
    data = encoded(Image.new(mode, (80, 80)), kind)
    with Image.open(BytesIO(data)) as image:
        assert limits.cost(image) == 6400 * each
        assert limits.cost(image, 8) == 6400 * each + 8
        monkeypatch.setenv("ZOO_MAX_PIXELS", str(800 * each))
        assert limits.cost(image) == 6400 * each
        monkeypatch.setenv("ZOO_MAX_PIXELS", str(800 * each - 1))
        with pytest.raises(ImageError, match=f"ZOO_MAX_PIXELS={800 * each} to allow it"):
            limits.cost(image)


def test_cap_is_on_pixels_not_on_sides() -> None:
    assert decode(bomb(60_000, 2)).size == (60_000, 2)


# What decoding the files of sys.argv[1:] comes to, and the peak memory in kB. (ru_maxrss would
# count what the parent had before the exec.)
MEASURE = """
import re, sys
from zoo.data.decode import decode, read_bytes
from zoo.errors import ImageError
for path in sys.argv[1:]:
    try:
        decode(read_bytes(path))
        print("ok")
    except ImageError:
        print("error")
print(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
"""
linux = pytest.mark.skipif(not PROC.exists(), reason="peak memory is read from /proc")


def measured(*files: Path) -> tuple[list[str], int]:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, files)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    *answers, peak = done.stdout.split()
    return answers, int(peak)


@linux
def test_bombs_cost_little_memory(tmp_path: Path) -> None:
    files = []
    for number, size in enumerate(((9000, 8000), (30_000, 30_000), (13_000, 13_000))):
        files.append(tmp_path / f"{number}.png")
        files[-1].write_bytes(bomb(*size))
    answers, peak = measured(*files)
    assert answers == ["error"] * 3
    assert peak < LIMIT


def hostile(shared: Path) -> list[dict[str, str]]:
    with open(shared / "data" / "hostile" / "INDEX.csv", newline="") as file:
        return list(csv.DictReader(file))


@linux
def test_hostile_files_decode_exactly_where_pillow_reads_them(shared: Path) -> None:
    rows = hostile(shared)
    assert len(rows) == 34
    files = [shared / "data" / "hostile" / row["path"] for row in rows]
    answers, peak = measured(*files)
    expected = ["ok" if row["outcome"] == "ok" else "error" for row in rows]
    assert dict(zip((f.name for f in files), answers, strict=True)) == dict(
        zip((f.name for f in files), expected, strict=True)
    )
    assert peak < LIMIT


def test_hostile_pictures_come_out_upright_at_their_size(shared: Path) -> None:
    for row in hostile(shared):
        if row["outcome"] == "ok":
            size = (int(row["width"]), int(row["height"]))
            turned = row["orientation"] in ("5", "6", "7", "8")
            data = read_bytes(shared / "data" / "hostile" / row["path"])
            for mode in ("RGB", "L"):
                image = decode(data, mode)
                assert image.mode == mode
                assert image.size == (size[::-1] if turned else size), row["path"]


# JPEGs that are decoded at less than their size.

ORIENTATIONS = {  # how a camera held so stores the picture: the inverse of what the tag asks for
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.fixture(scope="module")
def large() -> Image.Image:
    """Waves of 2005 x 1611 pixels, which no scale divides; no two corners are alike."""
    y, x = np.mgrid[:1611, :2005]
    waves = (np.sin(x / 90 + y / 70), np.sin(x / 60 - y / 110), np.sin(x * y / 150_000))
    assert x.size > LARGE
    return Image.fromarray((127 + 100 * np.stack(waves, -1)).astype(np.uint8))


def jpeg(image: Image.Image, kind: str) -> bytes:
    """A JPEG of one of the kinds there are."""
    if kind == "MPO":
        return encoded(image, "MPO", save_all=True, append_images=[Image.new("RGB", (64, 64))])
    if kind == "progressive":
        return encoded(image, "JPEG", progressive=True)
    if kind == "4:4:4":
        return encoded(image, "JPEG", subsampling=0)
    if kind == "YCCK":  # what Adobe's marker says of CMYK's four channels, said of these
        data = encoded(image.convert("CMYK"), "JPEG")
        at = data.index(b"Adobe") + 11
        assert data[at] == 0
        return data[:at] + b"\2" + data[at + 1 :]
    return encoded(image.convert(kind), "JPEG")


def shrunk(image: Image.Image, box: tuple[float, float, float, float]) -> np.ndarray:
    """20 x 16 pixels of a part of a picture."""
    return np.asarray(image.resize((20, 16), Image.Resampling.BILINEAR, box=box), int)


@pytest.mark.parametrize("kind", ["RGB", "4:4:4", "L", "CMYK", "YCCK", "progressive", "MPO"])
def test_every_kind_of_jpeg_is_the_same_picture_when_smaller(large: Image.Image, kind: str) -> None:
    data, box = jpeg(large, kind), (160, 160, 1760, 1440)
    whole = {mode: shrunk(decode(data, mode), box) for mode in ("RGB", "L")}
    for mode, scale in itertools.product(whole, (2, 4, 8)):
        picture = decode_for(data, mode, lambda width, height, scale=scale: scale)
        assert picture.image.mode == mode
        assert (picture.width, picture.height, picture.scale) == (*large.size, scale)
        assert picture.image.size == (-(-large.width // scale), -(-large.height // scale))
        assert np.abs(shrunk(picture.image, picture.part(box)) - whole[mode]).mean() < 0.3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_smaller_pictures_lie_where_the_whole_ones_do(large: Image.Image, orientation: int) -> None:
    """To a fraction of a pixel, though the last column and row may be cut and come first."""
    how = ORIENTATIONS[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(large if how is None else large.transpose(how), "JPEG", exif=exif)
    picture = decode_for(
        data, "RGB", lambda width, height: 8 if (width, height) == large.size else 1
    )
    assert (picture.width, picture.height, picture.scale) == (*large.size, 8)
    x, y = picture.origin
    assert x == (251 - 2005 / 8 if orientation in (2, 3, 6, 7) else 0)
    assert y == (202 - 1611 / 8 if orientation in (3, 4, 7, 8) else 0)
    for box in ((0, 0, 2005, 1611), (5, 3, 805, 643), (1203, 961, 2003, 1601)):
        ours = picture.image.resize((20, 16), Image.Resampling.BILINEAR, box=picture.part(box))
        full = large.resize((20, 16), Image.Resampling.BILINEAR, box=box)
        assert np.abs(np.asarray(ours, int) - np.asarray(full, int)).mean() < 0.5


def test_only_large_jpegs_become_smaller(large: Image.Image) -> None:
    """All others are the same to the last bit, however much there is to spare."""
    below = large.crop((0, 0, 2000, 1499))
    plain = {"PNG": {"compress_level": 1}, "WEBP": {"method": 0}}  # which take no second to write
    others = [encoded(large, kind, **options) for kind, options in plain.items()]
    for data in (encoded(below, "JPEG"), *others):
        picture = decode_for(data, "RGB", lambda width, height: 100)
        assert picture.scale == 1
        assert np.array_equal(picture.image, decode(data))
    data = encoded(large, "JPEG")
    for most, scale in ((1.99, 1), (2, 2), (3.99, 2), (4, 4), (7.9, 4), (100, 8)):
        assert decode_for(data, "RGB", lambda width, height, most=most: most).scale == scale


@pytest.mark.parametrize("kind", ["RGB", "progressive"])
def test_a_truncated_file_is_an_error_at_any_size(large: Image.Image, kind: str) -> None:
    data = jpeg(large, kind)
    for end in (len(data) // 100, len(data) // 2, len(data) - 2000, len(data) - 40):
        for scale in (1, 2, 4, 8):
            with pytest.raises(ImageError):
                decode_for(data[:end], "RGB", lambda width, height, scale=scale: scale)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_data_count_as_none_at_any_size(large: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = bytearray(encoded(large, "JPEG", exif=exif))
    at = data.index(b"Exif\0\0") + 6
    for value in (b"\xff" * 8, b"II*\0\xff\xff\xff\xff"):
        data[at : at + 8] = value
        picture = decode_for(bytes(data), "RGB", lambda width, height: 4)
        assert (picture.width, picture.height, picture.scale) == (*large.size, 4)
        assert picture.origin == (0, 0)
        assert decode(bytes(data)).size == large.size


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("junk", [b"nonsense", b"Exif\0\0MM\0*", b"Exif\0\0XX*\0\x08" + bytes(8)])
def test_what_is_no_exif_data_turns_nothing(kind: str, junk: bytes) -> None:
    """In JPEG files Pillow sees to it, in others it raises what it will."""
    data = encoded(ramp(), kind, exif=junk, lossless=True)
    assert np.array_equal(decode(data), ramp())
