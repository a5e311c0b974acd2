"""Why a network gives its answer: for each picture a map of each class that is to be explained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from zoo.catalog import Preprocess
from zoo.data.preprocess import Pixels, Values, fill
from zoo.data.views import Source, plain_view
from zoo.engine.pipeline import attempt
from zoo.errors import ImageError, UsageError, nearest
from zoo.explain.occlusion import occlusion
from zoo.explain.places import Tapped
from zoo.explain.saliency import gradcam
from zoo.metrics import Array, sigmoid, softmax
from zoo.network import Network
from zoo.text import listed

MOST_CLASSES = 6  # of a photo of several labels


@dataclass(frozen=True, slots=True)
class Explained:
    """The maps of a picture, by the number of their class: float32 S S in 0..1.

    probabilities: K, of all classes.
    """

    maps: tuple[tuple[int, Values], ...]
    probabilities: Array


# The view that the network has of a picture, S S C, with its maps; or why it cannot be read.
Seen = tuple[Pixels, Explained] | ImageError


def numbers(asked: Sequence[str] | None, names: Sequence[str], many: int) -> list[int]:
    """Return the numbers of the classes that were asked for. Raises UsageError."""
    found = []
    for word in asked or []:
        if word in names:
            found.append(names.index(word))
        elif word.isdecimal() and int(word) < many:
            found.append(int(word))
        else:
            said = nearest(word, names) or f"they are {listed(names, 10) or f'0 to {many - 1}'}"
            raise UsageError(
                f"--class {word}: there is no such class", f"{said}; or give its number"
            )
    return found


def by_gradcam(
    net: Network, tapped: Tapped, sources: Sequence[Source], wanted: Sequence[int]
) -> list[Seen]:
    """Return what speaks for the wanted classes in each picture, else for the answer to it."""
    views = [attempt(lambda one: plain_view(one, net.preprocess), one) for one in sources]
    good = [view for view in views if not isinstance(view, ImageError)]
    told = iter(_by_gradcam(net, tapped, np.stack(good), wanted) if good else ())
    return [view if isinstance(view, ImageError) else (view, next(told)) for view in views]


def _by_gradcam(
    net: Network, tapped: Tapped, pixels: Pixels, wanted: Sequence[int]
) -> list[Explained]:
    """Return the maps of pictures, uint8 N S S C. Of several labels all that are the answer."""
    first = gradcam(net, tapped, pixels, list(wanted[:1]) * len(pixels) or None)
    told = [list(wanted) or _answer(row, net) for row in first.scores]
    pairs = [(at, number) for at, all_of in enumerate(told) for number in all_of]
    again = gradcam(net, tapped, pixels[[at for at, _ in pairs]], [number for _, number in pairs])
    maps: list[list[tuple[int, Values]]] = [[] for _ in pixels]
    for (at, number), heat in zip(pairs, again.maps, strict=True):
        maps[at].append((number, heat))
    chances = [_probabilities(row, net.threshold) for row in first.scores]
    return [Explained(tuple(own), each) for own, each in zip(maps, chances, strict=True)]


def by_occlusion(
    source: Source,
    preprocess: Preprocess,
    probabilities: Callable[[Iterator[Pixels]], Values],
    wanted: Sequence[int],
) -> Seen:
    """Return where a picture cannot be covered without losing the class.

    probabilities: gives N K for N pictures.
    """
    pixels = attempt(lambda one: plain_view(one, preprocess), source)
    if isinstance(pixels, ImageError):
        return pixels
    plain = probabilities(iter([pixels]))[0]
    found = [
        (number, occlusion(pixels, fill(preprocess), probabilities, number))
        for number in wanted or [int(plain.argmax())]
    ]
    return pixels, Explained(tuple(found), plain)


def _answer(scores: Array, net: Network) -> list[int]:
    """Return the class that the network answers, or all labels that reach its threshold."""
    if net.threshold is not None:
        probabilities = _probabilities(scores, net.threshold)
        reached = [int(k) for k in (-scores).argsort() if probabilities[k] >= net.threshold]
        if reached:
            return reached[:MOST_CLASSES]
    return [int(np.argmax(scores))]


def _probabilities(scores: Array, threshold: float | None) -> Array:
    return softmax(scores) if threshold is None else sigmoid(scores)
