"""Data sets by name: found, fetched, verified, unpacked; and servers and archives that lie."""

from __future__ import annotations

import hashlib
import http.server
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from kit import ROOT, names
from kit.data import tree, write_idx

from zoo.catalog.datasets import FASHION_MNIST, MNIST, ROWS, DataFile, DataSet, called
from zoo.data.index import scan
from zoo.datasets import locate
from zoo.errors import DataError


class Server(http.server.ThreadingHTTPServer):
    """Serves `files` and counts what it was asked for."""

    files: dict[str, bytes]
    asked: list[str]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        self.server.asked.append(name)
        data = self.server.files.get(name)
        self.send_response(404 if data is None else 200)
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        self.wfile.write(data or b"")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.files, server.asked = {}, []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache and a working directory of its own, and the network is allowed."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ZOO_OFFLINE", raising=False)
    monkeypatch.delenv("ZOO_DATA", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def address(server: Server, name: str) -> str:
    return f"http://127.0.0.1:{server.server_port}/{name}"


def file_of(name: str, data: bytes, **more: object) -> DataFile:
    return DataFile(name, len(data), hashlib.sha256(data).hexdigest(), **more)  # type: ignore[arg-type]


@pytest.fixture
def digits(server: Server, apart: Path) -> dict[str, DataSet]:
    """A row of four small IDX files that the server has."""
    write_idx(apart / "made", "train")
    write_idx(apart / "made", "t10k", 6)
    for path in sorted((apart / "made").iterdir()):
        server.files[path.name] = path.read_bytes()
    files = tuple(
        file_of(name, data, urls=(address(server, name),)) for name, data in server.files.items()
    )
    row = DataSet("digits", "Digits", "paper", "MIT", tuple("0123456789"), files)
    return {"digits": row, "mnist": MNIST}


# Where


def test_a_data_set_is_downloaded_once(
    digits: dict[str, DataSet], server: Server, apart: Path
) -> None:
    seen: list[tuple[int, int | None]] = []
    folder = locate("digits", rows=digits, progress=lambda *at: seen.append(at))
    assert folder == apart / "cache" / "data" / "digits"
    assert names(folder) == sorted(server.files)
    assert len(server.asked) == 4
    assert any(done == total for done, total in seen)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert locate("digits", rows=digits) == locate("digits", rows=digits, offline=True) == folder
    assert len(server.asked) == 4
    assert len(scan(folder).samples) == 18


def test_a_path_is_a_path(digits: dict[str, DataSet], apart: Path) -> None:
    assert locate(str(apart), rows=digits) == apart
    (apart / "here" / "digits").mkdir()
    assert locate("digits", rows=digits) == Path("digits")
    assert locate("./digits", rows=digits) == Path("digits")
    assert locate(str(apart / "made"), rows=digits) == apart / "made"


def test_a_file_of_that_name_is_no_folder_of_photos(digits: dict[str, DataSet]) -> None:
    Path("digits").write_text("x")
    assert locate("digits", rows=digits).is_dir()


@pytest.mark.parametrize("text", ["mnits", "fashionmnist", "a/b", "x" * 5000, "Mnist"])
def test_what_is_neither_is_an_error_with_the_nearest(text: str) -> None:
    with pytest.raises(DataError, match="does not exist") as error:
        locate(text)
    assert "mnist, fashion-mnist" in error.value.hint
    if text not in ("a/b", "x" * 5000):
        assert "did you mean" in error.value.hint


def test_the_user_s_own_copy_is_verified_and_left_alone(
    digits: dict[str, DataSet], server: Server, apart: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_DATA", str(apart))
    os.rename(apart / "made", apart / "digits")
    before = tree(apart / "digits")
    assert locate("digits", rows=digits) == apart / "digits"
    assert tree(apart / "digits") == before
    assert server.asked == []
    assert not (apart / "cache").exists()
    path = apart / "digits" / "train-labels-idx1-ubyte.gz"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"from ZOO_DATA\): has sha256"):
        locate("digits", rows=digits)
    path.unlink()
    with pytest.raises(DataError, match=r"lacks train-labels-idx1-ubyte\.gz"):
        locate("digits", rows=digits)


def test_a_place_without_the_data_set_is_passed_over(
    digits: dict[str, DataSet], apart: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_DATA", str(apart / "here"))
    assert locate("digits", rows=digits) == apart / "cache" / "data" / "digits"
    monkeypatch.setenv("ZOO_DATA", str(apart / "gone"))
    with pytest.raises(DataError, match="no such folder"):
        locate("digits", rows=digits)


def test_mnist_as_shared(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_DATA", str(shared / "data"))
    assert locate("mnist") == shared / "data" / "mnist"


# Servers that lie


@pytest.mark.parametrize("lie", ["bytes", "short", "long", "page", "nothing", "gone"])
def test_a_wrong_file_is_not_kept(
    digits: dict[str, DataSet], server: Server, apart: Path, lie: str
) -> None:
    name = "train-images-idx3-ubyte.gz"
    data = server.files[name]
    lies = {
        "bytes": data[:-1] + bytes([data[-1] ^ 1]), "short": data[:-1], "long": data + b"x",
        "page": b"<html>", "nothing": b"",
    }  # fmt: skip
    server.files.pop(name)
    if lie in lies:
        server.files[name] = lies[lie]
    with pytest.raises(DataError, match=f"data set digits: no {name}") as error:
        locate("digits", rows=digits)
    assert "ZOO_DATA" in error.value.hint
    assert address(server, name) in error.value.hint
    assert not (apart / "cache" / "data" / "digits" / name).exists()
    server.files[name] = data
    assert locate("digits", rows=digits)


def test_the_next_address_is_tried(digits: dict[str, DataSet], server: Server) -> None:
    row = digits["digits"]
    server.files["bad"] = b"x" * row.files[0].bytes
    urls = (address(server, "gone"), address(server, "bad"), *row.files[0].urls)
    rows = {"digits": replace(row, files=(replace(row.files[0], urls=urls), *row.files[1:]))}
    assert locate("digits", rows=rows)
    assert server.asked[:3] == ["gone", "bad", row.files[0].name]


def test_a_damaged_file_of_the_cache_is_fetched_again(
    digits: dict[str, DataSet], server: Server, apart: Path
) -> None:
    folder = locate("digits", rows=digits)
    path = folder / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(b"x")
    with pytest.raises(DataError, match=r"offline, and .* has 1 bytes"):
        locate("digits", rows=digits, offline=True)
    locate("digits", rows=digits)
    assert len(server.asked) == 5
    assert path.read_bytes() == server.files[path.name]


def test_without_a_network_it_says_where_to_put_the_files(
    digits: dict[str, DataSet], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(DataError, match=r"offline, and .* is missing") as error:
        locate("digits", rows=digits)
    assert "set ZOO_DATA" in error.value.hint
    assert server.asked == []


def test_an_md5_is_enough_and_is_checked(digits: dict[str, DataSet], server: Server) -> None:
    row = digits["digits"]

    def rows(data: bytes) -> dict[str, DataSet]:
        first = replace(row.files[0], sha256="", md5=hashlib.md5(data).hexdigest())
        return {"digits": replace(row, files=(first, *row.files[1:]))}

    with pytest.raises(DataError, match="md5"):
        locate("digits", rows=rows(b"another"))
    assert locate("digits", rows=rows(server.files[row.files[0].name]))


# The rows


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_every_row_is_whole(row: DataSet) -> None:
    assert ROWS[row.name] is row
    assert row.title
    assert row.source
    assert row.licence
    assert len(set(row.classes)) == len(row.classes) == (2 if row.drawn else 10)
    for file in row.files:
        assert len(file.sha256) == 64
        assert set(file.sha256) <= set("0123456789abcdef")
        assert file.bytes > 0
        assert ".." not in file.name
    for file in row.files:
        assert len(file.md5) == 32
        assert all(url.endswith(f"/{file.name}") for url in file.urls)
    assert len({file.sha256 for file in row.files}) == len(row.files)


def test_md5_are_torchvision_s() -> None:
    from torchvision import datasets

    for row, theirs in ((MNIST, datasets.MNIST), (FASHION_MNIST, datasets.FashionMNIST)):
        assert {file.name: file.md5 for file in row.files} == dict(theirs.resources)
        for file in row.files:
            assert set(file.urls) <= {mirror + file.name for mirror in theirs.mirrors}
    assert list(FASHION_MNIST.classes) == datasets.FashionMNIST.classes


def test_mnist_s_hashes_are_those_of_the_files(shared: Path) -> None:
    for file in MNIST.files:
        data = (shared / "data" / "mnist" / file.name).read_bytes()
        assert len(data) == file.bytes
        assert hashlib.sha256(data).hexdigest() == file.sha256
        assert hashlib.md5(data).hexdigest() == file.md5


def test_folders_are_known_by_their_names() -> None:
    assert called("FashionMNIST") is FASHION_MNIST
    assert called("photos") is called("") is None


def test_looking_for_a_data_set_needs_no_torch(apart: Path) -> None:
    code = "import sys, zoo.datasets; print({'torch', 'numpy'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "torch" not in done.stdout
