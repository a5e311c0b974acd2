"""Photos at http(s) addresses, which a list or a table names; strangers' servers answer.

Whatever goes wrong with one address is the error of its photo: lists of addresses are old, and some
of their hosts are always gone. Redirects are followed as for weights (5, never from https to http).
"""

from __future__ import annotations

import http.client
import time
from contextlib import closing

from zoo.data.decode import MAX_BYTES
from zoo.errors import ImageError, InputError
from zoo.watch import check
from zoo.weights import http as requests
from zoo.weights.http import Again, Answer, Restart, Unreachable
from zoo.weights.store import is_offline

LARGEST = min(MAX_BYTES, 64 << 20)  # bytes; a server that sends on and on is stopped there
LONGEST = 60.0  # seconds for all of a photo
PAUSES = (0.5, 1.5)  # seconds before the second and the third try
_PIECE = 1 << 16


def is_web(place: str) -> bool:
    """Return whether this is an http(s) address."""
    return place[:8].lower().startswith(("http://", "https://"))


def content(url: str) -> bytes:
    """Return what is at an address. Raises ImageError; InputError where the network is forbidden.

    Tried three times where the connection breaks or the server is busy.
    """
    if is_offline():
        raise InputError(
            f"{_shown(url)} cannot be read: the network is forbidden (ZOO_OFFLINE, --offline)",
            "allow it, or plan over files",
        )
    end = time.monotonic() + LONGEST
    for pause in (*PAUSES, None):
        try:
            answer = requests.ask_for(url)
            with closing(answer.body):
                return _whole(answer, end)
        except Unreachable as error:
            raise ImageError(f"cannot be read: {error.what}") from None
        except (Again, Restart) as error:
            if pause is None or time.monotonic() + pause > end:
                raise ImageError(f"cannot be read: {_shown(url)}: {error}") from None
            check()
            time.sleep(pause)
    raise AssertionError("the last try returns, or raises")


def _whole(answer: Answer, end: float) -> bytes:
    """Return the body. Raises Again where it breaks, ImageError where it is too large or slow."""
    found = bytearray()
    while True:
        if max(len(found), answer.size or 0) > LARGEST:
            raise ImageError(f"it has more than {LARGEST / 1e6:,.0f} MB")
        if time.monotonic() > end:
            raise ImageError(f"cannot be read: not all of it came in {LONGEST:g} s")
        try:
            piece = answer.body.read1(_PIECE)  # type: ignore[attr-defined]
        except (OSError, http.client.HTTPException) as error:
            raise Again(f"the connection broke ({requests.why(error)})") from error
        if not piece:
            break
        found += piece
    if len(found) < (answer.size or 0):
        raise Again(f"it ended after {len(found):,} of {answer.size:,} bytes")
    if not found:
        raise ImageError("the file is empty")
    return bytes(found)


def _shown(url: str) -> str:
    """Return an address without its query, which may be long, and signed."""
    return url.partition("?")[0]
