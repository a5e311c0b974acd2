"""What a person types. One file per command; only this room prints.

stdout is data, stderr is talk. Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import TextIO

from zoo import watch
from zoo.cli import progress, quick, words
from zoo.cli.console import fail, stopped, talk
from zoo.errors import Doubtful, Interrupted, RecipeError, ZooError


def _said_elsewhere() -> bool:
    """Return whether another process of torchrun here says what is wrong with the words."""
    return int(os.environ.get("LOCAL_RANK", "0")) > 0


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; any error is two lines on stderr."""
    try:
        typed = words.in_ours(arguments)
        with progress.shown(), _doubts_told():
            code = quick.answer(typed)
            if code is None:
                from zoo.cli import app

                os.getcwd()  # libraries ask for it, and some end the process where it is gone
                code = app.run(typed, arguments, _said_elsewhere())
            sys.stdout.flush()  # an answer that cannot be written is an error
        _make_room()
        return code
    except ZooError as error:
        if not error.what or (_said_elsewhere() and isinstance(error, RecipeError)):
            return error.exit_code  # another process of torchrun's says why
        if isinstance(error, Interrupted):
            hint = error.advice or watch.again(sys.argv[1:2])
            return stopped(error.what, hint, error.exit_code)
        return fail(error.what, error.advice, error.exit_code)
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:  # the reader of our output has left
        _give_up_stdout()
        return 1
    except ModuleNotFoundError as error:
        return _missing(error, arguments)
    except Exception as error:
        return _failed(error)
    finally:
        _show_heard()


@contextlib.contextmanager
def _doubts_told() -> Iterator[None]:
    """Say our own warnings as all else is said, each once; those of libraries stay as they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("default", Doubtful)
        others, told = warnings.showwarning, set[str]()

        def show(
            message: Warning | str, category: type[Warning], filename: str, lineno: int,
            file: TextIO | None = None, line: str | None = None,
        ) -> None:  # fmt: skip
            if not issubclass(category, Doubtful):
                others(message, category, filename, lineno, file, line)
            elif str(message) not in told:
                told.add(str(message))
                talk(f"warning: {message}")

        warnings.showwarning = show
        yield


def _missing(error: ModuleNotFoundError, arguments: Sequence[str]) -> int:
    """Say which extra brings the package that an import has not found."""
    from zoo import extras

    name = next((word for word in arguments if not word.startswith("-")), "")
    said = extras.told(error, f"`zoo {name}`".replace(" `", "`"))
    return fail(said.what, said.advice, said.exit_code) if said else _unexpected(error)


def _failed(error: Exception) -> int:
    """Say what is no error of ours: the machine's, or a fault of zoo."""
    from zoo.machine import out_of_memory

    if out_of_memory(error):
        said = " ".join(str(error).split())[:200]
        what = "there is not enough memory" + f": {said}" * bool(said)
        return fail(
            what, "end what else takes some, raise the limit (`ulimit -v`), or ask for less: a "
            "smaller --batch-size, network or picture", 1,
        )  # fmt: skip
    return _disk_failed(error) if isinstance(error, OSError) else _unexpected(error)


def _disk_failed(error: OSError) -> int:
    from zoo.disk import FULL

    try:
        os.getcwd()
    except FileNotFoundError:
        return fail("the folder that this was started in is gone", "cd to one that is there", 4)
    try:
        sys.stdout.flush()
        place = f": {error.filename}" if error.filename else ""
    except OSError:
        _give_up_stdout()
        place = " (where stdout goes)"
    if error.errno == errno.EBADF and not error.filename:
        return fail("stdout is closed, where the answer goes", "let it go to a file: `> FILE`", 4)
    code = 5 if error.errno in FULL else 4
    return fail(f"{error.strerror or error}{place}", "free space or choose another place", code)


def _give_up_stdout() -> None:
    """Let go of what stdout still holds: Python would say at its end that it cannot be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _unexpected(error: Exception) -> int:
    if os.environ.get("ZOO_TRACEBACK"):
        raise error
    what = f"unexpected {type(error).__name__}: {error}"
    return fail(what, "a fault of zoo: please report it; ZOO_TRACEBACK=1 shows where", 1)


def _show_heard() -> None:
    """Say in one line what decoders have said of photos that could be read all the same."""
    heard = sys.modules.get("zoo.data.decoder_warnings")  # only where photos were decoded
    count, first = heard.WARNED.taken() if heard else (0, [])
    if heard and count:
        talk(f"warning: {heard.line(count, first)}")


def _make_room() -> None:
    """Keep features and graphs within their budget, and say so, where some were computed."""
    if "zoo.features.parts" not in sys.modules or _said_elsewhere():
        return
    from zoo import cache
    from zoo.features import parts
    from zoo.text import size

    if not parts.written:
        return
    parts.written = 0
    try:
        free, most = cache.make_room()
    except ZooError as error:
        talk(f"warning: {error.what}")
    else:
        if free:
            talk(
                f"{size(free)} of the longest unused features and graphs removed: they may have "
                f"{size(most)}, `zoo config set cache_budget SIZE`"
            )


def _interrupted() -> int:
    """Say that it was stopped where nothing else says so; return the exit code."""
    return stopped("interrupted", watch.again(sys.argv[1:2]), 130)


def entry() -> None:
    """Run the console script.

    Python's own end takes all modules apart, needlessly: a tenth of a second, with torch more.
    """
    watch.listen()
    atexit.register(watch.deafen)
    code = main(sys.argv[1:])
    watch.leave(code)
    with contextlib.suppress(OSError):  # what cannot be written is said by Python's own end
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
