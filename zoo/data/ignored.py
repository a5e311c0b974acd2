"""What a listing passes over though nobody asked for it: folders of systems, names with a dot.

A network storage keeps a thumbnail of each photo in `@eaDir` beside it, a recycle bin keeps photos
that were deleted: as classes, or as photos of a class, they would be learned and measured on.
"""

from __future__ import annotations

from collections.abc import Iterable

DOT = "name begins with a dot"
SYSTEM = "a folder that a system makes"
# In lower case. Synology, QNAP, NetApp; Windows; Unix; macOS.
FOLDERS = frozenset({
    "@eadir", "@tmp", "@sharebin", "@recycle", "@recently-snapshot", "@snapshot", "@synoeastream",
    "#recycle", "#snapshot", "~snapshot",
    "$recycle.bin", "$extend", "$winreagent",
    "system volume information", "found.000", "lost+found",
    "__macosx", "network trash folder", "temporary items", "thevolumesettingsfolder",
})  # fmt: skip
OLD = ("RECYCLER", "RECYCLED")  # Windows XP's; in small letters a class of rubbish
NOTES = (".DS_Store", ".localized", ".directory", ".gitkeep", ".gitignore")  # nobody misses them
SHOWN = 5


def is_system(name: str) -> bool:
    """Return whether a folder of this name is made by a system, for itself."""
    return name.casefold() in FOLDERS or name in OLD


def in_system(path: str) -> bool:
    """Return whether a path, with `/`, leads through such a folder."""
    return any(map(is_system, path.split("/")[:-1]))


def reason(name: str, folder: bool) -> str:
    """Return why an entry of a folder is passed over by its name, or nothing."""
    if name.startswith("."):
        return DOT
    return SYSTEM if folder and is_system(name) else ""


def of_note(skipped: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the entries that were left out and that somebody may miss, each with its reason."""
    return [(path, why) for path, why in skipped if path.rpartition("/")[2] not in NOTES]


def told(skipped: Iterable[tuple[str, str]]) -> str:
    """Return what was left out for its name alone, in words: how many and which, or nothing."""
    by_reason: dict[str, list[str]] = {SYSTEM: [], DOT: []}
    for path, why in of_note(skipped):
        if why in by_reason:
            by_reason[why].append(path)
    said = []
    for why, paths in by_reason.items():
        if paths:
            more = ", …" if len(paths) > SHOWN else ""
            said.append(f"{len(paths)} ({why}): {', '.join(paths[:SHOWN])}{more}")
    return "; ".join(said)
