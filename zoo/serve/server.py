"""The server: its socket, connections that are slow or half closed, and its end by a signal."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from zoo import watch
from zoo.errors import UsageError

CONNECTIONS = 256
HEAD = 10.0  # seconds in which the head of a request has come
GRACE = 6  # seconds for what is being answered when the end is asked for; see watch.PATIENCE
HEADERS = [("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer")]


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens there. Raises UsageError with the reason where none can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=CONNECTIONS)
    except (OSError, OverflowError) as error:
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        why = "another program has it" if taken else getattr(error, "strerror", None) or error
        hint = "give another --port, or --port 0 for any that is free" if taken else (
            "--host 127.0.0.1 is this machine alone, 0.0.0.0 all that reach it; a --port is 0 to "
            "65535, below 1024 for root only"
        )  # fmt: skip
        raise UsageError(f"--host {host} --port {port} cannot be opened: {why}", hint) from None


def is_loopback(host: str) -> bool:
    """Return whether only programs of this machine reach what listens there."""
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def hosts(host: str) -> list[str]:
    """Return the names by which a server that listens there may be called; none for any."""
    return [host, "localhost", "127.0.0.1", "::1"] if is_loopback(host) else []


def run(app: FastAPI, listening: socket.socket) -> None:
    """Answer until a signal asks to stop; what is being answered then has GRACE seconds."""
    config = uvicorn.Config(
        app, http=_Protocol, loop="asyncio", ws="none", lifespan="off", log_config=None,
        log_level="error", access_log=False, server_header=False, proxy_headers=False,
        headers=HEADERS, limit_concurrency=CONNECTIONS, timeout_graceful_shutdown=GRACE,
    )  # fmt: skip
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # what is sent is no fault
    with watch.patient():
        _Server(config).run([listening])
    app.state.desk.close()


class _Server(uvicorn.Server):
    """A server that leaves signals to `zoo.watch`."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def on_tick(self, counter: int) -> bool:
        return bool(watch.asked()) or await super().on_tick(counter)


class _Joined:
    """A transport that sends an answer's head and body at once: each packet wakes the client."""

    def __init__(self, transport: asyncio.Transport, protocol: _Protocol) -> None:
        self._transport, self._protocol = transport, protocol
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Send it, or keep it until the answer is whole."""
        self._parts.append(data)
        if not self._protocol.answering():
            self._send()

    def close(self) -> None:
        self._send()
        self._transport.close()

    def _send(self) -> None:
        data, self._parts = b"".join(self._parts), []
        if data:
            self._transport.write(data)

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)


class _Protocol(H11Protocol):
    """HTTP/1.1 with a limit to how slowly a head comes; who has only stopped sending is answered.

    Where all connections are taken, a new one has the place of that which has been silent longest.
    The limit also holds for what comes behind a request that was refused, and is read for nothing.
    """

    _timer: asyncio.TimerHandle | None = None
    _half_closed = False
    _since = 0.0  # when it was last answered, or opened

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, _Joined(transport, self)))
        # asyncio does so for sockets that name their protocol alone, and a server's do not: what
        # follows a first packet then waits 40 ms for the other side to confirm that.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._since = self.loop.time()
        ours = [one for one in self.connections if isinstance(one, _Protocol)]
        left = [one for one in ours if not one.transport.is_closing()]
        idle = [one for one in left if not one._busy()]
        if len(left) >= CONNECTIONS and idle:
            min(idle, key=lambda one: one._since).transport.abort()
        self._time()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._time()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._since = self.loop.time()
        if self._half_closed and not self._has_come():
            self.transport.close()
        self._time()

    def eof_received(self) -> bool:  # type: ignore[override]
        self._half_closed = self._has_come()
        return self._half_closed  # False: close

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _has_come(self) -> bool:
        """Return whether a request is there that is whole, and not yet answered."""
        return self._busy() and not self.cycle.more_body

    def answering(self) -> bool:
        """Return whether the head of an answer is written, and not yet all of it."""
        return self._busy() and self.cycle.response_started

    def _time(self) -> None:
        """Start the clock where no request is being read or answered; stop it where one is."""
        if self._timer is not None and self._busy():
            self._timer.cancel()
            self._timer = None
        elif self._timer is None and not self._busy():
            self._timer = self.loop.call_later(HEAD, self.transport.abort)
