"""What is on either side of a cut: the shape of the features, and what is trained on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zoo.catalog import ModelSpec, Preprocess
from zoo.models.chain import first_layer
from zoo.models.cut import Cut

if TYPE_CHECKING:
    from torch import nn


def only_head(parts: Cut, chain: nn.Sequential, spec: ModelSpec, shape: tuple[int, ...]) -> bool:
    """Whether the fresh head is the first thing that the cached features meet, number for number.

    shape: of the features of one photo.
    """
    first = first_layer(parts.trainable)
    fits = getattr(first, "in_features", None) == int(np.prod(shape))
    return fits and any(first is part for part in chain.get_submodule(spec.head).modules())


def is_linear(parts: Cut, chain: nn.Sequential, stage: str, shape: tuple[int, ...]) -> bool:
    """Whether nothing but one linear layer is trained, on features as they are kept."""
    from torch import nn

    head = chain.get_submodule(stage)
    silent = (nn.Sequential, nn.Flatten, nn.Identity, nn.modules.dropout._DropoutNd)
    return (
        isinstance(head, nn.Linear)
        and head.in_features == int(np.prod(shape))
        and all(part is head or isinstance(part, silent) for part in parts.trainable.modules())
    )


def feature_shape(parts: Cut, preprocess: Preprocess) -> tuple[int, ...]:
    """What the frozen part gives for one picture, found by running it on zeros.

    On torch's meta device nothing would be computed, but its first BatchNorm imports torch's
    compiler, which takes ten times as long.
    """
    import torch

    torch.set_num_threads(1)  # one picture; the loop sets its own number
    with torch.inference_mode():
        picture = torch.zeros(1, *preprocess.shape)
        return tuple(parts.frozen(picture).shape[1:])
