"""One URL to one file: all of it with the right sha256, or nothing.

Unusual here: redirects are followed by hand. urllib sends the Authorization header on to whatever
host it is sent to, follows https to http, and hides the first answer, in which the hub states
the sha256.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import re
import shutil
import string
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from email.message import Message
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import quote, urljoin, urlsplit

from zoo.disk import no_room, replacing, writing
from zoo.errors import WeightsError
from zoo.weights.hashes import remember

Progress = Callable[[int, int | None], None]

TIMEOUT = 30.0  # seconds without a byte
REDIRECTS = 5
PAUSES = (0.5, 1.5)  # seconds before the second and the third try
BLOCK = 1 << 20
NOT_KEPT = "nothing was kept: try again, or set ZOO_WEIGHTS to a folder or mirror that you trust"


class Unreachable(WeightsError):
    """The source does not answer, or has no such file: another source may."""


class _Again(Exception):
    """A failure that may pass: the connection broke, or the server is busy."""


class _Answer(NamedTuple):
    body: IO[bytes]
    size: int | None
    sha256: str  # as the first host states it; empty where it does not


def fetch(
    url: str,
    destination: Path,
    *,
    sha256: str = "",
    size: int | None = None,
    token: str = "",
    progress: Progress | None = None,
) -> str:
    """Download `url` to `destination` and return its full sha256.

    sha256: 64 hex digits or a prefix. size: in bytes. token: bearer, for the host of `url` alone.
    progress: called with (bytes done, bytes in all or None). Raises Unreachable (a WeightsError),
    WeightsError for a file that is not the right one, WriteError for the disk.
    """
    for pause in (*PAUSES, None):
        try:
            # A later issue resumes by range: what a broken try has left is dropped for now.
            return _attempt(url, destination, sha256.lower(), size, token, progress)
        except _Again as error:
            if pause is None:
                count = len(PAUSES) + 1
                raise Unreachable(f"{url}: {error} ({count} tries)", "try again later") from error
            time.sleep(pause)
    raise AssertionError("the last try returns or raises")


def _attempt(
    url: str,
    destination: Path,
    sha256: str,
    size: int | None,
    token: str,
    progress: Progress | None,
) -> str:
    answer = _open(url, token)
    with closing(answer.body):
        if size is not None and answer.size not in (None, size):
            raise WeightsError(f"{url} offers {answer.size} bytes, not {size}", NOT_KEPT)
        total = answer.size if size is None else size
        _check_room(destination, total)
        with replacing(destination, 0o600) as temporary:
            digest, done = _copy(answer.body, temporary, destination, total, progress)
            if answer.size is not None and done < answer.size:
                raise _Again(f"the connection broke after {done} of {answer.size} bytes")
            if done == 0 or total not in (None, done):
                raise WeightsError(f"{url} holds {done} bytes, not {total or 'a file'}", NOT_KEPT)
            for wanted in (sha256, answer.sha256):
                if not digest.startswith(wanted):
                    raise WeightsError(f"{url}: sha256 is {digest}, not {wanted}", NOT_KEPT)
    remember(destination, digest)
    return digest


def _copy(
    body: IO[bytes], temporary: Path, name: Path, total: int | None, progress: Progress | None
) -> tuple[str, int]:
    """Write the body to `temporary`; its sha256 and size. Stops soon after `total`."""
    hasher, done = hashlib.sha256(), 0
    with temporary.open("wb") as file:
        while total is None or done <= total:
            try:
                block = body.read(BLOCK)
            except (OSError, http.client.HTTPException) as error:
                raise _Again(f"the connection broke after {done} bytes ({_why(error)})") from error
            if not block:
                break
            with writing(name):
                file.write(block)
            hasher.update(block)
            done += len(block)
            if progress is not None:
                progress(done, total)
        with writing(name):
            file.flush()
    return hasher.hexdigest(), done


def _check_room(destination: Path, size: int | None) -> None:
    with writing(destination):
        free = shutil.disk_usage(destination.parent).free
    if size is not None and free < size:
        raise no_room(
            destination, f"{size / 1e6:,.0f} MB wanted, {free / 1e6:,.0f} MB free", errno.ENOSPC
        )


# The conversation


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def _open(url: str, token: str) -> _Answer:
    """Follow redirects to the file. The token and the stated sha256 belong to the first host."""
    opener = urllib.request.build_opener(_NoRedirect)
    here, stated, home = url, "", _origin(url)
    for _ in range(REDIRECTS + 1):
        at_home = _origin(here) == home
        headers = {"User-Agent": "zoo", "Accept-Encoding": "identity"}
        if token and at_home:
            headers["Authorization"] = f"Bearer {token}"
        body, status, reply = _ask(opener, urllib.request.Request(here, headers=headers))
        if at_home:
            stated = _linked_sha256(reply) or stated
        if body is not None:
            if not stated and reply.get_content_type() == "text/html":
                body.close()
                raise Unreachable(f"{_brief(here)} answers with a web page, not a file")
            return _Answer(body, _length(reply), stated)
        here = _next(here, reply.get("Location", ""), status)
    raise Unreachable(f"{url}: more than {REDIRECTS} redirects")


def _ask(
    opener: urllib.request.OpenerDirector, request: urllib.request.Request
) -> tuple[IO[bytes] | None, int, Message]:
    """Send one request: the body, or None for a redirect."""
    url = _brief(request.full_url)
    try:
        response = opener.open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (301, 302, 303, 307, 308):
            return None, error.code, error.headers
        said = f"answers {error.code} {http.client.responses.get(error.code, '')}".rstrip()
        if error.code >= 500 or error.code == 429:
            raise _Again(said) from error
        hint = "does it need HF_TOKEN?" if error.code in (401, 403) else ""
        raise Unreachable(f"{url} {said}", hint) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionResetError):
            raise _Again(_why(error.reason)) from error
        raise Unreachable(f"{url}: {_why(error.reason)}") from error
    except (http.client.InvalidURL, UnicodeError) as error:
        raise Unreachable(f"{url}: {_why(error)}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Again(_why(error)) from error
    return response, 200, response.headers


def _next(here: str, location: str, status: int) -> str:
    try:  # quoted, because what a stranger sends may end up on a terminal
        there = quote(urljoin(here, location), safe=string.punctuation)
    except ValueError:
        there = ""
    if not location or not there or (_origin(here)[0] == "https" and _origin(there)[0] != "https"):
        raise Unreachable(f"{_brief(here)} redirects ({status}) to {_brief(there)}: refused")
    return there


def _brief(url: str) -> str:
    """For messages: without the query, which may be long, and signed."""
    return url.partition("?")[0]


def _origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port. Raises Unreachable where that is no web address."""
    try:
        parts = urlsplit(url)
        origin = parts.scheme, parts.hostname, parts.port
    except ValueError:
        origin = "", None, None
    if origin[0] not in ("http", "https") or not origin[1]:
        raise Unreachable(f"{_brief(url)} is refused: only http and https are fetched")
    return origin


def _length(reply: Message) -> int | None:
    text = reply.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def _linked_sha256(reply: Message) -> str:
    """The sha256 of a large file as the hub states it, before it redirects to its storage."""
    text = reply.get("X-Linked-Etag", "").strip('"').lower()
    return text if re.fullmatch("[0-9a-f]{64}", text) else ""


def _why(reason: object) -> str:
    if isinstance(reason, TimeoutError):
        return f"no answer within {TIMEOUT:.0f} s"
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
