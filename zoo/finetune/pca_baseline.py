"""What a reconstruction is measured against: principal components, a code of the same length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from zoo.catalog import ModelSpec
from zoo.finetune.events import Baseline
from zoo.metrics import Array

if TYPE_CHECKING:
    from torch import nn

LARGEST = 4096  # values of a picture; the covariance matrix has the square of it


def code_width(chain: nn.Sequential, spec: ModelSpec) -> int:
    """The length of an autoencoder's code."""
    from torch import nn

    stage = chain.get_submodule(spec.code)
    layers = [part for part in stage.modules() if isinstance(part, nn.Linear)]
    return layers[-1].out_features


def baseline(train: Iterator[Array], val: Iterator[Array], components: int) -> Baseline | None:
    """PCA fitted on the training pictures; None for pictures too large for its matrix.

    train, val: batches of uint8 N H W C. The error is what the components leave of the variance
    of the validation pictures around the training mean.
    """
    total: Array | None = None
    products: Array | None = None
    count = 0
    for batch in train:
        rows = flat(batch)
        if rows.shape[1] > LARGEST:
            return None
        total = rows.sum(axis=0) + (0 if total is None else total)
        products = rows.T @ rows + (0 if products is None else products)
        count += len(rows)
    assert total is not None
    assert products is not None
    mean = total / count
    _, vectors = np.linalg.eigh(products / count - np.outer(mean, mean))
    basis = vectors[:, -components:]
    squares, values = 0.0, 0
    for batch in val:
        rows = flat(batch) - mean
        rest = rows - (rows @ basis) @ basis.T
        squares += float((rest**2).sum())
        values += rest.size
    return Baseline(components, squares / values)


def flat(batch: Array) -> Array:
    """One row of values in [0, 1] for each picture."""
    return batch.reshape(len(batch), -1).astype(np.float64) / 255
