"""Where weights are looked for, and what they must hash to.

Order: the folder in $ZOO_WEIGHTS, the package itself, the cache, the mirror in $ZOO_WEIGHTS, the
source. torch.hub hashes a file once, when it arrives, and only by 8 hex digits; here it is hashed
in full whenever it is about to be used. Where the catalogue knows a prefix or nothing, the full
hash is pinned in `FILE.sha256` when the file is first seen.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote
from urllib.request import url2pathname

from zoo.catalog.spec import Weights
from zoo.disk import replacing
from zoo.errors import CacheError, WeightsError, WriteError
from zoo.weights.fetch import Progress, Unreachable, fetch
from zoo.weights.folders import cache_folder, make_private
from zoo.weights.hashes import hash_of, is_full, pin, pin_of, pin_path
from zoo.weights.lock import alone
from zoo.weights.partial import orphans

HUB = "https://huggingface.co"
SHIPPED = Path(__file__).parent / "shipped"  # files of the package, each named after its recipe
STALE = 7 * 86400.0  # seconds


def find(
    weights: Weights,
    *,
    offline: bool = False,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
    model: str = "",
) -> Path:
    """Return the verified file of `weights`, downloaded if need be.

    offline, or ZOO_OFFLINE=1: no network. progress: see `fetch`. say: told, in a sentence, of
    a damaged file that was moved aside, and of waiting. model: whose weights, for the list of
    what is kept. Raises WeightsError, and CacheError where the cache cannot be written.
    """
    name = plain(weights.file)
    folder, mirror = _place_or_mirror()
    if folder is not None and os.path.isfile(folder / name):
        return _of_user(folder / name, weights)
    if os.path.isfile(SHIPPED / name):
        return _of_package(SHIPPED / name, weights)
    kept = kept_path(weights)
    offline = offline or is_offline()
    if os.path.isfile(kept):
        if not _damage(kept, weights):
            return kept
    elif offline:
        raise _nowhere(weights, kept, "offline")
    try:
        with alone(name, say):
            return _fetched(weights, kept, mirror, offline, progress, say, model)
    except WriteError as error:
        raise CacheError(error.what, f"{error.hint}: ZOO_CACHE=FOLDER names one") from error


def _fetched(
    weights: Weights,
    kept: Path,
    mirror: str,
    offline: bool,
    progress: Progress | None,
    say: Callable[[str], None] | None,
    model: str,
) -> Path:
    """The file from the network, if no other process has fetched it meanwhile."""
    if os.path.isfile(kept):
        damage = _damage(kept, weights)
        if not damage:
            return kept
        note = _move_aside(kept, damage)
        if say is not None:
            say(note)
    if offline:
        raise _nowhere(weights, kept, "offline")
    failures = []
    for url in filter(None, (mirror and f"{mirror}/{quote(kept.name)}", weights.url)):
        try:
            digest = _download(url, kept, weights, progress)
        except Unreachable as error:
            failures.append(error.what + (f", {error.hint}" if error.hint else ""))
        else:
            note_about(kept, weights, model, digest)
            return kept
    raise _nowhere(weights, kept, "; ".join(failures) or "it has no known source")


def is_offline() -> bool:
    return os.environ.get("ZOO_OFFLINE", "0").lower() not in ("", "0", "false", "no")


def held(weights: Weights) -> Path | None:
    """Where the file already lies on this machine, unverified; None if it is to be fetched."""
    name = plain(weights.file)
    folder, _ = _place_or_mirror()
    own = [folder / name] if folder is not None else []
    places = (*own, SHIPPED / name, kept_path(weights))
    return next((path for path in places if os.path.isfile(path)), None)


def _nowhere(weights: Weights, kept: Path, why: str) -> WeightsError:
    source = f"; it comes from {weights.url}" if weights.url else ""
    size = f" ({weights.size / 1e6:,.1f} MB)" if weights.size else ""
    return WeightsError(
        f"weights {weights.file}{size} not found ({why})",
        f"put {weights.file} into {kept.parent}, "
        f"or set ZOO_WEIGHTS to a folder that has it{source}",
    )


def plain(name: str) -> str:
    """Refuse a file name that could leave the folder or hide in it."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+@=-]{0,199}", name) or name.endswith("."):
        raise WeightsError(f"{name!a} is not a plain file name", "letters, digits and _.+@=- only")
    return name


def _place_or_mirror() -> tuple[Path | None, str]:
    """What $ZOO_WEIGHTS names: a folder, or the address of a mirror."""
    place = os.environ.get("ZOO_WEIGHTS", "").strip()
    if not place:
        return None, ""
    scheme = place.partition("://")[0].lower() if "://" in place else ""
    if scheme in ("http", "https"):
        return None, place.rstrip("/")
    if scheme not in ("", "file"):
        raise WeightsError(f"ZOO_WEIGHTS is {place}", "a folder, or file://, http:// or https://")
    bare = url2pathname("/" + place.split("/", 3)[-1]) if scheme else os.path.expanduser(place)
    folder = Path(bare).absolute()
    if not folder.is_dir():
        raise WeightsError(f"ZOO_WEIGHTS is {place}: no such folder", "unset it, or name a folder")
    return folder, ""


# What a file must hash to


def _of_package(path: Path, weights: Weights) -> Path:
    """A file that came with the package: verified, too."""
    damage = _compare(path, weights.sha256, weights.bytes)
    if damage:
        raise WeightsError(f"{path}: {damage}", "install zoo anew")
    return path


def _of_user(path: Path, weights: Weights) -> Path:
    """A file in the user's own folder: verified, and never written, moved or replaced."""
    pinned = pin_of(path) or pin_of(kept_path(weights)) if not is_full(weights.sha256) else ""
    damage = _compare(path, pinned or weights.sha256, weights.bytes)
    if damage:
        way_out = f"replace it by {weights.url or 'the file as it was published'}"
        raise WeightsError(
            f"{path} (from ZOO_WEIGHTS): {damage}", f"{way_out}, or take it out of that folder"
        )
    return path


def _damage(kept: Path, weights: Weights) -> str:
    """What is wrong with a cached file, if anything. Pins a file seen for the first time."""
    wanted = _wanted(kept, weights)
    damage = _compare(kept, wanted, weights.bytes)
    if not damage and not is_full(weights.sha256) and not pin_of(kept):
        with contextlib.suppress(WriteError):  # a read-only cache is still a cache
            pin(kept, hash_of(kept))
    return damage


def _wanted(kept: Path, weights: Weights) -> str:
    """The full sha256 where known, else the prefix that the catalogue has (or nothing)."""
    known = weights.sha256.lower()
    pinned = "" if is_full(known) else pin_of(kept)
    return pinned if pinned.startswith(known) and pinned else known


def _compare(path: Path, wanted: str, size: int | None) -> str:
    found = hash_of(path)
    if not found.startswith(wanted.lower()):
        return f"sha256 is {found}, not {wanted}"
    try:
        actual = path.stat().st_size
    except FileNotFoundError:  # moved aside by another process
        return "it is gone"
    return f"{actual} bytes, not {size}" if size not in (None, actual) else ""


def kept_path(weights: Weights) -> Path:
    return cache_folder() / "weights" / weights.file


def _move_aside(kept: Path, damage: str) -> str:
    aside, count = kept.with_name(f"{kept.name}.bad"), 1
    while aside.exists():
        count += 1
        aside = kept.with_name(f"{kept.name}.bad{count}")
    try:
        os.replace(kept, aside)
    except FileNotFoundError:  # another process was quicker, where locks do nothing
        pass
    except OSError as error:
        raise WeightsError(f"{kept}: {damage}", "remove it; it cannot be moved aside") from error
    return f"{kept}: {damage}; moved to {aside.name}"


def note_about(kept: Path, weights: Weights, model: str, digest: str) -> None:
    """Keep what the file itself does not say: whose it is, and its licence."""
    record = {
        "model": model,
        "tag": weights.tag,
        "licence": weights.licence,
        "source": weights.source or weights.url,
        "sha256": digest,
    }
    with contextlib.suppress(WriteError):  # it is of use to a reader only
        make_private(about_path(kept.name).parent)
        with replacing(about_path(kept.name), 0o600) as temporary:
            temporary.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


def about_path(name: str) -> Path:
    return cache_folder() / "about" / f"{name}.json"


# The network


def _download(url: str, kept: Path, weights: Weights, progress: Progress | None) -> str:
    make_private(kept.parent)
    _tidy(kept.parent)
    url, token = _at_hub(url)
    wanted = _wanted(kept, weights)
    try:
        digest = fetch(url, kept, sha256=wanted, size=weights.bytes, token=token, progress=progress)
    except Unreachable:
        raise
    except WeightsError as error:
        if wanted == weights.sha256.lower():
            raise
        way_out = f"; if the publisher has replaced it, remove {pin_path(kept)}"
        raise WeightsError(error.what, error.hint + way_out) from error
    if not is_full(wanted):
        pin(kept, digest)
    return digest


def _tidy(folder: Path) -> None:
    """Remove the parts of files that nobody has asked for again."""
    for path in orphans(folder):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE:
                path.unlink()


def _at_hub(url: str) -> tuple[str, str]:
    """HF_ENDPOINT in place of the hub, with HF_TOKEN; other addresses get no token."""
    if not url.startswith(HUB + "/"):
        return url, ""
    endpoint = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or HUB
    token = os.environ.get("HF_TOKEN", "").strip()
    if not re.fullmatch("[!-~]*", token):  # urllib would print it in its complaint
        raise WeightsError("HF_TOKEN is not a token", "printable ASCII without spaces")
    return endpoint + url[len(HUB) :], token
