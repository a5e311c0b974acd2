"""Which commands use the network, and what listens: seen by Python's own audit events."""

from __future__ import annotations

import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit import ROOT, Here, encoded, picture
from kit.jobs import planned
from kit.served import served
from starlette.testclient import TestClient

from zoo import api
from zoo.cli.serve import Flags
from zoo.serve import server
from zoo.serve.app import Limits, create

_USES = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
_seen: list[tuple[str, object]] = []
_looking: list[bool] = []  # a hook is never taken off


def _hook(event: str, words: tuple[object, ...]) -> None:
    if not _looking or event not in (*_USES, "socket.bind"):
        return
    if not (isinstance(words[0], socket.socket) and words[0].family == socket.AF_UNIX):
        _seen.append((event, words[-1]))


@pytest.fixture
def used() -> Iterator[list[tuple[str, object]]]:
    """What of the network this process uses: the event, and the address."""
    if not _looking:
        sys.addaudithook(_hook)
    _seen.clear()
    _looking.append(True)
    yield _seen
    _looking.clear()


def test_what_looks_sees(used: list[tuple[str, object]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as there, socket.socket() as line:
        line.connect(there.getsockname())
    assert [event for event, _ in used] == ["socket.bind", "socket.connect"]


def test_onnx_runtime_tells_its_makers_nothing(tmp_path: Path) -> None:
    """It does so without Python's knowledge; a session is what it begins with."""
    pytest.importorskip("onnxruntime")
    code = "import zoo.engine.graph, onnxruntime, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    around = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=around | {"TMPDIR": str(tmp_path)},
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "1"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_run_needs_no_network_and_opens_no_port(
    here: Here, run: Path, photos: Path, tmp_path: Path, used: list[tuple[str, object]], every: bool
) -> None:
    """What is done with a run once it is there, and a server that answers from it."""
    mine = shutil.copytree(run, tmp_path / "run")
    photo = photos / "disc" / "00.png"
    commands: list[list[object]] = [
        ["predict", mine, photo],
        ["plan", photos / "disc", "--model", mine, "-o", tmp_path / "job"],
        ["work", tmp_path / "job"],
    ]
    more = [
        ["evaluate", mine],
        ["embed", mine, photo, "--picture", "none", "-o", tmp_path / "e.csv"],
        ["explain", mine, photo, "-o", tmp_path / "pictures"],
        ["check", photos, "--against", mine],
        ["export", "onnx", mine],
        ["predict", mine / "model.onnx", photo],
        ["finetune", "lenet", photos, "--weights", "none", "--epochs", "1", "-o", tmp_path / "b"],
    ]
    for words in commands + more * every:
        answer = here("--offline", *words)
        assert answer.code == 0, (words, answer)
    app = create(api.load(mine), Limits())
    with TestClient(app, "http://127.0.0.1:8000") as client:
        assert client.post("/predict", content=encoded(picture("disc", 1)),
                           headers={"Content-Type": "image/png"}).is_success  # fmt: skip
    app.state.desk.close()
    assert used == []


def test_offline_no_command_asks_and_each_says_so(
    here: Here, exported: Path, run: Path, photos: Path, tmp_path: Path,
    used: list[tuple[str, object]], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    monkeypatch.setenv("ZOO_OFFLINE", "")  # so that the flag alone forbids it
    mine = shutil.copytree(run, tmp_path / "run")
    shutil.copy(exported, mine / "model.onnx")
    (tmp_path / "list.txt").write_text("http://192.0.2.1/a.png\nhttps://192.0.2.1/b.png\n")
    planned(tmp_path / "job", ["a"], 1)
    assert here("plan", tmp_path / "list.txt", "--model", mine, "-o", tmp_path / "web").code == 0
    for words in (
        ["push", mine, "someone/shapes"],
        ["pull", "hf-hub:someone/shapes"],
        ["pull", "resnet18"],
        ["finetune", "resnet18", photos, "-o", tmp_path / "r"],
        ["finetune", "lenet", "fashion-mnist", "-o", tmp_path / "r"],
        ["export", "web", mine, "-o", tmp_path / "site"],
        ["work", tmp_path / "web"],
        ["plan", "s3://bucket/photos", "--model", mine, "-o", tmp_path / "other"],
        ["plan", photos, "--model", mine, "-o", "s3://bucket/job"],
        ["work", "s3://bucket/job"],
        ["verify", "gs://bucket/job"],
    ):
        began = time.process_time()
        answer = here("--offline", *words)
        assert time.process_time() - began < 50, words
        assert answer.code == 2, (words, answer)
        said = answer.err.lower()
        assert "offline" in said or "network" in said, (words, answer)
    assert used == []


# What listens


def test_nobody_else_reaches_a_server_unless_that_is_asked_for() -> None:
    (host,) = [one.default for one in Flags.__dataclass_fields__.values() if one.name == "host"]
    host = getattr(host, "default", host)
    assert server.is_loopback(str(host))
    with server.bound(str(host), 0) as listening:
        assert ipaddress.ip_address(listening.getsockname()[0]).is_loopback
    for open_to_all in ("0.0.0.0", "::", "192.0.2.1", "example.com", "127.0.0.1.example.com"):
        assert not server.is_loopback(open_to_all)


def listening(session: int) -> set[str]:
    """The addresses at which processes of a session listen, C++'s too, as /proc says them."""
    own = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[3]) == session:
                own |= {os.readlink(one) for one in (stat.parent / "fd").iterdir()}
        except OSError:  # it has ended
            continue
    found = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            _, address, _, state, *rest = line.split()
            if state == "0A" and f"socket:[{rest[5]}]" in own:
                found.add(address.rpartition(":")[0])
    return found


LOOPBACK = {"0100007F", "0" * 24 + "01000000", "0000000000000000FFFF00000100007F"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_process_of_a_command_listens_but_on_loopback(
    run: Path, exported: Path, photos: Path, tmp_path: Path
) -> None:
    """Looked at every 10 ms while it works."""
    fit = ["--weights", "none", "--no-freeze", "--views", "1", "--epochs", "20"]
    seen = {}
    for words in (
        ["finetune", "lenet", photos, *fit, "-o", tmp_path / "run"],
        ["predict", run, photos],
        ["export", "onnx", run, "-o", tmp_path / "x.onnx"],
        ["evaluate", run],
        ["demo", "-o", tmp_path / "demo"],
    ):
        with subprocess.Popen(
            [sys.executable, "-m", "zoo", *map(str, words)], cwd=ROOT, env=dict(os.environ),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        ) as process:  # fmt: skip
            found, looks = set(), 0
            while process.poll() is None:
                found |= listening(process.pid)
                looks += 1
                time.sleep(0.01)
        assert process.returncode == 0, words
        assert looks > 5
        seen[words[0]] = found
    assert seen == {name: set() for name in seen}
    with served(exported) as up:
        found = listening(os.getsid(up.process.pid))
        up.process.send_signal(signal.SIGTERM)
    assert found
    assert found <= LOOPBACK
