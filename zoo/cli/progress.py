"""The one line that says what is going on, while nothing else has been said for a second.

It stands at the bottom of a terminal that stderr is, drawn by a thread of its own: it moves while
the work is in a call that does not return. Whoever prints has it wiped first; nothing of it stays.
It is these few lines and no library's: one would have to be imported in the very moment in which
the main thread is busy importing, and so be too late to say that there is something to wait for.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator

from zoo import watch
from zoo.cli import layout, style
from zoo.text import one_line, size

SILENT = 1.0  # seconds without a word after which the line appears
AGAIN = 0.3  # seconds after a word until it is back below it
WINDOW = 15.0  # seconds of which the rate is
BYTES = ("download", "weights")  # first words of what is counted in bytes
NARROW, BAR = 60, 20  # columns, below which there is no bar beside the words; of the bar
WHEEL, WIPE = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "\r\033[2K"
_BORN = time.monotonic()  # when the process began, nearly


class Line:
    """What is going on: a label, how much of it is done, and the drawing of it."""

    def __init__(self) -> None:
        self.what, self.done, self.total = "", 0, None  # type: tuple[str, int, int | None]
        self.quiet = False
        self.said = time.monotonic()
        self.began = max(_BORN, self.said - SILENT)
        self.samples: deque[tuple[float, int]] = deque()
        self.drawn = False
        self.lock, self.over = threading.RLock(), threading.Event()
        self.thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch, where there is a terminal to draw on."""
        if sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
            self.thread = threading.Thread(target=self._run, name="zoo-progress", daemon=True)
            self.thread.start()

    def stop(self) -> None:
        """Wipe the line for good."""
        self.over.set()
        self.wipe()
        if self.thread is not None:
            self.thread.join()
            self.thread = None

    def report(self, what: str, done: int, total: int | None) -> None:
        """Take how far the work is; cheap enough to be called for every photo.

        Another first word, or less done than before, is other work: its rate is counted anew.
        """
        if done == total:  # what comes now has no name yet
            what, done, total = "", 0, None
        if done < self.done or what.partition(" ")[0] != self.what.partition(" ")[0]:
            with self.lock:
                self.samples.clear()
                if not self.drawn:
                    self.began = time.monotonic()
        self.what, self.done, self.total = what, done, total

    def wipe(self) -> None:
        """Make room for what is printed."""
        if self.thread is None:
            return
        with self.lock:
            if self.drawn:
                self._write(WIPE)
            self.drawn = False
            self.said = time.monotonic()

    def _run(self) -> None:
        while not self.over.wait(0.1):
            with self.lock:
                now = time.monotonic()
                due = now - self.began >= SILENT and now - self.said >= AGAIN
                due = due or watch.asked() > 0
                if (self.drawn or due) and not self.quiet and not self.over.is_set():
                    self._draw(now)

    def _draw(self, now: float) -> None:
        what, done, total = self.what, self.done, self.total
        self.samples.append((now, done))
        while now - self.samples[0][0] > WINDOW:
            self.samples.popleft()
        words = [label(what, done, total), *speed(what, done, total, self.samples)]
        text = one_line("  ".join(filter(None, words)))
        if watch.asked():  # some work, as an import, ends before it can be stopped
            text = f"stopping · {text}"
        width = layout.width_of(sys.stderr) or 80
        self._write(WIPE + drawn(text, done / total if total else None, now, width))
        self.drawn = True

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # a terminal that is gone needs no line
            sys.stderr.write(text)
            sys.stderr.flush()


def label(what: str, done: int, total: int | None) -> str:
    """Return what is done, and how much of it."""
    if what.partition(" ")[0] in BYTES:
        return f"{what} {size(done)}" + (f" of {size(total)}" if total else "")
    if "/" in what.rpartition(" ")[2] or (total is None and not done):
        return what or "working"  # a name with its numbers, or none
    return f"{what or 'working'} {done:,}" + ("" if total is None else f"/{total:,}")


def speed(
    what: str, done: int, total: int | None, samples: deque[tuple[float, int]]
) -> tuple[str, str]:
    """Return the rate of the last seconds, and how long the rest takes at it."""
    (then, before), (now, _) = samples[0], samples[-1]
    if now - then < 1 or done <= before:
        return "", ""
    rate = (done - before) / (now - then)
    told = f"{size(rate)}/s" if what.partition(" ")[0] in BYTES else f"{rate:,.3g}/s"
    if total is None:
        return told, ""
    minutes, seconds = divmod(round((total - done) / rate), 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    return told, f"{left} left"


def drawn(words: str, share: float | None, now: float, width: int) -> str:
    """Return a line of at most so many columns: a wheel that turns, a bar, and the words."""
    bar = ""
    if share is not None and width >= NARROW:
        full = round(BAR * min(1.0, share))
        bar = style.paint("━" * full, "bar", sys.stderr) + "─" * (BAR - full) + " "
    room = width - 3 - (BAR + 1 if bar else 0)
    if layout.cells_of(words) > room:
        words = words[: room - 1] + "…"
    return f"{WHEEL[int(now * 10) % len(WHEEL)]} {bar}{words}"


_lines: list[Line] = []  # the one that is shown, if any


@contextlib.contextmanager
def shown() -> Iterator[Line]:
    """Watch what this process does within the block; the outermost one counts."""
    if _lines:
        yield _lines[0]
        return
    line = Line()
    _lines.append(line)
    line.start()
    try:
        yield line
    finally:
        line.stop()
        _lines.clear()


def wipe() -> None:
    """Make room for what is printed."""
    for line in _lines:
        line.wipe()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_lines.clear)  # a fork has no thread that draws
