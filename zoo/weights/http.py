"""One URL to one open body, which may begin in the middle of the file.

Unusual here: redirects are followed by hand. urllib sends the Authorization header on to whatever
host it is sent to, follows https to http, and hides the first answer, in which the hub states
the sha256.
"""

from __future__ import annotations

import re
import string
from typing import IO, TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urljoin, urlsplit

from zoo.errors import WeightsError

if TYPE_CHECKING:  # not for what is read from this machine: a hundredth of a second
    from email.message import Message
    from urllib.request import OpenerDirector, Request

TIMEOUT = 30.0  # seconds without a byte
REDIRECTS = 5


class Unreachable(WeightsError):
    """The source does not answer, or has no such file: another source may."""


class Again(Exception):
    """A failure that may pass: the connection broke, or the server is busy."""


class Restart(Exception):
    """The part that is there cannot be continued: the file must be fetched from its start."""


class Answer(NamedTuple):
    """start: the place of the body's first byte in the file. size: of the whole file.

    sha256: as the first host states it. validator: what says that it is still the same file (an
    ETag or a date). Empty where they are not given.
    """

    body: IO[bytes]
    start: int
    size: int | None
    sha256: str
    validator: str


def ask_for(url: str, token: str = "", start: int = 0, validator: str = "") -> Answer:
    """Follow redirects to the file, from byte `start` on if the server can and it is unchanged.

    token: bearer, for the first host alone. Raises Again, Restart and Unreachable.
    """
    from urllib.request import Request

    opener = _opener()
    here, stated, home = url, "", _origin(url)
    for _ in range(REDIRECTS + 1):
        at_home = _origin(here) == home
        headers = {"User-Agent": "zoo", "Accept-Encoding": "identity"}
        if token and at_home:
            headers["Authorization"] = f"Bearer {token}"
        if start:
            headers["Range"] = f"bytes={start}-"
            headers |= {"If-Range": validator} if validator else {}
        body, status, reply = _send(opener, Request(here, headers=headers))
        if at_home:
            stated = _linked_sha256(reply) or stated
        if body is None:
            here = _next(here, reply.get("Location", ""), status)
            continue
        try:
            return _answer(body, status, reply, stated, start, _brief(here))
        except BaseException:
            body.close()
            raise
    raise Unreachable(f"{url}: more than {REDIRECTS} redirects")


def _answer(
    body: IO[bytes], status: int, reply: Message, stated: str, start: int, url: str
) -> Answer:
    if not stated and reply.get_content_type() == "text/html":
        raise Unreachable(f"{url} answers with a web page, not a file")
    if status == 200:
        return Answer(body, 0, _length(reply), stated, _validator(reply))
    part = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", reply.get("Content-Range", ""))
    if status != 206 or part is None or not start or int(part[1]) != start:
        raise Restart
    return Answer(body, start, int(part[3]), stated, _validator(reply))


def _opener() -> OpenerDirector:
    from urllib.request import HTTPRedirectHandler, build_opener

    class NoRedirect(HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    return build_opener(NoRedirect)


def _send(opener: OpenerDirector, request: Request) -> tuple[IO[bytes] | None, int, Message]:
    """Send one request: the body, or None for a redirect."""
    import http.client
    import urllib.error

    url = _brief(request.full_url)
    try:
        response = opener.open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (301, 302, 303, 307, 308):
            return None, error.code, error.headers
        if error.code in (412, 416) and request.has_header("Range"):
            raise Restart from error
        said = f"answers {error.code} {http.client.responses.get(error.code, '')}".rstrip()
        if error.code >= 500 or error.code == 429:
            raise Again(said) from error
        hint = "does it need HF_TOKEN?" if error.code in (401, 403) else ""
        raise Unreachable(f"{url} {said}", hint) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionResetError):
            raise Again(why(error.reason)) from error
        raise Unreachable(f"{url}: {why(error.reason)}") from error
    except (http.client.InvalidURL, UnicodeError) as error:
        raise Unreachable(f"{url}: {why(error)}") from error
    except (OSError, http.client.HTTPException) as error:
        raise Again(why(error)) from error
    return response, response.status, response.headers


def _next(here: str, location: str, status: int) -> str:
    try:  # quoted, because what a stranger sends may end up on a terminal
        there = quote(urljoin(here, location), safe=string.punctuation)
    except ValueError:
        there = ""
    if not location or not there or (_origin(here)[0] == "https" and _origin(there)[0] != "https"):
        raise Unreachable(f"{_brief(here)} redirects ({status}) to {_brief(there)}: refused")
    return there


def _brief(url: str) -> str:
    """Return an address for messages, without the query, which may be long, and signed."""
    return url.partition("?")[0]


def _origin(url: str) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port. Raises Unreachable where that is no web address."""
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


def _validator(reply: Message) -> str:
    """Return the file's ETag, or its date; empty where the server gives none that is exact."""
    tag, date = reply.get("ETag", ""), reply.get("Last-Modified", "")
    return tag if re.fullmatch(r'"[!#-~]{1,64}"', tag) else date[:40] if date.isascii() else ""


def _linked_sha256(reply: Message) -> str:
    """Return the sha256 that the hub states of a large file before it redirects to its storage."""
    text = reply.get("X-Linked-Etag", "").strip('"').lower()
    return text if re.fullmatch("[0-9a-f]{64}", text) else ""


def why(reason: object) -> str:
    if isinstance(reason, TimeoutError):
        return f"no answer within {TIMEOUT:.0f} s"
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
