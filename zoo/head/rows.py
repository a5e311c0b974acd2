"""The rows that a linear head is found on: features, standardised, in their span where few."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, cast

import numpy as np

from zoo.data.views import generator
from zoo.errors import TrainingError
from zoo.head.stored import Stored
from zoo.head.team import over
from zoo.head.threads import PIECES, in_order, pieces
from zoo.metrics import Array

SPAN = 2500  # rows up to which the Gram matrix is taken apart
DIRECTIONS = 256  # in which it is known how much rows vary; in all others it is their mean
RANK = 1e-10  # of the largest eigenvalue: below is rounding
CONSTANT = 1e-6  # spread of a feature against its size: below is rounding
ALIKE = 1e-5  # spread of all features against their size: below is a network's rounding
DOUBLE = 1 << 22  # values up to which products are float64
SOME = 16_384  # rows of a file that tell how all of them vary


def spread_of(deviation: Array, mean: Array) -> float:
    """Return how much rows differ against how large they are, 0 to 1.

    deviation, mean: of each feature. At most ALIKE is what rounding leaves: standardised, it would
    be taken for signal, and an engine that rounds otherwise would give other answers.
    """
    whole = float(np.hypot(np.linalg.norm(deviation), np.linalg.norm(mean)))
    return float(np.linalg.norm(deviation)) / whole if whole else 0.0


def read_in(features: Array | Stored) -> list[slice]:
    """Return the pieces in which mean and spread of features are found."""
    many = -(-len(features) // features.at_once) if isinstance(features, Stored) else PIECES
    return pieces(len(features), parts=many)


def total(features: Array | Stored, part: slice) -> Array:
    """Return the sum of a piece of features, D."""
    return np.asarray(features[part].sum(axis=0, dtype=np.float64))


def squares(features: Array | Stored, mean: Array, part: slice) -> Array:
    """Return the sum of the squares of a piece of features, less their mean, D."""
    away = np.subtract(features[part], mean, dtype=np.float32)
    return np.asarray(np.einsum("nd,nd->d", away, away, dtype=np.float64))


def type_of(count: int, columns: int) -> np.dtype[Any]:
    """Return the type of products of so many rows."""
    return np.dtype(np.float64 if count * columns <= DOUBLE else np.float32)


@dataclass(frozen=True, slots=True)
class Principal:
    """How much rows vary in which directions.

    directions: R x M, orthonormal; None: the axes. squares: M, along each; rest: 1, in all others.
    """

    directions: Array | None
    squares: Array
    rest: float

    def divided(self, values: Array, scale: float, penalty: float) -> Array:
        """Return values, F x R, by the inverse of scale times this matrix + penalty."""
        each = 1 / (scale * self.squares + penalty)
        if self.directions is None:
            return np.asarray(values * each, self.squares.dtype)
        others = 1 / (scale * self.rest + penalty)
        single = values.astype(self.directions.dtype)
        along = (single @ self.directions) * (each - others).astype(single.dtype)
        return np.asarray(single * single.dtype.type(others) + along @ self.directions.T)


class Rows:
    """Standardised features, in their span where rows are few; N x R.

    spread: see `spread_of`. Features that are all alike are taken for constant.
    """

    def __init__(self, features: Array | Stored) -> None:
        """features: N x D. Raises TrainingError where they are not finite."""
        count, columns = features.shape
        self._measure(features)
        mean, inverse = self.mean.astype(np.float32), self.inverse.astype(np.float32)
        self.directions: Array | None = None
        kind = type_of(count, columns)
        self.values: Array
        if isinstance(features, Stored):  # it is cut into pieces as an array is
            self.values = cast(Array, features.standardised(mean, inverse, kind))
            return
        rows = np.empty((count, columns), np.float32)

        def standardised(part: slice) -> None:
            np.subtract(features[part], mean, out=rows[part], dtype=np.float32)
            rows[part] *= inverse

        list(in_order(standardised, pieces(count)))
        if count <= SPAN and 2 * count <= columns:
            rows, self.directions = _in_span(rows)
            kind = type_of(*rows.shape)
        self.values = np.ascontiguousarray(rows, dtype=kind)

    def _measure(self, features: Array | Stored) -> None:
        """Find mean and spread of each feature."""
        count, parts = len(features), read_in(features)
        with np.errstate(invalid="ignore", over="ignore"):  # is told by what comes of it
            sums = over(features, parts, partial(total, features), np.asarray, "total")
            mean = np.divide(sum(sums), count).astype(np.float32)
            work = partial(squares, features, mean)
            spread = np.sqrt(
                sum(over(features, parts, work, np.asarray, "squares", [mean])) / count
            )
        if not np.isfinite(spread).all():
            what = "the features hold values that are not finite"
            raise TrainingError(what, "use --precision fp32")
        self.spread = spread_of(spread, mean.astype(np.float64))
        varies = (spread > CONSTANT * np.abs(mean)) & (self.spread > ALIKE)
        self.mean = mean.astype(np.float64)
        self.inverse = np.where(varies, 1 / np.where(varies, spread, 1), 0)

    @property
    def columns(self) -> int:
        return int(self.values.shape[1])

    @cached_property
    def principal(self) -> Principal:
        """Return how much rows vary; see `principal_of`."""
        return self.principal_of(np.full(len(self.values), 1 / len(self.values)))

    def principal_of(self, weights: Array) -> Principal:
        """Return the largest directions of the sum of x x^T of the rows by their weights, N.

        Found by chance, close to the true ones (Halko, Martinsson, Tropp 2011, arXiv:0909.4061,
        algorithm 4.4 with one iteration); in the span the axes are taken for them.
        """
        values, columns = self.values, self.columns
        squares = np.einsum("n,nr,nr->r", weights, values, values)
        if self.directions is not None:
            return Principal(None, squares, 0.0)
        root = np.sqrt(weights).astype(values.dtype)[:, None]

        def along(part: slice, basis: Array) -> tuple[Array, Array]:
            rows = values[part] * root[part]
            return rows, rows @ basis

        def again(part: slice) -> Array:
            rows, found = along(part, basis)
            return np.asarray(rows.T @ found)

        def inner(part: slice) -> Array:
            _, found = along(part, basis)
            return np.asarray(found.T @ found, np.float64)

        parts, basis = pieces(len(values)), np.eye(columns, dtype=values.dtype)
        if columns > DIRECTIONS:
            random = generator("directions", columns)
            basis = random.standard_normal((columns, DIRECTIONS)).astype(values.dtype)
            total = np.zeros(basis.shape)
            for product in in_order(again, parts):
                total += product
            basis = np.linalg.qr(total)[0].astype(values.dtype)
        total = np.zeros((basis.shape[1], basis.shape[1]))
        for product in in_order(inner, parts):
            total += product
        found, turn = np.linalg.eigh(total)
        rest = float(squares.sum() - found.sum()) / max(1, columns - len(found))
        return Principal((basis @ turn).astype(values.dtype), found.clip(0), max(rest, 0.0))

    def taken(self, order: Array) -> Rows:
        """Return these rows in this order, in memory, in float32."""
        some = copy.copy(self)
        vars(some).pop("principal", None)
        some.values = self.values[order].astype(np.float32, copy=False)
        return some

    @property
    def some(self) -> Rows:
        """Return rows in memory that tell how all of them vary: all, unless they lie in a file."""
        if isinstance(self.values, np.ndarray) or len(self.values) <= 1:
            return self
        return self.taken(np.linspace(0, len(self.values) - 1, SOME).astype(int))

    def for_features(self, weight: Array, bias: Array) -> tuple[Array, Array]:
        """Return K x D and K for the features as they were given, of K x R and K for these rows."""
        if self.directions is not None:
            weight = weight @ self.directions
        weight = weight * self.inverse
        return weight.astype(np.float32), (bias - weight @ self.mean).astype(np.float32)


def _in_span(rows: Array) -> tuple[Array, Array]:
    """Return N x R and R x D with orthonormal rows, whose product is N x D; R is at most N."""
    double = rows.astype(np.float64)
    values, vectors = np.linalg.eigh(double @ double.T)
    kept = values > RANK * max(values[-1], np.finfo(np.float64).tiny)
    if not kept.any():
        kept[-1] = True
    root = np.sqrt(np.maximum(values[kept], np.finfo(np.float64).tiny))
    vectors = vectors[:, kept]
    return vectors * root, (vectors / root).T @ double
