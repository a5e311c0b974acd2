"""Temperature: one number by which class scores are divided, so that probabilities can be believed.

Guo, Pleiss, Sun, Weinberger 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599,
section 4.2. It is fitted on the val photos, by their likelihood. What is told of it (`ece_after`,
`nll_after`) is cross-fitted: each photo's probability is by a temperature fitted without it. The
temperature then goes into the last layer, so that every later command gives these probabilities
with no code of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.data.views import generator
from zoo.metrics import Array, aurc, calibration_error, softmax

FEWEST = 30  # photos; of fewer the likelihood says next to nothing
FOLDS = 5
BOUNDS = (0.05, 20.0)
STEPS, CLOSE = 100, 1e-6  # to the best temperature, and how near


@dataclass(frozen=True, slots=True)
class Calibration:
    """A temperature, the calibration error and mean negative log-likelihood without and with it.

    photos: on how many. reason: why the temperature is 1, where it was not fitted. aurc: area
    under the risk-coverage curve, with the temperature.
    """

    temperature: float
    ece_before: float
    ece_after: float
    nll_before: float
    nll_after: float
    photos: int
    aurc: float
    reason: str = ""


def fit(
    scores: Array, labels: Array, seed: int, why_not: str = "", parts: Array | None = None
) -> Calibration:
    """Return the temperature of scores N x K, before softmax. parts: the fold of each, if given.

    labels: N class numbers. The temperature stays 1, with the reason, where it cannot be fitted,
    where photos that were left out of the fit are no likelier with it by more than chance, and
    where the caller says `why_not`.
    """
    why = why_not or _unfit(scores, labels)
    temperature, crossed = 1.0, scores
    if not why:
        folds = folds_of(labels, seed) if parts is None else parts
        crossed = scores.astype(np.float64)
        for fold in range(FOLDS):
            out = folds == fold
            crossed[out] /= best(scores[~out], labels[~out])
        temperature = best(scores, labels)
        gains = losses(scores, labels) - losses(crossed, labels)
        # One-sided, 5 %: of 100 photos most fits are noise.
        if not gains.mean() > 1.645 * gains.std(ddof=1) / np.sqrt(len(gains)):
            why = "no temperature is surely better on photos that it was not fitted on"
            temperature, crossed = 1.0, scores
    return Calibration(
        temperature,
        error(scores, labels),
        error(crossed, labels),
        likelihood(scores, labels),
        likelihood(crossed, labels),
        len(labels),
        aurc(*answers(scores / temperature, labels)),
        why,
    )


def _unfit(scores: Array, labels: Array) -> str:
    """Return why no temperature can be fitted, or nothing."""
    if len(labels) < FEWEST:
        return f"{len(labels)} val photos are too few: it takes {FEWEST}"
    if (labels == labels[0]).all():
        return "all val photos are of one class"
    if (scores.argmax(axis=1) == labels).all():
        return "every val photo is right: nothing says where the doubt should begin"
    return ""


def folds_of(labels: Array, seed: int) -> Array:
    """Return the fold of each photo; each class is dealt out evenly."""
    shuffled = generator("calibration", seed).permutation(len(labels))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    folds = np.empty(len(labels), np.int64)
    folds[order] = np.arange(len(labels)) % FOLDS
    return folds


def best(scores: Array, labels: Array) -> float:
    """Return the temperature with the greatest likelihood within BOUNDS."""
    shifted, right = _centred(scores, labels)
    scale, low, high = 1.0, 1 / BOUNDS[1], 1 / BOUNDS[0]  # of 1 / temperature: the loss is convex
    for _ in range(STEPS):
        parts = np.exp(shifted * scale)
        parts /= parts.sum(axis=1, keepdims=True)
        usual = np.einsum("nk,nk->n", parts, shifted)
        slope = float(np.mean(usual - right))
        bend = float(np.mean(np.einsum("nk,nk,nk->n", parts, shifted, shifted) - usual**2))
        low, high = (low, scale) if slope > 0 else (scale, high)
        step = slope / bend if bend > 0 else scale  # Newton's, else the middle where it is too long
        middle = float(np.sqrt(low * high))
        before, scale = scale, scale - step if low < scale - step < high else middle
        if min(abs(step), abs(scale - before)) <= CLOSE * before:
            break
    return 1 / scale


def likelihood(scores: Array, labels: Array) -> float:
    """Return the mean negative log-likelihood, in nats."""
    return float(losses(scores, labels).mean())


def losses(scores: Array, labels: Array) -> Array:
    """Return the negative log-likelihood of each photo."""
    shifted, right = _centred(scores, labels)
    return np.asarray(np.log(np.exp(shifted).sum(axis=1)) - right)


def _centred(scores: Array, labels: Array) -> tuple[Array, Array]:
    """Return scores less the largest of each photo, and among them that of its own class."""
    shifted = scores.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    return shifted, shifted[np.arange(len(labels)), labels]


def error(scores: Array, labels: Array) -> float:
    """Return the expected calibration error."""
    return calibration_error(*answers(scores, labels))


def answers(scores: Array, labels: Array) -> tuple[Array, Array]:
    """Return the top probability of each photo, and whether the answer is right."""
    return softmax(scores).max(axis=1), scores.argmax(axis=1) == labels
