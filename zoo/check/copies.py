"""The same photo twice: in one part, in train and val, under two labels; groups torn apart."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from zoo.check.look import Looked, Photo
from zoo.check.near import Pair, near_pairs
from zoo.check.records import Example, Finding, Severity
from zoo.data.copies import Forest
from zoo.data.views import generator
from zoo.errors import UsageError
from zoo.metrics import Array
from zoo.text import count

TOO_SMALL = 32  # pixels: below, different digits and letters are alike
PROJECTED = 128  # numbers of features that the nearest photo is looked for by
Named = Callable[[Photo], str]


def alike(looked: Looked, features: Array | None) -> list[tuple[Photo, Photo, float]]:
    """Return the pairs of photos that are the same picture in other bytes.

    features: of `looked.differ()`, N x D: whoever is near by them is compared, too.
    """
    photos = looked.differ()
    large = [n for n, p in enumerate(photos) if min(p.width, p.height) > TOO_SMALL]
    if len(large) < 2:
        return []
    greys = np.stack([photos[n].grey for n in large])
    also = [] if features is None else _nearest(features[large])
    found: list[Pair] = near_pairs(greys, also)
    return [(photos[large[i]], photos[large[j]], cosine) for i, j, cosine in found]


def _nearest(features: Array) -> list[tuple[int, int]]:
    """Return each row with its nearest one, by the cosine about the mean.

    Wide features are projected by chance first, which changes distances little (Johnson,
    Lindenstrauss 1984): the pairs are only those that are looked at.
    """
    rows = features - features.mean(axis=0)
    if rows.shape[1] > PROJECTED:
        chance = generator("near").normal(size=(rows.shape[1], PROJECTED)).astype(np.float32)
        rows = rows @ chance
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)
    pairs = []
    for first in range(0, len(rows), 1024):
        cosines = rows[first : first + 1024] @ rows.T
        cosines[np.arange(len(cosines)), first + np.arange(len(cosines))] = -2
        pairs += [(first + n, int(other)) for n, other in enumerate(cosines.argmax(axis=1))]
    return pairs


def findings(
    looked: Looked, near: Sequence[tuple[Photo, Photo, float]], drawn: bool, named: Named
) -> list[Finding | None]:
    """Return what copies do to the data. drawn: the parts are not the data's own."""
    first: dict[bytes, Photo] = {}
    exact = []
    for photo in looked.photos:
        twin = first.setdefault(photo.digest, photo)
        if twin is not photo:
            exact.append((photo, twin, 1.0))
    found = [
        *_apart(exact, "exact", "byte for byte", drawn, named),
        *_apart(_each_once(near), "near", "in other bytes", drawn, named),
    ]
    return [*found, _torn([*exact, *near], named)]


def _each_once(pairs: Sequence[tuple[Photo, Photo, float]]) -> list[tuple[Photo, Photo, float]]:
    """Return so many of the pairs that each photo is told to be a copy once; those of parts first.

    N copies of one picture are N - 1 pairs: a spanning tree (Kruskal).
    """
    forest = Forest[bytes]()
    ordered = sorted(pairs, key=lambda pair: (pair[0].part == pair[1].part, -pair[2]))
    return [pair for pair in ordered if forest.join(pair[1].digest, pair[0].digest)]


def _apart(
    pairs: Sequence[tuple[Photo, Photo, float]], kind: str, how: str, drawn: bool, named: Named
) -> Iterable[Finding]:
    """Yield the leaks among some pairs, and the copies within a part."""
    leaks = [pair for pair in pairs if pair[0].part != pair[1].part]
    if drawn and kind == "exact":  # a split that is drawn keeps them together
        leaks = []
    within = [pair for pair in pairs if pair not in leaks]
    if leaks:
        parts = " and ".join(dict.fromkeys(p.part for pair in leaks for p in pair[:2]))
        what = f"{count(len(leaks), 'photo is', 'photos are')} in {parts} both, {how}"
        if drawn:
            what = f"{count(len(leaks), 'pair')} of the same photo {how} would be torn apart"
            advice = "remove one of each, or name them in a manifest's column group"
        else:
            advice = "remove them from val and test: they are measured on memory"
        severity: Severity = "warning" if drawn else "serious"
        yield Finding(f"leak_{kind}", severity, what, advice, _examples(leaks, named), True)
    if within:
        what = f"{count(len(within), 'photo is there', 'photos are there')} twice, {how}"
        advice = "remove one of each: what is there twice counts twice"
        severity = "note" if kind == "exact" and drawn else "warning"
        yield Finding(f"copies_{kind}", severity, what, advice, _examples(within, named), True)


def _examples(pairs: Sequence[tuple[Photo, Photo, float]], named: Named) -> tuple[Example, ...]:
    examples = []
    for one, other, cosine in pairs:
        labels = "" if named(one) == named(other) else f"{named(one)} and {named(other)}"
        close = f"alike to {cosine:.2f}" if cosine < 1 else ""
        examples.append(Example((one.path, other.path), ", ".join(filter(None, (labels, close)))))
    return tuple(examples)


def _torn(pairs: Sequence[tuple[Photo, Photo, float]], named: Named) -> Finding | None:
    """Find copies of a photo that have different labels: one of them is wrong."""
    torn = [pair for pair in pairs if named(pair[0]) != named(pair[1])]
    if not torn:
        return None
    what = count(len(torn), "photo is there", "photos are there") + " under two labels"
    return Finding(
        "two_labels", "serious", what, "decide for one label and remove the other copy",
        _examples(torn, named), True,
    )  # fmt: skip


# Groups.


def pattern(text: str) -> re.Pattern[str]:
    """Return the pattern of --group. Raises UsageError."""
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(
            f"--group {text}: {error}",
            r"a regular expression whose first (…) is the group, as in --group 'patient(\d+)'",
        ) from None


def groups_of(looked: Looked, known: Mapping[str, str], text: str | None) -> dict[str, str]:
    """Return path -> group: by the pattern where one is given, else as a manifest says.

    Raises UsageError where no path matches.
    """
    if text is None:
        return {path: group for path, group in known.items() if group}
    found, wanted = {}, pattern(text)
    for photo in looked.photos:
        if match := wanted.search(photo.path):
            found[photo.path] = (match.group(1) if wanted.groups else match.group()) or ""
    if not found and looked.photos:
        raise UsageError(
            f"--group {text} matches no path",
            f"paths are as {looked.photos[0].path}; the first (…) of the pattern is the group",
        )
    return found


def of_groups(looked: Looked, groups: Mapping[str, str], drawn: bool) -> list[Finding | None]:
    """Return what is wrong with groups: parts that share one, photos that are in none."""
    if not groups:
        return []
    members: dict[str, list[Photo]] = {}
    alone = [photo for photo in looked.photos if photo.path not in groups]
    for photo in looked.photos:
        if photo.path in groups:
            members.setdefault(groups[photo.path], []).append(photo)
    torn = {name: some for name, some in members.items() if len({p.part for p in some}) > 1}
    found: list[Finding | None] = []
    if torn:
        what = f"{len(torn):,} of {count(len(members), 'group')} "
        what += "would be torn apart by a split" if drawn else "are on both sides of the split"
        examples = tuple(Example(_sides(some), f"group {name}") for name, some in torn.items())
        advice = "split by group: a manifest with the column group keeps them together"
        severity: Severity = "warning" if drawn else "serious"
        found.append(Finding("leak_groups", severity, what, advice, examples, True))
    if alone:
        what = count(len(alone), "photo is", "photos are") + " in no group"
        examples = tuple(Example((photo.path,)) for photo in alone)
        found.append(Finding("no_group", "note", what, "look whether --group fits", examples))
    return found


def _sides(some: Sequence[Photo]) -> tuple[str, str]:
    """Return the paths of two photos of a group that are in different parts."""
    other = next(photo for photo in some if photo.part != some[0].part)
    return some[0].path, other.path
