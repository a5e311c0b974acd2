"""Photos whose cost their headers do not tell, decoded in processes with limits.

A process is started when the first such photo comes, as a program of its own (never by fork), and
is used again. The photo goes there by a pipe, raw pixels come back. It may take so much memory,
so much processor time, and so long by the clock; one that dies costs its photo, not the command.
It ends when the pipe does, so with this process, however that ends.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict

import numpy as np

from zoo.data import decoder_warnings
from zoo.data.limits import UNKNOWN, WHOLE, check_bytes, check_pixels, max_bytes, room
from zoo.data.structure import Checked
from zoo.errors import ImageError
from zoo.machine import cores

SECONDS = 10  # of processor time
WALL = 60.0  # seconds by the clock: a machine may be busy
MEMORY = 64_000_000  # bytes beside what the pixels take
MOST = 8  # processes
SAID = 65_536  # bytes of its answer before the pixels
QUESTION = struct.Struct("<QQ")  # bytes of what is to be done, as JSON, and of the photo
# Bytes of the pixels, their shape, and bytes of what was said of them, as JSON, which comes first;
# with a shape of zeros: bytes of the reason why there are none.
ANSWER = struct.Struct("<QIIII")
PROGRAM = "import sys; sys.path[:0] = sys.argv[1:]; from zoo.data.decode_worker import main; main()"
# The environment of the child: nothing of the user's that it does not need.
KEPT = (
    "PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "LANG", "ZOO_MAX_PIXELS",
)  # fmt: skip
Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


class Which(TypedDict):
    """Which view of a photo is wanted; see zoo.data.views."""

    number: int
    seed: int
    digest: str
    flip: bool


class Job(TypedDict, total=False):
    """What the other process does with a photo, and within which limits.

    mode: of the whole picture, or else view and preprocess of one view. memory: in bytes.
    """

    mode: str
    view: Which
    preprocess: dict[str, object]
    memory: int
    seconds: float


def decoded(checked: Checked, job: Job, *, whole: bool) -> Pixels:
    """Return what zoo.data.decode_worker makes of the photo: uint8, H x W x C. Raises ImageError.

    whole: all its pixels come back.
    """
    width, height = checked.size
    check_pixels(width, height)
    check_bytes(checked.format, checked.size, WHOLE.get(checked.format, 0) * width * height)
    count = min(UNKNOWN * width * height + checked.extra, max_bytes())
    if whole:
        count += 8 * width * height
    memory = count + 2 * len(checked.data) + MEMORY
    job = {**job, "memory": memory, "seconds": SECONDS}
    with _places, room().taken(count):
        child = _take()
        try:
            answer = child.ask(job, checked.data)
        except BaseException:
            child.end()
            raise
        # Only one that has answered in full is used again.
        with _lock:
            _idle.append(child)
    if isinstance(answer, str):
        raise ImageError(answer)
    return answer


class Child:
    """A process that decodes one photo after the other."""

    def __init__(self) -> None:
        places = dict.fromkeys(str(_place(name)) for name in ("zoo", "PIL", "numpy"))
        words = [sys.executable, "-I", "-c", PROGRAM, *places]
        environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )

    def ask(self, job: Job, data: bytes) -> Pixels | str:
        """Return the pixels, or why there are none. Raises ImageError where the child has died."""
        source, target = self.process.stdout, self.process.stdin
        assert source is not None
        assert target is not None
        timer = threading.Timer(WALL, self.process.kill)
        timer.daemon = True
        timer.start()
        began = time.monotonic()
        try:
            head = json.dumps(job).encode()
            for part in (QUESTION.pack(len(head), len(data)), head, data):
                target.write(part)
            target.flush()
            length, shape, told = _answer(source.read(ANSWER.size))
            said = [str(each) for each in json.loads(source.read(told) or b"[]")]
            found = source.read(length)
        except (OSError, struct.error, TypeError, ValueError):
            found, length, shape, said = b"", 1, (), []
        finally:
            timer.cancel()
        if len(found) < length:
            self.process.kill()
            raise ImageError(self._why(time.monotonic() - began, job["memory"]))
        if not shape:
            return found.decode("utf-8", "replace")
        for message in said:
            decoder_warnings.note(message)
        return np.frombuffer(found, np.uint8).reshape(shape)

    def _why(self, took: float, memory: int) -> str:
        code = self.process.wait()
        if took >= WALL:
            return f"took more than {WALL:.0f} s to decode"
        if code in (-getattr(signal, "SIGPROF", 0), -getattr(signal, "SIGXCPU", 0)):
            return f"took more than {SECONDS} s of processor time to decode"
        if code == 3:
            return f"took more than {memory / 1e6:,.0f} MB to decode"
        name = f"signal {-code}" if code < 0 else f"code {code}"
        return f"cannot be decoded: its decoder ended with {name}"

    def end(self) -> None:
        """Close the pipes and wait for the end, which comes at once."""
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:  # what was not written yet has nowhere to go
                pass
        self.process.wait()


def _answer(head: bytes) -> tuple[int, tuple[int, ...], int]:
    """Return how many bytes follow, their shape (none where they are words), and what was said."""
    length, *shape, told = ANSWER.unpack(head)
    limit = 4 * max_bytes() if shape[0] else SAID
    if max(length - limit, told - SAID) > 0:
        raise ValueError("an answer that is too long for zoo.data.decode_worker")
    if shape[0] and length != shape[0] * shape[1] * shape[2]:
        raise ValueError("no answer of zoo.data.decode_worker")
    return length, tuple(shape) if shape[0] else (), told


def _take() -> Child:
    with _lock:
        while _idle:
            child = _idle.pop()
            if child.process.poll() is None:
                return child
            child.end()
    return Child()


def _place(name: str) -> Path:
    """Return the folder from which a package is imported."""
    found = find_spec(name)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parents[1]


def _close() -> None:
    """End the processes that wait for work."""
    with _lock:
        children, _idle[:] = list(_idle), []
    for child in children:
        child.end()


_lock = threading.Lock()
_idle: list[Child] = []
_places = threading.BoundedSemaphore(min(MOST, cores()))
atexit.register(_close)
