"""One HTTP API and one page over a run or an exported file: photos in, rows of `zoo predict` out.

    desk.py    the queue: pictures are decoded and answered in threads, several in a batch
    intake.py  what a request holds, within limits of size, number and time
    app.py     the addresses, and what each gives
    server.py  the socket, slow and half-closed connections, and the end
    page.html  the page, with no address outside of it

It takes the extra `serve`: FastAPI, uvicorn and python-multipart.
"""

from __future__ import annotations

from importlib.util import find_spec

from zoo.errors import UsageError

_NEEDED = {"fastapi": "fastapi", "uvicorn": "uvicorn", "python_multipart": "python-multipart"}


def check_installed() -> None:
    """Raise UsageError where a package is missing that a server needs."""
    missing = [name for module, name in _NEEDED.items() if find_spec(module) is None]
    if missing:
        raise UsageError(
            f"`zoo serve` needs {', '.join(missing)}, which is not installed",
            "pip install 'zoo-transfer[serve]'",
        )
