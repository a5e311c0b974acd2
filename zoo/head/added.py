"""One class more for a head that is found already: its rows stay as they are, bit for bit.

cosine, knn: the new class has a mean, or rows, of its own; no other photo is needed. mahalanobis:
its mean by the covariance S of the old photos. A mean of M photos is off by chance, which puts all
photos further from it, by trace(S^-1 C) / M where C is the covariance of the new class. That is
taken off, as the M photos tell it without bias (after Moran, Murphy 1979, "A Closer Look at Two
Alternative Methods of Statistical Discrimination", JRSS C 28). linear: with the old scores z_ik
fixed, the new class's weight w and bias b are those of a logistic regression of new against old
photos with an offset, which is convex:

    u_i = w x_i + b - log sum_k exp z_ik
    loss = sum_i s_i log(1 + exp(-+ u_i)) + penalty / 2 ||w||^2      - for new photos, + for old

on standardised features, with the penalty that the other rows were found with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from zoo.errors import TrainingError
from zoo.head.layers import Cosine, Layer, Linear, Neighbours, unit
from zoo.head.prototype import means_of, nearest, spread_of
from zoo.head.rows import Rows
from zoo.head.threads import one_thread
from zoo.metrics import Array

RARE = 3.0  # a class of a third of the mean class's photos counts as much as the mean class
STEPS = 1000
LIKE_IT = 200  # old photos that stand for how a single new one is off


@dataclass(frozen=True, slots=True)
class Old:
    """The features that the head was found on, N x D, with their classes."""

    features: Array
    labels: Array


@dataclass(frozen=True, slots=True)
class Fitted:
    """How a linear head was found: its penalty, and the temperature that was put into it."""

    penalty: float
    temperature: float


def needs_old(layer: Layer) -> bool:
    """Return whether a class more takes the features of the photos that there were before."""
    return type(layer) is Linear


def added(layer: Layer, photos: Array, old: Old | None = None, how: Fitted | None = None) -> Layer:
    """Return the head with one class more, of the features of its photos, M x views x D.

    old: where `needs_old`. how: of a linear head that was solved for; None: of class means.
    """
    new = photos.reshape(-1, photos.shape[-1])
    if not np.isfinite(new).all():
        raise TrainingError("the features hold values that are not finite", "use --precision fp32")
    if isinstance(layer, Neighbours):
        rows = np.concatenate([layer.rows, layer.whitened(new).astype(np.float32)])
        labels = np.concatenate([layer.labels, np.full(len(new), layer.classes, np.int64)])
        return replace(layer, rows=rows, labels=labels, classes=layer.classes + 1)
    if isinstance(layer, Cosine):
        length = np.linalg.norm(layer.weight[0].astype(np.float64))
        mean = unit(unit(new).mean(axis=0, dtype=np.float64)) * length
        return _behind(layer, mean, 0.0)
    assert isinstance(layer, Linear)
    assert old is not None
    return _behind(
        layer, *(_mean(layer, photos, old) if how is None else _solved(layer, new, old, how))
    )


def _behind(layer: Linear, weight: Array, bias: float) -> Linear:
    """Return the head with one row more."""
    weights = np.concatenate([layer.weight, weight[None].astype(np.float32)])
    return type(layer)(weights, np.append(layer.bias, np.float32(bias)).astype(np.float32))


def _mean(layer: Linear, photos: Array, old: Old) -> tuple[Array, float]:
    """Return the row of a class mean, in the scale of the others."""
    own = photos.mean(axis=1, dtype=np.float64)
    means = means_of(old.features, old.labels, len(layer.bias))
    spread = spread_of(old.features, old.labels, means)
    again = nearest(means, spread)
    scale = float(np.vdot(layer.weight, again.weight) / np.vdot(again.weight, again.weight))
    one = nearest(own.mean(axis=0)[None], spread)
    away, count = own - own.mean(axis=0), len(own)
    if count == 1:  # then as the old photos are about their means
        some = len(spread.rows) // LIKE_IT + 1
        away, count = spread.rows[::some], 2
    by_chance = float(np.vdot(away, spread.divide(away))) / (len(away) * (count - 1))
    return one.weight[0] * scale, (float(one.bias[0]) + by_chance / 2) * scale


def _solved(layer: Linear, new: Array, old: Old, how: Fitted) -> tuple[Array, float]:
    """Return the row that is best with the other rows as they are."""
    from scipy.optimize import minimize
    from scipy.special import expit, logsumexp

    features = np.concatenate([old.features, new])
    rows = Rows(features)
    values, side = rows.values, np.where(np.arange(len(features)) < len(old.features), 1.0, -1.0)
    scores = layer.scores(features).astype(np.float64) * how.temperature
    offset = logsumexp(scores, axis=1)
    usual = len(old.features) / len(layer.bias)
    share = np.where(side > 0, 1.0, usual / len(new) if usual > RARE * len(new) else 1.0)
    share /= share.sum()

    def objective(point: Array) -> tuple[float, Array]:
        weight, bias = point[:-1], point[-1]
        against = side * (values @ weight + bias - offset)
        loss = float(share @ np.logaddexp(0, against)) + how.penalty / 2 * float(weight @ weight)
        slope = share * side * expit(against)
        return loss, np.append(values.T @ slope + how.penalty * weight, slope.sum())

    begin = np.zeros(values.shape[1] + 1)
    options = {"maxiter": STEPS, "ftol": 1e-12, "gtol": 1e-9}
    with one_thread():  # SciPy's BLAS too, now that it is there
        found = minimize(objective, begin, jac=True, method="L-BFGS-B", options=options).x
    weight, bias = rows.for_features(found[None, :-1], found[-1:])
    return weight[0] / how.temperature, float(bias[0]) / how.temperature
