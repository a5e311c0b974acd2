"""Where the store lies, and that it is this user's alone."""

from __future__ import annotations

from pathlib import Path

from zoo.disk import cache_folder, writing

__all__ = ["cache_folder", "make_private"]


def make_private(folder: Path) -> None:
    """Create `folder`, and what is missing above it, for this user alone."""
    with writing(folder):
        missing = [one for one in (folder, *folder.parents) if not one.exists()]
        for one in reversed(missing):
            one.mkdir(mode=0o700, exist_ok=True)
