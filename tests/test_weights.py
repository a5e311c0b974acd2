"""The weights room: real files, a real server that lies, pickles that try to run code."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.server
import json
import os
import pickle
import re
import resource
import shutil
import socket
import struct
import subprocess
import sys
import threading
import zipfile
from argparse import Namespace
from collections import OrderedDict, defaultdict, deque
from datetime import datetime
from fractions import Fraction
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from kit import names
from kit.hostile import Reduce, as_zip, inside, saved
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import nn

from zoo.catalog.spec import ModelSpec, Weights
from zoo.errors import WeightsError, WriteError
from zoo.weights import (
    Source,
    cache_folder,
    choose,
    fetch,
    find,
    load,
    read,
    save,
    save_arrays,
)
from zoo.weights.http import _next as follow
from zoo.weights.store import HUB, at_hub
from zoo.weights.wrapped import behind

DATA = to_bytes({"a": torch.arange(5000.0), "b": torch.ones(3)})
SHA = hashlib.sha256(DATA).hexdigest()
OTHER = to_bytes({"a": torch.arange(5000.0) + 1, "b": torch.ones(3)})  # of the same size
NAME = "tiny-12345678.safetensors"
SHARED = Path(os.environ.get("ZOO_SHARED") or Path(__file__).parents[2] / "shared") / "weights"


# A server that lies


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        seen = self.server.seen
        seen.append((self.path, self.headers.get("Authorization")))
        kind = self.path.strip("/").split("/")[0]
        tries = sum(path == self.path for path, _ in seen)
        {
            "good": lambda: self.reply(DATA),
            "truncated": lambda: self.reply(DATA[:-100], length=len(DATA)),
            "once-truncated": lambda: self.reply(DATA[: -100 if tries == 1 else None], len(DATA)),
            "short": lambda: self.reply(DATA[:-100]),
            "padded": lambda: self.reply(DATA + b"x" * 100),
            "padded-no-length": lambda: self.reply(DATA + b"x" * 100, length=None),
            "no-length": lambda: self.reply(DATA, length=None),
            "wrong": lambda: self.reply(OTHER),
            "busy": lambda: self.reply(b"busy", status=503),
            "twice-500": lambda: self.reply(DATA) if tries > 2 else self.reply(b"", status=500),
            "loop": lambda: self.go(self.path + "/x"),
            "escape": lambda: self.go("/\x1b[2J\x07?signature=secret"),
            "to-file": lambda: self.go("file:///etc/hostname"),
            "web-page": lambda: self.reply(b"<html>sign in", kind="text/html"),
            "empty": lambda: self.reply(b""),
            "hub": lambda: self.go(f"{self.server.other}/good/{NAME}", linked=SHA),
            "hub-wrong": lambda: self.go(f"{self.server.other}/wrong/{NAME}", linked=SHA),
            "private": lambda: self.reply(b"", status=401),
        }.get(kind, lambda: self.reply(b"no", status=404))()

    def reply(
        self, body: bytes, length: int | None = -1, status: int = 200, kind: str = "x/y"
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(len(body) if length == -1 else length))
        self.end_headers()
        self.wfile.write(body)

    def go(self, where: str, linked: str = "") -> None:
        self.send_response(302)
        self.send_header("Location", where)
        self.send_header("Content-Length", "0")
        if linked:
            self.send_header("X-Linked-Etag", f'"{linked}"')
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, str | None]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.other = f"http://localhost:{self.server_port}"  # the same, under another name


@pytest.fixture
def server():
    with Server() as it:
        thread = threading.Thread(target=it.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield it
        it.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """The folder of cached weights (not yet there), in an environment without settings."""
    for name in ("ZOO_WEIGHTS", "ZOO_OFFLINE", "HF_ENDPOINT", "HF_TOKEN", "TORCH_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No process of its own for each torch file: test_store_hostile has that."""
    inside(monkeypatch)


def row(url: str, sha256: str = SHA, size: int | None = len(DATA)) -> Weights:
    return Weights(tag="v1", url=url, file=NAME, sha256=sha256, bytes=size)


def one_line(error: pytest.ExceptionInfo) -> str:
    text = f"{error.value.what} | {error.value.hint}"
    assert text.isprintable(), text
    return text


# Finding


def test_found_once_then_from_the_cache(server, cache):
    steps: list[tuple[int, int | None]] = []
    path = find(row(f"{server.url}/good"), progress=lambda *step: steps.append(step))
    assert (path, path.read_bytes()) == (cache / NAME, DATA)
    assert steps[-1] == (len(DATA), len(DATA))
    assert (path.stat().st_mode & 0o777, cache.stat().st_mode & 0o777) == (0o600, 0o700)
    assert names(cache) == [NAME]  # the catalogue knows the hash: nothing to pin
    assert find(row(f"{server.url}/good"), offline=True) == path
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncated", f"broke after {len(DATA) - 100} of {len(DATA)} bytes .3 tries"),
        ("short", f"offers {len(DATA) - 100} bytes, not {len(DATA)}"),
        ("padded", f"offers {len(DATA) + 100} bytes, not {len(DATA)}"),
        ("padded-no-length", f"holds {len(DATA) + 100} bytes, not {len(DATA)}"),
        ("wrong", rf"sha256 is [0-9a-f]{{64}}, not {SHA}"),
        ("busy", "answers 503 Service Unavailable .3 tries"),
        ("missing", "answers 404 Not Found"),
        ("loop", "more than 5 redirects"),
        ("escape", r"%1B\[2J%07 answers 404"),
        ("to-file", "only http and https"),
        ("web-page", "a web page"),
        ("empty", "offers 0 bytes"),
        ("private", "HF_TOKEN"),
    ],
)
def test_a_lying_server_leaves_nothing(server, cache, kind, message, monkeypatch):
    monkeypatch.setattr(import_module("zoo.weights.fetch"), "PAUSES", (0.01, 0.01))
    with pytest.raises(WeightsError) as error:
        find(row(f"{server.url}/{kind}"))
    assert re.search(message, one_line(error))
    assert names(cache) == []


@pytest.mark.parametrize("kind", ["wrong", "short", "padded", "padded-no-length"])
def test_lies_are_seen_by_the_hash_alone(server, cache, kind):
    with pytest.raises(WeightsError, match="sha256 is"):
        find(row(f"{server.url}/{kind}", size=None))
    assert names(cache) == []


@pytest.mark.parametrize("kind", ["twice-500", "once-truncated", "no-length"])
def test_passing_failures_are_tried_again(server, cache, kind, monkeypatch):
    monkeypatch.setattr(import_module("zoo.weights.fetch"), "PAUSES", (0.01, 0.01))
    assert find(row(f"{server.url}/{kind}")).read_bytes() == DATA
    assert names(cache) == [NAME]


def test_no_server_and_no_network(cache, monkeypatch):
    with socket.socket() as free:  # bound, never listening
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/{NAME}"
        with pytest.raises(WeightsError) as refused:
            find(row(url))
    assert "Connection refused" in one_line(refused)
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was used"))
    monkeypatch.setenv("ZOO_WEIGHTS", "http://127.0.0.1:1/mirror")
    with pytest.raises(WeightsError) as error:
        find(row(url))
    assert one_line(error) == (
        f"weights {NAME} (0.0 MB) not found (offline) | put {NAME} into {cache}, "
        f"or set ZOO_WEIGHTS to a folder that has it; it comes from {url}"
    )
    assert names(cache) == []


@pytest.mark.parametrize("as_uri", [False, True])
def test_zoo_weights_folder(tmp_path, cache, monkeypatch, as_uri):
    folder = tmp_path / "my weights"
    folder.mkdir()
    monkeypatch.setenv("ZOO_WEIGHTS", folder.as_uri() if as_uri else str(folder))
    with pytest.raises(WeightsError, match="not found"):
        find(row(""))
    (folder / NAME).write_bytes(DATA)
    assert find(row("", sha256=SHA[:8]), offline=True) == folder / NAME
    (folder / NAME).write_bytes(OTHER)
    with pytest.raises(WeightsError) as error:
        find(row(""))
    assert SHA in one_line(error)
    assert hashlib.sha256(OTHER).hexdigest() in one_line(error)
    assert names(folder) == [NAME]  # nothing written, nothing moved
    assert (folder / NAME).read_bytes() == OTHER
    assert not cache.exists()


@pytest.mark.parametrize("place", ["no/such/folder", "s3://bucket/x", "file:///no/such/folder"])
def test_zoo_weights_that_is_nowhere(monkeypatch, place):
    monkeypatch.setenv("ZOO_WEIGHTS", place)
    with pytest.raises(WeightsError, match="ZOO_WEIGHTS is"):
        find(row(""))


def test_zoo_weights_mirror(server, cache, monkeypatch):
    monkeypatch.setenv("ZOO_WEIGHTS", f"{server.url}/good/")
    assert find(row("http://127.0.0.1:1/x")) == cache / NAME
    assert server.seen == [(f"/good/{NAME}", None)]
    (cache / NAME).unlink()
    monkeypatch.setenv("ZOO_WEIGHTS", f"{server.url}/missing")
    assert find(row(f"{server.url}/good")) == cache / NAME  # on to the source
    (cache / NAME).unlink()
    monkeypatch.setenv("ZOO_WEIGHTS", f"{server.url}/wrong")
    with pytest.raises(WeightsError, match="sha256 is"):  # a bad mirror is not passed over
        find(row(f"{server.url}/good"))


@pytest.mark.parametrize("sha256", [SHA, SHA[:8], ""])
def test_a_flipped_bit_in_the_cache(server, cache, sha256):
    weights = row(f"{server.url}/good", sha256=sha256)
    find(weights)
    damaged = bytearray(DATA)
    damaged[-1] ^= 1
    for count in ("", "2"):
        (cache / NAME).write_bytes(damaged)
        told: list[str] = []
        assert find(weights, say=told.append).read_bytes() == DATA
        assert (cache / f"{NAME}.bad{count}").read_bytes() == damaged
        assert len(told) == 1
        assert f"moved to {NAME}.bad{count}" in told[0]


def test_the_hash_is_pinned_and_the_pin_holds(server, cache, tmp_path, monkeypatch):
    weights = row(f"{server.url}/good", sha256=SHA[:8], size=None)
    find(weights)
    assert (cache / f"{NAME}.sha256").read_text() == f"{SHA}  {NAME}\n"
    # The publisher (or somebody else) now has another file: known by the pin alone.
    (cache / NAME).unlink()
    with pytest.raises(WeightsError) as error:
        find(row(f"{server.url}/wrong", sha256="", size=None))
    assert f"remove {cache / NAME}.sha256" in one_line(error)
    assert names(cache) == [f"{NAME}.sha256"]
    (tmp_path / NAME).write_bytes(OTHER)
    monkeypatch.setenv("ZOO_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match=f"not {SHA}"):
        find(row("", sha256="", size=None))
    monkeypatch.delenv("ZOO_WEIGHTS")
    (cache / NAME).write_bytes(DATA)
    (cache / f"{NAME}.sha256").write_text("junk")
    with pytest.raises(WeightsError, match="holds no sha256"):
        find(weights)


def test_a_file_put_by_hand_is_pinned_at_first_use(cache):
    cache.mkdir(parents=True)
    (cache / NAME).write_bytes(DATA)
    assert find(row("", sha256=SHA[:8]), offline=True) == cache / NAME
    assert (cache / f"{NAME}.sha256").read_text().startswith(SHA)
    # A pin that somebody has written beside another file counts less than the catalogue's word.
    (cache / NAME).write_bytes(OTHER)
    (cache / f"{NAME}.sha256").write_text(f"{hashlib.sha256(OTHER).hexdigest()}  {NAME}\n")
    with pytest.raises(WeightsError, match="not found"):
        find(row("", sha256=SHA[:8], size=None), offline=True)


def test_the_hub(server, cache, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server.url + "/")
    monkeypatch.setenv("HF_TOKEN", "secret")
    hub = "https://huggingface.co"
    find(row(f"{hub}/hub/x", sha256="", size=None))
    assert server.seen == [("/hub/x", "Bearer secret"), (f"/good/{NAME}", None)]
    assert SHA in (cache / f"{NAME}.sha256").read_text()
    shutil.rmtree(cache)
    with pytest.raises(WeightsError, match=f"not {SHA}"):  # X-Linked-Etag says otherwise
        find(row(f"{hub}/hub-wrong/x", sha256="", size=None))
    assert names(cache) == []
    monkeypatch.setenv("HF_TOKEN", "sec\x07ret")
    with pytest.raises(WeightsError) as error:
        find(row(f"{hub}/good/x"))
    assert "ret" not in one_line(error)
    server.seen.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE is set"):
        find(row(f"{hub}/good/x"))
    find(row(f"{server.url}/good"))
    assert server.seen == [("/good", None)]  # not the hub: no token


def test_a_token_is_for_the_hub_and_not_for_an_address_that_begins_like_it(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert at_hub(f"{HUB}/me/a") == (f"{HUB}/me/a", "hf_secret")
    for other in (f"{HUB}.example/me/a", f"{HUB}@example/me/a", "http://huggingface.co/me/a"):
        assert at_hub(other) == (other, "")


def test_the_token_that_the_hub_s_own_tool_keeps_is_used(server, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    (tmp_path / "token").write_text("of-login\n")
    find(row("https://huggingface.co/good/x"))
    assert server.seen == [("/good/x", "Bearer of-login")]


def test_redirects_never_leave_https():
    here = "https://a.example/x"
    assert follow(here, "/y", 302) == "https://a.example/y"
    for there in (
        "http://a.example/y",
        "file:///etc/passwd",
        "ftp://a.example/y",
        "",
        "http://[",
        "https://a.example:port/",
    ):
        with pytest.raises(WeightsError, match="refused"):
            follow(here, there, 302)


@pytest.mark.parametrize(
    "name", ["../x.pth", "/x.pth", "a/b", "a\\b", "C:x", ".x", "x\0", "", "x" * 300, "x.", "a\nb"]
)
def test_names_that_climb_out(server, tmp_path, name):
    with pytest.raises(WeightsError, match="not a plain file name") as error:
        find(Weights("v1", f"{server.url}/good", name, SHA))
    one_line(error)
    assert names(tmp_path) == []
    assert server.seen == []


def test_a_file_swapped_after_it_was_verified(server):
    path = find(row(f"{server.url}/good"))
    path.touch()
    assert torch.equal(read(path)["b"], torch.ones(3))  # touched, yet the same
    path.write_bytes(OTHER)
    with pytest.raises(WeightsError, match="changed after it was verified"):
        read(path)


def test_fetch_needs_room_and_a_folder(server, tmp_path):
    with pytest.raises(WriteError):
        fetch(Source(f"{server.url}/good"), tmp_path / "no" / "folder" / "x")
    with pytest.raises(WriteError, match="MB wanted"):
        fetch(Source(f"{server.url}/no-length", size=1 << 60), tmp_path / "x")
    for url in ("file:///etc/hostname", "http://[", "http://a:b/", "x", ""):
        with pytest.raises(WeightsError, match="only http and https"):
            fetch(Source(url), tmp_path / "x")
    assert fetch(Source(f"{server.url}/good", sha256=SHA[:8].upper()), tmp_path / "x") == SHA
    assert names(tmp_path) == ["x"]


def test_cache_folder(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("ZOO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder().name == "zoo"


def test_the_room_is_light():
    code = "import sys, zoo.weights as w; w.cache_folder(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout == "False\n"


# Choosing


def spec(**more: object) -> ModelSpec:
    known = {
        "name": "tiny", "family": "tiny", "builder": "x.y", "paper": "", "year": 2026,
        "params": 0, "macs": 0, "stages": ("body", "fc"), "cut": "body", "head": "fc",
    }  # fmt: skip
    return ModelSpec(**{**known, **more})


def test_choose(tmp_path):
    rows = (Weights("imagenet1k_v1", "u", "f"), Weights("imagenet1k_v2", "u", "g"))
    it = spec(weights=rows)
    assert choose(it, None) is rows[0]
    assert choose(it, "ImageNet1k_V2") is rows[1]
    assert choose(it, "none") is None
    assert choose(spec(), None) is None
    file = tmp_path / "model.safetensors"
    file.write_bytes(DATA)
    assert choose(it, str(file)) == choose(it, str(tmp_path)) == file
    for choice, message in {
        "imagenet1k_v3": "did you mean imagenet1k_v1, imagenet1k_v2?; tiny has imagenet1k_v1, ",
        "zzz": "tiny has imagenet1k_v1, imagenet1k_v2",
        "gone.pth": "no weights file gone.pth",
        "runs/gone": "no weights file runs/gone",
        __file__: "is not a weights file",
        str(Path(__file__).parent): "holds no model.safetensors",
        "x" * 5000: "no weights",
        "\0": "no weights",
    }.items():
        with pytest.raises(WeightsError) as error:
            choose(it, choice)
        assert message in one_line(error)


# Reading: hostile files


def test_a_refused_pickle_says_what_it_asked_for(tmp_path):
    path = tmp_path / "x.pth"
    path.write_bytes(saved({"x": Reduce(os.system, "true")}))
    with pytest.raises(WeightsError, match=r"asks for (posix|nt)\.system, which is code"):
        read(path)


class Config:
    """Settings of somebody's own class."""


def test_a_refused_pickle_says_under_which_key_the_code_is(tmp_path):
    path = tmp_path / "x.pth"
    cases = {
        "Config, which is code: refused, nothing was run (it stands under 'settings')": {
            "settings": Config()
        },
        "(it stands under 'b')": {"a": "b", "b": Reduce(os.system, "true")},
        "test_weights.Config, which is code: refused, nothing was run |": Config(),
        "linear.Linear, which is code: refused, nothing was run (it stands under 'net')": {
            "net": nn.Linear(1, 1)
        },
    }
    for message, thing in cases.items():
        path.write_bytes(saved(thing))
        with pytest.raises(WeightsError) as error:
            read(path)
        assert message in one_line(error)
        assert "torch.save(model.state_dict(), FILE)" in one_line(error)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_torchscript_is_refused(tmp_path):
    path = tmp_path / "x.pt"
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), str(path))
    with pytest.raises(WeightsError, match="TorchScript"):
        read(path)


def test_other_foreign_files(tmp_path):
    good = saved({"w": torch.ones(100)})
    expanded = torch.ones(1).expand(1 << 40)
    sparse = torch.ones(2, 2).to_sparse()
    cases = {
        "is empty": b"",
        "a web page": b"<!DOCTYPE html><html>sign in</html>",
        "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "of an unknown kind": b"hello",
        "cut short": good[:-60],
        "cut  short": saved({"w": torch.ones(100)}, False)[:-60],
        "zip archive": as_zip(b"").replace(b"data.pkl", b"data.txt"),
        "more than tensors": as_zip(pickle.dumps({}), zipfile.ZIP_DEFLATED),
        "TorchScript": as_zip(b"", extra="archive/constants.pkl"),
        "no state dict": saved([torch.ones(1)]),
        "no state  dict": saved({}),
        "twice": saved({"a": {"b.c": torch.ones(1)}, "a.b": {"c": torch.ones(1)}}),
        "no tensor with a name": saved({3: torch.ones(1)}),
        "no  tensor with a name": saved({"epoch": 3, "args": Namespace(lr=0.1)}),
        "no state dict but an object": saved(Namespace(lr=0.1)),
        "unusual tensor": saved({"w": sparse}),
        "unusual  tensor": saved({"w": torch.ones(2).to(torch.float8_e5m2)}),
        "unusual   tensor": saved({"w": torch.ones(2, device="meta")}),
        "claims more bytes": saved({"w": expanded}),
        "NaN": saved({"w": torch.tensor([1, float("nan")])}),
        "infinity": to_bytes({"w": torch.tensor([1, -float("inf")], dtype=torch.bfloat16)}),
    }
    for message, data in cases.items():
        path = tmp_path / "x.pth"
        path.write_bytes(data)
        with pytest.raises(WeightsError) as error:
            read(path)
        assert " ".join(message.split()) in one_line(error), message
    with pytest.raises(WeightsError, match="cannot read"):
        read(tmp_path / "gone.pth")
    with pytest.raises(WeightsError, match="cannot read"):
        read(tmp_path)


def test_a_state_dict_of_numpy_arrays_is_told_what_to_do(tmp_path):
    path = tmp_path / "x.pth"
    path.write_bytes(saved({"model": {"w": np.ones(3), "b": np.zeros((2, 2))}, "epoch": 3}))
    with pytest.raises(WeightsError) as error:
        read(path)
    assert "holds 2 arrays of NumPy's and no tensor |" in one_line(error)
    assert "torch.from_numpy(a)" in error.value.hint


def header(text: str | dict, data: bytes = b"\0" * 8, length: int | None = None) -> bytes:
    raw = (text if isinstance(text, str) else json.dumps(text)).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(begin: int = 0, end: int = 8, shape: object = (2,), dtype: object = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def many_tensors(count: int) -> bytes:
    one = json.dumps(entry(0, 0, [0]))
    return header("{" + ",".join(f'"{i}": {one}' for i in range(count)) + "}", b"")


TWIN = json.dumps(entry())
MALFORMED = {
    "header too long": header({"a": entry()}, length=1 << 30),
    "header beyond the file": header({"a": entry()}, length=500),
    "not json": header("{nonsense"),
    "not utf-8": header("{").replace(b"{", b"{\xff"),
    "deep json": header('{"a":' + "[" * 100_000),
    "twice the same name": header(f'{{"a": {TWIN}, "a": {TWIN}}}'),
    "twice the same metadata": header(f'{{"__metadata__": {{"x": "1", "x": "2"}}, "a": {TWIN}}}'),
    "hole": header({"a": entry(4, 12)}, b"\0" * 12),
    "overlap": header({"a": entry(), "b": entry(4, 12)}, b"\0" * 12),
    "bytes left over": header({"a": entry()}, b"\0" * 9),
    "too few bytes": header({"a": entry()}, b"\0" * 7),
    "size and shape differ": header({"a": entry(shape=[3])}),
    "overflow": header({"a": entry(shape=[1 << 62, 4])}),
    "negative": header({"a": entry(-8, 0)}),
    "shape of floats": header({"a": entry(shape=[2.0])}),
    "shape of truths": header({"a": entry(0, 4, [True])}, b"\0" * 4),
    "unknown type": header({"a": entry(dtype="F8_E4M3", shape=[8])}),
    "no type": header({"a": {"shape": [2], "data_offsets": [0, 8]}}),
    "more fields": header({"a": {**entry(), "x": 1}}),
    "a list": header('{"a": [1]}'),
    "too many": many_tensors(100_001),
    "only a length": struct.pack("<Q", 2) + b"{",
}


@pytest.mark.parametrize("form", MALFORMED)
def test_malformed_safetensors(tmp_path, form):
    path = tmp_path / "x.safetensors"
    path.write_bytes(MALFORMED[form])
    with pytest.raises(WeightsError) as error:
        read(path)
    assert "safetensors file" in one_line(error)


def test_any_flipped_byte_is_an_error_or_a_number(tmp_path):
    data, path = to_bytes({"a": torch.arange(4.0), "b": torch.ones(2, 2)}), tmp_path / "x.pth"
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :])
        with contextlib.suppress(WeightsError):  # and nothing else
            read(path)


# Reading and writing good files


def test_good_forms(tmp_path):
    tensors = {"a": torch.randn(3, 4), "b.c": torch.arange(3), "s": torch.tensor(2.5)}
    tensors["h"], tensors["e"] = torch.ones(5, dtype=torch.bfloat16), torch.zeros(0, 3)
    forms = {
        "x.pth": saved(OrderedDict(tensors)),
        "old.pth": saved(tensors, False),
        "nested.pt": saved({"epoch": 3, "state_dict": tensors}),
        "x.safetensors": to_bytes(tensors, {"made": "by hand"}),
        "really.pth": to_bytes(tensors),
    }
    for name, data in forms.items():
        (tmp_path / name).write_bytes(data)
        found = {n.removeprefix("state_dict."): t for n, t in read(tmp_path / name).items()}
        assert found.keys() == tensors.keys(), name
        assert all(torch.equal(found[key], tensors[key]) for key in tensors), name
        assert all(found[key].dtype == tensors[key].dtype for key in tensors), name


def test_save_tied_and_strided_tensors(tmp_path):
    base, path = torch.arange(12.0).reshape(3, 4), tmp_path / "model.safetensors"
    tensors = {
        "base": base, "tied": base, "turned": base.T, "part": base[1], "grad": nn.Parameter(base),
        "last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "empty": torch.ones(0), "one": torch.tensor(1),
    }  # fmt: skip
    save(tensors, path, {"version": "1"})
    with safe_open(path, "pt") as file:  # the library reads what we write
        assert file.metadata() == {"version": "1"}
    for found in (read(path), load_file(path)):
        assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert names(tmp_path) == [path.name]


def test_save_is_reproducible_and_readable_by_the_group(tmp_path):
    state = {f"w{i}": torch.full((i,), 1.0) for i in range(20)}
    facts = {f"fact{i}": str(i) for i in range(20)}
    old = os.umask(0o027)
    try:
        for name in "ab":
            save(state, tmp_path / name, facts)
    finally:
        os.umask(old)
    assert safe_open(tmp_path / "a", "pt").metadata() == facts
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_disk_full_keeps_the_old_file(server, tmp_path):
    path = tmp_path / "model.safetensors"
    save({"w": torch.ones(4)}, path)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(WriteError, match=re.escape(str(path))) as error:
            save({"w": torch.ones(4000)}, path)
        with pytest.raises(WriteError, match=os.strerror(errno.EFBIG)):
            fetch(Source(f"{server.url}/good"), tmp_path / "x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "free some space" in one_line(error)
    assert path.read_bytes() == before
    assert names(tmp_path) == [path.name]


# Fitting


def chain(classes: int = 3) -> nn.Sequential:
    body = nn.Sequential(OrderedDict(conv=nn.Conv2d(1, 2, 3), bn=nn.BatchNorm2d(2)))
    return nn.Sequential(OrderedDict(body=body, flatten=nn.Flatten(), fc=nn.Linear(8, classes)))


def same(one: nn.Module, other: nn.Module, but: str = "\0") -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for (name, a), b in pairs if not name.startswith(but))


def written(path: Path, state: dict[str, torch.Tensor]) -> Path:
    save(state, path)
    return path


def test_load_fits_or_names_what_does_not(tmp_path):
    path, source, target = tmp_path / "x.safetensors", chain(), chain()
    state = source.state_dict()
    load(target, spec(), written(path, state))
    assert same(source, target)
    cases = {
        "body.conv.weight is 2x1x3x3, not 4": {"body.conv.weight": torch.ones(2, 1, 3, 3)},
        "fc.bias is int8, not float32": {"fc.bias": torch.ones(3, dtype=torch.int8)},
        "fc.bias is int64, not float32": {"fc.bias": torch.ones(3, dtype=torch.int64)},
        r"extra\x1b[2J is unexpected": {"extra\x1b[2J": torch.ones(1)},
    }
    for message, change in cases.items():
        before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
        wrong = {"body.conv.weight": torch.ones(4)} if "not 4" in message else {}
        victim = chain()
        if wrong:
            victim.body.conv.weight = nn.Parameter(torch.ones(4))
        with pytest.raises(WeightsError) as error:
            load(victim if wrong else target, spec(), written(path, {**state, **change}))
        assert message in one_line(error)
        assert all(torch.equal(before[name], t) for name, t in target.state_dict().items())


def test_at_most_five_are_named(tmp_path):
    path = written(tmp_path / "x.safetensors", nn.Linear(8, 3).state_dict())
    with pytest.raises(WeightsError) as error:
        load(chain(), spec(), path)
    text = one_line(error)
    assert text.count("is missing") == 5
    assert "body.conv.weight is missing" in text
    assert "and 5 more" in text  # 8 wanted (the counter is not), 2 unexpected
    assert "zoo info tiny" in text


def test_load_all_but_the_head(tmp_path):
    source, target = chain(1000), chain(2)
    path = written(tmp_path / "x.safetensors", source.state_dict())
    with pytest.raises(WeightsError, match=r"fc\.weight is 1000x8, not 2x8") as error:
        load(target, spec(), path)
    assert "only the head differs" in one_line(error)
    head = target.fc.weight.clone()
    load(target, spec(), path, except_head=True)
    assert same(source, target, but="fc.")
    assert torch.equal(target.fc.weight, head)
    bare = {name: t for name, t in source.state_dict().items() if not name.startswith("fc.")}
    load(chain(), spec(), written(path, bare), except_head=True)
    with pytest.raises(WeightsError, match=r"fc.weight is missing, fc.bias is missing\n"):
        load(chain(), spec(), path)


def test_counters_halves_and_ignored_parts(tmp_path):
    source, target, path = chain().half(), chain(), tmp_path / "x.safetensors"
    state = {name: t for name, t in source.state_dict().items() if "num_batches" not in name}
    state["aux1.fc.weight"] = torch.ones(2)
    target.body.bn.num_batches_tracked += 7
    load(target, spec(ignore=("aux1.", "aux2.")), written(path, state))
    assert same(source.float(), target, but="body.bn.num")
    assert target.fc.weight.dtype == torch.float32
    assert target.body.bn.num_batches_tracked == 7
    load(target, spec(), written(path, source.state_dict()))
    assert target.body.bn.num_batches_tracked == 0
    extra = {**source.state_dict(), "gone.num_batches_tracked": torch.tensor(1)}
    load(target, spec(), written(path, extra))


def test_published_names_and_our_own(tmp_path):
    def made() -> nn.Sequential:
        parts = OrderedDict(backbone=nn.Sequential(OrderedDict(stem=nn.Linear(4, 8))))
        return nn.Sequential(parts | {"head": nn.Linear(8, 3)})

    it, source, path = (
        spec(head="head", published=(("backbone.", ""), ("head.", "fc.last."))),
        made(),
        tmp_path / "x.pth",
    )
    theirs = {"backbone.": "", "head.": "fc.last."}
    published = {
        re.sub(r"^(backbone\.|head\.)", lambda m: theirs[m[1]], name): tensor
        for name, tensor in source.state_dict().items()
    }
    assert published.keys() == {"stem.weight", "stem.bias", "fc.last.weight", "fc.last.bias"}
    for state in (published, source.state_dict()):
        torch.save(state, path)
        for target in (made(), made()):
            load(target, it, path)
            assert same(source, target)
    del published["fc.last.weight"]
    torch.save(published, path)
    load(made(), it, path, except_head=True)


# What trainers put around a state dict

SETTINGS = {
    "args": Namespace(lr=0.1, where=Path("a"), started=datetime(2026, 1, 1), ratio=Fraction(1, 3)),
    "best": np.float64(91.5),
    "history": np.arange(3.0),
    "rng": np.random.get_state(),
    "torch": torch.__version__,
    "losses": defaultdict(list, train=[1.0]),
    "counts": defaultdict(int, seen=3),
    "last": deque([1, 2]),
    "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]},
    "rng_state": torch.get_rng_state(),
    "scores": {"val": torch.tensor(float("nan"))},
    None: 3,
}


def under(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def wrapped(state: dict[str, torch.Tensor]) -> dict[str, tuple[object, str]]:
    """By what it is the file, and where in it the network is."""
    return {
        "ddp": (under("module.", state), "module"),
        "compiled": (under("_orig_mod.", state), "_orig_mod"),
        "both, and ddp twice": (
            under("module.module._orig_mod.", state),
            "module.module._orig_mod",
        ),
        "lightning": ({"state_dict": under("model.", state), **SETTINGS}, "state_dict.model"),
        "with a loss": (under("net.", state) | {"loss.weight": torch.ones(3)}, "net"),
        "by key": ({"model_state_dict": state, **SETTINGS}, "model_state_dict"),
        "deep": ({"checkpoint": {"best": {"params": state}}}, "checkpoint.best.params"),
        "ema": (
            {"model_ema": under("module.", state) | {"n_averaged": torch.tensor(5)}},
            "model_ema.module",
        ),
        "twice the same": ({"a": state, "b": state, "c": dict(state)}, "a"),
        "numbers between": ({**state, **{"epoch": 3, "acc": 91.0, "args": Namespace()}}, ""),
        "tree": ({"body": behind(state, "body."), "fc": behind(state, "fc.")}, ""),
    }


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_the_network_is_found_in_what_trainers_save(tmp_path, new):
    source, path = chain(), tmp_path / "x.pth"
    for form, (thing, where) in wrapped(source.state_dict()).items():
        path.write_bytes(saved(thing, new))
        target = chain()
        said = load(target, spec(), path)
        assert same(source, target), form
        assert said == (f"what is under `{where}`" if where else ""), form


def test_a_prefix_in_safetensors_is_found_too(tmp_path):
    source, target, path = chain(), chain(), tmp_path / "x.safetensors"
    loose = {"loss.weight": torch.tensor(float("inf"))}  # of no network: not looked at
    load(target, spec(), written(path, under("module.model.", source.state_dict()) | loose))
    assert same(source, target)
    broken = {**source.state_dict(), "fc.bias": torch.full((3,), float("nan"))}
    with pytest.raises(WeightsError, match=r"fc\.bias holds NaN"):
        load(target, spec(), written(path, under("module.", broken)))


def test_averaged_weights_are_taken_before_plain_ones_and_it_is_said(tmp_path):
    plain, mean, path = chain(), chain(), tmp_path / "x.pth"
    averaged = under("module.", mean.state_dict())
    for key in ("model_ema", "ema", "state_dict_ema", "swa_model", "teacher"):
        path.write_bytes(saved({"model": plain.state_dict(), key: averaged}))
        target = chain()
        assert load(target, spec(), path) == (
            f"what is under `{key}.module`: the averaged weights, which trainers evaluate, not the "
            "plain ones under `model`"
        )
        assert same(mean, target)
    started = averaged | {"n_averaged": torch.tensor(0)}  # no average was taken yet
    path.write_bytes(saved({"model": plain.state_dict(), "swa": started}))
    assert load(target, spec(), path) == "what is under `model`"
    assert same(plain, target)
    path.write_bytes(saved({"swa": started}))
    assert load(target, spec(), path).endswith(
        "of which no average was taken yet (n_averaged is 0)"
    )


def test_two_networks_of_which_none_is_named_are_refused(tmp_path):
    path = tmp_path / "x.pth"
    path.write_bytes(saved({"first": chain().state_dict(), "second": chain().state_dict()}))
    with pytest.raises(WeightsError, match=r"holds tiny 2 times.* under `first`, `second`"):
        load(chain(), spec(), path)


def test_what_does_not_fit_under_a_prefix_is_named_with_it(tmp_path):
    path, state = tmp_path / "x.pth", chain().state_dict()
    del state["body.bn.bias"]
    torch.save({"state_dict": under("model.", state)}, path)
    with pytest.raises(WeightsError) as error:
        load(chain(), spec(), path)
    assert "does not fit tiny, under `state_dict.model`: body.bn.bias is missing |" in one_line(
        error
    )
    assert "torch.save(model.state_dict(), FILE)" in one_line(error)
    assert "another model" not in one_line(error)
    torch.save(under("model.", chain(1000).state_dict()), path)
    with pytest.raises(
        WeightsError, match=r"under `model`: fc\.weight is 1000x8, not 3x8"
    ) as error:
        load(chain(), spec(), path)
    assert "only the head differs" in one_line(error)


def test_float64_is_rounded_and_it_is_said(tmp_path):
    source, target, path = chain().double(), chain(), tmp_path / "x.pth"
    torch.save(source.state_dict(), path)
    assert load(target, spec(), path) == "its float64 rounded to float32"
    assert same(source.float(), target)
    torch.save(
        {**source.double().state_dict(), "fc.bias": torch.full((3,), 1e300, dtype=torch.float64)},
        path,
    )
    with pytest.raises(
        WeightsError, match=r"fc\.bias holds numbers that are too large for float32"
    ):
        load(target, spec(), path)


def test_a_head_of_another_name_is_the_head_or_is_left_out(tmp_path):
    path = tmp_path / "x.pth"
    for name in ("last_linear", "fc.1", "head.fc"):
        source, target = chain(), chain()
        state = source.state_dict()
        renamed = {key.replace("fc.", f"{name}."): tensor for key, tensor in state.items()}
        torch.save({"model": renamed}, path)
        assert load(target, spec(), path) == f"what is under `model`; its head is `{name}`"
        assert same(source, target)
        fresh = chain(7)
        load(fresh, spec(), path, except_head=True)
        assert same(source.body, fresh.body)
        with pytest.raises(WeightsError, match=r"fc\.weight is 3x8, not 7x8"):
            load(chain(7), spec(), path)
    torch.save({**state, "other.weight": torch.ones(3, 8)}, path)
    with pytest.raises(WeightsError, match=r"other\.weight is unexpected"):
        load(chain(), spec(), path)  # it has a head already
    odd = {key.replace("fc.", "norm."): tensor for key, tensor in state.items()}
    odd["norm.weight"] = torch.ones(3, 4)
    torch.save(odd, path)
    with pytest.raises(WeightsError, match=r"norm\.weight is unexpected"):
        load(chain(), spec(), path, except_head=True)


# The real files


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared weights (set ZOO_SHARED)")
@pytest.mark.parametrize(
    ("file", "count", "head"),
    [
        ("squeezenet1_1-caffe.pth", 52, "classifier.1.weight"),
        ("timm-mobilenetv2_100-keras.pth", 314, "classifier.weight"),
        ("googlenet_bvlc.safetensors", 116, "fc.weight"),
    ],
)
def test_real_files(file, count, head, monkeypatch):
    listed = re.search(
        rf"{re.escape(file)} \| (\d+) \| (\w{{64}})", (SHARED / "PROVENANCE.md").read_text()
    )
    assert listed is not None
    monkeypatch.setenv("ZOO_WEIGHTS", str(SHARED))
    path = find(Weights("real", "", file, listed[2], int(listed[1])), offline=True)
    tensors = read(path)
    assert len(tensors) == count
    assert tensors[head].shape[0] == 1000


def test_a_file_of_arrays_is_hashed_while_it_is_written(tmp_path: Path) -> None:
    arrays = {name: np.full((300, 7), number, np.float32) for number, name in enumerate("ab")}
    digest = save_arrays(arrays, tmp_path / "a.safetensors", {"zoo": "1"})
    assert digest == hashlib.sha256((tmp_path / "a.safetensors").read_bytes()).hexdigest()
