"""Defaults of this user in one TOML file; the environment goes before it, and flags before both.

    weights = "/data/weights"    where published weights are looked for, as $ZOO_WEIGHTS
    cache = "/scratch/zoo"       where what can be made again is kept, as $ZOO_CACHE
    device = "cpu"               where networks run unless --device says so, as $ZOO_DEVICE
    cache_budget = "50GB"        what features and graphs may have of it, as $ZOO_CACHE_BUDGET

It is the user's config folder, ~/.config/zoo/config.toml on Linux, or what $ZOO_CONFIG names.
"""

from __future__ import annotations

import functools
import os
import re
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from zoo.errors import UsageError, meant, nearest
from zoo.text import must_be_short

MOST, LONGEST = 65_536, 4096  # bytes of the file, characters of a value
# The variable that goes before the file, what a value must look like, and what it is.
KEYS = {
    "weights": (
        "ZOO_WEIGHTS", r"\S.*", "a folder of weights, or a file://, http:// or https:// mirror"
    ),
    "cache": ("ZOO_CACHE", r"[~/.\w].*", "a folder for what can be made again"),
    "device": ("ZOO_DEVICE", r"auto|cpu|mps|cuda(:\d{1,3})?", "auto, cpu, cuda, cuda:N or mps"),
    "cache_budget": (
        "ZOO_CACHE_BUDGET", r"none|(\d+\.?\d*|\.\d+) ?([kMGT]?B)",
        "room for features and graphs, as 50GB, or none for no limit",
    ),
}  # fmt: skip


def place() -> Path:
    """Return where the file is, or would be."""
    if chosen := os.environ.get("ZOO_CONFIG", "").strip():
        return Path(chosen).expanduser().absolute()
    return user_folder("config") / "config.toml"


def user_folder(kind: Literal["cache", "config"]) -> Path:
    """Return the folder of zoo where this user's programs keep things of a kind."""
    home = os.environ.get("HOME", "")
    told = os.environ.get(f"XDG_{kind.upper()}_HOME", "")
    if sys.platform == "linux" and os.path.isabs(home) and not told:
        return Path(home, f".{kind}", "zoo")  # as below, whose import is a seventh of `zoo list`
    import platformdirs

    if kind == "cache":
        return platformdirs.user_cache_path("zoo", appauthor=False)
    return platformdirs.user_config_path("zoo", appauthor=False)


def value(name: str) -> str:
    """Return what the environment says of a key, else the file, else nothing."""
    return os.environ.get(KEYS[name][0], "").strip() or read().get(name, "")


def origin(name: str) -> str:
    """Return who says so: a variable, the file or nobody."""
    variable = KEYS[name][0]
    if os.environ.get(variable, "").strip():
        return f"${variable}"
    return str(place()) if name in read() else ""


def read() -> dict[str, str]:
    """Return what the file says; nothing where there is none. Raises UsageError."""
    path = place()
    try:
        status = path.stat()
    except OSError:
        return {}
    return dict(_read(path, status.st_mtime_ns, status.st_size, stat.S_ISREG(status.st_mode)))


@functools.cache
def _read(path: Path, when: int, size: int, regular: bool) -> Mapping[str, str]:
    """Return the values of a file as it is at that time."""
    import tomllib

    repair = "repair it or remove it"
    if not regular or size > MOST:
        why = f"it has {size:,} bytes, {MOST:,} are the most" if regular else "it is no plain file"
        raise UsageError(f"{path} cannot be used: {why}", repair)
    try:
        values = tomllib.loads(path.read_text("utf-8"))
        must_be_short(values)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", repair) from None
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UsageError(f"{path} is not TOML: {why}", repair) from None
    for name, found in values.items():
        check(name, found, f"{path}: ")
    return values


def check(name: str, found: object, where: str = "") -> None:
    """Raise UsageError for a key that there is not, or a value that it cannot have."""
    if name not in KEYS:
        near = nearest(name, KEYS)
        raise UsageError(
            f"{where}there is no setting '{name[:80]}'" + (f"; {near}" if near else ""),
            f"there are {', '.join(KEYS)}" + (": take the line out" if where else ""),
        )
    _, pattern, wanted = KEYS[name]
    fine = isinstance(found, str) and len(found) <= LONGEST and found.isprintable()
    if not fine or not re.fullmatch(pattern, str(found)):
        shown = repr(found)
        shown = shown if len(shown) <= 80 else shown[:77] + "…"
        raise UsageError(
            f"{where}{name} = {shown}: expected {wanted}",
            meant(name, found) or f"`zoo config set {name} VALUE`",
        )
