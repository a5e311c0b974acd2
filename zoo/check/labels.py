"""Labels: names that look alike, uneven classes, labels probably wrong, classes that overlap.

What is wrong with a label is told by heads that were fitted without its photo, on features of a
network: see zoo.head.suspicious.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo.check.look import Photo
from zoo.check.records import Example, Finding
from zoo.data import names
from zoo.data.copies import Forest
from zoo.data.samples import DatasetIndex
from zoo.head.cross_validation import out_of_fold
from zoo.head.folds import alike
from zoo.head.penalty import FEW, FOLDS_OF_MANY, Search
from zoo.head.softmax_regression import Targets
from zoo.head.suspicious import Suspicious, suspicious
from zoo.metrics import Array
from zoo.text import count, percent
from zoo.watch import check

UNEVEN = 10  # times as many photos in the largest class as in the smallest
SCARCE = 10  # photos of a class for training: below, little is learned of it
COMPARED = 2000  # classes whose names are compared letter by letter
LETTERS = 6  # of names that may differ in one letter by a slip of the pen
OVERLAP = 0.15  # of the photos of two classes taken for the other one
FOLDS, DIRECTIONS = 5, 128  # of many photos: 3, and their features are reduced to so many


# Without a network.


def of_names(classes: Sequence[str]) -> Finding | None:
    """Find classes that are probably one: by case, plural, alphabet, separators or a letter."""
    examples = []
    for one, other in itertools.combinations(classes[:COMPARED], 2):
        if why := _alike(one, other):
            examples.append(Example((), f"{names.quoted(one)} and {names.quoted(other)}: {why}"))
    if not examples:
        return None
    what = count(len(examples), "pair") + " of classes with names that look alike"
    return Finding("names", "warning", what, "merge them if they are one class", tuple(examples))


def _alike(one: str, other: str) -> str:
    """Return why two names may be one, or nothing."""
    plain = [unicodedata.normalize("NFKC", name).translate(names.TWINS) for name in (one, other)]
    bare = ["".join(filter(str.isalnum, name)) for name in plain]
    first, second = (name.casefold() for name in bare)
    if first == second and first:
        if bare[0] != bare[1]:
            return "upper and lower case"
        return "drawn alike, or separated otherwise"
    if _single(first) == _single(second) and first and second:
        return "one and many"
    if any(map(str.isdigit, first + second)) or min(len(first), len(second)) < LETTERS:
        return ""
    return "a letter differs" if _one_letter(first, second) else ""


def _single(word: str) -> str:
    """Return an English word without the ending of its plural; short words are left."""
    for ending, kept in (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"),
                         ("shes", "sh"), ("s", "")):  # fmt: skip
        if word.endswith(ending) and len(word) > len(ending) + 1 and not word.endswith("ss"):
            return word.removesuffix(ending) + kept
    return word


def _one_letter(one: str, other: str) -> bool:
    """Return whether one letter more, less or another one, or two exchanged, tell them apart."""
    if abs(len(one) - len(other)) > 1:
        return False
    start = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    if start is None:
        return len(one) != len(other)
    a, b = one[start:], other[start:]
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or (a[:2] == b[1::-1] and a[2:] == b[2:])


def of_balance(index: DatasetIndex) -> list[Finding | None]:
    """Find classes with few photos, much fewer than others, or none to measure on."""
    counts = dict(zip(index.classes, index.counts("train"), strict=True))
    small, large = min(counts.values()), max(counts.values())
    found: list[Finding | None] = []
    if large > UNEVEN * small:
        few = sorted(counts, key=counts.__getitem__)[:5]
        examples = tuple(Example((), f"{name}: {count(counts[name], 'photo')}") for name in few)
        what = f"classes are uneven: {small:,} to {large:,} photos for training"
        advice = "--balance weights them evenly; add photos to the rare ones"
        found.append(Finding("uneven", "warning", what, advice, examples))
    scarce = [name for name, many in counts.items() if many < SCARCE]
    if scarce:
        examples = tuple(Example((), f"{name}: {count(counts[name], 'photo')}") for name in scarce)
        what = count(len(scarce), "class has", "classes have") + f" fewer than {SCARCE} photos"
        found.append(
            Finding("scarce", "warning", f"{what} for training", "add photos of them", examples)
        )
    if index.of("val") and (gone := index.absent("val")):
        what = count(len(gone), "class has", "classes have") + " no photo for validation"
        examples = tuple(Example((), name) for name in gone)
        found.append(Finding("no_val", "warning", what, "put some aside", examples))
    return found


# With the features of a network.


@dataclass(frozen=True, slots=True)
class Judged:
    """What cross-validated heads say of photos. probabilities: N x K, NaN where not tested."""

    photos: Sequence[Photo]
    labels: Array
    classes: tuple[str, ...]
    probabilities: Array

    @property
    def tested(self) -> Array:
        """Return N bools: which photos were."""
        return np.asarray(np.isfinite(self.probabilities).all(axis=1))

    @property
    def accuracy(self) -> float:
        """Return the share of the tested photos of which the heads are right."""
        known = self.tested
        answers = self.probabilities[known].argmax(axis=1)
        return float((answers == self.labels[known]).mean()) if known.any() else 0.0


def judge(
    photos: Sequence[Photo], features: Array, groups: Array, classes: tuple[str, ...], seed: int
) -> Judged:
    """Return what heads say of each photo that were fitted without it. groups: N, its copies."""
    labels = np.array([photo.sample.label for photo in photos], np.int64)
    many = len(features) > FEW
    rows = _reduced(features) if many else features
    targets = Targets(labels, len(classes), groups)
    search = Search(seed, FOLDS_OF_MANY if many else FOLDS)
    return Judged(photos, labels, classes, out_of_fold(rows, targets, search, check))


def _reduced(features: Array) -> Array:
    """Return the features along the directions in which they vary the most, N x DIRECTIONS."""
    if features.shape[1] <= DIRECTIONS:
        return features
    rows = features - features.mean(axis=0)
    rows /= rows.std(axis=0).clip(1e-6)
    _, vectors = np.linalg.eigh((rows.T @ rows).astype(np.float64))
    kept = rows @ vectors[:, -DIRECTIONS:].astype(np.float32)
    return np.asarray(kept, np.float32)


def groups_of(photos: Sequence[Photo], pairs: Sequence[tuple[Photo, Photo, float]]) -> Array:
    """Return the group of each photo: copies do not vouch for each other's labels."""
    forest = Forest[bytes]()
    for one, other, _ in pairs:
        forest.join(other.digest, one.digest)
    return alike([forest.root(photo.digest) for photo in photos], 1)


def ranked(judged: Judged) -> Suspicious:
    """Return the photos by how doubtful their labels are."""
    return suspicious(judged.probabilities, judged.labels)


def of_labels(judged: Judged) -> list[Finding | None]:
    """Find labels that are probably wrong, and pairs of classes that are taken for each other."""
    found_by = ranked(judged)
    chosen = found_by.order[: found_by.flagged].tolist()
    found: list[Finding | None] = []
    if chosen:
        examples = []
        for row in chosen:
            name, other = (judged.classes[k[row]] for k in (judged.labels, found_by.proposed))
            chance = judged.probabilities[row, found_by.proposed[row]]
            examples.append(
                Example((judged.photos[row].path,), f"{name}; rather {other} {chance:.2f}")
            )
        what = count(len(chosen), "label is", "labels are") + " doubtful"
        advice = (
            "look at them, the first ones first: heads that never saw them answer otherwise, and "
            f"are right on "
            f"{percent(judged.accuracy, 0)} of the photos"
        )
        found.append(Finding("suspicious", "warning", what, advice, tuple(examples), True))
    return [*found, _overlap(judged)]


def _overlap(judged: Judged) -> Finding | None:
    size, known = len(judged.classes), judged.tested
    taken = np.zeros((size, size), np.int64)
    answers = judged.probabilities[known].argmax(axis=1)
    np.add.at(taken, (judged.labels[known], answers), 1)
    photos = taken.sum(axis=1)
    rows = []
    for a, b in itertools.combinations(range(size), 2):
        wrong = int(taken[a, b] + taken[b, a])
        share = wrong / max(1, photos[a] + photos[b])
        if share >= OVERLAP and wrong > 1:
            rows.append((share, wrong, judged.classes[a], judged.classes[b]))
    if not rows:
        return None
    examples = [
        Example((), f"{one} and {other}: {percent(share, 0)} ({wrong}) mistaken")
        for share, wrong, one, other in sorted(rows, reverse=True)
    ]
    what = count(len(examples), "pair") + " of classes overlap"
    advice = "define them better or merge them; a finer network may tell them apart"
    return Finding("overlap", "warning", what, advice, tuple(examples))
