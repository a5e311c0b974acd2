"""A live server, and bodies, forms and heads of strangers: none ends it, or is a fault of its own.

Photos are mutated by a seed, see `kit.mutants`; each answer is one that a client can go by.
"""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from kit.mutants import mutated, odd_photos, small_photos
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
    total = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if server.process.pid in (int(stat.parent.name), int(fields[1])):
            total += sum(map(int, fields[11:13])) / 100
    return total


def must_be_told(answer: bytes) -> None:
    """Fail where an answer is none, or says that something is wrong with zoo."""
    head, _, body = answer.partition(b"\r\n\r\n")
    found = re.match(rb"HTTP/1\.1 (\d+)", head)
    assert found, answer[:200]
    status = int(found[1])
    assert status in (*KNOWN, 401, 403, 404, 405), answer[:400]
    assert b"Traceback" not in body
    if status in (200, 413, 415, 422) and b"application/json" in head:
        json.loads(body)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("count", [30, pytest.param(1_000, marks=pytest.mark.slow)])
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


@pytest.mark.parametrize("count", [30, pytest.param(500, marks=pytest.mark.slow)])
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
    line = http.client.HTTPConnection(*server.place, timeout=60)
    line.request("GET", "/health")
    assert json.loads(line.getresponse().read())["waiting"] == 0
    line.close()
