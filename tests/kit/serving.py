"""A web server for the store's tests: it serves ranges, breaks, lies and counts."""

from __future__ import annotations

import hashlib
import http.server
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Asked(NamedTuple):
    """One request, and how many bytes of the file were sent for it."""

    path: str
    range: str
    if_range: str
    authorization: str


class Handler(http.server.BaseHTTPRequestHandler):
    """`/KIND/…`: see `do_GET`. `good` serves ranges, with an ETag."""

    protocol_version = "HTTP/1.0"
    server: Server

    def do_GET(self) -> None:
        asked = Asked(self.path, self.headers.get("Range", ""), self.headers.get("If-Range", ""),
                      self.headers.get("Authorization", ""))  # fmt: skip
        self.server.asked.append(asked)
        kind = self.path.strip("/").split("/")[0]
        count = len(self.server.asked)
        data, tag = self.server.data, self.server.tag
        if self.server.files is not None:
            found = self.server.files.get(self.path)
            self.send_error(404) if found is None else self.part(found, tag)
        elif kind == "no-range":
            self.answer(data, tag)
        elif kind == "no-tag":
            self.part(data, "")
        elif kind == "breaks":  # in the middle, each time 2 MiB further
            self.part(data, tag, stop=2 << 20)
        elif kind == "breaks-no-tag":
            self.part(data, "", stop=2 << 20)
        elif kind == "no-length":
            self.send_response(200)
            self.send(data, tag, None, 0.0, length=False)
        elif kind == "stutters":  # 2 MiB, nothing, and the rest
            self.part(data, tag, stop={1: 2 << 20, 2: 0}.get(count))
        elif kind == "other-part":  # a 206 of another place than was asked for
            self.part(data, tag, shift=7)
        elif kind == "whole-as-part":
            self.part(data, tag, status=206) if asked.range else self.part(data, tag, stop=2 << 20)
        elif kind == "wrong-once":  # the first 3 MiB are of another file
            wrong = bytes(len(data)) if count == 1 else data
            self.part(wrong, "", stop=3 << 20 if count == 1 else None)
        elif kind == "slow":
            self.part(data, tag, pause=self.server.pause)
        elif kind == "busy" and count <= 3:
            self.send_error(503)
        elif kind == "always-busy":
            self.send_error(500)
        elif kind == "416":
            self.send_error(416) if asked.range else self.part(data, tag, stop=2 << 20)
        else:
            self.part(data, tag)

    def part(
        self,
        data: bytes,
        tag: str,
        stop: int | None = None,
        shift: int = 0,
        pause: float = 0.0,
        status: int = 0,
    ) -> None:
        """The range asked for, if the ETag in If-Range is ours; the whole file otherwise."""
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if_range = self.headers.get("If-Range", "")
        start = int(found[1]) if found and if_range in ("", tag) else 0
        if status == 206:
            start = 0
        if start >= len(data) and start:
            self.send_error(416)
            return
        self.send_response(206 if start or status == 206 else 200)
        if start or status == 206:
            self.send_header("Content-Range", f"bytes {start + shift}-{len(data) - 1}/{len(data)}")
        self.send(data[start:], tag, stop, pause)

    def answer(self, data: bytes, tag: str) -> None:
        self.send_response(200)
        self.send(data, tag, None, 0.0)

    def send(
        self, data: bytes, tag: str, stop: int | None, pause: float, length: bool = True
    ) -> None:
        if tag:
            self.send_header("ETag", tag)
        if length:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        body = memoryview(data)[:stop]
        for at in range(0, len(body), 1 << 16):
            try:
                self.wfile.write(body[at : at + (1 << 16)])
            except OSError:
                return
            if pause:
                time.sleep(pause)

    def log_message(self, *_: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, data: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.data, self.tag = data, f'"{hashlib.md5(data).hexdigest()}"'
        self.asked: list[Asked] = []
        self.pause = 0.0
        self.files: dict[str, bytes] | None = None  # by path, instead of the kinds
        self.url = f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving(data: bytes) -> Iterator[Server]:
    with Server(data) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
