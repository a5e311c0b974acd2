"""The one place that decides what is printed where: tables, errors, progress, signals."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from zoo import watch
from zoo.cli import layout
from zoo.cli.layout import width_of, wrapped
from zoo.text import as_data, count, one_line, printable, show_name

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")


def talk(text: str = "") -> None:
    """Print a line for the person on stderr; what is too long for the screen goes on below."""
    width, lines = width_of(sys.stderr), []
    for line in printable(text).split("\n"):
        lines += wrapped(line, width, " " * (len(line) - len(line.lstrip()) + 2))
    print("\n".join(lines), file=sys.stderr, flush=True)


def fail(what: str, hint: str, code: int) -> int:
    """The two lines of an error; returns the exit code."""
    watch.last_word()
    talk(f"error: {' '.join(what.split())}")
    if hint:
        talk(f"hint: {' '.join(hint.split())}")
    return code


def out(text: object = "") -> None:
    """Lines of a table on stdout: names in it may be anything."""
    print(printable(str(text)))


def put(path: object) -> None:
    """A path on stdout, for the next command as it is."""
    if as_data(sys.stdout):
        out(path)
    else:
        from zoo.text import keep_bytes

        keep_bytes(sys.stdout)
        print(path)


def print_json(record: object) -> None:
    """Names in it are written as `zoo.text` says, control characters as JSON can."""
    text = json.dumps(written(record), indent=2, ensure_ascii=False)
    print("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


def written(record: object) -> object:
    """The same record with every text by `show_name`."""
    if isinstance(record, dict):
        return {written(name): written(value) for name, value in record.items()}
    if isinstance(record, list | tuple):
        return [written(value) for value in record]
    return show_name(record) if isinstance(record, str) else record


def table(
    rows: Iterable[Sequence[str]],
    header: Sequence[str],
    right: str = "",
    drop: Sequence[str] = (),
) -> list[str]:
    """Return a table as lines that fit stdout; see `layout.table`."""
    return layout.table(rows, header, right, width_of(sys.stdout), drop)


def print_table(
    rows: Iterable[Sequence[str]],
    header: Sequence[str],
    right: str = "",
    drop: Sequence[str] = (),
) -> None:
    """Print a table on stdout."""
    for line in table(rows, header, right, drop):
        out(line)


def talk_table(rows: Iterable[Sequence[str]], header: Sequence[str], right: str = "") -> None:
    """Print a table for the person on stderr, in the width that there is."""
    for line in layout.table(rows, header, right, width_of(sys.stderr)):
        talk(line)


def warn_unreadable(photos: Sequence[tuple[str, str]], also: str = "") -> None:
    """Say how many photos are left out, and why the first five are."""
    if photos:
        many = count(len(photos), "unreadable photo is", "unreadable photos are")
        talk(f"warning: {many} left out{also}:")
        for path, reason in photos[:5]:
            talk(f"  {one_line(path)}: {one_line(reason)}")


def _nothing(event: object) -> None:
    """Show no event: the command has words of its own at the end."""


class Screen:
    """Progress bars on a terminal, and work that stops where it is asked to.

    A bar appears for what takes more than a second, on stderr, on a terminal only. The first
    SIGINT or SIGTERM makes the next report of progress raise Interrupted; see `zoo.watch`.
    """

    def __init__(self) -> None:
        self.quiet = False  # another process of torchrun's draws
        self.show: Callable[[object], None] = _nothing  # what a command makes of events
        self.bars: Progress | None = None
        self.what = ""
        self.began, self.first = 0.0, 0  # when, and how much was done by then
        self.open_until = ExitStack()

    def __enter__(self) -> Screen:
        self.open_until.callback(watch.listen())
        self.open_until.enter_context(watch.patient())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        self.open_until.close()

    @property
    def signal(self) -> int:
        """The number of the signal that asks to stop, or 0."""
        return watch.asked()

    def progress(self, what: str, done: int, total: int | None) -> None:
        """Draw where the work stands; cheap enough to be called for every photo.

        Raises Interrupted where a signal asks to stop.
        """
        watch.check()
        if self.quiet or not sys.stderr.isatty():
            return
        now = time.monotonic()
        if what != self.what:
            self.close()
            self.what, self.began, self.first = what, now, done
        if self.bars is None:
            if now - self.began < 1 or done == total:
                return
            self.bars = bars_of(what, total)
        rate = f"{(done - self.first) / (now - self.began):,.1f}/s"
        self.bars.update(self.bars.task_ids[0], completed=done, total=total, rate=rate)

    def tell(self, event: object) -> None:
        """Show what has happened, as the command does it."""
        if not self.quiet:
            self.show(event)

    def counting(self, what: str, items: Iterable[T], total: int | None = None) -> Iterator[T]:
        """Yield the same items, and draw how many there were."""
        for done, item in enumerate(items, start=1):
            yield item
            self.progress(what, done, total)

    def bytes(self, done: int, total: int | None) -> None:
        """The progress of a download."""
        self.progress("download", done, total)

    def close(self) -> None:
        if self.bars is not None:
            self.bars.stop()
        self.bars, self.what = None, ""

    def say(self, text: str) -> None:
        """A line of talk that does not tear a bar."""
        self.close()
        talk(text)


def bars_of(what: str, total: int | None) -> Progress:
    """Return a bar on stderr, drawn from here on."""
    from rich import progress
    from rich.console import Console

    download = what == "download"
    bars = progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn() if download else progress.MofNCompleteColumn(),
        progress.TransferSpeedColumn() if download else progress.TextColumn("{task.fields[rate]}"),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    bars.add_task(what, total=total, rate="")
    bars.start()
    return bars
