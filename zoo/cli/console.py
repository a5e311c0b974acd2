"""The one place that decides what is printed where: tables, errors, progress, signals."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, TextIO, TypeVar

from zoo import watch
from zoo.cli import layout, progress, style
from zoo.cli.layout import width_of, wrapped
from zoo.text import as_data, count, one_line, printable, show_name

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from zoo.finetune.describe import Line

T = TypeVar("T")
WHAT, REASON = 11, 45  # columns of the first word, and the fewest that a reason has beside it


def talk(text: str = "", meaning: str = "") -> None:
    """Print a line for the person on stderr; what is too long for the screen goes on below.

    meaning: of all of it, see `style`; a word as `warning:` at its beginning says it by itself.
    """
    width, lines = width_of(sys.stderr), []
    for line in printable(text).split("\n"):
        lines += wrapped(line, width, " " * (len(line) - len(line.lstrip()) + 2))
    progress.wipe()
    whole = "\n".join(lines)
    whole = style.paint(whole, meaning, sys.stderr) if meaning else style.told(whole, sys.stderr)
    with suppress(OSError):  # where nobody can be told, the work goes on
        print(f"{whole}\n", end="", file=sys.stderr, flush=True)  # in one piece beside stdout


def fail(what: str, hint: str, code: int) -> int:
    """The two lines of an error; returns the exit code."""
    watch.last_word()
    talk(f"error: {' '.join(what.split())}")
    if hint:
        talk(f"hint: {' '.join(hint.split())}")
    return code


def fact(what: str, text: str) -> None:
    """Print a word and what there is to say of it; what is too long goes on below what is said."""
    width = width_of(sys.stderr)
    lines = wrapped(f"{what:<10} {printable(text)}", width, " " * WHAT)
    talk("\n".join(lines))


def stopped(what: str, hint: str, code: int) -> int:
    """Say that the work was interrupted, which is no error; returns the exit code."""
    watch.last_word()
    talk(" ".join(what.split()))
    if hint:
        talk(f"hint: {' '.join(hint.split())}")
    return code


def out(text: object = "", meaning: str = "") -> None:
    """Print lines on stdout, names in which may be anything; see `style` for the meanings."""
    clean = printable(str(text))
    if sys.stdout.isatty():
        progress.wipe()
    print(style.paint(clean, meaning, sys.stdout) if meaning else clean)


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
    if sys.stdout.isatty():
        progress.wipe()
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


def prose(text: str, meaning: str = "") -> None:
    """Print a sentence on stdout, wrapped where the screen is narrower."""
    out("\n".join(wrapped(text, width_of(sys.stdout), "  ")), meaning)


def out_table(lines: Sequence[str]) -> None:
    """Print the lines of a table, the first of which is its header."""
    for number, line in enumerate(lines):
        out(line, "title" if not number and len(lines) > 1 else "")


def print_table(
    rows: Iterable[Sequence[str]],
    header: Sequence[str],
    right: str = "",
    drop: Sequence[str] = (),
    best: Collection[int] = (),
) -> None:
    """Print a table on stdout. best: the numbers of rows that stand out."""
    width = width_of(sys.stdout)
    for number, lines in enumerate(layout.blocks(rows, header, right, width, drop), -1):
        for line in lines:
            out(line, "title" if number < 0 else "best" if number in best else "")


def talk_table(rows: Iterable[Sequence[str]], header: Sequence[str], right: str = "") -> None:
    """Print a table for the person on stderr, in the width that there is."""
    for number, lines in enumerate(layout.blocks(rows, header, right, width_of(sys.stderr))):
        for line in lines:
            talk(line, "" if number else "title")


def show_plan(told: Sequence[Line]) -> None:
    """Print lines of a plan, the reasons below each other; on a narrow screen after a dot."""
    width = width_of(sys.stderr)
    widest = max(len(line.value) for line in told if len(line.value) < 50)
    beside = WHAT + widest + 2  # where a reason begins
    narrow = width is not None and width - beside < REASON
    for line in told:
        value = line.value if narrow else f"{line.value:<{widest}}"
        between = "" if not line.reason else " · " if narrow else "  "
        text = f"{line.what:<{WHAT}}{value}{between}{line.reason}".rstrip()
        under = WHAT if narrow or len(line.value) > widest else beside
        talk("\n".join(wrapped(text, width, " " * under)))


def warn_unreadable(photos: Sequence[tuple[str, str]], also: str = "") -> None:
    """Say how many photos are left out, and why the first five are."""
    if photos:
        many = count(len(photos), "unreadable photo is", "unreadable photos are")
        first = "; the first" if len(photos) > 5 else ""
        talk(f"warning: {many} left out{also}{first}:")
        for path, reason in photos[:5]:
            talk(f"  {one_line(path)}: {one_line(reason)}")


def _is_pipe(stream: TextIO) -> bool:
    """Return whether another program reads a stream, which may print what it reads."""
    with suppress(OSError):  # no file
        return stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
    return False


def _nothing(event: object) -> None:
    """Show no event: the command has words of its own at the end."""


class Screen:
    """What a person sees of a piece of work, and work that stops where it is asked to.

    On a terminal one line says what is going on; see `progress`. The first signal to stop makes
    the next report of progress raise Interrupted; see `zoo.watch`.
    """

    def __init__(self) -> None:
        self.show: Callable[[object], None] = _nothing  # what a command makes of events
        self.open_until = ExitStack()

    def __enter__(self) -> Screen:
        self.open_until.callback(watch.listen())
        self.open_until.enter_context(watch.patient())
        self.line = self.open_until.enter_context(progress.shown())
        self.open_until.callback(self.line.report, "", 0, None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.open_until.close()

    @property
    def signal(self) -> int:
        """The number of the signal that asks to stop, or 0."""
        return watch.asked()

    @property
    def quiet(self) -> bool:
        """Whether another process of torchrun's says what there is to say."""
        return self.line.quiet

    @quiet.setter
    def quiet(self, yes: bool) -> None:
        self.line.quiet = yes

    def progress(self, what: str, done: int, total: int | None) -> None:
        """Take where the work stands. Raises Interrupted where a signal asks to stop."""
        watch.check()
        self.line.report(what, done, total)

    def doing(self, what: str) -> None:
        """Name work whose length is not known. Raises Interrupted where a signal asks to stop."""
        self.progress(what, 0, None)

    def rows_go_to(self, output: Path | None) -> None:
        """Draw nothing from here on where rows may come to the terminal, which they would tear."""
        if output is None and (sys.stdout.isatty() or _is_pipe(sys.stdout)):
            self.line.wipe()
            self.quiet = True

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
