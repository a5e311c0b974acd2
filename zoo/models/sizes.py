"""A network for pictures of another size than its own: its row, or which sizes it takes.

Convolutions with a pooling behind them take any size that leaves a map at their end. Transformers
are built anew by their library for another size, and their positions are resampled by it when
published weights are loaded (`library.resampled`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from itertools import product

import torch
from torch import Tensor, nn

from zoo.catalog.spec import ModelSpec, Preprocess, Size, area, as_flag, as_size, pixels
from zoo.errors import UsageError
from zoo.models import assembly
from zoo.models.meter import passes

_STEPS = (32, 16, 14)  # of sizes that networks take: pixels that make a place of the last map


@cache
def sized(spec: ModelSpec, size: Size) -> ModelSpec:
    """Return the row for pictures of this size. Raises UsageError with those that it takes."""
    if size == spec.preprocess.size:
        return spec
    row = _of_size(spec, size)
    if not _takes(row):
        own = spec.preprocess.size
        known = sorted({own, *_near(spec, size)}, key=area)
        raise UsageError(
            f"{spec.name} takes no pictures of {pixels(size)} pixels",
            f"it takes {', '.join(map(as_flag, known))}; leave --size out for {as_flag(own)}",
        )
    if spec.builder != "library":
        return row
    from zoo.models import library

    return library.measured_anew(row)


def resized(chain: nn.Module, preprocess: Preprocess, size: Size, of: str) -> Preprocess:
    """Return a run's Preprocess at another size. Raises UsageError where its network takes none.

    of: the run, for the message.
    """
    found = replace(preprocess, size=size)
    try:
        passes(chain, found)
    except Exception:  # the networks' own errors have no common type
        raise UsageError(
            f"the network of {of} takes {pixels(preprocess.size)} pixels, and not {pixels(size)}",
            "leave --size out, or start from the published weights",
        ) from None
    return found


def resampling(spec: ModelSpec) -> Callable[[dict[str, Tensor]], dict[str, Tensor]] | None:
    """Return what takes published weights to the row's size of pictures; None for own networks."""
    if spec.builder != "library":
        return None
    from zoo.models import library

    return partial(library.resampled, spec)


def _of_size(spec: ModelSpec, size: Size) -> ModelSpec:
    """Return the row with the size in its own Preprocess and in those of its weights."""
    weights = [replace(one, preprocess=replace(one.preprocess, size=size)) for one in spec.weights]
    return replace(spec, preprocess=replace(spec.preprocess, size=size), weights=tuple(weights))


def _takes(row: ModelSpec) -> bool:
    """Return whether the network can be built for the row's size and gets through one picture."""
    try:
        if row.builder == "library":
            from zoo.models import library

            model = library.skeleton(row, row.num_classes)
        else:
            with torch.device("meta"):
                model = assembly.build(row)
        passes(model, row.preprocess)
    except Exception:  # the networks' own errors have no common type
        return False
    return True


def _near(spec: ModelSpec, size: Size) -> list[Size]:
    """Return the nearest sizes that the network takes, below and above; of the size's shape first.

    Some take only squares.
    """
    sides = (size,) if isinstance(size, int) else size
    shapes = [sides] if len(sides) == 1 else [sides, (min(sides),), (max(sides),)]
    for shape, step in product(shapes, _STEPS):
        below = [side // step * step for side in shape]
        both = (as_size(below), as_size([side + step for side in below]))
        if taken := [one for one in both if min(below) > 0 and _takes(_of_size(spec, one))]:
            return taken
    return []
