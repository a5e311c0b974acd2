"""What a slip of the hand does to a whole command, told before anything is computed.

Arguments in the wrong order, a folder of photos where a network is named, a run among the photos,
and a file that is there already.
"""

from __future__ import annotations

import itertools
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence

from zoo import catalog
from zoo.catalog import holds_run
from zoo.errors import UsageError

_NETWORKS = ("model", "models", "run", "runs", "teacher")
_PHOTOS = ("data", "inputs", "images", "photos", "added")
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MANY, MOST = 12, 200  # words of a command that a hint repeats; entries of a folder looked at
# The flags of a command that name one file to write; a run folder has a rule of its own.
FILES = {
    "predict": ("output",), "embed": ("output", "picture"), "next": ("sheet",),
    "rank": ("output", "html"), "evaluate": ("plot",), "compare": ("html",),
    "report": ("output",), "onnx": ("output",), "info": ("svg",), "lr": ("output",),
    "check": ("html", "output"), "finetune": ("sheet",), "train": ("sheet",),
    "distill": ("sheet",), "merge": ("output",), "explain": ("output",),
}  # fmt: skip


def check(path: str, typed: Sequence[str], given: Mapping[str, object]) -> None:
    """Raise UsageError for a command that cannot have been meant so.

    path: the command, as `zoo predict`. typed: the words behind it. given: what they mean.
    """
    networks = _words(given, _NETWORKS)
    photos = _words(given, _PHOTOS)
    if networks and photos:
        _check_order(path, typed, networks, photos)
    elif "model" in given and given.get("data", "") is None:
        _check_alone(path, networks)
    elif len(networks) > 1:
        _check_all_networks(path, typed, networks, "data" in given)
    else:
        _check_run(path, typed, str(given.get("run") or ""))
    if path.endswith(" info") and "photo" in (what := told_photos(str(given["model"]))):
        raise UsageError(
            f"{given['model']} is {what}, and neither a run nor a model",
            f"`zoo check {shlex.quote(str(given['model']))}` looks at photos",
        )
    for name in FILES.get(path.split()[-1], ()):
        place = given.get(name)
        if place is not None and not given.get("force") and os.path.isfile(str(place)):
            raise UsageError(
                f"{place} exists already", "choose another name, or overwrite it with --force"
            )


def _check_alone(path: str, networks: Sequence[str]) -> None:
    """Raise UsageError for photos without a network; a recipe may say the photos."""
    for one in networks:
        if what := told_photos(one):
            raise UsageError(
                f"{one} is {what}, and a network comes first",
                f"`{path} MODEL {shlex.quote(one)}`, as resnet50; `zoo list` has the names",
            )


def _check_run(path: str, typed: Sequence[str], word: str) -> None:
    """Raise UsageError for photos or a model's name where a finished run belongs."""
    if "photo" in (what := told_photos(word)):
        raise UsageError(
            f"{word} is {what}, and no run",
            f"`zoo finetune MODEL {shlex.quote(word)}` makes one; `zoo runs` lists those there are",
        )
    if os.path.isfile(word):
        raise UsageError(
            f"{word} is a file, and no run",
            "name the run folder that it came from; `zoo runs` lists those there are",
        )
    if word and not holds_run(word) and (run := next(filter(holds_run, typed), None)):
        turned = _said(_moved_first(typed, run))
        raise UsageError(
            f"{word} is no run, and {run} is one: the run comes first",
            f"turned round: `{path} {turned}`",
        )
    if word and _told_network(word) == "a network":
        rest = _said(["RUN" if one == word else one for one in typed])
        raise UsageError(
            f"{word} is a network, and no run yet",
            f"`zoo finetune {shlex.quote(word)} PHOTOS -o RUN`, then `{path} {rest}`",
        )


def _words(given: Mapping[str, object], names: Iterable[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        value = given.get(name)
        if isinstance(value, list | tuple):
            found += map(str, value)
        elif value is not None:
            found.append(str(value))
    return found


def _check_order(
    path: str, typed: Sequence[str], networks: Sequence[str], photos: Sequence[str]
) -> None:
    """Raise UsageError for photos where the network belongs, and for a run among the photos."""
    first, second = networks[0], photos[0]
    if (what := told_photos(first)) and (other := _told_network(second, path)):
        words = [second if one == first else first if one == second else one for one in typed]
        if len(photos) > 1:  # the network may be the last: `predict a.jpg b.jpg RUN`
            words = _moved_first(typed, second)
        raise UsageError(
            f"{first} is {what}, and {second} is {other}: the network comes first",
            f"turned round: `{path} {_said(words)}`",
        )
    if what and (last := next((one for one in photos[1:] if _told_network(one)), None)):
        raise UsageError(
            f"{first} is {what}, and {last} is {_told_network(last)}: the network comes first",
            f"turned round: `{path} {_said(_moved_first(typed, last))}`",
        )
    if run := next((one for one in photos if holds_run(one) and not what), None):
        without = _said([one for one in typed if one != run])
        rest = f"`{path} {without}`" if len(photos) > 1 else "name photos behind the network"
        raise UsageError(
            f"{run} is a run, where photos belong: the network is {first}",
            f"{rest}; `zoo evaluate {shlex.quote(first)} {shlex.quote(run)}` measures both",
        )


def _check_all_networks(
    path: str, typed: Sequence[str], networks: Sequence[str], data: bool
) -> None:
    """Raise UsageError for a folder of photos among runs."""
    found = next((one for one in networks if "photo" in told_photos(one)), None)
    if found is not None and any(map(_told_network, networks)):
        rest = _said([one for one in typed if one != found])
        hint = f"leave it out: `{path}` takes runs"
        if data:
            hint = f"`{path} {rest} --data {shlex.quote(found)}`"
        raise UsageError(f"{found} is {told_photos(found)}, not a network", hint)


def _said(words: Sequence[str]) -> str:
    """Return words as they are typed; of very many, as a glob gives them, the first."""
    return shlex.join(words) if len(words) < MANY else shlex.join(words[:2]) + " …"


def _moved_first(typed: Sequence[str], word: str) -> list[str]:
    return [word, *(one for one in typed if one != word)]


def told_photos(word: str) -> str:
    """Return what photos or a folder that is no run are called; nothing for anything else."""
    if word.lower().endswith(_SUFFIXES):
        return "a photo"
    if "=" in word and os.path.isdir(word.partition("=")[2]):
        return "a class and its photos"
    if not os.path.isdir(word) or holds_run(word):
        return ""
    return "a folder of photos" if _has_photos(word) else "a folder and no run"


def _has_photos(folder: str, depth: int = 3) -> bool:
    """Return whether a photo is among the first entries of a folder, or of those in it."""
    try:
        with os.scandir(folder) as inside:
            some = list(itertools.islice(inside, MOST))
    except OSError:
        return False
    return any(one.name.lower().endswith(_SUFFIXES) for one in some) or (
        depth > 1 and any(one.is_dir() and _has_photos(one.path, depth - 1) for one in some[:MANY])
    )


def _told_network(word: str, path: str = "") -> str:
    """Return what a run, an exported file or a model's name is called; nothing for others."""
    if word == "auto" and path.endswith(" finetune"):
        return "a choice of the network"
    if holds_run(word):
        return "a run"
    if catalog.is_exported(word):
        return "an exported network"
    if os.path.exists(word):
        return ""
    known = catalog.full_name(word.partition("=")[0])
    bare = catalog.base(known)
    return "a network" if bare in catalog.ROWS or catalog.of_library(known) else ""
