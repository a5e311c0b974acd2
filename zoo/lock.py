"""One process at a time works in a folder, or makes a file: a lease of filelock's.

The file says who: it is made with O_EXCL, touched again and again while its process lives, and
removed at the end, so file systems without locks will do. Of a process that died without a word it
stays. One of this machine is followed at once; one of another machine, or a dead one that nobody
has buried, when somebody has watched its file for LEASE seconds and nothing has touched it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import watch
from zoo.disk import hidden, writing
from zoo.errors import RunError, WeightsError

if TYPE_CHECKING:
    from filelock import OwnerRecord, SoftFileLease

NAME = "lock"
LEASE = 60.0  # seconds without a sign of life after which a process of another machine is dead
GRACE = 0.2  # seconds for two looks at a lock: the first may only clear it
SILENT = 2.5  # seconds after which filelock clears a file that says nothing of its maker
PATIENCE = 3600.0  # seconds to wait for a file that another process is fetching
LOOK = 0.05


class Lock:
    """Held by this process. died: who had it and did not give it back, in words, or nothing."""

    def __init__(self, path: Path, lease: SoftFileLease, died: str) -> None:
        self.path, self.lease, self.died = path, lease, died

    def must_be_ours(self) -> None:
        """Raise RunError where another process took this one for dead and works here now."""
        if self.lease.compromise is not None:
            folder = self.path.parent
            raise RunError(f"another process has taken over {folder}", "leave it to that one")

    def release(self) -> None:
        self.lease.release()


@contextlib.contextmanager
def held(folder: Path) -> Iterator[Lock]:
    """Hold the folder. Raises RunError where a living process does, WriteError."""
    lock = take(folder)
    with _given_back(lock.lease):
        yield lock


def take(folder: Path) -> Lock:
    """Hold the folder from here on. Raises RunError where a living process does, WriteError."""
    path = folder / NAME
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise RunError(f"{path} is no plain file, so no zoo has made it", "remove it")
    lease = _lease(path)
    owner, died, patience = lease.owner, "", GRACE
    if owner is not None or path.exists():
        died, patience = _may_be_dead(path, owner)
    if not _taken(lease, path, patience):
        hint = "wait for it, or stop it: it leaves a run that can be resumed"
        if lease.owner is None:
            hint = f"if no zoo is at work there remove {path}, which does not say who has made it"
        raise RunError(f"{folder} is being worked in by {_who(lease.owner)}", hint)
    return Lock(path, lease, died)


def refuse_held(folder: Path) -> None:
    """Raise RunError where a living process holds the folder."""
    path = folder / NAME
    if path.is_file() and _may_be_dead(path, _lease(path).owner)[1] == GRACE:
        take(folder).release()


@contextlib.contextmanager
def in_turn(path: Path, say: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock of a file that is to be made; wait for whoever makes it now, and say so.

    Raises WeightsError after an hour of waiting, WriteError.
    """
    place = path.with_name(f".{path.name[:80]}.{NAME}")
    lease = _lease(place)
    if not _taken(lease, place, GRACE) and not (_cleared(place) and _taken(lease, place, GRACE)):
        if say is not None:
            say(f"another process is fetching {path.name}: waiting for it")
        if not _taken(lease, place, PATIENCE):
            raise WeightsError(
                f"{path} is being made by {_who(lease.owner)}, for more than an hour",
                f"stop that process, or remove {place}",
            )
    with _given_back(lease):
        yield


@contextlib.contextmanager
def _given_back(lease: SoftFileLease) -> Iterator[None]:
    with watch.undoing(lease.release):
        try:
            yield
        finally:
            lease.release()


def _lease(path: Path) -> SoftFileLease:
    from filelock import SoftFileLease

    # Not of one thread: the end of the process, which a thread of its own sees to, gives it back.
    return SoftFileLease(path, lease_duration=LEASE, thread_local=False, poll_interval=LOOK)


def _taken(lease: SoftFileLease, path: Path, patience: float) -> bool:
    from filelock import LeaseSettingsMismatch, Timeout

    with writing(path):
        try:
            lease.acquire(timeout=patience, cancel_check=lambda: watch.asked() != 0)
        except (Timeout, LeaseSettingsMismatch):
            watch.check()
            return False
    return True


def _may_be_dead(path: Path, owner: OwnerRecord | None) -> tuple[str, float]:
    """Return what to tell of a holder that proves dead, and for how long to watch it for that.

    Raises RunError for one of another machine that has just given a sign of life.
    """
    here, silent = _look(path)
    died = f"the process that had it ({_who(owner)})"
    if _cleared(path):
        return f"{died} was killed as it began", GRACE
    if owner is not None and owner.hostname == here:
        killed = f"{died} was killed, perhaps for want of memory"
        return killed, LEASE + GRACE if began(owner.pid) == "dead" else GRACE
    if -SILENT < silent < LEASE:  # of a clock that went back nothing is known: watch it
        raise RunError(
            f"{path.parent} is being worked in by {_who(owner)}, which gave a sign of life "
            f"{silent:.0f} s ago",
            f"wait for it; {LEASE:.0f} s after its last sign another may go on",
        )
    silent = max(silent, LEASE)
    return f"{died} has given no sign of life for {silent:.0f} s", LEASE + SILENT


def _cleared(path: Path) -> bool:
    """Remove a file that is and stays empty: its maker was killed before it said who it was.

    filelock leaves it. Of two that wait for it the second finds it gone, or another in its place.
    """
    try:
        import fcntl
    except ImportError:  # Windows, where a living one's file cannot be removed
        return False
    with contextlib.suppress(OSError):
        if not path.is_file() or path.stat().st_size:
            return False
    with contextlib.suppress(OSError), path.open("rb") as file:
        first, until = os.fstat(file.fileno()), time.monotonic() + SILENT
        while (at := os.fstat(file.fileno())).st_size == 0 and time.monotonic() < until:
            watch.check()
            time.sleep(LOOK)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        untouched = (at.st_size, at.st_mtime_ns) == (0, first.st_mtime_ns)
        if untouched and os.path.samestat(at, path.stat()):
            path.unlink()
            return True
    return False


def _look(path: Path) -> tuple[str, float]:
    """Return filelock's name for this machine, and for how many seconds nobody has touched a file.

    By the clock of its file system: beside it lies a lock of our own for a moment.
    """
    from filelock import MarkerSoftFileLock

    beside = hidden(path)
    with writing(path), MarkerSoftFileLock(beside) as mine:
        silent = 0.0
        with contextlib.suppress(FileNotFoundError):  # given back in this moment
            silent = beside.stat().st_mtime - path.stat().st_mtime
        return mine.owner.hostname if mine.owner else "", silent


def _who(owner: OwnerRecord | None) -> str:
    if owner is None:
        return "nobody knows whom"
    host, _, _ = owner.hostname.partition("?")  # behind which filelock has the space of the pids
    return f"pid {owner.pid} on {host}"


def began(pid: int) -> str:
    """Return when a process began, in clock ticks after the boot; nothing where there is no /proc.

    `dead`: it has ended, and its parent has not asked how.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return ""
    state, *fields = text.rpartition(")")[2].split()  # the name may hold anything
    return "dead" if state in "ZX" else fields[18]


def system() -> str:
    """Return a name that is equal for processes that see each other's pids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()
