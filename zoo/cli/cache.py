"""zoo cache: what is kept to be quick, by kind; make room, or clear it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.cli.console import print_json, print_table, talk
from zoo.cli.options import flag, options, shared
from zoo.errors import UsageError, nearest
from zoo.text import BYTES, amount, count, size

if TYPE_CHECKING:
    from zoo.cache import Entry

ROOM = "Making room"
AGES = {"h": 3600.0, "d": 86400.0, "w": 7 * 86400.0, "m": 30 * 86400.0, "y": 365 * 86400.0}


@dataclass(frozen=True)
class Flags:
    kind: str | None = flag("Only these kinds, as features or features,engines.", ROOM)
    list: bool = flag("List every entry, the least recently used first.", default=False)
    prune: bool = flag("Remove what --older and --budget say, the least recently used first.",
                       ROOM, False)  # fmt: skip
    older: str | None = flag("Remove what was not used for so long, as 30d, 2w or 12h.", ROOM)
    budget: str | None = flag("Remove until no more is left than this, as 5GB.", ROOM)
    clear: bool = flag("Remove everything, after a question.", ROOM, False)
    force: bool = flag("Clear without a question.", ROOM, False, names=("-f", "--force"))
    json: bool = shared("json")


@options
def command(flags: Flags) -> None:
    """List what is kept on this machine to be quick, by kind; make room, or clear it.

    Only what zoo itself has made is counted and removed. Pruning leaves weights and data sets,
    which take a download, unless --kind names one of them alone. Example: zoo cache --prune
    --older 30d --budget 5GB
    """
    from zoo import cache
    from zoo.cache import YOUNG

    kinds = _kinds(flags.kind)
    age, budget = _limits(flags)
    found = cache.pieces(kinds) if flags.prune else cache.entries(kinds)
    gone: list[Entry] = []
    if flags.clear:
        gone = found if flags.force or _agreed(found) else []
    elif flags.prune:
        gone = cache.to_prune(found, age, budget)
    freed = {entry.path: cache.take_out(entry) for entry in gone}
    removed = [entry for entry in gone if not os.path.lexists(entry.path)]
    if flags.json:
        told = removed if flags.clear or flags.prune else found
        print_json(_record(told, kinds, flags))
    elif flags.list:
        print_table(map(_cells, found), ("kind", "size", "last used", "entry"), " r")
    elif not (flags.clear or flags.prune):
        _show(found, kinds)
    if flags.clear or flags.prune:
        talk(f"{count(len(removed), 'entry', 'entries')} removed, {size(sum(freed.values()))} free")
        if flags.prune and (young := [one for one in found if time.time() - one.used < YOUNG]):
            talk(f"{count(len(young), 'entry', 'entries')} of the last hour left")
        if busy := len(gone) - len(removed):
            talk(f"{count(busy, 'entry is', 'entries are')} in use and left")


def _kinds(text: str | None) -> list[str]:
    """Return the kinds that were named. Raises UsageError."""
    from zoo.cache import BY_NAME

    named = [one.strip() for one in (text or "").split(",") if one.strip()]
    for one in named:
        if one not in BY_NAME:
            near = nearest(one, BY_NAME)
            raise UsageError(
                f"--kind {one}: there is no such kind",
                f"{near} kinds: {', '.join(BY_NAME)}".strip(),
            )
    return named


def _limits(flags: Flags) -> tuple[float | None, float | None]:
    """Return the age in seconds and the budget in bytes. Raises UsageError."""
    if flags.clear and flags.prune:
        raise UsageError("--clear with --prune", "leave one of them out: --clear removes all")
    if flags.prune and flags.older is None and flags.budget is None:
        raise UsageError("--prune without a limit", "as --prune --older 30d, --prune --budget 5GB")
    if not flags.prune and (flags.older or flags.budget):
        what = f"--older {flags.older}" if flags.older else f"--budget {flags.budget}"
        raise UsageError(f"{what} without --prune", "give --prune as well")
    age = amount(flags.older, AGES) if flags.older is not None else None
    if flags.older is not None and age is None:
        raise UsageError(f"--older {flags.older}: no length of time", "as 30d, 2w or 12h")
    room = amount(flags.budget, BYTES) if flags.budget is not None else None
    if flags.budget is not None and room is None:
        raise UsageError(f"--budget {flags.budget}: no amount", "as 500MB or 5GB")
    return age, room


def _agreed(found: Sequence[Entry]) -> bool:
    """Ask on a terminal whether all is to go. Raises UsageError where nobody can answer."""
    said = f"{count(len(found), 'entry', 'entries')}, {size(sum(one.bytes for one in found))}"
    if not sys.stdin.isatty():
        raise UsageError(f"--clear would remove {said}", "say so with --force")
    talk(f"remove {said}? Weights and data sets among them are downloaded anew. [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _show(found: Sequence[Entry], kinds: Sequence[str]) -> None:
    from zoo.cache import KINDS
    from zoo.disk import cache_folder

    rows = []
    for kind in KINDS:
        own = [one for one in found if one.kind == kind.name]
        if own:
            last = max(one.used for one in own)
            held = size(sum(one.bytes for one in own))
            rows.append((kind.name, f"{len(own):,}", held, _day(last), kind.about))
    if rows:
        print_table(rows, ("kind", "entries", "size", "last used", "what it is"), " rr",
                    ("what it is", "last used"))  # fmt: skip
    talk(f"{size(sum(one.bytes for one in found))} in {cache_folder()}; make room: zoo cache "
         "--prune --older 30d")  # fmt: skip


def _day(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(when))


def _cells(one: Entry) -> tuple[str, ...]:
    return (one.kind, size(one.bytes), _day(one.used), one.path.name)


def _record(told: Sequence[Entry], kinds: Sequence[str], flags: Flags) -> dict[str, object]:
    from zoo.disk import cache_folder

    return {
        "folder": str(cache_folder()),
        "removed" if flags.clear or flags.prune else "entries": [
            {"kind": one.kind, "path": str(one.path), "bytes": one.bytes, "used": one.used}
            for one in told
        ],
        "bytes": sum(one.bytes for one in told),
    }
