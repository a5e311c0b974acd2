"""`zoo serve`: the rows of `zoo predict` over HTTP, its limits, and the page."""

from __future__ import annotations

import asyncio
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
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from fastapi import HTTPException, Request
from kit import Here, encoded, picture, until
from kit.browser import browser_page, faint, keep, too_wide
from kit.served import Served, served
from PIL import Image
from starlette.requests import ClientDisconnect
from starlette.testclient import TestClient

from zoo import api
from zoo.api.model import Model
from zoo.cli.serve import command as serve_command
from zoo.errors import ZooError
from zoo.predict.inputs import Input
from zoo.predict.rows import Predictor
from zoo.serve import intake, server
from zoo.serve.app import AFTER, Limits, create
from zoo.serve.desk import Desk

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
    status, _, hint = post("not a picture", content=b"hello", headers=JPEG)
    assert (status, "save it anew as JPEG or PNG" in hint) == (422, True)
    assert post("the file is empty", content=b"", headers=JPEG)[0] == 422
    heic = struct.pack(">I", 24) + b"ftypheic" + bytes(12)
    assert post("HEIC", content=heic, headers=JPEG)[0] == 422
    assert post("no files", content=b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n"
                b"--x--\r\n", headers=multipart)[0] == 422  # fmt: skip
    assert post("cannot be read", content=b"nonsense", headers=multipart)[0] == 400
    assert post("top=", path="/predict?top=0", content=DISC, headers=JPEG)[0] == 422
    assert post("6 more are above 5", files=form(6))[0] == 503
    assert post("Grad-CAM", path="/explain", content=DISC, headers=JPEG)[0] == 422
    nowhere = of_file.get("/nowhere")
    assert (nowhere.status_code, nowhere.json()["error"]) == (404, "Not Found")
    assert "POST /predict" in nowhere.json()["hint"]
    assert of_file.get("/health").json()["waiting"] == 0


def request_of(*chunks: bytes | Exception | None, **headers: str) -> Request:
    """Return a request that comes so: with an error where one is, and never where None is."""
    left = list(chunks)

    async def receive() -> dict[str, Any]:
        if left[0] is None:
            await asyncio.sleep(60)
        if isinstance(left[0], Exception):
            raise left[0]
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    pairs = [(name.replace("_", "-").encode(), word.encode()) for name, word in headers.items()]
    return Request({"type": "http", "method": "POST", "headers": pairs}, receive)


def status_of(desk: intake.Intake, request: Request) -> int:
    """Return the status that ends a request; 200 where its pictures are read."""

    async def read() -> int:
        try:
            async with desk.pictures(request):
                return 200
        except HTTPException as error:
            return error.status_code

    return asyncio.run(read())


def test_a_length_above_the_limit_is_refused_before_anything_is_read() -> None:
    unread = AssertionError("it was read")
    desk = intake.Intake(10)
    assert status_of(desk, request_of(unread, content_length="11")) == 413
    with pytest.raises(AssertionError, match="it was read"):
        status_of(desk, request_of(unread, content_length="10"))
    assert status_of(desk, request_of(b"12345", b"67890", content_length="10")) == 200
    assert status_of(desk, request_of(b"12345", b"678901")) == 413
    assert desk.held == 0


def test_requests_share_eight_times_the_bytes_of_one_and_give_them_back() -> None:
    desk = intake.Intake(10)

    async def hold(count: int) -> list[int]:
        async with contextlib.AsyncExitStack() as held:
            for _ in range(count):
                await held.enter_async_context(desk.pictures(request_of(bytes(10))))
            assert desk.held == 10 * count
            with pytest.raises(HTTPException) as refused:
                await held.enter_async_context(desk.pictures(request_of(bytes(1))))
            assert desk.held == 10 * count
            assert refused.value.headers == {"Retry-After": "1"}
            return [count, refused.value.status_code]

    for _ in range(2):
        assert asyncio.run(hold(8)) == [8, 503]
        assert desk.held == 0


def test_a_request_that_goes_wrong_gives_its_bytes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    desk, form_of = intake.Intake(100), {"content_type": "multipart/form-data; boundary=x"}
    assert status_of(desk, request_of(b"ab", ClientDisconnect())) == 400
    assert status_of(desk, request_of(b"nonsense", **form_of)) == 400
    assert status_of(desk, request_of(b"a text", content_type="text/plain")) == 415
    assert status_of(desk, request_of(b"ab", sec_fetch_site="cross-site")) == 403
    monkeypatch.setattr(intake, "SECONDS", 0)
    assert status_of(desk, request_of(b"ab", None)) == 408
    assert desk.held == 0


class InBatches:
    """A model whose calls take several pictures, as on a GPU."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def predictor(self, calls: str) -> Predictor:
        assert calls == "single"
        return self.model.predictor()


@pytest.mark.parametrize("batches", [False, True])
def test_pictures_are_answered_one_or_several_in_a_call_and_counted(
    run: Path, photos: Path, batches: bool
) -> None:
    model = api.load(run)
    desk = Desk(InBatches(model) if batches else model, 20)  # type: ignore[arg-type]
    try:
        paths = sorted(photos.rglob("*.png"))[::4]
        items = [Input(path.name, path.name, path) for path in paths]
        items.insert(2, Input("bad", "bad", b"no"))
        rows = [future.result(60) for future in [desk.row(item, 2) for item in items]]
        assert [row.path for row in rows] == [item.shown for item in items]
        assert [row.status == "ok" for row in rows] == [item.shown != "bad" for item in items]
        told = model.predict(paths, top=2)
        for row, each in zip([row for row in rows if row.status == "ok"], told, strict=True):
            assert row.labels == each.labels
            assert row.probabilities == pytest.approx(each.probabilities, abs=1e-6)
        assert (desk.predictor.engine.batch > 1) is batches
        assert (desk.waiting, desk.answered) == (0, 10)
        assert desk.has_room(20)
        assert not desk.has_room(21)
        desk._explaining.submit(int).result(60)
        assert (desk._whole is None) is batches, "one that is alone has all cores, on a CPU"
    finally:
        desk.close()


@pytest.mark.parametrize("batches", [False, True])
def test_a_picture_that_the_engine_fails_on_has_the_error_and_holds_nobody_up(
    run: Path, photos: Path, batches: bool
) -> None:
    model = api.load(run)
    desk = Desk(InBatches(model) if batches else model, 20)  # type: ignore[arg-type]
    try:
        good, path = desk.predictor, photos / "disc" / "00.png"
        desk._whole, desk.predictor = None, replace(good, classes=good.classes[1:])
        with pytest.raises(ZooError):
            desk.row(Input("a", "a", path), 1).result(60)
        desk.predictor = good
        assert desk.row(Input("b", "b", path), 1).result(60).status == "ok"
    finally:
        desk.close()


def test_a_server_ends_without_waiting_for_what_its_threads_do(exported: Path) -> None:
    desk, ends = Desk(api.load(exported), 5), threading.Event()
    pools = desk._decoders, desk._engines, desk._explaining
    try:
        for pool in pools:
            begun = threading.Event()
            pool.submit(lambda begun=begun: begun.set() or ends.wait(120))
            assert begun.wait(60)
        waits = desk._explaining.submit(int)
        began = time.monotonic()
        desk.close()
        assert time.monotonic() - began < 60
        assert waits.cancelled()
    finally:
        ends.set()


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
        until(lambda: desk.prepared)
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
    before = of_run.get("/health").json()["answered"]
    answer = of_run.post("/explain?label=disc", content=DISC, headers=JPEG)
    assert of_run.get("/health").json()["answered"] == before + 1
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
    longer = "from zoo.serve import server; server.HEAD = 600.0"  # before the silent are cut off
    with served(exported, before=longer) as up:
        with socket.create_connection(up.place, timeout=20) as line:
            line.sendall(asked(DISC)[:-10])
            line.shutdown(socket.SHUT_WR)
            assert line.recv(1) == b"", "what can never be whole is not waited for"
        silent = [socket.create_connection(up.place) for _ in range(server.CONNECTIONS + 50)]
        for line in silent:
            with contextlib.suppress(ConnectionError):
                line.sendall(b"POST /predict HT")
        assert b"200 OK" in up.talk(asked(DISC), half=True, wait=120)
        silent[0].settimeout(20)
        with contextlib.suppress(ConnectionError):
            assert silent[0].recv(1) == b"", "the oldest made room"
        silent[-1].settimeout(0.1)
        with pytest.raises(TimeoutError):
            silent[-1].recv(1)
        for line in silent:
            line.close()


def ends(up: Served) -> None:
    """A request that has begun when SIGTERM comes is answered, and then it is over."""
    with socket.create_connection(up.place, timeout=20) as line:
        whole = asked(DISC)
        line.sendall(whole[:-10])
        assert b"200 OK" in up.talk(asked(DISC), half=True)  # by now it has seen the other
        up.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        line.sendall(whole[-10:])
        assert b"200 OK" in line.recv(65536)
    up.process.wait(60)
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
