"""Files made to hold a command up: each costs its own row, little time and little memory."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from kit import encoded, until
from kit.mutants import mutated, noise, odd_photos, rle_bmp, small_photos
from PIL import Image, PngImagePlugin

from zoo.catalog.spec import Preprocess
from zoo.data import decode_process
from zoo.data.decode import decode, to_mode
from zoo.data.limits import Room, cost
from zoo.data.preprocess import apply
from zoo.data.structure import LARGE, Checked, check
from zoo.data.views import view_of
from zoo.errors import ImageError

ROOT = Path(__file__).parents[1]
linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
# Photos come by stdin, each after its length; for each a line: seconds of processor time, of the
# processes that it has started too, memory in MB that it took at most beyond what was taken before,
# with all of theirs, and what came of it.
MEASURE = """
import contextlib, re, sys, time, warnings
warnings.simplefilter("ignore")
from zoo.catalog.spec import Preprocess
from zoo.data import decode_process
from zoo.data.decode import decode
from zoo.data.views import view_of
from zoo.errors import ImageError
from zoo.predict.inputs import Input
from zoo.predict.predictor import open_predictor
def memory(pid, name="VmHWM"):
    try:
        found = re.search(name + r":\\s*(\\d+)", open(f"/proc/{pid}/status").read())
    except OSError:
        return 0
    return int(found[1]) // 1024 if found else 0
def pids():
    return [one.process.pid for one in decode_process._idle]
def forget_peaks():
    for pid in ("self", *pids()):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/clear_refs", "w") as file:
            file.write("5")
def ticks(pid):
    try:
        return sum(map(int, open(f"/proc/{pid}/stat").read().rsplit(")")[1].split()[11:13])) / 100
    except OSError:
        return 0
def spent():
    return time.process_time() + sum(map(ticks, pids()))
whole, source = sys.argv[1] == "whole", sys.stdin.buffer
predictor = open_predictor(sys.argv[2]) if sys.argv[2:] else None
if predictor:
    list(predictor.rows([Input("none", "none")]))
while head := source.read(8):
    data = source.read(int.from_bytes(head, "big"))
    forget_peaks()
    before, began = spent(), memory("self", "VmRSS")
    try:
        view_of(data, Preprocess(size=32))
        if whole:
            decode(data)
        if predictor:
            (row,) = predictor.rows([Input("x", "x", data)])
            assert row.status == "ok", row.error
        said = "ok"
    except ImageError as error:
        said = error.what
    except BaseException as error:
        said = f"OUTSIDE {error!r}"
    after = spent()
    children = max(map(memory, pids()), default=0)
    print(f"{after - before:.2f}\\t{memory('self') - began + children}\\t{said}", flush=True)
"""


def measured(photos: list[bytes], *how: object) -> list[tuple[float, int, str]]:
    """Seconds of processor time, peak memory in MB, and `ok` or the error of each photo.

    how: `whole`, to decode all of it beside a view; and a network, to answer it too.
    """
    stream = b"".join(len(data).to_bytes(8, "big") + data for data in photos)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, how or ("view",))],
        cwd=ROOT, input=stream, capture_output=True, timeout=3000,
    )  # fmt: skip
    lines = [line.split("\t") for line in done.stdout.decode().splitlines()]
    assert done.returncode == 0, f"photo {len(lines)}: {done.stderr.decode()[-500:]}"
    return [(float(seconds), int(memory), said) for seconds, memory, said in lines]


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def png(width: int, height: int, middle: bytes, depth: int = 8, colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + middle + chunk(b"IEND")


def zeros(count: int) -> bytes:
    """Return what zlib makes of so many: blocks that are compressed once, and a check sum."""
    squeeze, size = zlib.compressobj(9, wbits=-15), 1 << 20
    block = squeeze.compress(bytes(size)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    rest = squeeze.compress(bytes(count % size)) + squeeze.flush()
    check = (count % 65521 << 16 | 1).to_bytes(4, "big")
    return b"\x78\xda" + block * (count // size) + rest + check


def test_zeros_are_what_they_say() -> None:
    for count in (0, 5, 1 << 20, (5 << 20) + 77):
        assert zlib.decompress(zeros(count)) == bytes(count)


def scans(count: int) -> bytes:
    data = encoded(noise(900, 700), "JPEG", progressive=True)
    begin = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
    one = data[begin[1] : begin[1] + 14]
    return data[: begin[1]] + one * count + data[-2:]


def hidden_scans(count: int) -> bytes:
    """A comment between scans that holds the marker of the end."""
    data = scans(count)
    at = data.index(b"\xff\xda")
    return data[:at] + b"\xff\xfe\x00\x04\xff\xd9" + data[at:]


def tiff(entries: list[tuple[int, int, int, int]], rest: bytes = b"") -> bytes:
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + bytes(4) + rest


def plain_tiff(compression: int, width: int, height: int) -> list[tuple[int, int, int, int]]:
    return [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, compression),
        (262, 3, 1, 1), (273, 4, 1, 200), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 100),
    ]  # fmt: skip


def costly() -> Iterator[tuple[str, bytes, str]]:
    """A name, the file, and what comes of it: `ok` or a part of the error."""
    pixels = chunk(b"IDAT", zlib.compress(b"\0" + bytes(30)) + b"")
    two = chunk(b"IDAT", zlib.compress((b"\0" + bytes(30)) * 2))
    bomb = zeros(300_000_000)
    yield "zTXt", png(10, 2, chunk(b"zTXt", b"Comment\0\0" + bomb) + two), "ok"
    yield "iTXt", png(10, 2, chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + bomb) + two), "ok"
    yield "iCCP", png(10, 2, chunk(b"iCCP", b"icc\0\0" + bomb) + two), "ok"
    yield "text after", png(10, 2, two + chunk(b"zTXt", b"Comment\0\0" + bomb)), "ok"
    yield "pixels", png(10, 2, chunk(b"IDAT", bomb)), "ok"
    yield "too few", png(7900, 7900, pixels, 8, 2), "cut short"
    yield "16 bits", png(7900, 7900, chunk(b"IDAT", zeros(7900 * 63201)), 16, 6), "MB to decode"
    yield "empty parts", png(10, 2, chunk(b"IDAT") * 200_000 + two), "parts"
    yield "texts", png(10, 2, chunk(b"tEXt", b"k\0v") * 100_000 + two), "ok"
    yield "unknown", png(10, 2, chunk(b"abCd", b"k") * 100_000 + two), "ok"
    yield "EXIF", png(10, 2, chunk(b"eXIf", exif_bomb()) + two), "ok"
    yield "grey", png(60_000, 1000, chunk(b"IDAT", zeros(60_001_000)), 8, 0), "ok"
    gif = encoded(Image.new("P", (4, 4)), "GIF")
    at = gif.index(b",", 13)
    comment = b"!\xfe" + (b"\xff" + b"A" * 255) * 100_000 + b"\0"
    yield "comment", gif[:at] + comment + gif[at:], "ok"
    yield "blocks", gif[:at] + b"!\xfe" + b"\1A" * 2_000_000 + b"\0" + gif[at:], "blocks"
    yield "frames", gif[:at] + gif[at:-1] * 50_000 + b";", "ok"
    yield "scans", scans(20_000), "scans"
    yield "hidden scans", hidden_scans(20_000), "scans"
    photo = encoded(noise(), "JPEG")
    yield "padding", photo[:2] + b"\xff" * 3_000_000 + photo[2:], "padding"
    yield "segments", photo[:2] + b"\xff\xfe\0\2" * 500_000 + photo[2:], "segments"
    yield "film", photo + np.random.default_rng(0).bytes(8_000_000), "ok"
    yield "webp", encoded(Image.new("RGB", (7900, 7900)), "WEBP", lossless=True, method=0), "MB to"
    for compression in (5, 7, 8, 34925, 50000):
        yield f"tiff {compression}", tiff(plain_tiff(compression, 8000, 7999), b"\x80" * 200), "err"
    many = [(1000 + n, 1, 0xF0000, 8) for n in range(4000)]
    yield "tags", tiff([*plain_tiff(1, 9, 9), *many], bytes(1_000_000)), "tags"
    strips = [(273, 4, 70_000, 200) if e[0] == 273 else e for e in plain_tiff(1, 9, 70_000)]
    yield "strips", tiff(strips, bytes(700_000)), "strips"
    yield "ppm comment", b"P6\n#" + b"x" * 20_000_000 + b"\n1 1\n255\nabc", "header"
    yield "ppm digits", b"P6\n" + b"9" * 10_000_000 + b" 1\n255\n", "header"
    yield "ppm blanks", b"P3\n1 1\n255\n" + b" " * 65_000_000 + b"1 2 3", "plain text"
    yield "ppm text", b"P3\n900 900\n255\n" + b"12 250 3 " * 810_000, "ok"
    yield "ppm odd", b"P6\n2000 1000\n254\n" + bytes(6_000_000), "ok"
    yield "runs", rle_bmp(60_000, 1000), "runs"


def exif_bomb() -> bytes:
    """65,000 tags of 500 kB each in 780 kB."""
    tags = b"".join(struct.pack("<HHII", n, 7, 500_000, 8) for n in range(65_000))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 65_000) + tags + bytes(4)


@linux
def test_costly_files_cost_under_a_second_and_200_mb_each() -> None:
    """Under a second where an honest large photo takes under a fifth of one."""
    cases = list(costly())
    found = measured([data for _, data, _ in cases])
    honest = found[[name for name, *_ in cases].index("ppm text")][0]
    for (name, data, expected), (seconds, memory, said) in zip(cases, found, strict=True):
        assert seconds < max(1, 5 * honest), (name, seconds, honest)
        assert memory < 200 + len(data) // 1_000_000, (name, memory)
        assert said == "ok" if expected == "ok" else expected in said, (name, said)


def test_text_and_profiles_of_a_png_change_nothing() -> None:
    image = noise()
    plain = np.asarray(decode(encoded(image, "PNG")))
    for large in (1_000, 3_000_000):
        text = PngImagePlugin.PngInfo()
        text.add_text("history", "a" * large, zip=True)
        text.add_itxt("XML:com.adobe.xmp", "b" * large)
        text.add_itxt("note", "b" * large, zip=True)
        for options in ({"pnginfo": text}, {"icc_profile": bytes(large)}):
            assert np.array_equal(decode(encoded(image, "PNG", **options)), plain)


@pytest.mark.parametrize("large", [10, 3_000_000])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["add_itxt", "add_text"])
def test_xmp_of_any_length_turns_a_png(large: int, packed: bool, kind: str) -> None:
    text = PngImagePlugin.PngInfo()
    words = '<x tiff:Orientation="6"/>' + "é" * large
    getattr(text, kind)("XML:com.adobe.xmp", words, zip=packed)
    found = decode(encoded(noise(), "PNG", pnginfo=text))
    assert np.array_equal(found, noise().transpose(Image.Transpose.ROTATE_270))


def test_exif_of_imagemagick_turns_a_png() -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    words = exif.tobytes().hex()
    for packed in (False, True):
        text = PngImagePlugin.PngInfo()
        text.add_text("Raw profile type exif", f"\nexif\n   {len(words) // 2}\n{words}\n", packed)
        found = decode(encoded(noise(), "PNG", pnginfo=text))
        assert np.array_equal(found, noise().transpose(Image.Transpose.ROTATE_90))


@pytest.mark.parametrize("largest", [1, 7, 254, 255, 256, 1000, 65534, 65535])
@pytest.mark.parametrize("kind", ["P2", "P3", "P5", "P6"])
def test_every_pnm_has_the_values_that_pillow_reads(kind: str, largest: int) -> None:
    layers = 3 if kind in ("P3", "P6") else 1
    values = np.random.default_rng(largest).integers(0, largest + 1, (7, 5, layers))
    head = f"{kind} # a comment\n5\t7\n#another\n{largest}\n".encode()
    if kind in ("P2", "P3"):
        data = head + b"#here\n" + b"\n".join(b"%d" % value for value in values.ravel())
    else:
        data = head + values.astype(">u2" if largest > 255 else np.uint8).tobytes()
    assert np.array_equal(decode(data), to_mode(Image.open(io.BytesIO(data)), "RGB"))


@pytest.mark.parametrize("between", ["", " ", "\n"])
def test_plain_bitmaps_have_the_values_that_pillow_reads(between: str) -> None:
    bits = np.random.default_rng(1).integers(0, 2, 77)
    data = b"P1\n11 7\n" + between.join(map(str, bits)).encode() + b"\n"
    assert np.array_equal(decode(data), to_mode(Image.open(io.BytesIO(data)), "RGB"))


@pytest.mark.parametrize("pixels", ["1 2 3 4 5 256", "1 2 3 4 5 -6", "1 2 3 4 5", "1 2 3 4 5 x"])
def test_text_that_is_no_picture_is_an_error(pixels: str) -> None:
    with pytest.raises(ImageError):
        decode(b"P3\n2 1\n255\n" + pixels.encode())


@pytest.mark.parametrize("kind", ["RGBA", "LA", "L", "P", "1", "CMYK", "clear colour", "16", "32"])
@pytest.mark.parametrize("channels", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_large_pictures_have_the_same_view_by_bands(kind: str, channels: int) -> None:
    image = noise(50, 60).resize((2000, 1501))
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    assert image.width * image.height > LARGE
    format, options = "TIFF", {}
    if kind == "clear colour":
        image, format = image.convert("RGB"), "PNG"
        options = {"transparency": (10, 20, 30), "compress_level": 0}
        image.paste((10, 20, 30), (100, 100, 900, 900))
    elif kind in ("16", "32"):
        numbers = np.asarray(image.convert("L")).astype(np.int32) * 251
        image = Image.fromarray(numbers.astype(np.uint16) if kind == "16" else numbers)
        format, options = ("PNG", {"transparency": 251}) if kind == "16" else ("TIFF", {})
    elif kind != "RGBA":
        image = image.convert("RGB").convert(kind) if kind != "LA" else image.convert("LA")
    data = encoded(image, format, **options)
    mode = "L" if channels == 1 else "RGB"
    whole = to_mode(Image.open(io.BytesIO(data)), mode)
    for fit in ("crop", "pad"):
        preprocess = Preprocess(size=48, channels=channels, fit=fit, mean=(0.5,) * channels)
        assert np.array_equal(view_of(data, preprocess), apply(whole, preprocess))
    assert np.array_equal(decode(data, mode), whole)


@linux
@pytest.mark.parametrize(
    "middle", [b"", pytest.param(chunk(b"tRNS", b"\0\0"), marks=pytest.mark.slow)]
)
def test_a_grey_photo_of_16_bits_and_24_megapixels_takes_what_is_held_for_it(middle: bytes) -> None:
    data = png(6000, 4000, middle + chunk(b"IDAT", zeros(4000 * 12_001)), 16, 0)
    held = cost(Image.open(io.BytesIO(data)))
    ((_, memory, said),) = measured([data], "whole")
    assert said == "ok"
    assert memory < held / 1e6 + 20


def test_memory_is_shared_and_a_large_photo_waits_its_turn() -> None:
    room, seen, most = Room(100), [], [0]

    def take(count: int, hold: threading.Event) -> None:
        with room.taken(count):
            seen.append(count)
            most[0] = max(most[0], room.size - room.left)
            hold.wait(60)

    first, later = threading.Event(), threading.Event()
    later.set()
    threads = [threading.Thread(target=take, args=(60, first))]
    threads[0].start()
    until(lambda: seen)
    for count in (1000, 10, 10):  # the large one wants all there is, the small ones queue behind
        threads.append(threading.Thread(target=take, args=(count, later)))
        threads[-1].start()
        until(room.turn.locked)
        threading.Event().wait(0.05)
    assert seen == [60]
    first.set()
    for thread in threads:
        thread.join(60)
    assert seen[1] == 1000
    assert most == [100]
    assert room.left == 100


# What is decoded in a process of its own


def test_avif_comes_from_the_other_process_as_it_is() -> None:
    data = encoded(noise(), "AVIF", quality=90)
    assert check(data).isolated
    image = Image.open(io.BytesIO(data)).convert("RGB")
    assert np.array_equal(decode(data), image)
    assert np.array_equal(decode(data, "L"), image.convert("L"))
    preprocess = Preprocess(size=32)
    assert np.array_equal(view_of(data, preprocess), apply(image, preprocess))


@linux
def test_a_photo_that_takes_too_much_memory_costs_itself_alone() -> None:
    data = encoded(Image.new("RGB", (5000, 4000)), "TIFF", compression="tiff_deflate")
    said = Checked(data, "TIFF", (10, 10), 0, True)  # as a file that lies
    with pytest.raises(ImageError, match=r"memory|MB"):
        decode_process.decoded(said, {"mode": "RGB"}, whole=True)
    small = encoded(noise(), "AVIF")
    assert decode(small).size == (40, 30)


@linux
def test_a_photo_that_takes_too_long_costs_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(noise(3000, 2000), "TIFF", compression="tiff_lzw")
    monkeypatch.setattr(decode_process, "SECONDS", 0.02)
    with pytest.raises(ImageError, match=r"took more than 0.02 s of processor time"):
        decode(data)
    monkeypatch.undo()
    assert decode(data).size == (3000, 2000)


@linux
def test_a_decoder_that_was_killed_while_idle_costs_no_photo() -> None:
    data = encoded(noise(), "AVIF")
    decode(data)
    for child in decode_process._idle:
        os.kill(child.process.pid, signal.SIGKILL)
        child.process.wait()
    assert decode(data).size == (40, 30)


@linux
def test_the_other_processes_end_with_this_one() -> None:
    code = (
        "import sys, os, signal\n"
        "from zoo.data import decode_process; from zoo.data.decode import decode\n"
        "decode(sys.stdin.buffer.read()); print(decode_process._idle[0].process.pid, flush=True)\n"
        "if sys.argv[1] == 'kill': os.kill(os.getpid(), signal.SIGKILL)"
    )
    for how in ("return", "kill"):
        done = subprocess.run(
            [sys.executable, "-c", code, how],
            cwd=ROOT, input=encoded(noise(), "AVIF"), capture_output=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == (0 if how == "return" else -9), done.stderr.decode()
        pid = int(done.stdout)
        for _ in range(600):
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                if ") Z " not in Path(f"/proc/{pid}/stat").read_text():
                    threading.Event().wait(0.1)
                    continue
            break
        else:
            pytest.fail(f"the decoder {pid} is alive")


# Mutations


@linux
@pytest.mark.parametrize("count", [400, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutated_photos_are_read_or_refused_at_little_cost(
    request: pytest.FixtureRequest, count: int
) -> None:
    """Decoded whole, as a view, and answered by a network; an error is that of the photo."""
    random, photos = np.random.default_rng(count), small_photos()
    if count > 400:
        photos += odd_photos(request.getfixturevalue("shared"))
    cases = [mutated(photos[n % len(photos)], random) for n in range(count)]
    for number, (seconds, memory, said) in enumerate(measured(cases, "whole", "lenet/mnist")):
        assert not said.startswith("OUTSIDE"), (number, said)
        assert seconds < 5, (number, seconds)
        assert memory < 200, (number, memory)
