"""Where weights are looked for, and what they must hash to.

Order: the folder in $ZOO_WEIGHTS, the package itself, the cache, the mirror in $ZOO_WEIGHTS, the
source. torch.hub hashes a file once, when it arrives, and only by 8 hex digits; here it is hashed
in full whenever it is about to be used. Where the catalogue knows a prefix or nothing, the full
hash is pinned in `FILE.sha256` when the file is first seen.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from zoo import config
from zoo.catalog.spec import Weights
from zoo.disk import cache_folder, make_private, replacing
from zoo.errors import CacheError, WeightsError, WriteError
from zoo.lock import in_turn
from zoo.watch import Progress
from zoo.weights.fetch import Source, fetch
from zoo.weights.hashes import hash_of, is_full, pin, pin_of, pin_path
from zoo.weights.http import Unreachable

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
    kept, sources, why = _kept_path(weights), [], "offline"
    if not (offline or is_offline()):
        sources, why = [mirror and f"{mirror}/{quote(name)}", weights.url], "it has no known source"
    if os.path.isfile(kept):
        if not _damage(kept, weights):
            return kept
    elif not any(sources):
        raise _nowhere(weights, kept, why)
    try:
        make_private(kept.parent)
        with in_turn(kept, say):
            if not _is_right(kept, weights, say):  # another process may have fetched it meanwhile
                digest = _fetched(weights, kept, [url for url in sources if url], progress, why)
                _note_about(kept, weights, model, digest)
            return kept
    except WriteError as error:
        raise CacheError(error.what, f"{error.hint}: ZOO_CACHE=FOLDER names one") from error


def _fetched(
    weights: Weights, kept: Path, sources: list[str], progress: Progress | None, why: str
) -> str:
    """Download the file from the first place that has one, and return its sha256.

    why: there are no sources.
    """
    failures = []
    for url in sources:
        try:
            return _download(url, kept, weights, progress)
        except Unreachable as error:
            failures.append(error.what + (f", {error.hint}" if error.hint else ""))
    if failures:
        raise _unfetched(weights, "; ".join(failures))
    raise _nowhere(weights, kept, why)


def is_offline(variable: str = "ZOO_OFFLINE") -> bool:
    """Return whether the environment forbids the network; HF_HUB_OFFLINE forbids the hub alone."""
    return os.environ.get(variable, "0").lower() not in ("", "0", "false", "no")


def held(weights: Weights) -> Path | None:
    """Return where the file lies on this machine already, unverified; None if it does not."""
    name = plain(weights.file)
    folder, _ = _place_or_mirror()
    own = [folder / name] if folder is not None else []
    places = (*own, SHIPPED / name, _kept_path(weights))
    return next((path for path in places if os.path.isfile(path)), None)


def _unfetched(weights: Weights, why: str) -> WeightsError:
    """Return the error of a download that failed: the file is known, and where it is."""
    size = f" ({weights.size / 1e6:,.1f} MB)" if weights.size else ""
    return WeightsError(
        f"{weights.file}{size} could not be downloaded: {why}",
        "is there a network? Try again later, or bring it from another machine: `zoo pull MODEL "
        "--to FOLDER` there, ZOO_WEIGHTS=FOLDER here",
    )


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
    """Return what $ZOO_WEIGHTS, or `zoo config`, names: a folder, or the address of a mirror."""
    place = config.value("weights")
    if not place:
        return None, ""
    scheme = place.partition("://")[0].lower() if "://" in place else ""
    if scheme in ("http", "https"):
        return None, place.rstrip("/")
    if scheme not in ("", "file"):
        raise WeightsError(f"ZOO_WEIGHTS is {place}", "a folder, or file://, http:// or https://")
    bare = os.path.expanduser(place)
    if scheme:
        from urllib.request import url2pathname

        bare = url2pathname("/" + place.split("/", 3)[-1])
    folder = Path(bare).absolute()
    if not os.path.isdir(folder):
        raise WeightsError(f"ZOO_WEIGHTS is {place}: no such folder", "unset it, or name a folder")
    return folder, ""


# What a file must hash to


def _of_package(path: Path, weights: Weights) -> Path:
    """Verify a file that came with the package."""
    damage = _compare(path, weights.sha256, weights.bytes)
    if damage:
        raise WeightsError(f"{path}: {damage}", "install zoo anew")
    return path


def _of_user(path: Path, weights: Weights) -> Path:
    """Verify a file in the user's own folder, which is never written, moved or replaced."""
    pinned = pin_of(path) or pin_of(_kept_path(weights)) if not is_full(weights.sha256) else ""
    damage = _compare(path, pinned or weights.sha256, weights.bytes)
    if damage:
        way_out = f"replace it by {weights.url or 'the file as it was published'}"
        raise WeightsError(
            f"{path} (from ZOO_WEIGHTS): {damage}", f"{way_out}, or take it out of that folder"
        )
    return path


def _damage(kept: Path, weights: Weights) -> str:
    """Return what is wrong with a cached file, if anything. Pins a file seen for the first time."""
    wanted = _wanted(kept, weights)
    damage = _compare(kept, wanted, weights.bytes)
    if not damage and not is_full(weights.sha256) and not pin_of(kept):
        with contextlib.suppress(WriteError):  # a read-only cache is still a cache
            pin(kept, hash_of(kept))
    return damage


def _wanted(kept: Path, weights: Weights) -> str:
    """Return the full sha256 where known, else the prefix that the catalogue has, or nothing."""
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


def _kept_path(weights: Weights) -> Path:
    return cache_folder() / "weights" / weights.file


def _is_right(kept: Path, weights: Weights, say: Callable[[str], None] | None) -> bool:
    """Return whether the file is there and right; move a damaged one aside, and say so."""
    damage = _damage(kept, weights) if os.path.isfile(kept) else ""
    if damage:
        names = (f"{kept.name}.bad{n if n > 1 else ''}" for n in itertools.count(1))
        aside = next(path for name in names if not (path := kept.with_name(name)).exists())
        try:
            os.replace(kept, aside)
        except OSError as error:
            hint = "remove it; it cannot be moved aside"
            raise WeightsError(f"{kept}: {damage}", hint) from error
        if say is not None:
            say(f"{kept}: {damage}; moved to {aside.name}")
    return os.path.isfile(kept)


def _note_about(kept: Path, weights: Weights, model: str, digest: str) -> None:
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
    for path in kept.parent.glob(".*.partial"):  # of files that nobody has asked for again
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE:
                path.unlink()
    url, token = at_hub(url)
    wanted = _wanted(kept, weights)
    try:
        digest = fetch(Source(url, wanted, size=weights.bytes, token=token), kept, progress)
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


def at_hub(url: str) -> tuple[str, str]:
    """Put HF_ENDPOINT in place of the hub, with the user's token; no other address gets one."""
    if not url.startswith(HUB + "/"):
        return url, ""
    if is_offline("HF_HUB_OFFLINE"):
        raise Unreachable(f"{url} is not asked, for HF_HUB_OFFLINE is set")
    from huggingface_hub import get_token

    endpoint = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or HUB
    token = get_token() or ""
    if not re.fullmatch("[!-~]*", token):  # urllib would print it in its complaint
        raise WeightsError("HF_TOKEN is not a token", "printable ASCII without spaces")
    return endpoint + url[len(HUB) :], token
