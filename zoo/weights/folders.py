"""Where the store lies, and that it is this user's alone."""

from __future__ import annotations

import os
from pathlib import Path

from zoo.disk import writing


def cache_folder() -> Path:
    """The folder of everything that can be fetched or computed again: $ZOO_CACHE or the user's."""
    chosen = os.environ.get("ZOO_CACHE", "").strip()
    if chosen:
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("zoo", appauthor=False)


def make_private(folder: Path) -> None:
    """Create `folder`, and what is missing above it, for this user alone."""
    with writing(folder):
        missing = [one for one in (folder, *folder.parents) if not one.exists()]
        for one in reversed(missing):
            one.mkdir(mode=0o700, exist_ok=True)
