"""What a caller is told while work goes on, and what of the caller's is put back after it."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo import extras
from zoo.machine import cores

if TYPE_CHECKING:
    import torch

OnEvent = Callable[[object], object]
_PAUSE = 0.1  # seconds between two reports of progress in the same thing


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the work is: `done` of `total` (None where nobody knows) photos, steps or bytes."""

    what: str
    done: int
    total: int | None


class Listener:
    """A Watch that hands everything to the caller's function; without one it is silent.

    Progress comes ten times a second at most, and once at the end. What the function raises ends
    the work.
    """

    signal = 0  # no signal is listened to: Ctrl-C raises KeyboardInterrupt as it always does

    def __init__(self, on_event: OnEvent | None) -> None:
        self.on_event = on_event
        self.last = ("", 0.0)

    def tell(self, event: object) -> None:
        if self.on_event is not None:
            self.on_event(event)

    def progress(self, what: str, done: int, total: int | None) -> None:
        if self.on_event is None:
            return
        now = time.monotonic()
        if done == total or what != self.last[0] or now - self.last[1] >= _PAUSE:
            self.last = what, now
            self.on_event(Progress(what, done, total))

    def bytes(self, done: int, total: int | None) -> None:
        """Take the progress of a download."""
        self.progress("download", done, total)


class _Torch:
    """The caller's number of threads and random numbers in torch, kept while any work goes on."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.working = 0
        self.threads: int | None = None
        self.random: torch.Tensor | None = None

    def begin(self) -> None:
        with self.lock:
            self.working += 1
            if self.working == 1:
                self.threads = self.random = None
                if torch := sys.modules.get("torch"):
                    self.threads = torch.get_num_threads()
                    self.random = torch.get_rng_state()

    def end(self) -> None:
        with self.lock:
            self.working -= 1
            torch = sys.modules.get("torch")
            if self.working or torch is None:
                return
            said = os.environ.get("OMP_NUM_THREADS", "")
            usual = int(said) if said.isdecimal() else cores()  # of a torch that we have imported
            torch.set_num_threads(self.threads or usual)
            if self.random is not None:
                torch.set_rng_state(self.random)


_torch = _Torch()


@contextmanager
def working() -> Iterator[None]:
    """Put back what the work in this block changes of torch, as soon as no other thread works.

    Raises MissingPackage for an import that fails for want of an extra.
    """
    _torch.begin()
    try:
        yield
    except ModuleNotFoundError as error:
        if said := extras.told(error, "this"):
            raise said from error
        raise
    finally:
        _torch.end()
