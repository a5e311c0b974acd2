"""Which part of a picture cannot be covered without losing the class: an occlusion map.

Zeiler, Fergus 2014, "Visualizing and Understanding Convolutional Networks", arXiv:1311.2901,
section 4.2: a grey square slides over the picture. Nothing but the answers is needed, so any
network, head and exported file will do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from zoo.data.preprocess import Pixels, Values

PART = 7  # the side of the square is this part of the picture's
FLOOR = 1e-6  # of a probability
LEAST = 1e-3  # that the logarithm of a probability falls by: less is rounding, and says nothing

Box = tuple[int, int, int, int]


def boxes(side: int) -> list[Box]:
    """Return where the square is put: half of it further each time, and once at each edge."""
    square = max(2, round(side / PART))
    starts = sorted({*range(0, side - square, max(1, square // 2)), side - square})
    return [(x, y, x + square, y + square) for y in starts for x in starts]


def covered(pixels: Pixels, places: list[Box], grey: int) -> Iterator[Pixels]:
    """Yield the picture S x S x C as it is, and then once for each square that covers it."""
    yield pixels
    for left, upper, right, lower in places:
        copy = pixels.copy()
        copy[upper:lower, left:right] = grey
        yield copy


def occlusion(
    pixels: Pixels, grey: int, answers: Callable[[Iterator[Pixels]], Values], number: int
) -> Values:
    """Return how much less probable a class is with each part of the picture covered.

    grey: 0 to 255, of the square. answers: gives N K probabilities for N pictures. number: of the
    class. Of the fall of the logarithm: float32 S S in 0..1, 0 where covering does not make the
    class less probable, and all over where no square does.
    """
    side = pixels.shape[0]
    places = boxes(side)
    own = answers(covered(pixels, places, grey))[:, number]
    logs = np.log(np.maximum(own, FLOOR))
    falls = np.maximum(logs[0] - logs[1:], 0)
    total, times = np.zeros((side, side)), np.zeros((side, side))
    for (left, upper, right, lower), fall in zip(places, falls, strict=True):
        total[upper:lower, left:right] += fall
        times[upper:lower, left:right] += 1
    heat = total / times
    heat = heat / heat.max() if falls.max() >= LEAST else np.zeros_like(heat)
    return heat.astype(np.float32)
