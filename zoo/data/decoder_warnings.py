"""What decoders say about a photo while they read it: kept with its name instead of on stderr.

Pillow warns through Python's `warnings`, libtiff in C writes to file descriptor 2; neither knows
the file, and photos are decoded in many threads. So each thread has a list of its own, and what is
said while it listens goes there. All else goes where it went before: nothing is redirected.

`warnings.catch_warnings` is not safe in threads, and filters (`python -W error`) would make errors
of photos that can be read: therefore Pillow's modules are given another `warn`.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from PIL import Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

SHOWN = 3  # photos that are named
EACH = 20  # messages of a photo that are kept, LONGEST characters of each
LONGEST = 120


class Thread(threading.local):
    """What is said in this thread; None where nobody listens."""

    said: list[str] | None = None


@dataclass(slots=True)
class Warned:
    """The photos that were read with warnings: how many, and of the first ones what was said."""

    seen: set[int] = field(default_factory=set)  # hashes of their names
    first: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, name: str, said: list[str]) -> None:
        with self.lock:
            if hash(name) not in self.seen and len(self.first) < SHOWN:
                self.first.append((name, said[0]))
            self.seen.add(hash(name))

    def taken(self) -> tuple[int, list[tuple[str, str]]]:
        """Return how many there are and the first of them, and begin anew."""
        with self.lock:
            result = len(self.seen), self.first
            self.seen, self.first = set(), []
        return result


HERE, WARNED = Thread(), Warned()


@contextmanager
def photo(name: str) -> Iterator[None]:
    """Listen while a photo is read in this thread; a photo that cannot be read is not counted."""
    before, said = HERE.said, list[str]()
    HERE.said = said
    try:
        yield
        if said:
            WARNED.add(name, said)
    finally:
        HERE.said = before


@contextmanager
def decoding() -> Iterator[None]:
    """Listen while bytes are decoded, for the photo that is read here, or for nobody."""
    before = HERE.said
    HERE.said = [] if before is None else before
    try:
        yield
    finally:
        HERE.said = before


def with_said(reason: str) -> str:
    """Return why a photo cannot be read, and what the decoder has said of it."""
    return f"{reason} ({HERE.said[0]})" if HERE.said else reason


def note(message: str) -> bool:
    """Keep what is said in this thread; return whether anybody listens."""
    if HERE.said is None:
        return False
    if len(HERE.said) < EACH:
        HERE.said.append(" ".join(message.split())[:LONGEST])
    return True


def line(count: int, first: list[tuple[str, str]]) -> str:
    """Return the one line about all photos that were read with warnings."""
    named = ", ".join(f"{name} ({said})" for name, said in first)
    more = f" and {count - len(first):,} more" if count > len(first) else ""
    many = "1 photo was" if count == 1 else f"{count:,} photos were"
    return f"{many} read with warnings: {named}{more}"


# Pillow, in Python.


class Listening:
    """`warnings` as Pillow's modules see it."""

    pass_on = staticmethod(warnings.warn)

    def __getattr__(self, name: str) -> object:
        return getattr(warnings, name)

    def warn(
        self, message: str, category: type[Warning] | None = None, stacklevel: int = 1
    ) -> None:
        if not note(str(message)):
            self.pass_on(message, category, stacklevel + 1)


def _keep_record(record: logging.LogRecord) -> bool:
    """Filter a log: what nobody listens to goes on."""
    return not note(record.getMessage())


for module in (Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin):
    module.warnings = Listening()  # type: ignore[attr-defined]
logging.getLogger(TiffImagePlugin.__name__).addFilter(_keep_record)


# libtiff, in C.

Handler = Callable[[bytes, int, int], None]
HANDLERS: list[object] = []  # what libtiff calls must stay in memory
ONCE = threading.Lock()


def listen_to_libtiff() -> None:
    """Have libtiff tell this module, once a process; where Pillow hides it, it stays as it is."""
    with ONCE:
        if HANDLERS:
            return
        HANDLERS.append(None)
        try:
            _install()
        except (ImportError, OSError, AttributeError):
            return


def _install() -> None:
    """Replace libtiff's two handlers: void handler(const char *module, const char *form, va_list).

    A va_list is a pointer, or is handed over by one, on all platforms that have the symbols.
    """
    import ctypes

    from PIL import _imaging

    kind = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p)
    tiff, format_text = ctypes.CDLL(_imaging.__file__), ctypes.CDLL(None).vsnprintf
    format_text.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p)
    for name in ("TIFFSetWarningHandler", "TIFFSetErrorHandler"):
        replace = getattr(tiff, name)
        replace.argtypes, replace.restype = (kind,), ctypes.c_void_p
        before: list[Handler] = []

        def handler(where: bytes, form: int, values: int, before: list[Handler] = before) -> None:
            if HERE.said is None:
                for other in before:
                    other(where, form, values)
                return
            text = ctypes.create_string_buffer(512)
            format_text(text, len(text), form, values)
            told = f"{(where or b'libtiff').decode(errors='replace')}: "
            note(told + text.value.decode(errors="replace"))

        HANDLERS.append(kind(handler))
        address = replace(HANDLERS[-1])
        if address:
            before.append(kind(address))
