"""Photos at addresses: a server that lies costs a row with an error, and nothing else."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from kit import Here, csv_rows, encoded, picture

from zoo.errors import ImageError, InputError
from zoo.scale import sources, web
from zoo.weights import http

pytest.importorskip("obstore", reason="needs the extra scale")
pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra scale")
PHOTO = encoded(picture("disc", 1))


class _Liar(BaseHTTPRequestHandler):
    """`/KIND/…`: what is wrong with the answer; any other path is a photo."""

    seen: Counter[str]

    def do_GET(self) -> None:
        kind = self.path.split("/")[1]
        self.seen[self.path] += 1
        again = self.seen[self.path] > 1
        if kind in ("404", "403", "500") or (kind == "busy" and not again):
            self.send_error(503 if kind == "busy" else int(kind))
        elif kind == "loop":
            self.told(302, b"", {"Location": f"{self.path}x"})
        elif kind == "moved":
            self.told(301, b"", {"Location": "/photo.png"})
        elif kind == "ftp":
            self.told(301, b"", {"Location": "file:///etc/hostname"})
        elif kind == "page":
            self.told(200, b"<html>sorry</html>", {"Content-Type": "text/html"})
        elif kind == "short" or (kind == "breaks" and not again):
            self.told(200, PHOTO[:-9], {"Content-Length": str(len(PHOTO))})
        elif kind == "huge":
            self.told(200, b"", {"Content-Length": str(1 << 40)})
        elif kind == "endless":
            self.told(200, b"", {})
            for _ in range(1000):
                self.wfile.write(bytes(1 << 16))
        elif kind == "drips":
            self.told(200, b"", {})
            for _ in range(100):
                self.wfile.write(b"\x89")
                time.sleep(0.05)
        elif kind == "silent":
            time.sleep(60)
        elif kind == "empty":
            self.told(200, b"", {"Content-Length": "0"})
        else:
            self.told(200, PHOTO, {})

    def told(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("ZOO_OFFLINE", "0")
    monkeypatch.setattr(web, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(web, "LARGEST", 1 << 20)
    own = type("Liar", (_Liar,), {"seen": Counter()})
    with ThreadingHTTPServer(("127.0.0.1", 0), own) as liar:
        liar.daemon_threads, liar.block_on_close = True, False
        liar.handle_error = lambda *_: None  # type: ignore[method-assign]  # we left early
        thread = threading.Thread(target=liar.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{liar.server_port}"
        liar.shutdown()
        thread.join()


LIES = {
    "404": "answers 404 Not Found",
    "403": "answers 403 Forbidden",
    "500": "answers 500",
    "loop": "more than 5 redirects",
    "ftp": "only http and https",
    "page": "a web page, not a file",
    "short": "ended after",
    "huge": "more than 1 MB",
    "endless": "more than 1 MB",
    "drips": "not all of it came in 0.8 s",
    "silent": "no answer within",
    "empty": "the file is empty",
}


@pytest.mark.parametrize("kind", LIES)
def test_a_server_that_lies_is_the_error_of_a_photo(
    server: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "TIMEOUT", 0.3 if kind == "silent" else 60)
    monkeypatch.setattr(web, "LONGEST", 0.8 if kind == "drips" else 60)
    with pytest.raises(ImageError, match=LIES[kind]):
        sources.content(f"{server}/{kind}/a.png?token=secret")


@pytest.mark.parametrize("path", ["photo.png", "moved/a.png", "busy/a.png", "breaks/a.png"])
def test_what_a_server_gives_in_the_end_is_the_photo(server: str, path: str) -> None:
    assert sources.content(f"{server}/{path}") == PHOTO


def test_a_host_that_is_not_there_is_told(server: str) -> None:
    for url in ("http://127.0.0.1:9/a.png", "http://[/a.png", "http://"):
        with pytest.raises(ImageError, match="cannot be read"):
            sources.content(url)


def test_offline_no_address_is_read(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(InputError, match="network is forbidden"):
        sources.content(f"{server}/photo.png")


@pytest.mark.parametrize("suffix", ["txt", "parquet", "words"])
def test_addresses_of_a_job_have_a_row_each(
    here: Here,
    run: Path,
    tmp_path: Path,
    server: str,
    suffix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the same label as the file has, in the order of the source."""
    import pyarrow as pa

    (tmp_path / "photo.png").write_bytes(PHOTO)
    urls = [f"{server}/photo.png", f"{server}/404/a.png", f"{server}/moved/b.png?a=1,2"]
    place = tmp_path / f"list.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.table({"url": urls, "label": ["disc", None, "7"]}), place)
        found = [photo.label for photo in sources.photos([str(place)], None)]  # type: ignore[arg-type]
        assert found == ["disc", "", "7"]
    else:
        place.write_text("\n".join(urls))
    sources_of = urls if suffix == "words" else [place]
    job = tmp_path / "job"
    assert here("plan", *sources_of, "-o", job, "--model", run).code == 0
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    assert here("work", job).code == 2
    monkeypatch.setenv("ZOO_OFFLINE", "0")
    assert here("work", job).code == 0
    assert here("verify", job).code == 0
    rows = csv_rows(here("merge", job).out)
    assert [row["path"] for row in rows] == urls
    assert [row["status"] for row in rows] == ["ok", "error", "ok"]
    (plain,) = csv_rows(here("predict", run, tmp_path / "photo.png").out)
    assert {(row["label"], row["probability"]) for row in (rows[0], rows[2])} == {
        (plain["label"], plain["probability"])
    }
