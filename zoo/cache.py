"""What is kept on this machine so that nothing is computed or fetched twice, by kind.

Only what has a name that zoo gives is counted or removed, and no link is followed: the folder may
be one that the user shares with other things.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo import config
from zoo.disk import cache_folder, remove
from zoo.engine import store
from zoo.features import parts
from zoo.text import BYTES, amount

_KEY = "[0-9a-f]{32}"


@dataclass(frozen=True, slots=True)
class Kind:
    """One folder of the cache. names: what its entries are called. again: how one comes back, or
    nothing where it takes a download, so that it is left where room is made.
    """

    name: str
    about: str
    names: str
    again: str


KINDS = (
    Kind("features", "what a frozen network makes of photos", _KEY, "computed at the next run"),
    Kind("engines", "compiled networks", _KEY, "compiled at the next run"),
    Kind("graphs", "graph templates for the export", r"\d[\w.+-]*-torch-[\w.+-]+", "made again"),
    Kind("converted", "weights of .pth files as safetensors",
         r"[0-9a-f]{64}-[0-9a-f]{6,64}\.safetensors(\.sha256)?", "converted at the next use"),
    Kind("solving", "features of a job while its head is solved", r"tmp\w{8}", "copied again"),
    Kind("digests", "hashes of photos", _KEY, "hashed again"),
    Kind("known", "shapes and sizes of networks, agreements",
         rf"((tensors|agreement|pass|stages)-)?{_KEY}(\.json)?", "found again"),
    Kind("weights", "published weights, see `zoo weights`", "", ""),
    Kind("web", "ONNX Runtime Web, for `zoo export web`", r"onnxruntime-web-[\d.]+", ""),
    Kind("data", "data sets: mnist, fashion-mnist, xo", "mnist|fashion-mnist|xo", ""),
)  # fmt: skip
BY_NAME = {kind.name: kind for kind in KINDS}
_LEFT = re.compile(r"\..*\.[0-9a-f]{8,32}\.partial")  # of a process that was killed
YOUNG = 3600.0  # seconds: what has just been used may be in use
_LEAST, _SHARE = 20e9, 0.1  # bytes of features and graphs that may stay, and share of the disk


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder that can be removed as a whole. used: when last, seconds since 1970."""

    kind: str
    path: Path
    files: int
    bytes: int
    used: float


def entries(kinds: Sequence[str] = ()) -> list[Entry]:
    """Return what there is of some kinds, or of all, the least recently used first."""
    chosen = [BY_NAME[name] for name in kinds] if kinds else KINDS
    found = [entry for kind in chosen for entry in _of(kind)]
    return sorted(found, key=lambda entry: entry.used)


def _of(kind: Kind) -> Iterator[Entry]:
    folder = cache_folder() / kind.name
    if os.path.islink(folder):
        return
    if kind.name == "weights":
        from zoo.weights import inventory

        ours = {item.path.name for item in inventory.items() if item.state != "unknown"}
    with contextlib.suppress(OSError), os.scandir(folder) as inside:
        for one in inside:
            mine = one.name in ours if kind.name == "weights" else re.fullmatch(
                kind.names, one.name)  # fmt: skip
            if (mine or _LEFT.fullmatch(one.name)) and not one.is_symlink():
                with contextlib.suppress(OSError):  # another process has removed it
                    yield _entry(kind.name, Path(one.path))


def _entry(kind: str, path: Path) -> Entry:
    files, size, used = 0, 0, 0.0
    places = [path] if not path.is_dir() else [
        Path(top, name) for top, _, names in os.walk(path) for name in names
    ]  # fmt: skip
    for place in places:
        status = place.lstat()
        files, size = files + 1, size + status.st_size
        used = max(used, status.st_mtime, status.st_atime)
    return Entry(kind, path, files, size, used or path.lstat().st_mtime)


def pieces(kinds: Sequence[str] = ()) -> list[Entry]:
    """Return what can be removed by itself: as `entries`, but the parts of features one by one."""
    found: list[Entry] = []
    for entry in entries(kinds):
        own = [] if entry.kind != "features" else [
            part for path in entry.path.glob(parts.KEYS) if (part := _part(path))
        ]  # fmt: skip
        if entry.kind == "features":
            for path in parts.unfinished(entry.path):
                with contextlib.suppress(OSError):  # it is finished meanwhile
                    own.append(_entry("features", path))
        found += own or [entry]
    return sorted(found, key=lambda entry: entry.used)


def _part(path: Path) -> Entry | None:
    """Return a part by the file of its keys; None where another process has removed it."""
    try:
        files = [parts.beside(path, kind).stat() for kind in ("keys.npy", "rows.npy", "sha256")]
    except OSError:
        return None
    used = max(one.st_mtime for one in files)  # as `parts` notes it; to open a cache is no use
    return Entry("features", path, len(files), sum(one.st_size for one in files), used)


def budget() -> float | None:
    """Return the bytes that features and graphs may have together; None where there is no limit.

    As `zoo config` or $ZOO_CACHE_BUDGET says, else 20 GB or a tenth of the disk, whichever is more.
    """
    said = config.value("cache_budget")
    if said:
        config.check("cache_budget", said)
        return None if said == "none" else amount(said, BYTES)
    with contextlib.suppress(OSError):
        return max(_LEAST, _SHARE * shutil.disk_usage(cache_folder()).total)
    return None


def make_room() -> tuple[int, float]:
    """Remove the longest unused features and graphs beyond the budget; what a process uses stays.

    Return how many bytes are free now, and the budget. Raises UsageError for a wrong budget.
    """
    most = budget()
    if most is None:
        return 0, 0.0
    gone = to_prune(pieces(("features", "engines")), None, most)
    return sum(map(take_out, gone)), most


def to_prune(found: Sequence[Entry], age: float | None, budget: float | None) -> list[Entry]:
    """Return what goes: all that was not used for `age` seconds, then the least recently used.

    budget: bytes that may stay. What takes a download to come back stays, unless it alone was
    asked for; so does what was used within the last hour.
    """
    now = time.time()
    alone = len({entry.kind for entry in found}) == 1
    free = [one for one in found if (BY_NAME[one.kind].again or alone) and now - one.used > YOUNG]
    free.sort(key=lambda one: one.used)
    gone = [one for one in free if age is not None and now - one.used > age]
    if budget is not None:
        left = sum(one.bytes for one in found) - sum(one.bytes for one in gone)
        for one in free[len(gone) :]:
            if left <= budget:
                break
            gone.append(one)
            left -= one.bytes
    return gone


def take_out(entry: Entry) -> int:
    """Remove an entry and return the bytes that are free now; 0 where it is in use, or stays."""
    if entry.kind == "weights":
        from zoo.weights import inventory

        return sum(inventory.remove(i) for i in inventory.items() if i.path == entry.path)
    if entry.kind in ("engines", "solving"):
        store.remove(entry.path)
    elif entry.path.match(parts.KEYS):
        parts.forget(entry.path)
    else:
        remove(entry.path)
    return 0 if entry.path.exists() else entry.bytes
