"""What lies in the store: whose it is, whether it is still what it was, and how to be rid of it."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from zoo import catalog
from zoo.disk import cache_folder, writing
from zoo.errors import WeightsError, nearest
from zoo.weights.choice import SUFFIXES
from zoo.weights.convert import converted_path
from zoo.weights.hashes import hash_of, pin_of, pin_path
from zoo.weights.read import check
from zoo.weights.repository import config_beside
from zoo.weights.store import about_path


@dataclass(frozen=True, slots=True)
class Item:
    """A kept file. sha256: what it must hash to, in full or as far as known; empty: not known.

    state: `verified` when it came or was first used; `unknown` where it was put by hand and has
    not been used; `set aside` for a damaged one; `partial` for what has arrived of a download.
    """

    file: str
    path: Path
    bytes: int
    sha256: str
    model: str
    tag: str
    licence: str
    state: str

    def to_dict(self) -> dict[str, object]:
        return {**asdict(self), "path": str(self.path)}


def weights_folder() -> Path:
    return cache_folder() / "weights"


def items() -> list[Item]:
    """Return everything in the folder of weights, by name, and nothing of it opened."""
    folder = weights_folder()
    try:
        paths = sorted(path for path in folder.iterdir() if path.is_file())
    except FileNotFoundError:
        return []
    except OSError as error:
        hint = "set ZOO_CACHE to a folder that is yours"
        raise WeightsError(f"cannot read {folder}: {error.strerror}", hint) from error
    rows = {
        weights.file: (row.name, weights)
        for row in catalog.ROWS.values()
        for weights in row.weights
    }
    return [_item(path, rows) for path in paths if _state(path)]


def _item(path: Path, rows: dict[str, tuple[str, catalog.Weights]]) -> Item:
    model, tag, licence, published, checked = "", "", "", "", ""
    about = _about(path.name)
    if path.name in rows:
        model, weights = rows[path.name]
        tag, licence, published = weights.tag, weights.licence, weights.sha256
    with contextlib.suppress(WeightsError):
        checked = pin_of(path) or about.get("sha256", "")
    return Item(
        file=path.name,
        path=path,
        bytes=path.stat().st_size,
        sha256=checked or published,
        model=about.get("model", "") or model,
        tag=about.get("tag", "") or tag,
        licence=about.get("licence", "") or licence,
        state=_state(path, bool(checked)),
    )


def _state(path: Path, checked: bool = False) -> str:
    """Return what kind of file it is by its name; empty for pins and whatever is not ours."""
    if path.name.endswith(".partial"):
        return "partial"
    if path.name.rpartition(".")[2].startswith("bad"):
        return "set aside"
    if path.suffix.lower() in SUFFIXES:
        return "verified" if checked else "unknown"
    return ""


def _about(name: str) -> dict[str, str]:
    try:
        found = json.loads(about_path(name).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: value for key, value in found.items() if isinstance(value, str)}


def named(names: list[str]) -> list[Item]:
    """Return the items of these files or models; WeightsError, with near names, if one lacks."""
    have, chosen = items(), []
    for name in names:
        found = [item for item in have if name in (item.file, item.model)]
        if not found:
            known = {word for item in have for word in (item.file, item.model) if word}
            close = nearest(name, sorted(known))
            hint = close or (f"there are: {', '.join(sorted(known)[:10])}" if known else "")
            raise WeightsError(
                f"no weights '{name}' in {weights_folder()}", hint or "the store is empty"
            )
        chosen += [item for item in found if item not in chosen]
    return chosen


def verify(item: Item) -> str:
    """Return what is wrong with a file, hashed anew and opened; empty if nothing is."""
    if item.state not in ("verified", "unknown"):
        return ""
    try:
        digest = hash_of(item.path, again=True)
        pinned = pin_of(item.path)
        for wanted in (item.sha256, pinned):
            if not digest.startswith(wanted.lower()):
                return f"sha256 is {digest}, not {wanted}"
        check(item.path)
    except WeightsError as error:
        return error.what
    return ""


def remove(item: Item) -> int:
    """Take a file and all that was noted or made of it; the bytes that are free now."""
    made = [item.path, pin_path(item.path), about_path(item.file)]
    if (config := config_beside(item.path)) is not None:
        made += [config, pin_path(config), about_path(config.name)]
    if len(item.sha256) == 64:
        made += [converted_path(item.sha256), pin_path(converted_path(item.sha256))]
    free = 0
    for path in made:
        with writing(path), contextlib.suppress(FileNotFoundError):
            size = path.stat().st_size
            path.unlink()
            free += size
    return free
