"""A live server, and bodies, forms and heads of strangers: none ends it, or is a fault of its own.

Photos are mutated by a seed, see `kit.mutants`; each answer is one that a client can go by.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from kit import encoded
from kit.mutants import mutated, noise, odd_photos, small_photos
from kit.served import Served, served

KNOWN = (200, 400, 408, 413, 415, 422, 503)
SECONDS = 1.0  # of processor time of the server and its decoders
MEMORY = 200_000_000  # bytes more than before
KINDS = ("image/jpeg", "image/png", "application/octet-stream", "")
HEADS = (
    b"Content-Length: -1", b"Content-Length: 9" + b"9" * 40,
    b"Content-Length: 5\r\nContent-Length: 6",
    b"Content-Length: 0x10", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked",
    b"Content-Type: " + b"multipart/form-data; boundary=" * 200, b"Content-Type: \xff\xfe",
    b"Content-Type: multipart/form-data; boundary=\"\"", b"Expect: 100-continue", b"Host: \xff",
    b"Host: [", b"Sec-Fetch-Site: \x80", b"Authorization: Bearer \xff", b"X: " + b"a" * 70_000,
    b"Content-Encoding: gzip", b"Connection: upgrade\r\nUpgrade: h2c", b": nameless", b"no colon",
)  # fmt: skip
TARGETS = (
    b"/predict", b"/predict?top=" + b"9" * 5000, b"/predict?top=1e9", b"/predict?top=%00",
    b"/predict?top[]=1", b"//predict", b"/predict/../model", b"/%2e%2e/%2e%2e/etc/passwd",
    b"/explain?label=%ff", b"/model", b"/health", b"/openapi.json", b"*", b"http://x/predict", b"",
)  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served("lenet/mnist") as found:
        yield found
        assert found.process.poll() is None, "it has ended"


def spent(server: Served) -> float:
    """Seconds of processor time of the server and of what it has started and not yet buried."""
    own, total = Path(f"/proc/{server.process.pid}"), 0.0
    started = " ".join(path.read_text() for path in own.glob("task/*/children")).split()
    for number in [own.name, *started]:
        with contextlib.suppress(OSError):  # it has ended meanwhile
            fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:13])) / 100
    return total


def must_be_told(data: bytes) -> None:
    """Fail where what came back is no answers, or says that something is wrong with zoo."""
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        found = re.match(rb"HTTP/1\.1 (\d+)", head)
        assert found, head[:200]
        status, length = int(found[1]), re.search(rb"(?i)\ncontent-length: (\d+)", head)
        if status == 100:  # Continue
            continue
        body, data = (data[: int(length[1])], data[int(length[1]) :]) if length else (data, b"")
        assert status in (*KNOWN, 401, 403, 404, 405), head[:400]
        assert b"Traceback" not in body
        if status in (200, 413, 415, 422) and b"application/json" in head:
            json.loads(body)


def must_be_idle(server: Served) -> None:
    """Fail where pictures wait that nobody has sent, or whose sender has gone."""
    ends, waiting = time.monotonic() + 10, 1
    while waiting and time.monotonic() < ends:
        answer = server.talk(b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n")
        waiting = json.loads(answer.partition(b"\r\n\r\n")[2])["waiting"]
    assert waiting == 0


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("count", [30, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutated_photos_are_rows_or_refusals(server: Served, shared: Path, count: int) -> None:
    """In bodies and forms, in any kind that may be said of them; each at little cost."""
    random, photos = np.random.default_rng([count, 1]), small_photos() + odd_photos(shared)
    line, before = http.client.HTTPConnection(*server.place, timeout=60), 0
    began = spent(server)
    for number in range(count):
        data = mutated(photos[number % len(photos)], random)
        kind = KINDS[int(random.integers(len(KINDS)))]
        if random.random() < 0.3:
            kind = "multipart/form-data; boundary=x"
            part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a\xff"\r\n\r\n'
            data = part + data + b"\r\n" + part + data[:40] + b"\r\n--x--\r\n"
        line.request("POST", "/predict?top=3", data, {"Content-Type": kind})
        answer = line.getresponse()
        said = json.loads(answer.read())
        assert answer.status in (200, 422), (number, answer.status, said)
        rows = said if answer.status == 200 else said["rows"]
        assert all((row["status"] == "ok") != bool(row["error"]) for row in rows), (number, said)
        now = spent(server)
        assert now - began < SECONDS, (number, now - began)
        began = now
        before = before or server.memory("VmHWM")
    line.close()
    assert server.memory("VmHWM") - before < MEMORY


@pytest.mark.parametrize("count", [30, pytest.param(5_000, marks=pytest.mark.slow)])
def test_odd_heads_and_json_are_refusals(server: Served, count: int) -> None:
    random = np.random.default_rng([count, 2])
    bodies = (b"", b"{}", b'{"files": ["../etc/passwd"]}', b"[" * 5000, b"\0" * 100, b'"\\ud800"')
    for number in range(count):
        target = TARGETS[int(random.integers(len(TARGETS)))]
        verb = (b"POST", b"GET", b"PUT", b"\xff", b"OPTIONS")[int(random.integers(5))]
        heads = [HEADS[one] for one in random.integers(len(HEADS), size=int(random.integers(3)))]
        body = mutated(bodies[int(random.integers(len(bodies)))] + b"{}", random)
        length = b"Content-Length: %d" % len(body)
        lines = [verb + b" " + target + b" HTTP/1.1", b"Host: localhost", *heads]
        if not any(one.startswith((b"Content-Length", b"Transfer")) for one in heads):
            lines.append(length)
        lines += [b"Content-Type: application/json", b"Connection: close"]
        began = time.monotonic()
        answer = server.talk(b"\r\n".join([*lines, b"", body]), half=True)
        assert time.monotonic() - began < 50, (number, lines)
        if answer:  # one that ends before it is whole is closed
            must_be_told(answer)
    must_be_idle(server)


# Whole requests, byte by byte


PICTURE = encoded(noise(8, 6))
NAMED = b'Content-Disposition: form-data; name="files"; filename="%b"\r\n'
JSONS = (
    b"[" * 100_000, b'{"a":' * 20_000, b'{"a": 1, "a": 2}', b"NaN", b"[Infinity, -0]",
    b"9" * 300_000, b"1e999999999", b'"\xff\xfe"', '{"é": "\U0001f4f7"}'.encode("utf-16"),
    b'"\\ud800"', b"\xef\xbb\xbf{}", b"", b"null" * 10_000,
)  # fmt: skip
PIECES = st.sampled_from(
    (b"--x\r\n", b"--x--\r\n", b"--x--", b"--y\r\n", b"\r\n", b"\n", PICTURE, PICTURE[:99],
     *(NAMED % name + b"\r\n" for name in (b"a", b"", b"../../a", b"\xff", b"%00", b"a" * 9000)),
     NAMED % b"a" + b"Content-Type: multipart/mixed; boundary=x\r\n\r\n", b"X: y\r\n" * 1000,
     NAMED % b"a" + b"Content-Transfer-Encoding: base64\r\n\r\n", b'name="files"', b"\0" * 999)
)  # fmt: skip
FORMS = st.lists(PIECES, max_size=12).map(b"".join) | st.integers(60, 70).map(
    lambda count: (b"--x\r\n" + NAMED % b"a" + b"\r\nno picture\r\n") * count + b"--x--"
)
FORM, JSON = b"multipart/form-data; boundary=x", b"application/json"
SENT = (  # a body, and what it is said to be
    st.tuples(FORMS, st.sampled_from([FORM, FORM.upper(), FORM[:19], FORM + b"\xff", b"image/png"]))
    | st.tuples(st.sampled_from(JSONS), st.sampled_from([JSON, b"image/png", b"", b"text/json"]))
    | st.tuples(st.just(PICTURE), st.sampled_from([b"image/png", b"IMAGE/*", b"image/\0", b"x"]))
    | st.tuples(st.binary(max_size=60), st.just(b"image/jpeg"))
)
FIRST = st.sampled_from(
    (b"POST /predict HTTP/1.1", b"POST /predict?top=3 HTTP/1.1", b"POST /predict HTTP/1.0",
     b"POST /predict?top=1&top=2 HTTP/1.1", b"POST /predict?%00=%00 HTTP/1.1", b"POST /predict",
     b"POST /pre%00dict HTTP/1.1", b"POST /%ff HTTP/1.1", b"POST /predict HTTP/9.9", b"GET /",
     b"POST /model?%ff HTTP/1.1", b"GET /model HTTP/1.1", b"PRI * HTTP/2.0", b"",
     b"POST  /predict HTTP/1.1", b"POST /predict HTTP/1.1\r\n folded: x", b"a" * 100_000)
)  # fmt: skip
MORE = st.sampled_from(
    (b"", b"", b"", b"Expect: 100-continue", b"Expect: 200-ok", b"X: " + b"a" * 1_000_000,
     b"\r\n".join([b"X: y"] * 10_000), b"Connection: keep-alive", b"Host: other", b"X:\0",
     b"Content-Length: 3", b"Trailer: X", b"Content-Encoding: br", b"Upgrade: websocket")
)  # fmt: skip


def framed(body: bytes, how: str) -> tuple[bytes, bytes]:
    """The header that says how long a body is, and the body as it is then sent."""
    if how.startswith("chunked"):
        parts = [body[at : at + 1000] for at in range(0, len(body), 1000)]
        sent = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n"
        wrong = {"chunked": b"\r\n", "chunked trailer": b"X: y\r\n\r\n", "chunked cut": b""}
        if how == "chunked size":
            sent = b"f" * 40 + b"\r\n" + sent
        return b"Transfer-Encoding: chunked", sent + wrong.get(how, b"\r\n")
    change = {"right": 0, "short": -1, "long": 5, "huge": 10**12}[how]
    return b"Content-Length: %d" % max(0, len(body) + change), body


HOW = st.sampled_from(
    ["right"] * 4 + ["short", "long", "huge"]
    + ["chunked", "chunked trailer", "chunked cut", "chunked size"]
)  # fmt: skip


@pytest.mark.parametrize("count", [25, pytest.param(3_000, marks=pytest.mark.slow)])
def test_no_bytes_on_a_connection_are_a_fault_of_zoo(server: Served, count: int) -> None:
    """Forms and JSON, of right and wrong lengths, in chunks, one behind the other, in two parts."""
    before = server.memory("VmHWM")

    @examples(
        deadline=None, derandomize=True, database=None, max_examples=count,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(FIRST, MORE, SENT, HOW, st.integers(1, 3), st.booleans())
    def check(
        first: bytes, more: bytes, sent: tuple[bytes, bytes], how: str, times: int, apart: bool
    ) -> None:
        length, body = framed(sent[0], how)
        lines = [first, b"Host: localhost", length, b"Content-Type: " + sent[1], more]
        data = b"\r\n".join([*filter(None, lines), b"", body]) * times
        began = spent(server)
        answer = server.talk(data, half=True, apart=apart)
        must_be_told(answer)  # none where a request ends before it is whole: it is closed
        assert spent(server) - began < SECONDS

    check()
    must_be_idle(server)
    assert server.memory("VmHWM") - before < MEMORY


def test_answers_come_in_one_piece_and_to_all_that_was_sent(server: Served) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n" % len(PICTURE)
    with socket.create_connection(server.place, timeout=30) as line:
        line.sendall(head + b"\r\n" + PICTURE)
        answer = line.recv(65536)
        assert b"200 OK" in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])[0]["status"] == "ok"
        line.sendall(head + b"Expect: 100-continue\r\n\r\n")
        assert b" 100 " in line.recv(65536)
        line.sendall(PICTURE)
        assert b"200 OK" in line.recv(65536)
    both = server.talk(2 * (head + b"\r\n" + PICTURE), half=True)
    assert both.count(b"200 OK") == 2
