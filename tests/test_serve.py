"""`zoo serve`: the rows of `zoo predict` over HTTP, its limits, and the page."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import struct
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from kit import Here, encoded, picture
from kit.browser import browser_page, faint, keep, too_wide
from kit.served import Served, served
from PIL import Image
from starlette.testclient import TestClient

from zoo import api
from zoo.cli.serve import command as serve_command
from zoo.serve import server
from zoo.serve.app import AFTER, Limits, create

DISC = encoded(picture("disc", 3))
LOADED = 60_000  # ms that a page may take on a busy machine
JPEG = {"Content-Type": "image/jpeg"}


@contextlib.contextmanager
def client_of(name: Path, **limits: Any) -> Iterator[TestClient]:
    app = create(api.load(name), Limits(**{"hosts": server.hosts("127.0.0.1"), **limits}))
    with TestClient(app, "http://127.0.0.1:8000") as client:
        yield client
    app.state.desk.close()


@pytest.fixture(scope="module")
def of_run(run: Path) -> Iterator[TestClient]:
    with client_of(run) as client:
        yield client


@pytest.fixture(scope="module")
def of_file(exported: Path) -> Iterator[TestClient]:
    with client_of(exported, size=1_000_000, queue=5) as client:
        yield client


@pytest.mark.parametrize("kind", ["run", "exported"])
def test_rows_are_those_of_predict(
    kind: str, photos: Path, here: Here, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(kind)
    told = json.loads(here("predict", model, photos, "--json", "--top", 2).out)
    with client_of(model) as client:
        files = [("files", (row["path"], (photos / row["path"]).read_bytes())) for row in told]
        rows = client.post("/predict?top=2", files=files).json()
    assert len(rows) == 36
    if kind == "run":  # its calls have other shapes there, and so may its last bits
        for row, each in zip(rows, told, strict=True):
            assert row.pop("probabilities") == pytest.approx(each.pop("probabilities"), abs=1e-6)
            assert row.pop("probability") == pytest.approx(each.pop("probability"), abs=1e-6)
    assert rows == told


@pytest.mark.parametrize("kind", ["run", "exported"])
def test_a_picture_alone_on_all_cores_gets_the_bits_of_one_among_many(
    kind: str, photos: Path, request: pytest.FixtureRequest
) -> None:
    model = api.load(request.getfixturevalue(kind))
    single, alone = (model.predictor(calls=calls) for calls in ("single", "alone"))
    assert single.engine.batch == alone.engine.batch == 1
    for photo in sorted(photos.rglob("*.png"))[:6]:
        pixels = single.load(photo)[None]
        for one, other in zip(single.scores(pixels), alone.scores(pixels), strict=True):
            assert (one == other).all()


def test_a_picture_alone_is_a_row_and_a_bad_one_costs_its_own(of_file: TestClient) -> None:
    (row,) = of_file.post("/predict", content=DISC, headers=JPEG).json()
    assert list(row) == ["path", "status", "label", "probability", "error"]
    assert (row["status"], row["label"]) == ("ok", "disc")
    files = [
        ("files", ("a.png", DISC)),
        ("files", ("=b\udcff.png".encode("utf-8", "replace").decode(), b"no")),
    ]
    good, bad = of_file.post("/predict", files=files).json()
    assert good["probability"] == row["probability"]
    assert bad["status"] == "error"
    assert bad["error"].startswith("not a picture in a format that is read")


def form(parts: int) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", ("a.png", DISC))] * parts


def test_what_is_wrong_has_its_status_and_its_words(of_file: TestClient) -> None:
    def post(words: str = "", path: str = "/predict", **how: Any) -> tuple[int, str, str]:
        answer = of_file.post(path, **how)
        said = answer.json()
        assert words in said["error"], said
        return answer.status_code, said["error"], said["hint"]

    multipart = {"Content-Type": "multipart/form-data; boundary=x"}
    big = {"content": bytes(1_000_001), "headers": JPEG}
    assert post("more than 1 MB", **big)[0] == 413
    chunks = (bytes(300_000) for _ in range(4))
    assert post("more than 1 MB", content=chunks, headers=JPEG)[0] == 413
    assert post("65 pictures", files=form(65))[0] == 413
    status, _, hint = post("text/plain", content=b"hello", headers={"Content-Type": "text/plain"})
    assert status == 415
    assert "curl -F" in hint
    assert post("not a picture", content=b"hello", headers=JPEG)[0] == 422
    assert post("the file is empty", content=b"", headers=JPEG)[0] == 422
    heic = struct.pack(">I", 24) + b"ftypheic" + bytes(12)
    assert post("HEIC", content=heic, headers=JPEG)[0] == 422
    assert post("no files", content=b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n"
                b"--x--\r\n", headers=multipart)[0] == 422  # fmt: skip
    assert post("cannot be read", content=b"nonsense", headers=multipart)[0] == 400
    assert post("top=", path="/predict?top=0", content=DISC, headers=JPEG)[0] == 422
    assert post("6 more are above 5", files=form(6))[0] == 503
    assert post("Grad-CAM", path="/explain", content=DISC, headers=JPEG)[0] == 422
    assert of_file.get("/nowhere").status_code == 404
    assert of_file.get("/health").json()["waiting"] == 0


def test_a_token_is_asked_for_everywhere_but_on_the_page(exported: Path) -> None:
    with client_of(exported, token="open sésame") as client:
        assert client.get("/").status_code == client.get("/health").status_code == 200
        for wrong in ({}, {"Authorization": "Bearer open"}, {"Authorization": "Basic open"}):
            answer = client.get("/model", headers=wrong)
            assert answer.status_code == 401
            assert "Bearer TOKEN" in answer.json()["hint"]
        assert client.post("/predict", content=DISC, headers=JPEG).status_code == 401
    with client_of(exported, token="word") as client:
        good = {**JPEG, "Authorization": "Bearer word"}
        assert client.post("/predict", content=DISC, headers=good).status_code == 200


def test_on_loopback_it_answers_to_its_own_names_only(of_file: TestClient) -> None:
    for host, status in (
        ("127.0.0.1:9", 200),
        ("localhost", 200),
        ("[::1]:80", 200),
        ("evil.example", 400),
    ):
        answer = of_file.get("/health", headers={"Host": host})
        assert answer.status_code == status, host
    assert "evil.example" in answer.json()["error"]
    assert "127.0.0.1" in answer.json()["hint"]


def test_a_page_of_another_address_may_not_send_pictures(of_file: TestClient) -> None:
    for site in ("cross-site", "same-site"):  # another port of this machine is a same site
        for kind in JPEG, {"Content-Type": ""}:
            answer = of_file.post(
                "/predict", content=DISC, headers={**kind, "Sec-Fetch-Site": site}
            )
            assert answer.status_code == 403
            assert "another address" in answer.json()["error"]
    near = {**JPEG, "Sec-Fetch-Site": "same-origin"}
    assert of_file.post("/predict", content=DISC, headers=near).status_code == 200


def test_head_asks_whether_it_is_there(of_file: TestClient) -> None:
    for path in ("/", "/health"):
        answer = of_file.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
    assert of_file.head("/predict").status_code == 405


def test_grad_cam_is_prepared_after_an_answer_to_who_has_seen_the_page(run: Path) -> None:
    with client_of(run) as client:
        desk = client.app.state.desk  # type: ignore[attr-defined]

        def answered() -> None:
            assert client.post("/predict", content=DISC, headers=JPEG).status_code == 200
            time.sleep(2 * AFTER)

        answered()
        assert not desk.prepared  # it costs memory, and a program has no button for it
        client.get("/")
        assert not desk.prepared
        answered()
        assert desk.prepared
        assert client.post("/explain", content=DISC, headers=JPEG).status_code == 200


def test_the_page_and_the_description_name_no_other_address(of_file: TestClient) -> None:
    page = of_file.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "://" not in page.text
    said = of_file.get("/openapi.json").json()
    assert {"/predict", "/explain", "/model", "/health"} <= said["paths"].keys()
    assert of_file.get("/docs").status_code == 404  # FastAPI's loads its scripts from elsewhere


def test_model_says_what_answers(of_run: TestClient, of_file: TestClient) -> None:
    one, other = of_run.get("/model").json(), of_file.get("/model").json()
    assert one["classes"] == other["classes"] == ["disc", "square", "stripes"]
    assert one["preprocess"] == other["preprocess"]
    assert (one["model"], one["explains"], other["explains"]) == ("lenet", True, False)


def test_a_run_draws_where_a_class_is(of_run: TestClient) -> None:
    answer = of_run.post("/explain?label=disc", content=DISC, headers=JPEG)
    assert answer.headers["content-type"] == "image/png"
    assert min(Image.open(BytesIO(answer.content)).size) > 20
    for path, body, words in (
        ("/explain?label=dics", DISC, "disc"),
        ("/explain", b"no", "not a picture"),
    ):
        answer = of_run.post(path, content=body, headers=JPEG)
        assert answer.status_code == 422
        assert words in " ".join(answer.json().values())


def test_what_keeps_it_from_starting_is_told(
    exported: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        answer = here("serve", exported, "--port", other.getsockname()[1])
        assert answer.code == 2
        assert "another program has it" in answer.err
    for words in (("--host", "256.1.1.1"), ("--token", ""), ("--port", "99999"), ("--queue", "0")):
        assert here("serve", exported, *words).code == 2, words
    assert here("serve", exported.with_name("no.onnx"), "--port", "0").code == 2
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    answer = here("serve", exported)
    assert answer.code == 2
    assert "needs uvicorn" in answer.err
    assert "zoo-transfer[serve]" in answer.err
    assert serve_command.__doc__


# A real server.


def bomb() -> bytes:
    """Return a PNG of a few kilobytes with 14,000 x 14,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", 14_000, 14_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(14_000 * 1_751), 9)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def asked(data: bytes, length: int | None = None) -> bytes:
    """Return a request with a picture, byte by byte."""
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length or len(data)}\r\n"
    return f"{head}Content-Type: image/png\r\n\r\n".encode() + data


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_200_requests_at_8_connections_with_all_that_is_bad(
    exported: Path, photos: Path, here: Here
) -> None:
    """Each good picture gets its own row; the rest get words; memory is bounded; then it ends."""
    right = {
        row["path"]: (row["label"], row["probability"])
        for row in json.loads(here("predict", exported, photos, "--json").out)
    }
    names, wrong, hostile = sorted(right), list[object](), bomb()
    seen: dict[int, int] = {}

    def ask(line: http.client.HTTPConnection, number: int) -> None:
        name = names[number % len(names)]
        body = (photos / name).read_bytes()
        bad = {3: hostile, 4: b"text " * 1000, 5: bytes(100_000_000)}.get(number % 10)
        try:
            line.request("POST", "/predict", body if bad is None else bad, JPEG)
            answer = line.getresponse()
            found = json.loads(answer.read())
        except (BrokenPipeError, ConnectionResetError):  # it answers before all is sent
            line.close()
            seen[0] = seen.get(0, 0) + 1
            return
        seen[answer.status] = seen.get(answer.status, 0) + 1
        if bad is None and (found[0]["label"], found[0]["probability"]) != right[name]:
            wrong.append((name, found))
        if bad is not None and answer.status not in (413, 422):
            wrong.append((number, answer.status, found))

    def ask_all(first: int) -> None:
        line = http.client.HTTPConnection(*up.place, timeout=60)
        for number in range(first, 200, 8):
            ask(line, number)
        line.close()

    with served(exported) as up:
        slow = [socket.create_connection(up.place) for _ in range(20)]
        for number, line in enumerate(slow):  # half a head, or half a body
            line.sendall(asked(DISC, 10_000) if number % 2 else b"POST /predict HT")
        threads = [threading.Thread(target=ask_all, args=(first,)) for first in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(10):
            answer = up.talk(asked(DISC), half=True)
            assert b"200 OK" in answer
            assert b'"disc"' in answer
        up.talk(asked(DISC, 10_000), half=True)  # has no end: closed
        for thread in threads:
            thread.join()
        assert wrong == []
        assert seen[200] == 140
        assert up.memory("VmHWM") < 1_000_000_000
        began = time.monotonic()
        for number, line in enumerate(slow):
            line.settimeout(40)
            with contextlib.suppress(ConnectionError):
                assert (b"408" in line.recv(4096)) is bool(number % 2)
            line.close()
        assert time.monotonic() - began < 35
        ends(up)


def test_connections_that_say_nothing_leave_room_for_others(exported: Path) -> None:
    with served(exported) as up:
        silent = [socket.create_connection(up.place) for _ in range(server.CONNECTIONS + 50)]
        for line in silent:
            with contextlib.suppress(ConnectionError):
                line.sendall(b"POST /predict HT")
        began = time.monotonic()
        assert b"200 OK" in up.talk(asked(DISC), half=True)
        assert time.monotonic() - began < server.HEAD - 2  # before the silent ones are cut off
        for line in silent:
            line.close()


def ends(up: Served) -> None:
    """A request that has begun when SIGTERM comes is answered, and then it is over."""
    with socket.create_connection(up.place, timeout=20) as line:
        whole = asked(DISC)
        line.sendall(whole[:-10])
        time.sleep(0.3)
        up.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        line.sendall(whole[-10:])
        assert b"200 OK" in line.recv(65536)
    up.process.wait(10)
    up.stop()
    assert up.code == 143
    assert "answered" in up.err
    assert "Traceback" not in up.err


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_photos_are_dropped_on_the_page(
    run: Path, photos: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    files = [photos / "disc/00.png", photos / "stripes/01.png"]
    with served(run) as up, browser_page(up.url, width=width, scheme=scheme) as page:
        page.set_input_files("#files", files)
        page.locator("progress").nth(5).wait_for(timeout=LOADED)
        assert sorted(page.locator("#photos h2").all_inner_texts()) == ["disc", "stripes"]
        card = page.locator("#photos li", has_text="00.png")
        card.locator("button").first.click()
        card.get_by_alt_text("by Grad-CAM").wait_for(timeout=4 * LOADED)  # it loads torch
        assert faint(page) == []
        assert too_wide(page) <= 0
        keep(page, f"serve-{width}-{scheme}", tmp_path)
