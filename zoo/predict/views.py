"""Several views of a picture, and the mean of what the network says of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from zoo.data.views import Source
from zoo.engine import Array, Engine
from zoo.engine.pipeline import answers
from zoo.errors import ImageError
from zoo.predict.inputs import Input


def of_each(
    inputs: Iterable[Input], count: int, view: Callable[[Source, int], Array], engine: Engine
) -> Iterator[tuple[Input, list[Array | ImageError]]]:
    """Yield each input with the engine's results for its views 0 to count - 1, in order."""
    pairs = ((item, number) for item in inputs for number in range(count))
    found = answers(pairs, lambda pair: view(pair[0].source, pair[1]), engine)
    for (item, _), first in found:
        yield item, [first, *(result for _, result in itertools.islice(found, count - 1))]


def mean(each: Sequence[Array | ImageError]) -> Array | ImageError:
    """Return the mean of probabilities, or the first error among them."""
    good = [scores for scores in each if not isinstance(scores, ImageError)]
    bad = [scores for scores in each if isinstance(scores, ImageError)]
    return bad[0] if bad else np.asarray(np.mean(good, axis=0))
