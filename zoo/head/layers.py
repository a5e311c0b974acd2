"""What a head is once it is found: arrays by their names in the network, and scores of features.

Every command gets heads from here: the run's file holds the arrays under the stage of the head,
`predict` scores features with them without torch, and the modules of the same names in
`models/computed.py` are what torch, and so the exported file, has for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from zoo.head.kinds import Kind
from zoo.metrics import Array

SMALLEST = 1e-12  # length of a row of features: below, it has no direction
FLOOR = 1e-3  # of a vote: a class without a neighbour is unlikely, not impossible


class Layer(Protocol):
    """A head: K scores for each row of D features."""

    @property
    def columns(self) -> int:
        """Return how many features it takes, D."""
        ...

    @property
    def arrays(self) -> dict[str, Array]:
        """Return its tensors by the names that they have in the network, behind the stage's."""
        ...

    def scores(self, features: Array) -> Array:
        """Return K scores of D features, or N x K of N x D, whose softmax is the probabilities."""
        ...

    def divided(self, by: float) -> Layer:
        """Return the head whose scores are those of this one divided by a number."""
        ...


@dataclass(frozen=True, slots=True)
class Linear:
    """weight: K x D, bias: K, float32. The scores are x W^T + b."""

    weight: Array
    bias: Array

    @property
    def columns(self) -> int:
        return int(self.weight.shape[1])

    @property
    def arrays(self) -> dict[str, Array]:
        return {"weight": self.weight, "bias": self.bias}

    def scores(self, features: Array) -> Array:
        return np.asarray(features @ self.weight.T + self.bias)

    def divided(self, by: float) -> Linear:
        return replace(self, weight=self.weight / np.float32(by), bias=self.bias / np.float32(by))


class Cosine(Linear):
    """A Linear on features of length 1: each weight row is a direction, its length the scale."""

    def scores(self, features: Array) -> Array:
        return Linear.scores(self, unit(features))

    def divided(self, by: float) -> Cosine:
        return Cosine(self.weight / np.float32(by), self.bias / np.float32(by))


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The nearest of N known rows vote, each with a share that falls with its distance.

    weight: D x D and bias: D whiten features, see `neighbours`. rows: N x D float32, whitened and
    of length 1, labels: N int64 class numbers. temperature: of the softmax over the cosines of the
    nearest ones, which gives the shares. scale: factor on the logarithm of what each class gets
    together, which is its score.
    """

    weight: Array
    bias: Array
    rows: Array
    labels: Array
    classes: int
    nearest: int
    temperature: float
    scale: float = 1.0

    @property
    def columns(self) -> int:
        return int(self.rows.shape[1])

    @property
    def arrays(self) -> dict[str, Array]:
        numbers = {"temperature": self.temperature, "scale": self.scale}
        scalars = {name: np.array([value], np.float32) for name, value in numbers.items()}
        whiten = {"whiten.weight": self.weight, "whiten.bias": self.bias}
        return whiten | {"rows": self.rows, "labels": self.labels} | scalars

    def scores(self, features: Array) -> Array:
        flat = self.whitened(np.atleast_2d(features))
        size = max(1, (1 << 24) // len(self.rows))  # rows whose cosines are in memory at a time
        parts = [flat[first : first + size] for first in range(0, len(flat), size)]
        found = np.concatenate([self.of_cosines(part @ self.rows.T) for part in parts])
        return found if features.ndim == 2 else found[0]

    def whitened(self, features: Array) -> Array:
        """Return features, N x D, as the rows are: whitened and of length 1."""
        return unit(features @ self.weight.T + self.bias)

    def of_cosines(self, cosines: Array) -> Array:
        """Return N x K scores of the cosines with all rows, N x rows."""
        places = np.argpartition(-cosines, self.nearest - 1, axis=1)[:, : self.nearest]
        return self.of_nearest(np.take_along_axis(cosines, places, axis=1), places)

    def of_nearest(self, cosines: Array, places: Array) -> Array:
        """Return N x K scores of the cosines with the nearest rows, and which those are."""
        near = cosines / np.float32(self.temperature)
        shares = np.exp(near - near.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        votes = np.zeros((len(near), self.classes), np.float32)
        np.add.at(votes, (np.arange(len(cosines))[:, None], self.labels[places]), shares)
        return np.asarray(np.log(votes + np.float32(FLOOR)) * np.float32(self.scale))

    def divided(self, by: float) -> Neighbours:
        return replace(self, scale=self.scale / by)


@dataclass(frozen=True, slots=True)
class Joint:
    """A Cosine behind a linear map, where pictures and texts can be compared, as CLIP has it.

    project: E x D and E; rows: K x E and K.
    """

    project: Linear
    rows: Cosine

    @property
    def columns(self) -> int:
        return self.project.columns

    @property
    def arrays(self) -> dict[str, Array]:
        parts = {"project": self.project, "rows": self.rows}
        return {f"{at}.{name}": a for at, part in parts.items() for name, a in part.arrays.items()}

    def scores(self, features: Array) -> Array:
        return self.rows.scores(self.project.scores(features))

    def divided(self, by: float) -> Joint:
        return replace(self, rows=self.rows.divided(by))


def unit(features: Array) -> Array:
    """Return rows of length 1; one of zeros stays as it is."""
    lengths = np.sqrt(np.sum(features * features, axis=-1, keepdims=True))
    return np.asarray(features / np.maximum(lengths, np.float32(SMALLEST)))


def of_arrays(kind: Kind, arrays: Mapping[str, Array], classes: int) -> Layer:
    """Return the head of the arrays of a file, which may be a stranger's.

    Raises ValueError where they are no head of this kind for so many classes.
    """
    if kind.word == "knn":
        return _neighbours(kind, arrays, classes)
    if kind.word == "text":
        return _joint(arrays, classes)
    weight, bias = arrays["weight"], arrays["bias"]
    if weight.ndim != 2 or weight.shape[:1] != (classes,) or bias.shape != (classes,):
        raise ValueError(_shapes(weight, bias))
    return (Cosine if kind.layer == "cosine" else Linear)(weight, bias)


def _neighbours(kind: Kind, arrays: Mapping[str, Array], classes: int) -> Neighbours:
    """Return the head of the arrays of a file. Raises ValueError."""
    whiten = arrays["whiten.weight"], arrays["whiten.bias"]
    rows, labels = arrays["rows"], arrays["labels"]
    shown = _shapes(*whiten, rows, labels)
    numbers = [arrays[name] for name in ("temperature", "scale")]
    fits = rows.ndim == 2 and len(rows) > 0 and labels.shape == rows.shape[:1]
    fits = fits and [each.shape for each in whiten] == [rows.shape[1:] * 2, rows.shape[1:]]
    if not fits or any(each.shape != (1,) or not each > 0 for each in numbers):
        raise ValueError(shown)
    if labels.dtype != np.int64 or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"{shown}, labels of other classes")
    near = min(kind.number, len(rows))
    return Neighbours(*whiten, rows, labels, classes, near, *(float(each[0]) for each in numbers))


def _joint(arrays: Mapping[str, Array], classes: int) -> Joint:
    """Return the head of the arrays of a file. Raises ValueError."""
    project, rows = ((arrays[f"{at}.weight"], arrays[f"{at}.bias"]) for at in ("project", "rows"))
    fits = project[0].ndim == 2 and project[1].shape == project[0].shape[:1]
    if not fits or rows[0].shape != (classes, len(project[1])) or rows[1].shape != (classes,):
        raise ValueError(_shapes(*project, *rows))
    return Joint(Linear(*project), Cosine(*rows))


def names_of(kind: Kind) -> tuple[str, ...]:
    """Return the names of the arrays of a head that is kept apart from the network before it."""
    if kind.word == "knn":
        return ("whiten.weight", "whiten.bias", "rows", "labels", "temperature", "scale")
    if kind.word == "text":
        return ("project.weight", "project.bias", "rows.weight", "rows.bias")
    return ("weight", "bias")


def _shapes(*arrays: Array) -> str:
    return " and ".join(" x ".join(map(str, part.shape)) for part in arrays)
