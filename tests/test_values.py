"""What stored numbers mean: twins of one picture in every depth, each white where the others are.

And photos in formats that are not read, which are told of instead.
"""

from __future__ import annotations

import struct
import zlib
from itertools import product

import numpy as np
import pytest
from kit import encoded, picture
from PIL import Image

from zoo.data.decode import decode, looks_like_image, read_bytes
from zoo.errors import ImageError

Y, X = np.mgrid[:20, :33]
GREY = ((X * 8) * (Y > 5)).clip(0, 255).astype(np.uint8)
WHITE, BLACK, CMYK, LAB = 0, 1, 5, 8  # what a TIFF says of zero
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
TOGETHER, APART = 1, 2  # how the samples of a pixel lie


def rows_of(values, bits, order=">"):
    """The values in so many bits each; rows end at whole bytes."""
    if bits in (8, 16, 32):
        return [row.astype(f"{order}u{bits // 8}").tobytes() for row in values]
    texts = ["".join(f"{int(value):0{bits}b}" for value in row) for row in values]
    texts = [text + "0" * (-len(text) % 8) for text in texts]
    return [int(text, 2).to_bytes(len(text) // 8) for text in texts]


def tiff(values, bits, zero=BLACK, order="<", kind=UNSIGNED, squeeze=False, planes=None):
    """A grey TIFF of one strip. zero: what it says of zero, None for nothing."""
    if kind == FLOAT:
        data = values.astype(f"{order}f4").tobytes()
    else:
        data = b"".join(rows_of(values & ((1 << bits) - 1), bits, order))
    data = zlib.compress(data) if squeeze else data
    height, width = values.shape
    tags = {256: width, 257: height, 258: bits, 259: 8 if squeeze else 1, 262: zero}
    tags |= {273: 0, 277: 1, 278: height, 279: len(data), 284: planes, 339: kind}
    tags = {tag: value for tag, value in tags.items() if value is not None}
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = [struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items()]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    return head + b"".join(entries) + bytes(4) + data


def spread(bits):
    """GREY in so many bits, and what 8 bits have of that."""
    top = (1 << bits) - 1
    values = np.rint(GREY / 255 * top).astype(np.int64)
    return values, np.rint(values / top * 255)


@pytest.mark.parametrize(
    ("bits", "zero", "order", "squeeze"),
    [
        case
        for case in product((1, 2, 4, 8, 12, 16), (WHITE, BLACK, None), "<>", (False, True))
        if case[0] != 12 or case[2:] == ("<", False)  # Pillow reads no others of 12
    ],
)
def test_a_grey_tiff_is_the_same_picture_in_every_depth(bits, zero, order, squeeze):
    values, expected = spread(bits)
    stored = (1 << bits) - 1 - values if zero == WHITE else values
    for mode, planes in product(("L", "RGB"), (None, APART)):
        data = tiff(stored, bits, zero, order, squeeze=squeeze, planes=planes)
        assert np.array_equal(np.asarray(decode(data, mode)).reshape(20, 33, -1)[..., 0], expected)


@pytest.mark.parametrize(
    ("zero", "order", "top"), list(product((WHITE, BLACK), "<>", (1.0, 255.0)))
)
def test_a_float_tiff_may_have_white_at_zero_too(zero, order, top):
    values = GREY / 255 * top
    values = top - values if zero == WHITE else values
    for squeeze, planes in product((False, True), (None, APART)):
        data = tiff(values, 32, zero, order, FLOAT, squeeze, planes=planes)
        assert np.array_equal(decode(data, "L"), GREY)


@pytest.mark.parametrize(
    ("bits", "kind", "order"),
    [
        (16, SIGNED, "<"),
        (32, SIGNED, "<"),
        (32, UNSIGNED, "<"),
        (16, SIGNED, ">"),
        (32, SIGNED, ">"),
    ],
)
def test_integers_without_a_range_of_their_own_are_bytes_or_16_bits(bits, kind, order):
    for factor, squeeze in product((1, 100), (False, True)):
        expected = GREY if factor == 1 else np.rint(GREY * 100.0 / 257)
        data = tiff(GREY.astype(np.int64) * factor, bits, order=order, kind=kind, squeeze=squeeze)
        assert np.array_equal(decode(data, "L"), expected)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (tiff(GREY.astype(np.int64) << 20, 32), "values up to 2.6"),
        (tiff(GREY.astype(np.int64) << 24, 32), "values up to 4.2"),
        (tiff(GREY.astype(np.int64) - 9, 32, kind=SIGNED), "values from -9 to 246"),
        (tiff(GREY.astype(np.int64) - 9, 16, kind=SIGNED), "values from -9 to 246"),
        (tiff(GREY.astype(np.int64) - 128, 8, kind=SIGNED), "values from -128 to 127"),
        (tiff(GREY * 1.1 / 255, 32, kind=FLOAT), "float values up to 1.1"),
        (tiff(GREY * 257.0, 32, kind=FLOAT), "float values up to 6"),
        (tiff(GREY.astype(np.int64), 12, order=">"), "1 x 12 bits, unsigned"),
        (tiff(GREY.astype(np.int64), 32, order=">"), "1 x 32 bits, unsigned"),
    ],
)
def test_a_tiff_whose_range_cannot_be_known_is_an_error_that_says_what_would_be(data, says):
    with pytest.raises(ImageError, match=says) as error:
        decode(data, "L")
    assert "save it as 8 or 16 bits" in error.value.what


def samples(values, bits, planes, order="<", squeeze=False, colours=2, more=()):
    """A TIFF of several samples a pixel. colours, more: its photometric, other tags and values."""
    parts = list(np.moveaxis(values, -1, 0)) if planes == APART else [values]
    data = [part.astype(f"{order}u{bits // 8}").tobytes() for part in parts]
    data = [zlib.compress(part) if squeeze else part for part in data]
    begins = [8 + sum(map(len, data[:number])) for number in range(len(data) + 1)]
    extra = values.shape[-1] - {BLACK: 1, CMYK: 4}.get(colours, 3)
    tags = {256: [values.shape[1]], 257: [len(values)], 258: [bits] * values.shape[-1]}
    tags |= {259: [8 if squeeze else 1], 262: [colours], 273: begins[:-1]}
    tags |= {277: [values.shape[-1]], 278: [len(values)], 279: list(map(len, data)), 284: [planes]}
    tags |= {338: [2] * extra} if extra else {}
    tags |= dict(more)
    at, entries, lists = begins[-1] + 2 + 12 * len(tags) + 4, b"", b""
    for tag, told in sorted(tags.items()):
        value = told[0] if len(told) == 1 else at + len(lists)
        lists += struct.pack(f"{order}{len(told)}I", *told) if len(told) > 1 else b""
        entries += struct.pack(f"{order}HHII", tag, 4, len(told), value)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", begins[-1])
    count = struct.pack(f"{order}H", len(tags))
    return head + b"".join(data) + count + entries + bytes(4) + lists


@pytest.mark.parametrize(
    ("bits", "planes", "order", "squeeze", "alpha"),
    list(product((8, 16), (TOGETHER, APART), "<>", (False, True), (False, True))),
)
def test_a_tiff_whose_samples_lie_apart_is_the_same_picture(bits, planes, order, squeeze, alpha):
    """Of 16 bits in planes Pillow read every byte as a pixel."""
    colours = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], -1).astype(np.int64)
    clear = np.where(X % 2, 255, 0) if alpha else np.full(X.shape, 255)
    stored = np.concatenate([colours, clear[..., None]], -1) if alpha else colours
    data = samples(stored * (257 if bits == 16 else 1), bits, planes, order, squeeze)
    expected = np.where(clear[..., None] == 255, colours, 255)
    assert np.array_equal(decode(data), expected)


def test_grey_with_alpha_is_on_white_also_where_it_is_multiplied_by_it():
    stored = np.stack([GREY // 2, np.full_like(GREY, 128)], -1)
    found = np.asarray(decode(samples(stored, 8, TOGETHER, colours=BLACK, more={338: [1]}), "L"))
    assert np.abs(found.astype(float) - (GREY // 2 + 127.0)).max() <= 1


@pytest.mark.parametrize("squeeze", [False, True])
def test_a_tiff_whose_samples_cannot_be_told_apart_is_an_error(squeeze):
    """Of these Pillow makes other pictures, or has an error of its own."""
    three = np.stack([GREY] * 3, -1).astype(np.int64)
    odd = [
        ("2 x 8 bits, unsigned, in planes", samples(three[..., :2], 8, APART, ">", squeeze, BLACK)),
        ("3 x 8 bits, unsigned, in planes", samples(three, 8, APART, "<", squeeze, LAB)),
    ]
    if not squeeze:
        inks = np.stack([GREY] * 4, -1).astype(np.int64) * 257
        blocks = samples(three, 8, TOGETHER, colours=6, more={530: [2, 2]})
        more = "3 x 8 bits, unsigned, colours at a lower resolution", blocks + bytes(2000)
        cmyk = samples(inks, 16, APART, colours=CMYK)
        odd += [more, ("4 x 16 bits, unsigned, in planes", cmyk)]
        for samples_each, tags, colours in (
            (3, {266: [2]}, 2), (3, {530: [1, 1]}, 6), (4, {338: [0]}, 2), (4, {338: [1]}, 2),
            (6, {338: [0, 0, 0]}, 2),
        ):  # fmt: skip
            each = np.stack([GREY] * samples_each, -1)
            data = samples(each, 8, APART, colours=colours, more=tags)
            odd.append((f"{samples_each} x 8 bits, unsigned, in planes", data))
    for says, data in odd:
        with pytest.raises(ImageError, match=says) as error:
            decode(data)
        assert "save it as PNG" in error.value.what


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(values, bits, key):
    """A PNG, grey or RGB, with a transparent colour."""
    flat = values.reshape(len(values), -1)
    head = struct.pack(
        ">IIBBBBB", values.shape[1], len(values), bits, 2 * (values.ndim - 2), 0, 0, 0
    )
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows_of(flat, bits)))
    parts = chunk(b"IHDR", head) + chunk(b"tRNS", np.array(key, ">u2").tobytes())
    return b"\x89PNG\r\n\x1a\n" + parts + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("bits", "key"),
    [(1, 0), (1, 1), (2, 1), (2, 3), (4, 3), (4, 15), (8, 0), (8, 96), (16, 0), (16, 96 * 257)],
)
def test_the_transparent_grey_of_a_png_is_white_in_every_depth(bits, key):
    values, expected = spread(bits)
    if bits == 16:
        values[0, 0] = key + 1  # a neighbour of the key is not the key
        expected[0, 0] = np.rint(values[0, 0] / 257)
    assert (values == key).any()
    expected[values == key] = 255
    assert np.array_equal(decode(png(values, bits, key), "L"), expected)


@pytest.mark.parametrize("bits", [8, 16])
def test_the_transparent_colour_of_a_png_is_white_and_its_neighbours_are_not(bits):
    for key in ((0, 0, 0), (9, 8, 7), (0x1234, 0x5678, 0x9ABC)):
        if max(key) >> bits:
            continue
        values = np.stack([GREY.astype(np.int64) << (bits - 8)] * 3, -1)
        values[:3], values[3] = key, np.add(key, (0, 0, 1))
        expected = values >> (bits - 8)
        expected[(values == key).all(-1)] = 255
        assert np.array_equal(decode(png(values, bits, key)), expected)


def test_a_turned_png_of_16_bits_keeps_its_transparent_value():
    """What the numbers mean stays with a picture that is turned."""
    values, expected = spread(16)
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(np.rot90(values).astype(np.uint16))
    expected[values == 0] = 255
    assert np.array_equal(decode(encoded(stored, exif=exif, transparency=0), "L"), expected)


# Formats that are not read.

FTYP = b"\0\0\0\x18ftyp%b\0\0\0\0mif1%b" + bytes(400)
UNREAD = {  # name: (content, what it is called)
    "IMG.HEIC": (FTYP % (b"heic", b"heic"), "HEIC"),
    "renamed.jpg": (FTYP % (b"heic", b"heic"), "HEIC"),
    "without": (FTYP % (b"mif1", b"heix"), "HEIC"),
    "damaged.heif": (b"junk", "HEIC"),
    "a.jxl": (b"\xff\x0a" + bytes(40), "JPEG XL"),
    "jxl": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), "JPEG XL"),
    "a.jp2": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40), "JPEG 2000"),
    "a.tga": (bytes(40), "TGA"),
    "a.CR3": (FTYP % (b"crx ", b"crx "), "RAW"),
    "a.psd": (b"8BPS\0\1" + bytes(40), "Photoshop"),
    "a.dng": (tiff(GREY.astype(np.int64), 8), "RAW"),  # has a preview that could be read
    "a.nef": (tiff(GREY.astype(np.int64), 8, order=">"), "RAW"),
}


@pytest.mark.parametrize("name", UNREAD)
def test_a_photo_in_a_format_that_is_not_read_says_so_and_how_to_convert_it(tmp_path, name):
    content, called = UNREAD[name]
    (tmp_path / name).write_bytes(content)
    assert looks_like_image(tmp_path / name)
    with pytest.raises(ImageError, match=f"^{called}, a format that is not read: convert"):
        read_bytes(tmp_path / name)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "GIF"])
def test_a_photo_with_the_suffix_of_another_format_is_read(tmp_path, kind):
    for name in ("a.heic", "a.tga", "a.jp2"):
        (tmp_path / name).write_bytes(encoded(picture("disc", 0), kind))
        assert decode(read_bytes(tmp_path / name)).size == picture("disc", 0).size


def test_pnm_is_read(tmp_path):
    (tmp_path / "a.pnm").write_bytes(encoded(picture("disc", 0), "PPM"))
    assert looks_like_image(tmp_path / "a.pnm")
    assert decode(read_bytes(tmp_path / "a.pnm")).size == picture("disc", 0).size


@pytest.fixture
def phone(tmp_path):
    """Two classes of HEIC photos, six each."""
    for number in range(6):
        for name in ("a", "b"):
            (tmp_path / "phone" / name).mkdir(parents=True, exist_ok=True)
            path = tmp_path / "phone" / name / f"IMG_{number}.HEIC"
            path.write_bytes(FTYP % (b"heic", b"heic") + f"{name}{number}".encode())
    return tmp_path / "phone"


def test_a_folder_of_nothing_else_is_refused_before_anything_is_computed(phone, tmp_path, here):
    answer = here("finetune", "lenet", phone, "--weights", "none", "-o", tmp_path / "run")
    assert answer.code == 2
    assert "has 12 HEIC photos, which cannot be read, and no others" in answer.err
    assert "heif-convert" in answer.err
    assert not (tmp_path / "run").exists()


def test_among_others_each_has_a_row_and_finetune_counts_them(phone, tmp_path, here):
    for name, number in (("a", 0), ("b", 1)):
        for each in range(6):
            picture(("disc", "square")[number], each).save(phone / name / f"{each}.png")
    words = ["--weights", "none", "--epochs", "1", "--views", "1", "-o", tmp_path / "run"]
    answer = here("finetune", "lenet", phone, *words)
    assert answer.code == 2
    assert "12 of 24 photos cannot be read, more than 10 %" in answer.err
    answer = here("finetune", "lenet", phone, *words, "--skip-unreadable")
    assert answer.code == 0, answer.err
    assert "12 HEIC photos cannot be read: convert to JPEG" in answer.err
    assert "12 unreadable photos are left out" in answer.err
    answer = here("predict", tmp_path / "run", phone)
    assert answer.code == 0
    errors = [line for line in answer.out.splitlines() if ",error," in line]
    assert len(errors) == 12
    assert all("HEIC, a format that is not read" in line for line in errors)
    assert "12 errors: HEIC, a format that is not read: convert it to JPEG" in answer.err
