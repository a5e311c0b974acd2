"""A folder as any static server shows it, and ONNX Runtime Web by npm for what shows it."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import mkdtemp

import pytest

from zoo.export.web_runtime import PACKAGE, VERSION


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *words: object) -> None:
        pass


@contextmanager
def shown(folder: Path) -> Iterator[str]:
    """Yield the address of a folder, by what `python -m http.server` is."""
    handler = partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@cache
def _packed() -> Path | str:
    """Return the package, fetched by npm once in a process, or why there is none."""
    npm = shutil.which("npm")
    if npm is None:
        return "needs npm, which fetches onnxruntime-web"
    folder = Path(mkdtemp(prefix="zoo-npm-"))
    words = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent", "--ignore-scripts"]
    done = subprocess.run(words, cwd=folder, capture_output=True, timeout=120)
    found = [*folder.glob("*.tgz")]
    return found[0] if not done.returncode and found else f"npm cannot fetch {PACKAGE} here"


def packed() -> Path:
    """Return the .tgz of onnxruntime-web. Skips with a reason where it is not to be had."""
    found = _packed()
    if isinstance(found, str):
        pytest.skip(found)
    return found
