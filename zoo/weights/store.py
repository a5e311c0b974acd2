"""Where weights are looked for, and what they must hash to.

Order: the folder in $ZOO_WEIGHTS, the cache, the mirror in $ZOO_WEIGHTS, the source. torch.hub
hashes a file once, when it arrives, and only by 8 hex digits; here it is hashed in full
whenever it is about to be used. Where the catalogue knows a prefix or nothing, the full
hash is pinned in `FILE.sha256` when the file is first seen.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote
from urllib.request import url2pathname

from zoo.catalog.spec import ModelSpec, Weights
from zoo.disk import replacing
from zoo.errors import WeightsError, WriteError, nearest
from zoo.weights.fetch import Progress, Unreachable, fetch
from zoo.weights.hashes import hash_of, make_private

SUFFIXES = (".safetensors", ".pth", ".pt")
RUN_FILE = "model.safetensors"
HUB = "https://huggingface.co"


def cache_folder() -> Path:
    """The folder of everything that can be fetched or computed again: $ZOO_CACHE or the user's."""
    chosen = os.environ.get("ZOO_CACHE", "").strip()
    if chosen:
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("zoo", appauthor=False)


def choose(spec: ModelSpec, choice: str | None) -> Weights | Path | None:
    """What `--weights CHOICE` means for this row: its own weights, a file, or none.

    Nothing chosen is the row's default. Raises WeightsError for a word that means nothing here.
    """
    if choice is None:
        return spec.default_weights
    if choice.lower() == "none":
        return None
    if not choice.strip():
        raise WeightsError("no weights ''", f"{_tags(spec)}; or give FILE, or none")
    for row in spec.weights:
        if row.tag.lower() == choice.lower():
            return row
    path = Path(os.path.expanduser(choice))
    if os.path.isdir(path):
        return _in_run(path)
    if os.path.isfile(path):  # unlike Path.is_file, False for a name too long to be one
        if path.suffix.lower() not in SUFFIXES:
            raise WeightsError(f"{path} is not a weights file", f"one of *{', *'.join(SUFFIXES)}")
        return path
    if path.suffix or "/" in choice or os.sep in choice:
        raise WeightsError(f"no weights file {choice}", f"{_tags(spec)}; or give FILE, or none")
    close = nearest(choice.lower(), [row.tag for row in spec.weights])
    hint = "; ".join(filter(None, (close, _tags(spec), "or give FILE, or none")))
    raise WeightsError(f"no weights {choice!r} for {spec.name}", hint)


def _in_run(folder: Path) -> Path:
    if not (folder / RUN_FILE).is_file():
        raise WeightsError(f"{folder} holds no {RUN_FILE}", "give a finished run or a file")
    return folder / RUN_FILE


def _tags(spec: ModelSpec) -> str:
    tags = ", ".join(row.tag for row in spec.weights)
    return f"{spec.name} has {tags or 'no weights of its own'}"


def find(
    weights: Weights,
    *,
    offline: bool = False,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Return the verified file of `weights`, downloaded if need be.

    offline, or ZOO_OFFLINE=1: no network. progress: see `fetch`. say: told, in a sentence, of
    a damaged file that was moved aside. Raises WeightsError, WriteError.
    """
    name = _plain(weights.file)
    folder, mirror = _place_or_mirror()
    if folder is not None and os.path.isfile(folder / name):
        return _of_user(folder / name, weights)
    kept = _kept(weights)
    if os.path.isfile(kept):
        damage = _damage(kept, weights)
        if not damage:
            return kept
        note = _move_aside(kept, damage)
        if say is not None:
            say(note)
    failures = []
    if offline or os.environ.get("ZOO_OFFLINE", "0").lower() not in ("", "0", "false", "no"):
        failures.append("offline")
    else:
        for url in filter(None, (mirror and f"{mirror}/{quote(name)}", weights.url)):
            try:
                return _download(url, kept, weights, progress)
            except Unreachable as error:
                failures.append(error.what + (f", {error.hint}" if error.hint else ""))
    raise _nowhere(weights, kept, "; ".join(failures) or "it has no known source")


def _nowhere(weights: Weights, kept: Path, why: str) -> WeightsError:
    source = f"; it comes from {weights.url}" if weights.url else ""
    return WeightsError(
        f"weights {weights.file} not found ({why})",
        f"put {weights.file} into {kept.parent}, "
        f"or set ZOO_WEIGHTS to a folder that has it{source}",
    )


def _plain(name: str) -> str:
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


def _of_user(path: Path, weights: Weights) -> Path:
    """A file in the user's own folder: verified, and never written, moved or replaced."""
    pin = weights.sha256 if _is_full(weights.sha256) else _pin_of(path) or _pin_of(_kept(weights))
    damage = _compare(path, pin or weights.sha256, weights.bytes)
    if damage:
        raise WeightsError(f"{path} (from ZOO_WEIGHTS): {damage}", f"replace it by {weights.url}")
    return path


def _damage(kept: Path, weights: Weights) -> str:
    """What is wrong with a cached file, if anything. Pins a file seen for the first time."""
    wanted = _wanted(kept, weights)
    damage = _compare(kept, wanted, weights.bytes)
    if not damage and not _is_full(wanted):
        with contextlib.suppress(WriteError):  # a read-only cache is still a cache
            _pin(kept, hash_of(kept))
    return damage


def _wanted(kept: Path, weights: Weights) -> str:
    """The full sha256 where known, else the prefix that the catalogue has (or nothing)."""
    known = weights.sha256.lower()
    pinned = "" if _is_full(known) else _pin_of(kept)
    return pinned if pinned.startswith(known) and pinned else known


def _compare(path: Path, wanted: str, size: int | None) -> str:
    found = hash_of(path)
    if not found.startswith(wanted.lower()):
        return f"sha256 is {found}, not {wanted}"
    actual = path.stat().st_size
    return f"{actual} bytes, not {size}" if size not in (None, actual) else ""


def _is_full(sha256: str) -> bool:
    return len(sha256) == 64


def _kept(weights: Weights) -> Path:
    return cache_folder() / "weights" / weights.file


def _pin_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _pin_of(path: Path) -> str:
    try:
        text = _pin_path(path).read_text("utf-8", "replace")[:200]
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise WeightsError(f"cannot read {_pin_path(path)}: {error.strerror}") from error
    match = re.match(r"([0-9a-fA-F]{64})(\s|$)", text)
    if match is None:
        raise WeightsError(f"{_pin_path(path)} holds no sha256", "remove it to pin the file anew")
    return match[1].lower()


def _pin(path: Path, digest: str) -> None:
    with replacing(_pin_path(path), 0o600) as temporary:
        temporary.write_text(f"{digest}  {path.name}\n", "utf-8")


def _move_aside(kept: Path, damage: str) -> str:
    aside, count = kept.with_name(f"{kept.name}.bad"), 1
    while aside.exists():
        count += 1
        aside = kept.with_name(f"{kept.name}.bad{count}")
    try:
        os.replace(kept, aside)
    except OSError as error:
        raise WeightsError(f"{kept}: {damage}", "remove it; it cannot be moved aside") from error
    return f"{kept}: {damage}; moved to {aside.name}"


# The network


def _download(url: str, kept: Path, weights: Weights, progress: Progress | None) -> Path:
    make_private(kept.parent)
    url, token = _at_hub(url)
    wanted = _wanted(kept, weights)
    try:
        digest = fetch(url, kept, sha256=wanted, size=weights.bytes, token=token, progress=progress)
    except Unreachable:
        raise
    except WeightsError as error:
        if wanted == weights.sha256.lower():
            raise
        way_out = f"; if the publisher has replaced it, remove {_pin_path(kept)}"
        raise WeightsError(error.what, error.hint + way_out) from error
    if not _is_full(wanted):
        _pin(kept, digest)
    return kept


def _at_hub(url: str) -> tuple[str, str]:
    """HF_ENDPOINT in place of the hub, with HF_TOKEN; other addresses get no token."""
    if not url.startswith(HUB + "/"):
        return url, ""
    endpoint = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or HUB
    token = os.environ.get("HF_TOKEN", "").strip()
    if not re.fullmatch("[!-~]*", token):  # urllib would print it in its complaint
        raise WeightsError("HF_TOKEN is not a token", "printable ASCII without spaces")
    return endpoint + url[len(HUB) :], token
