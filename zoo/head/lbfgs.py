"""L-BFGS: the minimum of a smooth convex function of very many variables.

Nocedal, Wright 2006, "Numerical Optimization", algorithms 7.4 and 7.5. It begins from an inverse
Hessian that is known about, not from a multiple of the identity: where that is a good one, a dozen
steps do for hundreds. SciPy's takes none, keeps twice the bytes, and its import alone takes as long
as a head of a few hundred photos.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from zoo.metrics import Array

PAIRS = 10  # steps that are remembered
STEPS = 1000  # at most
ENOUGH = 1e-4  # of the fall that the slope promises (Armijo)
SHORTER = (0.1, 0.5)  # how much shorter the next length is

Objective = Callable[[Array], tuple[float, Array]]
Map = Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class _Pair:
    """A step, by how much the gradient changed in it, and that times the inverse Hessian."""

    step: Array
    change: Array
    mapped: Array

    @property
    def curvature(self) -> float:
        return float(np.vdot(self.step, self.change))


def minimise(
    objective: Objective, point: Array, inverse: Map, tolerance: float
) -> tuple[Array, int]:
    """Return the point of least value, float64, and the number of steps to it.

    objective: gives value and gradient. inverse: times about the inverse Hessian, a positive
    definite matrix; what it gives may be float32, and then the steps are remembered so. It ends
    where the value falls by less than the tolerance, relative to it or to 1.
    """
    value, gradient = objective(point)
    mapped, pairs = inverse(gradient), deque[_Pair](maxlen=PAIRS)
    for steps in range(STEPS):
        least = tolerance * max(abs(value), 1)
        direction = _direction(gradient.astype(mapped.dtype), mapped, pairs)
        slope = float(np.vdot(direction, gradient))
        found = _search(objective, point, value, direction, slope, least / 10)
        if found is None:
            return point, steps
        length, new_value, new_gradient = found
        point = point + length * direction
        new_mapped = inverse(new_gradient)
        change = (new_gradient - gradient).astype(mapped.dtype)
        pair = _Pair(np.asarray(length * direction, mapped.dtype), change, new_mapped - mapped)
        if pair.curvature > 0:
            pairs.append(pair)
        fallen, value, gradient, mapped = value - new_value, new_value, new_gradient, new_mapped
        if fallen <= least:
            return point, steps + 1
    return point, STEPS


def _direction(gradient: Array, mapped: Array, pairs: deque[_Pair]) -> Array:
    """Return where to go: the gradient by the inverse Hessian as the pairs have changed it."""
    gradient, mapped = gradient.copy(), mapped.copy()
    parts = []
    for pair in reversed(pairs):
        part = float(np.vdot(pair.step, gradient)) / pair.curvature
        gradient -= part * pair.change
        mapped -= part * pair.mapped
        parts.append(part)
    if pairs:
        mapped *= pairs[-1].curvature / float(np.vdot(pairs[-1].change, pairs[-1].mapped))
    for pair, part in zip(pairs, reversed(parts), strict=True):
        mapped += (part - float(np.vdot(pair.change, mapped)) / pair.curvature) * pair.step
    return -mapped


def _search(
    objective: Objective, point: Array, value: float, direction: Array, slope: float, least: float
) -> tuple[float, float, Array] | None:
    """Return a length at which the value falls, the value and the gradient there.

    The next length tried has the least value of a parabola through what is known. None where the
    slope promises no more than `least`: by then rounding says which value is less.
    """
    length = 1.0
    while -slope * length > least:
        there, gradient = objective(point + length * direction)
        if there <= value + ENOUGH * length * slope:
            return length, there, gradient
        shorter = -slope * length / (2 * (there - value - slope * length))
        length *= min(max(shorter, SHORTER[0]), SHORTER[1])
    return None
