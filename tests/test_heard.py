"""What decoders say of photos: in one line with their names, and nothing of it elsewhere."""

from __future__ import annotations

import io
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from kit import picture
from PIL import Image

from zoo.catalog import Preprocess
from zoo.data import decoder_warnings
from zoo.data.decode import decode
from zoo.data.views import plain_view
from zoo.errors import ImageError

SMALL = Preprocess(size=16, mean=(0.5,) * 3, std=(0.5,) * 3)


def fax(number):
    """A TIFF with wrong code words, of which libtiff tells in C."""
    noise = np.random.default_rng(number).integers(0, 2, (40, 50)).astype(bool)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "TIFF", compression="group4")
    data = bytearray(file.getvalue())
    data[100:104] = b"\x55\xaa\x33\xcc"
    return bytes(data)


def bad_exif(number):
    """A JPEG of whose EXIF data Pillow warns in Python."""
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    picture("disc", number % 20).save(file, "JPEG", exif=exif)
    data = bytearray(file.getvalue())
    at = data.index(b"Exif\0\0") + 6
    data[at : at + 8] = b"II*\0\xff\xff\0\0"
    return bytes(data)


def lost(number):
    """A TIFF that cannot be read: its pixels are damaged, of which libtiff tells in C."""
    file = io.BytesIO()
    picture("disc", number).save(file, "TIFF", compression="tiff_adobe_deflate")
    data = bytearray(file.getvalue())
    (at,) = Image.open(file).tag_v2[273]  # where the pixels begin
    data[at + 50 : at + 150] = bytes(100)
    return bytes(data)


KINDS = {"fax.tif": (fax, "Fax4Decode"), "exif.jpg": (bad_exif, "Corrupt EXIF data")}


@pytest.fixture(autouse=True)
def nothing_before():
    decoder_warnings.WARNED.taken()


@pytest.mark.parametrize("name", KINDS)
def test_a_photo_is_named_with_what_is_said_of_it(tmp_path, name, capfd):
    make, says = KINDS[name]
    (tmp_path / name).write_bytes(make(0))
    plain_view(tmp_path / name, SMALL)
    plain_view(tmp_path / name, SMALL)
    count, ((path, said),) = decoder_warnings.WARNED.taken()
    assert (count, path) == (1, str(tmp_path / name))
    assert says in said
    assert capfd.readouterr().err == ""


def test_a_photo_that_cannot_be_read_says_it_in_its_reason(tmp_path, capfd):
    (tmp_path / "lost.tif").write_bytes(lost(0))
    with pytest.raises(ImageError, match=r"decoder error -?\d+ \(.*ZIPDecode"):
        plain_view(tmp_path / "lost.tif", SMALL)
    assert decoder_warnings.WARNED.taken() == (0, [])
    assert capfd.readouterr().err == ""


def test_threads_do_not_mix_up_their_photos(tmp_path, monkeypatch):
    """Beside a thread that goes in and out of catch_warnings, which changes all of the process."""
    monkeypatch.setattr(decoder_warnings, "SHOWN", 1000)
    said_of = {}
    for number in range(60):
        for name, (make, says) in KINDS.items():
            path = tmp_path / f"{number:02}-{name}"
            path.write_bytes(make(number))
            said_of[str(path)] = says
        sound = tmp_path / f"{number:02}-sound.png"
        picture("square", number % 20).save(sound)
        said_of[str(sound)] = ""
    stop = False

    def disturb():
        while not stop:
            with warnings.catch_warnings():
                warnings.simplefilter("error")

    with ThreadPoolExecutor(9) as pool:
        other = pool.submit(disturb)
        try:
            list(pool.map(lambda path: plain_view(path, SMALL), said_of))
        finally:
            stop = True
        other.result()
    count, first = decoder_warnings.WARNED.taken()
    assert count == len(first) == 120
    for path, said in first:
        assert said_of[path] in said
        assert said_of[path]


def test_what_nobody_listens_to_goes_where_it_went(capfd):
    decode(fax(0))  # from here on libtiff tells us first
    assert capfd.readouterr().err == ""
    with pytest.warns(UserWarning, match="Corrupt EXIF"):
        Image.open(io.BytesIO(bad_exif(0))).getexif()
    Image.open(io.BytesIO(fax(0))).load()
    assert "Fax4Decode: Bad code word" in capfd.readouterr().err


def test_a_command_says_it_in_one_line(tmp_path, zoo):
    for number in range(3):
        for name, (make, _) in KINDS.items():
            (tmp_path / f"{number}-{name}").write_bytes(make(number))
    (tmp_path / "lost.tif").write_bytes(lost(0))
    picture("disc", 0).save(tmp_path / "sound.png")
    answer = zoo("predict", "lenet/mnist", tmp_path, PYTHONWARNINGS="error")
    assert answer.returncode == 0
    assert [line.split(",")[1] for line in answer.stdout.splitlines()[1:]].count("ok") == 7
    assert "ZIPDecode" in answer.stdout
    last = answer.stderr.splitlines()[-1]
    assert last.startswith("warning: 6 photos were read with warnings: ")
    assert last.endswith(" and 3 more")
    assert last.count(str(tmp_path)) == 3
    rest = "\n".join(line for line in answer.stderr.splitlines()[:-1] if "lost" not in line)
    assert "EXIF" not in rest
    assert "Fax4Decode" not in rest
    assert len(answer.stderr.splitlines()) == 4  # device, rows, the error's reason, this one
