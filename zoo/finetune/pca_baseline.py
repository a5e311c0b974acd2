"""What a reconstruction is measured against: principal components, a code of the same length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from zoo.finetune.events import Baseline
from zoo.head.threads import one_thread
from zoo.metrics import Array
from zoo.train.batches import Batches, PhotoBatches

if TYPE_CHECKING:
    from zoo.network import Network

LARGEST = 4096  # values of a picture; the covariance matrix has the square of it


def baseline_of(net: Network, source: Batches) -> Baseline | None:
    """Return what principal components do with a code as long as the network's."""
    from torch import nn

    assert isinstance(source, PhotoBatches)
    stage = net.chain.get_submodule(net.spec.code)
    width = [part for part in stage.modules() if isinstance(part, nn.Linear)][-1].out_features
    return baseline(source.pixels_of("train"), source.pixels_of("val"), width)


def baseline(train: Iterator[Array], val: Iterator[Array], components: int) -> Baseline | None:
    """Return PCA fitted on the training pictures; None for pictures too large for its matrix.

    train, val: batches of uint8 N H W C. The error is what the components leave of the variance
    of the validation pictures around the training mean.
    """
    total: Array | None = None
    products: Array | None = None
    count = 0
    for batch in train:
        rows = _flat(batch)
        if rows.shape[1] > LARGEST:
            return None
        total = rows.sum(axis=0) + (0 if total is None else total)
        products = rows.T @ rows + (0 if products is None else products)
        count += len(rows)
    assert total is not None
    assert products is not None
    mean = total / count
    with one_thread():
        _, vectors = np.linalg.eigh(products / count - np.outer(mean, mean))
    basis = vectors[:, -components:]
    squares, values = 0.0, 0
    for batch in val:
        rows = _flat(batch) - mean
        rest = rows - (rows @ basis) @ basis.T
        squares += float((rest**2).sum())
        values += rest.size
    return Baseline(components, squares / values)


def _flat(batch: Array) -> Array:
    """One row of values in [0, 1] for each picture."""
    return batch.reshape(len(batch), -1).astype(np.float64) / 255
