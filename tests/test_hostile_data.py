"""Data of strangers: archives that reach out, folders of broken photos, decoders that fall over."""

from __future__ import annotations

import contextlib
import hashlib
import io
import random
import signal
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kit import Here, csv_rows, encoded, picture, until

from zoo.data import decode_process
from zoo.data.decode import decode
from zoo.errors import DataError, ImageError
from zoo.predict.inputs import Input
from zoo.predict.predictor import open_predictor
from zoo.scale import sources

PHOTO = encoded(picture("disc", 1))


# Archives


def member(name: str, kind: bytes = tarfile.REGTYPE, **facts: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for fact, value in facts.items():
        setattr(info, fact, value)
    return info


def packed(*members: tarfile.TarInfo, format: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar; what is a regular file has the bytes of a photo."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as archive:
        for one in members:
            if one.isreg():
                one.size = one.size or len(PHOTO)
            archive.addfile(one, io.BytesIO(PHOTO.ljust(one.size, b"\0")) if one.isreg() else None)
    return file.getvalue()


def claims(size: int) -> bytes:
    """A tar whose one member says that it has so many bytes."""
    data = bytearray(packed(member("a.png")))
    data[124:136] = b"\x80" + size.to_bytes(11, "big")
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    return bytes(data)


def reaching(secret: Path) -> dict[str, bytes]:
    """Archives that reach for what is outside of them; a name that begins with `/` or climbs."""
    pax = tarfile.PAX_FORMAT
    return {
        "climbs": packed(member("../../evil.png")),
        "absolute": packed(member(str(secret.parent / "evil.png"))),
        "climbs later": packed(member("a/b/../../../evil.png")),
        "windows": packed(member("C:\\evil.png"), member("..\\evil.png")),
        "link": packed(member("a.png", tarfile.SYMTYPE, linkname=str(secret))),
        "hard link": packed(member("a.png", tarfile.LNKTYPE, linkname=str(secret))),
        "through a link": packed(
            member("d", tarfile.SYMTYPE, linkname=str(secret.parent)), member("d/evil.png")
        ),
        "links in a circle": packed(
            member("a.png", tarfile.SYMTYPE, linkname="b.png"),
            member("b.png", tarfile.SYMTYPE, linkname="a.png"),
        ),
        "a device": packed(member("a.png", tarfile.CHRTYPE, devmajor=1, devminor=5)),
        "a pipe": packed(member("a.png", tarfile.FIFOTYPE)),
        "pax path": packed(member("a.png", pax_headers={"path": "../../evil.png"}), format=pax),
        "pax link": packed(
            member("a.png", tarfile.SYMTYPE, pax_headers={"linkpath": str(secret)}), format=pax
        ),
        "control characters": packed(member("\x1b[2J\n../evil.png")),
        "terabytes": claims(10**13),
        "one name often": packed(*(member("a.png") for _ in range(300))),
        "a class of one": packed(member("a.png"), member("a.cls", size=5_000_000)),
    }


SKIPPED = {"link", "hard link", "links in a circle", "a device", "a pipe", "pax link"}


def test_archives_reach_nothing_outside_of_them(here: Here, run: Path, tmp_path: Path) -> None:
    """Members are read in place: no file is made, no link followed; a name is but a row's name."""
    (tmp_path / "outside").mkdir()
    secret = tmp_path / "outside" / "secret.png"
    secret.write_bytes(encoded(picture("square", 7)))
    (tmp_path / "data").mkdir()
    tars = reaching(secret)
    assert len(tars) >= 15
    for number, data in enumerate(tars.values()):
        (tmp_path / "data" / f"{number:02}.tar").write_bytes(data)
    before, found = listed(tmp_path), {}
    for number, name in enumerate(tars):
        file = tmp_path / "data" / f"{number:02}.tar"
        began = time.process_time()
        try:
            photos = list(sources.photos([str(file)], sys.stdin))
        except DataError as error:
            assert "cannot be read as a tar" in error.what  # noqa: PT017
            photos = []
        assert time.process_time() - began < 10, name
        found[name] = len(photos)
        for photo in photos:
            assert photo.file.startswith(f"{file}#"), name
            try:
                content = sources.content(photo.file)
            except ImageError:
                continue
            assert content == PHOTO, name
    assert {name for name, count in found.items() if not count} >= SKIPPED
    assert found["climbs"] == 1
    readable = [tmp_path / "data" / f"{n:02}.tar" for n, name in enumerate(tars) if found[name]]
    assert here("plan", *readable, "--model", run, "-o", tmp_path / "job").code == 0
    assert here("work", tmp_path / "job").code == 0
    rows = csv_rows(here("merge", tmp_path / "job").out)
    assert {(row["status"], row["label"]) for row in rows} <= {("ok", "disc"), ("error", "")}
    assert {one for one in listed(tmp_path) if not one.startswith("job")} == before


def listed(folder: Path) -> set[str]:
    """Every file with its content, as far as a hash tells."""
    return {
        f"{path.relative_to(folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_an_exported_file_reads_nothing_outside_its_folder(
    exported: Path, tmp_path: Path, here: Here
) -> None:
    """Weights that an ONNX file says lie elsewhere: above it, anywhere, or behind a link."""
    import onnx

    secret = tmp_path / "secret"
    secret.write_bytes(bytes(10_000_000))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(secret)
    for place in ("../secret", str(secret), "link"):
        model = onnx.load(exported)
        tensor = max(model.graph.initializer, key=lambda one: len(one.raw_data))
        size = len(tensor.raw_data)
        assert size
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", place), ("offset", "0"), ("length", str(size))):
            tensor.external_data.add(key=key, value=value)
        file = tmp_path / "in" / "x.onnx"
        file.write_bytes(model.SerializeToString())
        (tmp_path / "a.png").write_bytes(PHOTO)
        answer = here("predict", file, tmp_path / "a.png")
        assert answer.code == 2, (place, answer)
        assert "Traceback" not in answer.err


# Broken photos among many


BREAKS: list[Callable[[bytes], bytes]] = [
    lambda data: data[: len(data) // 2],
    lambda data: b"",
    lambda data: b"<html>404</html>",
    lambda data: bytes(len(data)),
    lambda data: random.Random(len(data)).randbytes(2_000),
    lambda data: data[:30],
    lambda data: data[:16] + (50_000).to_bytes(4, "big") * 2 + data[24:],
    lambda data: data[:8] + b"\xff\xff\xff\xff" + data[12:],
    lambda data: data[1:],
    lambda data: b"%PDF-1.7\n" + data,
]


def test_50_broken_photos_of_1000_cost_their_rows_alone(
    here: Here, exported: Path, photos: Path, tmp_path: Path
) -> None:
    """Each row is the answer to the photo that it names, known by what is in it."""
    drawn = sorted(photos.rglob("*.png"))
    known = {row["path"]: row for row in csv_rows(here("predict", exported, photos).out)}
    right = {file.read_bytes(): known[str(file.relative_to(photos))] for file in drawn}
    many, chance = tmp_path / "many", random.Random(1)
    many.mkdir()
    broken = dict(zip(chance.sample(range(1000), 50), BREAKS * 5, strict=True))
    for number in range(1000):
        data = chance.choice(drawn).read_bytes()
        (many / f"{number:03}.png").write_bytes(broken.get(number, bytes)(data))
    rows = csv_rows(here("predict", exported, many).out)
    assert [row["path"] for row in rows] == [f"{number:03}.png" for number in range(1000)]
    assert {n for n, row in enumerate(rows) if row["status"] == "error"} == broken.keys()
    for number, row in enumerate(rows):
        if number not in broken:
            told = right[(many / row["path"]).read_bytes()]
            assert row["label"] == told["label"], number
            assert float(row["probability"]) == pytest.approx(float(told["probability"]), abs=1e-5)


# Decoders that fall over; AVIF is decoded in a process of its own


@pytest.fixture
def stopped() -> decode_process.Child:
    """The process that gets the next photo, and does not run."""
    decode_process._close()
    decode(encoded(picture("disc", 0), "AVIF"))
    (child,) = decode_process._idle
    child.process.send_signal(signal.SIGSTOP)
    return child


def kill_at_work(child: decode_process.Child) -> None:
    """End a process once it was given a photo, of which it has read nothing."""
    import fcntl
    import termios

    assert child.process.stdin
    with contextlib.suppress(AssertionError):
        until(lambda: fcntl.ioctl(child.process.stdin, termios.FIONREAD, bytes(4)) != bytes(4))
    child.process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="stops a process")
def test_a_decoder_that_crashes_costs_one_row(
    exported: Path, tmp_path: Path, stopped: decode_process.Child
) -> None:
    files = [tmp_path / f"{number}.avif" for number in range(5)]
    for number, file in enumerate(files):
        file.write_bytes(encoded(picture("disc", number), "AVIF"))
    threading.Thread(target=kill_at_work, args=(stopped,), daemon=True).start()
    inputs = [Input(str(file), file.name) for file in files]
    rows = list(open_predictor(str(exported)).rows(inputs))
    assert [row.path for row in rows] == [file.name for file in files]
    (bad,) = [row for row in rows if row.status == "error"]
    assert "ended with signal 9" in str(bad.error)


@pytest.mark.skipif(sys.platform != "linux", reason="stops a process")
def test_a_decoder_that_hangs_is_ended_by_the_clock(
    monkeypatch: pytest.MonkeyPatch, stopped: decode_process.Child
) -> None:
    photo = encoded(picture("disc", 1), "AVIF")
    late = threading.Timer(60, stopped.process.kill)
    late.start()
    with monkeypatch.context() as patch:
        patch.setattr(decode_process, "WALL", 0.3)
        with pytest.raises(ImageError, match="took more than"):
            decode(photo)
    assert late.is_alive()
    late.cancel()
    assert decode(photo).size == picture("disc", 1).size
