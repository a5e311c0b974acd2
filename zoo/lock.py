"""One process at a time works in a folder.

The file `lock` says who: it is made with O_EXCL, touched again and again while its process lives,
and removed at the end. Of a process that died without a word it stays; whoever takes over makes,
with O_EXCL again, the file `lock.TOKEN` with the token of the dead one's, and so on: of a chain of
such files the last one says who works here. No file is ever replaced, so of several that want the
place of a dead process one gets it, on file systems without locks too, and whoever of them dies
leaves a chain that can be followed.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from zoo import records
from zoo.disk import writing
from zoo.errors import RunError
from zoo.watch import undoing

NAME = "lock"
LEASE = 60.0  # seconds without a sign of life after which a process of another host is dead
TOUCH = 10.0
BYTES = 10_000  # of a file at most
GRACE = 0.2  # seconds for the words of a file that was just made


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds a lock. began: clock ticks after the boot, where there is a /proc.

    system: a boot of a machine and a space of pids in it, in which a pid means something.
    """

    pid: int
    host: str
    system: str
    began: str
    token: str


class Lock:
    """Held by this process. died: who had it and did not give it back, in words, or nothing."""

    def __init__(self, path: Path, holder: Holder, died: str) -> None:
        self.path, self.holder, self.died = path, holder, died
        self.lost = False
        self.over = threading.Event()
        threading.Thread(target=self.stay, name="zoo-lock", daemon=True).start()

    def stay(self) -> None:
        """Gives signs of life until the end, or until another has taken over."""
        while not self.over.wait(TOUCH):
            with contextlib.suppress(OSError):
                os.utime(self.path)
            last = tail(self.path.parent)
            if last is not None and last[1] != self.holder:
                self.lost = True
                return

    def must_be_ours(self) -> None:
        """Raises RunError where another process took this one for dead and works here now."""
        if self.lost:
            folder = self.path.parent
            raise RunError(f"another process has taken over {folder}", "leave it to that one")

    def release(self) -> None:
        self.over.set()
        files = chain(self.path.parent)
        if files and files[-1][1] == self.holder:
            for path, _ in files:  # the first one first: what is left then leads nowhere
                path.unlink(missing_ok=True)


def take(folder: Path) -> Lock:
    """Holds the folder from here on. Raises RunError where a living process does, WriteError."""
    while True:
        last = tail(folder)
        died = "" if last is None else must_be_dead(folder, *last)
        name = NAME if last is None else f"{NAME}.{last[1].token}"
        own = Holder(os.getpid(), socket.gethostname(), system(), began(), secrets.token_hex(8))
        if not make(folder / name, own):
            continue  # another was quicker: look who
        found = tail(folder)
        if found is not None and found[1] == own:
            for stray in folder.glob(f"{NAME}.*") if last is None else ():
                stray.unlink(missing_ok=True)  # of somebody who died while giving it back
            return Lock(folder / name, own, died)
        (folder / name).unlink(missing_ok=True)  # the chain it belonged to had just been given back


def refuse_held(folder: Path) -> None:
    """Raises RunError where a living process holds the folder."""
    last = tail(folder)
    if last is not None:
        must_be_dead(folder, *last)


def must_be_dead(folder: Path, path: Path, holder: Holder) -> str:
    """What a person should know of a holder that is dead. Raises RunError for a living one."""
    who = f"pid {holder.pid} on {holder.host}"
    if holder.system == system() and sys.platform != "win32":
        if alive(holder):
            raise RunError(
                f"{folder} is being worked in by {who}",
                "wait for it, or stop it: it leaves a run that can be resumed",
            )
        return f"the process that had it ({who}) was killed, perhaps for want of memory"
    silent = age(path)
    if silent < LEASE:
        raise RunError(
            f"{folder} is being worked in by {who}, which gave a sign of life {silent:.0f} s ago",
            f"wait for it; {LEASE:.0f} s after its last sign another may go on",
        )
    return f"the process that had it ({who}) has given no sign of life for {silent:.0f} s"


def tail(folder: Path) -> tuple[Path, Holder] | None:
    """The last file of the chain and who made it; None where nobody holds the folder."""
    return next(reversed(chain(folder)), None)


def chain(folder: Path) -> list[tuple[Path, Holder]]:
    """The files of the chain, in order. Raises RunError for what is no file, and for a circle."""
    files: list[tuple[Path, Holder]] = []
    path = folder / NAME
    while (holder := read(path)) is not None:
        if path in (each for each, _ in files):
            raise RunError(f"{path} leads back to itself", f"remove {folder / NAME}*")
        files.append((path, holder))
        path = folder / f"{NAME}.{holder.token}"
    return files


def read(path: Path) -> Holder | None:
    """Who made this file, None where it is not there. Raises RunError for what is no file.

    One without words, as a power failure leaves it, is of nobody, whose lease runs out.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise RunError(f"{path} is no plain file, so no zoo has made it", "remove it")
    until = time.monotonic() + GRACE
    while True:
        try:
            said = records.read_json(path, BYTES)
            records.LOCK(said, "")
            return Holder(**{field.name: said[field.name] for field in fields(Holder)})
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            if time.monotonic() > until:
                return Holder(0, "a host unknown", "", "", "unknown")
            time.sleep(0.01)


def make(path: Path, holder: Holder) -> bool:
    """Whether the file is ours: it was not there before."""
    with writing(path):
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return False
        try:
            os.write(handle, json.dumps(asdict(holder)).encode())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)
    return True


def age(path: Path) -> float:
    """Seconds since a file was touched, by the clock of its file system."""
    probe = path.with_name(f".{NAME}.{secrets.token_hex(6)}")
    try:
        with writing(path):
            probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:  # given back in this moment
        return 0.0
    finally:
        probe.unlink(missing_ok=True)


def alive(holder: Holder) -> bool:
    """Whether a process of this system lives, and is not another one with its number."""
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return began(holder.pid) == holder.began


def began(pid: int | None = None) -> str:
    """When a process began; nothing where there is no /proc, or where it waits to be buried."""
    try:
        text = Path(f"/proc/{pid or 'self'}/stat").read_text(errors="replace")
    except OSError:
        return ""
    state, *fields = text.rpartition(")")[2].split()  # the name may hold anything
    return "dead" if state in "ZX" else fields[18]


def system() -> str:
    """Equal for processes that see each other's pids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


@contextlib.contextmanager
def held(folder: Path) -> Iterator[Lock]:
    """Holds the folder. Raises RunError where a living process does, WriteError."""
    lock = take(folder)
    with undoing(lock.release):
        try:
            yield lock
        finally:
            lock.release()
