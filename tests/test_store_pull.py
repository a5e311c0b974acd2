"""The commands of the store: no network, odd names, no place to write."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from kit import ROOT, Answer, Command, names
from kit.hostile import inside
from kit.serving import Server, serving

from zoo import catalog, models
from zoo.catalog import ROWS, ModelSpec, Weights
from zoo.weights import find

Here = Callable[..., Answer]
FILE = "lenet-digits.pth"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("ZOO_WEIGHTS", "ZOO_OFFLINE", "HF_ENDPOINT", "HF_TOKEN"):
        monkeypatch.setenv(name, "")  # so that what a command sets is taken back
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    inside(monkeypatch)
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def state() -> bytes:
    """A torch file of LeNet, as a publisher would have it."""
    torch.manual_seed(0)
    file = io.BytesIO()
    torch.save(models.build(catalog.find("lenet")).state_dict(), file)
    return file.getvalue()


@pytest.fixture
def server(state: bytes) -> Iterator[Server]:
    with serving(state) as it:
        yield it


@pytest.fixture
def lenet(server: Server, state: bytes, monkeypatch: pytest.MonkeyPatch) -> ModelSpec:
    """LeNet, with published weights."""
    made = published(f"{server.url}/good", state)
    monkeypatch.setitem(ROWS, "lenet", made)
    return made


def published(url: str, state: bytes) -> ModelSpec:
    digest = hashlib.sha256(state).hexdigest()
    row = catalog.find("lenet")
    weights = Weights(
        "digits", url, FILE, digest, len(state), classes="", licence="MIT", source="a book",
        preprocess=row.preprocess,
    )  # fmt: skip
    return replace(row, weights=(weights,))


def tree(folder: Path) -> dict[str, str]:
    """Every file below, and what is in it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# pull and weights


def test_pull_shows_the_licence_and_where_it_lies(
    here: Here, lenet: ModelSpec, cache: Path, state: bytes, server: Server
) -> None:
    answer = here("pull", "lenet")
    assert answer.code == 0, answer
    size = f"{len(state) / 1e6:.1f} MB"
    assert f"lenet digits: {size}, licence MIT, from {server.url}/good" in answer.err
    assert answer.out.splitlines()[0].split() == [
        "model", "weights", "licence", "size", "sha256", "file",
    ]  # fmt: skip
    assert str(cache / "weights" / FILE) in answer.out
    assert len(names(cache / "converted")) == 2  # ready, and pinned
    again = here("pull", "lenet", "--json", "--offline")
    assert again.code == 0, again
    assert "here already" in again.err
    (record,) = json.loads(again.out)
    assert record["sha256"] == hashlib.sha256(state).hexdigest()
    assert (record["licence"], record["source"], record["tag"]) == ("MIT", "a book", "digits")
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["pull"], "no model given"),
        (["pull", "lenett"], "did you mean lenet"),
        (["pull", "lenet", "--weights", "digit"], "did you mean digits"),
        (["pull", "lenet", "--weights", "none"], "no published weights"),
        (["weights", "remove", "lenett"], "no weights 'lenett'"),
        (["weights", "path", "lenet"], f"no weights 'lenet' on this machine: {FILE} is neither in"),
        (["weights", "path", "lenett"], "there is no model called 'lenett'; did you mean lenet"),
        (["weights", "path", "lenet/digit"], "lenet has no weights 'digit'; did you mean digits"),
        (["weights", "path", "cnn"], "cnn has no published weights"),
        (["weights", "path", "lenet.pth"], "no weights 'lenet.pth' in"),
        (["weights", "verify", "../x"], "no weights '../x'"),
    ],
)
def test_mistakes_are_two_lines(words: list[str], says: str, here: Here, lenet: ModelSpec) -> None:
    answer = here(*words)
    assert answer.code == 2
    assert answer.out == ""
    assert says in answer.err
    assert [line.split(":")[0] for line in answer.err.splitlines()[-2:]] == ["error", "hint"]


def test_list_verify_path_remove(here: Here, lenet: ModelSpec, cache: Path) -> None:
    assert here("weights", "list").out == ""
    here("pull", "lenet")
    listed = here("weights", "list")
    assert [word for word in ("lenet", "digits", "MIT", "verified") if word not in listed.out] == []
    (record,) = json.loads(here("weights", "list", "--json").out)
    assert record["file"] == FILE
    path = here("weights", "path", "lenet")
    assert path.out == f"{cache / 'weights' / FILE}\n"
    assert here("weights", "path").out == f"{cache / 'weights'}\n"
    assert here("weights", "verify").code == 0
    data = bytearray((cache / "weights" / FILE).read_bytes())
    data[len(data) // 2] ^= 1
    (cache / "weights" / FILE).write_bytes(data)
    bad = here("weights", "verify", "lenet")
    assert bad.code == 2
    assert "DAMAGED" in bad.out
    assert "1 of 1 file is not what it should be" in bad.err
    assert here("weights", "path", "lenet").code == 2
    removed = here("weights", "remove", "lenet")
    assert removed.code == 0
    assert removed.out == f"{FILE}\n"
    left = [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert left == []
    assert here("weights", "remove", FILE).code == 2


def test_weights_without_an_address_are_pulled_with_words_that_end(
    here: Here, state: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ROWS, "lenet", published("", state))
    answer = here("pull", "lenet")
    assert answer.code == 2
    assert "licence MIT, with no known address\n" in answer.err


def test_path_finds_what_pull_would(
    here: Here, state: bytes, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = here("weights", "path", "lenet")
    assert shipped.code == 0, shipped.err
    path = Path(shipped.out.strip())
    assert path.parent.name == "shipped"
    for name in ("lenet/mnist", path.name):
        assert here("weights", "path", name).out == shipped.out
    monkeypatch.setitem(ROWS, "lenet", published("", state))
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / FILE).write_bytes(state)
    monkeypatch.setenv("ZOO_WEIGHTS", str(folder))
    for name in ("lenet", "lenet/digits", FILE):
        answer = here("weights", "path", name)
        assert (answer.code, answer.out) == (0, f"{folder / FILE}\n"), answer.err
    (folder / FILE).write_bytes(state[:-1])
    answer = here("weights", "path", "lenet")
    assert (answer.code, answer.out) == (2, "")
    assert "(from ZOO_WEIGHTS): sha256 is" in answer.err
    assert "hint: replace it by the file as it was published, or take it out" in answer.err
    assert names(folder) == [FILE]
    assert not cache.exists() or names(cache / "weights") == []


def test_a_wrong_name_removes_nothing(here: Here, lenet: ModelSpec, cache: Path) -> None:
    here("pull", "lenet")
    before = tree(cache)
    answer = here("weights", "remove", "lenet", "lenet-digit.pth")
    assert answer.code == 2
    assert f"did you mean {FILE}" in answer.err
    assert tree(cache) == before


def test_a_library_s_model_is_pulled_from_the_hub(
    here: Here, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("timm")
    from safetensors.torch import save as to_bytes

    name = "timm/test_resnet.r160_in1k"
    with serving(to_bytes({"a": torch.ones(3)})) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        answer = here("pull", name)
        assert answer.code == 0, answer
        (asked,) = server.asked
    assert asked.path == "/timm/test_resnet.r160_in1k/resolve/main/model.safetensors"
    (record,) = json.loads(here("weights", "list", "--json").out)
    assert record["model"] == name
    assert record["licence"]
    assert record["state"] == "verified"
    assert here("--offline", "pull", name).code == 0


def test_a_bar_with_rate_and_time_left_on_a_terminal(
    server: Server, state: bytes, tmp_path: Path, cache: Path
) -> None:
    pty = pytest.importorskip("pty")
    server.data = os.urandom(3_000_000)
    server.pause = 0.05
    code = textwrap.dedent(f"""
        import hashlib
        from pathlib import Path
        from zoo.cli.console import Screen
        from zoo.weights import Source, fetch
        with Screen() as screen:
            fetch(Source("{server.url}/slow"), Path("{tmp_path}/x"), progress=screen.bytes)
    """)
    main, other = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=other, stdout=other):
        os.close(other)
        said = b""
        while True:
            try:
                block = os.read(main, 4096)
            except OSError:
                break
            if not block:
                break
            said += block
    os.close(main)
    assert b"MB/s" in said
    assert b" left" in said
    assert b" of 3 MB" in said


# A folder for another machine


@pytest.fixture
def stick(here: Here, lenet: ModelSpec, tmp_path: Path, cache: Path) -> Path:
    folder = tmp_path / "deep" / "stick"
    assert here("pull", "lenet", "--to", folder).code == 0
    shutil.rmtree(cache)
    return folder


def test_a_folder_carries_the_weights_and_is_checked_there(
    here: Here, stick: Path, cache: Path, photos: Path, state: bytes, monkeypatch
) -> None:
    assert names(stick) == [FILE]
    assert (stick / FILE).read_bytes() == state
    monkeypatch.setenv("ZOO_WEIGHTS", str(stick))
    assert here("--offline", "predict", "lenet", photos).code == 0
    answer = here("pull", "lenet", "--offline", "--json")
    assert answer.code == 0, answer
    assert json.loads(answer.out)[0]["path"] == str(stick / FILE)
    flipped = bytearray(state)
    flipped[700] ^= 1
    (stick / FILE).write_bytes(bytes(flipped))
    answer = here("predict", "lenet", photos)
    assert answer.code == 2, answer
    assert "sha256" in answer.err


def test_a_folder_that_cannot_be_written_is_named(
    here: Here, lenet: ModelSpec, tmp_path: Path, cache: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    answer = here("pull", "lenet", "--to", tmp_path / "file" / "x")
    assert answer.code == 4, answer
    assert str(tmp_path / "file" / "x") in answer.err


BAD_NAMES = [
    "../x.pth", "../../x.pth", "/abs.pth", "a/b.pth", "a\\b.pth", "C:x.pth", ".x.pth", "x\0.pth",
    "x" * 300 + ".pth", "x.pth.", "a\nb.pth", "",
]  # fmt: skip


def test_names_that_climb_out_write_nothing(
    here: Here, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """12 names in the catalogue; the folders around are unchanged."""
    assert len(BAD_NAMES) == 12
    for name in BAD_NAMES:
        row = replace(ROWS["lenet"].weights[0], file=name)
        monkeypatch.setitem(ROWS, "lenet", replace(ROWS["lenet"], weights=(row,)))
        before = tree(tmp_path)
        assert here("pull", "lenet", "--to", tmp_path / "stick").code == 2, name
        assert here("weights", "remove", name or "''").code == 2
        assert tree(tmp_path) == before, name


# No network


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    used: list[object] = []

    def refuse(*words: object, **more: object) -> None:
        used.append(words)
        raise OSError("the network was used")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    return used


def test_with_a_folder_of_weights_every_command_works_without_sockets(
    here: Here, stick: Path, photos: Path, tmp_path: Path, no_network: list[object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("ZOO_WEIGHTS", str(stick))
    run = tmp_path / "run"
    fit = ["finetune", "lenet", photos, "--freeze", "--epochs", "1", "-o", run]
    for words in (
        ["list"],
        ["info", "lenet"],
        ["pull", "lenet"],
        ["weights", "verify"],
        ["predict", "lenet", photos],
        fit,
        ["predict", run, photos],
        ["export", "onnx", run],
        ["predict", run / "model.onnx", photos],
        ["pull", "lenet"],
    ):
        answer = here(*words)
        assert answer.code == 0, (words, answer)
    assert no_network == []


def test_a_cold_cache_says_what_is_missing_at_once(
    here: Here, lenet: ModelSpec, photos: Path, no_network: list[object], state: bytes
) -> None:
    for words in (["predict", "lenet", photos], ["pull", "lenet"]):
        began = time.monotonic()
        answer = here("--offline", *words)
        assert time.monotonic() - began < 30  # an address that does not answer is tried for longer
        assert answer.code == 2
        assert f"weights {FILE} ({len(state) / 1e6:.1f} MB) not found (offline)" in answer.err
    assert no_network == []


SITE = """
import os, socket, sys
def refuse(*words, **more):
    open(os.environ["USED"], "a").write(f"{sys.argv} {words}\\n")
    raise OSError("the network was used")
socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = refuse
socket.getaddrinfo = socket.create_connection = refuse
from dataclasses import replace
from zoo.catalog import ROWS, Weights
row = ROWS["lenet"]
ROWS["lenet"] = replace(row, weights=(Weights(
    "digits", "http://127.0.0.1:1/x", "lenet-digits.pth", os.environ["SHA"], classes="",
    licence="MIT", preprocess=row.preprocess),))
"""


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_without_sockets_in_processes_of_their_own(
    every: bool, zoo: Command, stick: Path, photos: Path, tmp_path: Path, state: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A module that forbids sockets before anything else is imported; a child reads the .pth."""
    site, run = tmp_path / "site", tmp_path / "run"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE)
    monkeypatch.setenv("PYTHONPATH", str(site))
    about = {
        "ZOO_WEIGHTS": str(stick),
        "USED": str(tmp_path / "used"),
        "SHA": hashlib.sha256(state).hexdigest(),
    }
    commands: list[list[object]] = [["pull", "lenet"], ["predict", "lenet", photos]]
    if every:
        fit = ["finetune", "lenet", photos, "--freeze", "--epochs", "1", "-o", run]
        commands += [["list"], ["info", "lenet"], fit, ["export", "onnx", run]]
    for words in commands:
        done = zoo(*words, **about)
        assert done.returncode == 0, (words, done.stderr)
    assert not (tmp_path / "used").exists()


# No place to write


def test_a_warm_cache_is_only_read(here: Here, lenet: ModelSpec, photos: Path, cache: Path) -> None:
    """No write is even tried below the cache: seen by Python's own audit events."""
    assert here("pull", "lenet").code == 0
    assert here("predict", "lenet", photos).code == 0  # keeps the compiled network
    before, tried, on = tree(cache), [], [True]

    def hook(event: str, words: tuple) -> None:
        if not on or event not in ("open", "os.mkdir", "os.rename", "os.remove", "os.chmod"):
            return
        inside_cache = any(str(word).startswith(str(cache)) for word in words)
        flags = os.O_WRONLY | os.O_RDWR | os.O_CREAT
        reading = event == "open" and isinstance(words[2], int) and not words[2] & flags
        if inside_cache and not reading:
            tried.append((event, words))

    sys.addaudithook(hook)
    try:
        answer = here("predict", "lenet", photos)
    finally:
        on.clear()
    assert answer.code == 0, answer
    assert tried == []
    assert tree(cache) == before


def test_a_cold_cache_that_cannot_be_written_is_exit_4(
    here: Here, lenet: ModelSpec, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file" / "cache"))
    for words in (["pull", "lenet"], ["predict", "lenet", photos]):
        answer = here(*words)
        assert answer.code == 4, answer
        (line,) = [line for line in answer.err.splitlines() if line.startswith("error:")]
        assert str(tmp_path / "file" / "cache") in line
        assert "ZOO_CACHE" in answer.err
    assert (tmp_path / "file").read_text() == "not a folder"


def test_find_tells_whose_file_it_was(lenet: ModelSpec, cache: Path) -> None:
    find(lenet.weights[0], model="lenet")
    about = json.loads((cache / "about" / f"{FILE}.json").read_text())
    assert (about["model"], about["licence"]) == ("lenet", "MIT")
