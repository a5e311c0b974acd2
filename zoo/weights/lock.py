"""One process at a time downloads a file, where the file system has locks.

Where it has none (they silently do nothing on some shared file systems) several download it, each
to a partial file of its own: more work, the same file. Nothing is ever right because of a lock.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator

from zoo.disk import writing
from zoo.weights.folders import cache_folder, make_private

PATIENCE = 3600.0  # seconds; then the other is taken for stuck
LOOK = 0.1


@contextlib.contextmanager
def alone(name: str, say: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock of `name`; it goes with the process that holds it, however that ends."""
    path = cache_folder() / "locks" / f"{name}.lock"
    make_private(path.parent)
    with writing(path):
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        began, told = time.monotonic(), False
        while not _locked(handle) and time.monotonic() - began < PATIENCE:
            if not told and say is not None:
                say(f"another process is fetching {name}: waiting for it")
            told = True
            time.sleep(LOOK)
        yield
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    """Whether the lock is ours now, or there are no locks here."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
