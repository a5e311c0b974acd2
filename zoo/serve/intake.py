"""What a request holds: its pictures, within limits of bytes, number and time.

The bytes of all requests together are limited, too, so that memory is, whoever sends what.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from fastapi import HTTPException, Request
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from zoo.predict.inputs import Input

PICTURES = 64  # in a request
SECONDS = 30.0  # in which a request has come
TOGETHER = 8  # times as many bytes as a request may have are in memory at once
FORM = "`curl -F files=@photo.jpg URL` sends a form, `-H 'Content-Type: image/jpeg'` a picture"

FOREIGN = "only the server's own page, and programs that are no browsers, may send pictures"


def refused(status: int, what: str, hint: str = "") -> HTTPException:
    """Return the error that ends a request with a status and an error's words."""
    again = {"Retry-After": "1"} if status == 503 else None
    return HTTPException(status, {"error": what, "hint": hint}, again)


class Intake:
    """Reads requests of at most so many bytes."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0  # bytes of all requests that are being read or answered

    @asynccontextmanager
    async def pictures(self, request: Request) -> AsyncIterator[list[Input]]:
        """Read a request's pictures, and hold their bytes while they are used."""
        size = 0
        if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise refused(403, "a page of another address sent the request", FOREIGN)
        if int(request.headers.get("content-length", "0")) > self.most:
            raise self._too_large()

        async def chunks() -> AsyncGenerator[bytes, None]:
            nonlocal size
            async for chunk in request.stream():
                size += len(chunk)
                self.held += len(chunk)
                if size > self.most:
                    raise self._too_large()
                if self.held > TOGETHER * self.most:
                    raise refused(503, "too many bytes are on their way", "send it again later")
                yield chunk

        try:
            try:
                async with asyncio.timeout(SECONDS):
                    found = await _read(request, chunks(), self.most)
            except TimeoutError:
                raise refused(408, f"the request took more than {SECONDS:.0f} s to come") from None
            except ClientDisconnect:
                raise refused(400, "the connection ended before the request did") from None
            except (MultiPartException, FormParserError) as error:
                raise refused(400, f"the form cannot be read: {error}", FORM) from None
            if len(found) > PICTURES:
                what = f"{len(found):,} pictures are more than {PICTURES} in a request"
                raise refused(413, what, "send several requests")
            yield found
        finally:
            self.held -= size

    def _too_large(self) -> HTTPException:
        what = f"the request has more than {self.most / 1e6:.0f} MB"
        return refused(413, what, "send smaller or fewer pictures, or serve with a higher --max-mb")


async def _read(request: Request, chunks: AsyncGenerator[bytes, None], most: int) -> list[Input]:
    """Return the pictures of a form, or the one that is the request itself."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        parser = MultiPartParser(request.headers, chunks, max_files=16 * PICTURES)
        parser.spool_max_size = most  # nothing goes to the disk
        form = await parser.parse()
        files = [one for _, one in form.multi_items() if isinstance(one, UploadFile)]
        if not files:
            raise refused(422, "the form has no files", FORM)
        return [await _input(one, number) for number, one in enumerate(files)]
    if kind and not kind.startswith("image/") and kind != "application/octet-stream":
        raise refused(415, f"{kind} is neither a picture nor a form with files", FORM)
    data = b"".join([chunk async for chunk in chunks])
    return [Input("picture 0", "picture 0", data)]


async def _input(file: UploadFile, number: int) -> Input:
    name = file.filename or f"picture {number}"
    data = await file.read()
    await file.close()
    return Input(name, name, data)
