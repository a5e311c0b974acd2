"""`zoo serve` as a process of its own, and what is said to it byte by byte."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from kit import ROOT


@dataclass
class Served:
    """A server that answers. code, err: once it was stopped."""

    url: str
    process: subprocess.Popen[str]
    code: int | None = None
    err: str = ""
    place: tuple[str, int] = field(init=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        assert parts.hostname
        assert parts.port
        self.place = parts.hostname, parts.port

    def memory(self, what: str = "VmRSS") -> int:
        """Return bytes of memory: now, or at most by VmHWM."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(text.split(f"{what}:")[1].split()[0])

    def talk(
        self, data: bytes, *, half: bool = False, apart: bool = False, wait: float = 60.0
    ) -> bytes:
        """Send bytes and return all that comes back until the end.

        half: close that side first. apart: in two parts, one after the other.
        """
        with socket.create_connection(self.place, timeout=wait) as line:
            found = b""
            with contextlib.suppress(OSError):  # it may answer and close before all is sent
                for part in (data[: len(data) // 2], data[len(data) // 2 :]) if apart else (data,):
                    line.sendall(part)
                    time.sleep(0.02 if apart else 0)
                if half:
                    line.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                while more := line.recv(65536):
                    found += more
            return found

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
        _, self.err = self.process.communicate(timeout=120)
        self.code = self.process.returncode


@contextlib.contextmanager
def served(*words: object, before: str = "") -> Iterator[Served]:
    """Start `zoo serve …` at a free port, and stop it in the end. before: Python run first."""
    start = (
        ["-c", f"{before}\nfrom zoo.__main__ import entry\nentry()"] if before else ["-m", "zoo"]
    )
    process = subprocess.Popen(
        [sys.executable, *start, "serve", *map(str, words), "--port", "0"],
        cwd=ROOT,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    if not (url := process.stdout.readline().strip()):
        raise AssertionError(process.communicate()[1])
    server = Served(url, process)
    try:
        yield server
    finally:
        if server.code is None:
            server.stop()
