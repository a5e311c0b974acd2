"""The scores of a head, and its loss and accuracy; the same bits on any number of cores."""

from __future__ import annotations

import numpy as np

from zoo.head.layers import Layer
from zoo.head.stored import Stored
from zoo.head.temperature import losses
from zoo.head.threads import in_order, one_thread
from zoo.metrics import Array

AT_A_TIME = 4096  # rows that are asked at once


def scores_of(features: Array | Stored, layer: Layer) -> Array:
    """Return the scores of features N x D, N x K float32; the same bits on any number of cores."""
    with one_thread():
        found = in_order(lambda part: layer.scores(features[part]), _in_turn(len(features)))
        return np.concatenate(list(found))


def measured(features: Array | Stored, labels: Array, layer: Layer) -> tuple[float, float]:
    """Return the mean cross-entropy of a head, in nats, and its accuracy; keeps no scores."""

    def work(part: slice) -> tuple[float, int]:
        scores, right = layer.scores(features[part]), labels[part]
        return _loss(scores, right), int((scores.argmax(axis=1) == right).sum())

    with one_thread():
        losses, hits = zip(*in_order(work, _in_turn(len(labels))), strict=True)
    return sum(losses) / len(labels), sum(hits) / len(labels)


def loss_of(scores: Array, labels: Array) -> float:
    """Return the mean cross-entropy, in nats."""
    parts = _in_turn(len(labels))
    return sum(in_order(lambda part: _loss(scores[part], labels[part]), parts)) / len(labels)


def _loss(scores: Array, labels: Array) -> float:
    return float(losses(scores, labels).sum())


def _in_turn(count: int) -> list[slice]:
    return [slice(first, first + AT_A_TIME) for first in range(0, count, AT_A_TIME)]
