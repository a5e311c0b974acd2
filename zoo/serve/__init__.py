"""One HTTP API and one page over a run or an exported file: photos in, rows of `zoo predict` out.

    desk.py    the queue: pictures are decoded and answered in threads, several in a batch
    intake.py  what a request holds, within limits of size, number and time
    app.py     the addresses, and what each gives
    server.py  the socket, slow and half-closed connections, and the end
    page.html  the page, with no address outside of it

It takes the extra `serve`: FastAPI, uvicorn and python-multipart.
"""

from __future__ import annotations

from zoo import extras


def check_installed() -> None:
    """Raise MissingPackage where one is not installed that a server needs."""
    extras.need("`zoo serve`", *extras.EXTRAS["serve"])
