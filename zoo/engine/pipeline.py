"""Decoding beside the forward pass: worker threads, a bounded queue, results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from zoo.engine import Array, Engine
from zoo.errors import ImageError

T = TypeVar("T")
R = TypeVar("R")


def ordered(
    pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], ahead: int
) -> Iterator[R]:
    """`map` in the pool's threads, in order, never more than `ahead` items taken in advance."""
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def forward(
    items: Iterable[T], load: Callable[[T], Array], engine: Engine
) -> Iterator[tuple[T, Array | ImageError]]:
    """Loads each item and runs the engine on it: (item, its result or why there is none).

    In the order of `items`, which is read only a little ahead, so memory stays constant. A load
    that raises ImageError costs its own row and no other.
    """
    import numpy as np

    with (
        ThreadPoolExecutor(engine.workers, "zoo-forward", engine.start_worker) as pool,
        ThreadPoolExecutor(max(1, engine.decoders), "zoo-decode") as helpers,
    ):
        load_all = helpers.map if engine.decoders else map

        def job(batch: list[T]) -> list[tuple[T, Array | ImageError]]:
            loaded = list(load_all(lambda item: attempt(load, item), batch))
            good = [value for value in loaded if not isinstance(value, ImageError)]
            results = iter(engine(np.stack(good)) if good else ())
            return [
                (item, value if isinstance(value, ImageError) else next(results))
                for item, value in zip(batch, loaded, strict=True)
            ]

        for done in ordered(pool, job, batched(items, engine.batch), 2 * engine.workers):
            yield from done


def attempt(load: Callable[[T], Array], item: T) -> Array | ImageError:
    try:
        return load(item)
    except ImageError as error:
        return error
