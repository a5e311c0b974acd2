"""A server that speaks S3 (moto), and a way to it that fails now and then.

Faults, by chance and a seed, of a share of the requests: 503 before or after the request has
been carried out (a lost reply), a connection that is closed, an answer that comes late.
"""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LATE = 0.05  # seconds


@contextmanager
def serving(
    faults: float = 0.0, seed: int = 5
) -> Iterator[tuple[str, dict[str, str], Counter[str]]]:
    """Yield a bucket, the environment of whoever uses it, and how often what failed.

    Its name is that of no other server's, since a process keeps its connections.
    """
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    seen: Counter[str] = Counter()
    way = ThreadingHTTPServer(("127.0.0.1", 0), _way(port, faults, seed, seen))
    threading.Thread(target=way.serve_forever, daemon=True).start()
    try:
        for method, path in (("POST", "/moto-api/reset"), ("PUT", f"/photos-{way.server_port}")):
            first = http.client.HTTPConnection(host, port)
            first.request(method, path)
            assert first.getresponse().status == 200
            first.close()
        yield (
            f"s3://photos-{way.server_port}",
            {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{way.server_port}",
                "AWS_ALLOW_HTTP": "true",
                "AWS_ACCESS_KEY_ID": "key",
                "AWS_SECRET_ACCESS_KEY": "secret",
                "AWS_REGION": "us-east-1",
                "ZOO_OFFLINE": "0",
            },
            seen,
        )
    finally:
        way.shutdown()
        way.server_close()
        moto.stop()


def _way(port: int, faults: float, seed: int, seen: Counter[str]) -> type[BaseHTTPRequestHandler]:
    chance, lock = random.Random(seed), threading.Lock()
    writing = threading.Lock()  # moto looks and then writes: of two at once both would be first

    class Way(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with lock:
                fault = chance.random() < faults and chance.choice(
                    ("refused", "lost", "closed", "late")
                )
            seen[f"{fault or 'fine'}"] += 1
            if fault == "refused":
                self.say(503, {}, b"")
            elif fault == "closed":
                self.close_connection = True
            else:
                status, headers, content = self.forwarded(body)
                if fault == "late":
                    time.sleep(LATE)
                if fault == "lost":
                    self.say(503, {}, b"")
                else:
                    self.say(status, headers, content)

        def forwarded(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            there = http.client.HTTPConnection("127.0.0.1", port)
            headers = dict(self.headers.items())
            with writing if self.command == "PUT" else nullcontext():
                there.request(self.command, self.path, body, headers)
                reply = there.getresponse()
                content = reply.read()
            there.close()
            return reply.status, dict(reply.getheaders()), content

        def say(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                kept = self.command == "HEAD" or name.lower() != "content-length"
                if kept and name.lower() not in (
                    "transfer-encoding",
                    "connection",
                    "server",
                    "date",
                ):
                    self.send_header(name, value)
            if self.command != "HEAD":
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *words: Any) -> None:
            pass

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer

    return Way
