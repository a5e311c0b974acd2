"""The request to stop, and the end of a process that does not heed it.

No signal handler does anything here: an exception that one raises in the middle of what a pool of
threads does can leave a lock held for ever. A thread of its own reads the numbers of the signals
from a pipe, into which the system's part of Python writes them whatever the main thread is doing.
The first SIGINT, SIGTERM or SIGHUP is noted, and loops call `check` between two photos, batches or
steps. Who is in the middle of a call that never looks is ended by that thread: PATIENCE seconds
later, or at once by a second signal. What is unfinished (see `undoing`) is removed first.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import NoReturn, Protocol

from zoo.errors import Interrupted

Progress = Callable[[int, int | None], None]  # takes how much is done, and of how much
Counted = Callable[[int, int], None]  # the same where that is known
HANGUP = getattr(signal, "SIGHUP", None)  # the terminal is gone; Windows has none
SIGNALS = (signal.SIGINT, signal.SIGTERM, *([HANGUP] if HANGUP else []))
PATIENCE = 8.0  # seconds: whoever sends SIGTERM sends SIGKILL after ten
RESUMED = ("finetune", "train", "distill")  # commands whose runs can be finished
KEEPING = ("check", "lr", "rank")  # commands that keep the features that they have computed
WIPE = "\r\x1b[2K"  # the line that says what is going on


class _State:
    """asked: the number of the signal. patient, postponed, saving: how many blocks say so.

    No dataclass, whose import takes longer than all of `zoo --help`.
    """

    def __init__(self) -> None:
        self.asked = self.patient = self.postponed = self.saving = 0
        self.timer: threading.Timer | None = None
        self.listening = False


_now = _State()
_undo: dict[object, Callable[[], object]] = {}
_end = threading.Lock()  # never given back by the thread that ends the process


class Watch(Protocol):
    """Who watches a piece of work: the one way by which it reaches whoever started it."""

    def tell(self, event: object) -> None:
        """Take what has happened: a record, as those of `finetune.events`."""

    def progress(self, what: str, done: int, total: int | None) -> None:
        """Take how far the work is; cheap enough to be called for every photo and step."""

    @property
    def signal(self) -> int:
        """The number of the signal that asks to stop, or 0."""


class Muted:
    """A Watch that hears of progress, and of nothing else."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def tell(self, event: object) -> None:
        pass

    def progress(self, what: str, done: int, total: int | None) -> None:
        self.watch.progress(what, done, total)

    @property
    def signal(self) -> int:
        return self.watch.signal


# What loops and commands ask.


def asked() -> int:
    """Return the number of the signal that asks to stop, or 0."""
    return _now.asked


def again(words: list[str]) -> str:
    """Return what to do about a command that was stopped. words: its first."""
    if words and words[0] in KEEPING:
        return "the same command goes on: the features computed so far are kept"
    goes_on = words and words[0] in RESUMED
    return "run it again" + "; --resume RUN goes on with a run that was begun" * bool(goes_on)


def check() -> None:
    """Raise Interrupted where a signal asks to stop. Call it between two photos or steps."""
    if not _now.postponed:
        stop(_now.asked)


def stop(number: int) -> None:
    """Raise Interrupted where this is the number of a signal, and not 0."""
    if number:
        raise Interrupted("interrupted", again(sys.argv[1:2]), number)


@contextlib.contextmanager
def patient() -> Iterator[None]:
    """The work of this block calls `check`. Outside of one the first signal is the end."""
    _now.patient += 1
    try:
        yield
    finally:
        _now.patient -= 1


@contextlib.contextmanager
def postponed() -> Iterator[None]:
    """In this block `check` does nothing: the processes of a team stop together."""
    _now.postponed += 1
    try:
        yield
    finally:
        _now.postponed -= 1


@contextlib.contextmanager
def saving() -> Iterator[None]:
    """What this block writes is what a run goes on from: the end waits for it to be whole."""
    _now.saving += 1
    try:
        yield
    finally:
        _now.saving -= 1


@contextlib.contextmanager
def undoing(undo: Callable[[], object]) -> Iterator[None]:
    """`undo` is called where the process is ended within this block, which runs no `finally`."""
    key = object()
    with _end:  # nothing new is begun during the end
        _undo[key] = undo
    try:
        yield
    finally:
        _undo.pop(key, None)


def last_word() -> None:
    """Wait for ever where the end has begun: what failed since is no news."""
    with _end:
        pass


def leave(code: int) -> None:
    """End a process that was asked to stop, with this exit code; return where it was not.

    No thread is waited for: a graph may never return. Where the request came too late to be
    heeded the code says so all the same: what a script does next is not to begin.
    """
    last_word()
    if _now.asked:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        _exit(code or 128 + _now.asked)


# Hearing them.


def listen() -> Callable[[], None]:
    """Make the signals requests to stop; return what makes them again what they were.

    SIGHUP is left alone where it is ignored, as `nohup` has it. Does nothing where it is done
    already, and outside the main thread.
    """
    if _now.listening or threading.current_thread() is not threading.main_thread():
        return lambda: None
    reader, writer = os.pipe()
    if os.name != "nt":
        os.set_blocking(writer, False)
    _now.listening, _now.asked = True, 0
    ear = threading.Thread(target=_hear, args=(reader,), name="zoo-signals", daemon=True)
    ear.start()
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    heard = [n for n in SIGNALS if n != HANGUP or signal.getsignal(n) != signal.SIG_IGN]
    handlers = {number: signal.signal(number, _nothing) for number in heard}

    def stop() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        os.close(writer)
        ear.join()
        if _now.timer:
            _now.timer.cancel()
        _now.listening, _now.timer, _now.asked = False, None, 0

    return stop


def deafen() -> None:
    """Ignore signals from here on: the process ends, and there is nothing left to stop."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _nothing(number: int, frame: object) -> None:
    pass


def _hear(reader: int) -> None:
    while heard := os.read(reader, 1):
        if heard[0] in SIGNALS:
            _note(heard[0])
    os.close(reader)


def _note(number: int) -> None:
    again = _now.asked and (number == signal.SIGINT or not in_team())
    if again or not _now.patient:
        _end_now(number)
    _now.asked = number
    if _now.timer is None:
        _now.timer = threading.Timer(PATIENCE, _time_is_up, (number,))
        _now.timer.daemon = True
        _now.timer.start()


def _time_is_up(number: int) -> None:
    while _now.saving:
        time.sleep(2)  # of which some remains for the words that say what is saved
    _end_now(number)


def in_team() -> bool:
    """Whether torchrun, which sends a SIGTERM of its own after a Ctrl-C, has started this."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def _end_now(number: int) -> None:
    """End the process in this moment, in two lines. Needs no lock of others."""
    first = os.environ.get("LOCAL_RANK", "0") == "0"
    said = f"interrupted\nhint: {again(sys.argv[1:2])}\n" if first else ""
    _exit(128 + number, (WIPE if os.isatty(2) else "") + said)


def _exit(code: int, said: str = "") -> NoReturn:
    """Remove what is unfinished first."""
    _end.acquire()
    for undo in reversed(list(_undo.values())):
        with contextlib.suppress(Exception):
            undo()
    with contextlib.suppress(OSError):
        os.write(2, said.encode())
    os._exit(code)


# Children.


@contextlib.contextmanager
def unheard(spawned: bool = False) -> Iterator[None]:
    """Children that are started in this block never get the SIGINT of a terminal.

    It is sent to them too; who started them ends them, and says what there is to say.
    spawned: by multiprocessing, whose first child is a tracker: to start it lifts the mask.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    if spawned:
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _forget() -> None:
    """A fork has none of the threads, and nothing of the parent's is its own to remove."""
    global _now, _end
    if not _now.listening:
        return
    _now, _end = _State(), threading.Lock()
    _undo.clear()
    with contextlib.suppress(ValueError):
        signal.set_wakeup_fd(-1)
        for number in SIGNALS:
            if signal.getsignal(number) == _nothing:
                kind = signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL
                signal.signal(number, kind)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
