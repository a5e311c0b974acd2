"""Decoding beside the forward pass: worker threads, a bounded queue, results in order.

On a CPU every worker decodes a batch and runs it, so each core has both to do and nothing waits.
Only at the end, when no batch is left to begin, those with nothing to do decode for the others.
Where the engine has decoders of its own (a GPU), they decode the next batches while the workers
wait for the device.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING, Generic, TypeVar

from zoo.errors import ImageError
from zoo.watch import asked, check

if TYPE_CHECKING:
    from zoo.engine import Array, Engine

T = TypeVar("T")
R = TypeVar("R")
POLL = 0.1  # seconds
NOT_FINITE = "the network's answer is not finite: it holds NaN or infinity"


def forward(
    items: Iterable[T], load: Callable[[T], Array], engine: Engine
) -> Iterator[tuple[T, Array | ImageError]]:
    """Load each item, run the engine on it and yield (item, its result or why there is none).

    In the order of `items`, which is read only a little ahead, so memory stays constant. A load
    that raises ImageError costs its own row and no other. Without an item nothing is started, and
    no engine compiled.
    """
    return forward_then(items, load, engine, _rows_of)


def _rows_of(results: Array) -> Array:
    return results


def forward_then(
    items: Iterable[T],
    load: Callable[[T], Array],
    engine: Engine,
    then: Callable[[Array], Iterable[R]],
) -> Iterator[tuple[T, R | ImageError]]:
    """Do `forward`, and yield what `then` makes of a batch's results, a value for each of them.

    It runs in the batch's thread: what it does for all of a batch costs a row far less.
    """
    iterator = iter(items)
    if not (first := list(islice(iterator, 1))):
        return
    items = chain(first, iterator)
    workers, recent = engine.workers, _Recent[T](engine.workers)
    with (
        _threads(workers, "zoo-forward", engine.start_worker) as pool,
        _threads(max(1, engine.decoders), "zoo-decode") as decoders,
    ):

        def job(batch: _Batch[T] | None) -> list[tuple[T, R | ImageError]]:
            if batch is None:
                recent.help()
                return []
            if not engine.decoders:
                batch.help()
            return run(batch, engine, then)

        def batches() -> Iterator[_Batch[T] | None]:
            for some in batched(items, engine.batch):
                batch = recent.added(_Batch(some, load))
                for _ in range(min(engine.decoders, len(some))):
                    decoders.submit(batch.help)
                yield batch
            if not engine.decoders:
                yield from [None] * workers

        try:
            for done in ordered(pool, job, batches(), 2 * workers):
                yield from done
        finally:
            recent.give_up()


@contextmanager
def _threads(
    count: int, name: str, begin: Callable[[], object] | None = None
) -> Iterator[ThreadPoolExecutor]:
    """A pool that is waited for at the end, unless a signal asks to stop: a graph may never end."""
    pool = ThreadPoolExecutor(count, name, begin)
    try:
        yield pool
    finally:
        pool.shutdown(wait=not asked(), cancel_futures=True)


def answers(
    items: Iterable[T], load: Callable[[T], Array], engine: Engine
) -> Iterator[tuple[T, Array | ImageError]]:
    """Yield what `forward` does; a result with NaN or infinity is an error: it is no answer."""
    import numpy as np

    for item, result in forward(items, load, engine):
        if not isinstance(result, ImageError) and not np.isfinite(result).all():
            result = ImageError(NOT_FINITE)
        yield item, result


def ordered(
    pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], ahead: int
) -> Iterator[R]:
    """`map` in the pool's threads, in order, never more than `ahead` items taken in advance.

    Raises Interrupted where a signal asks to stop.
    """
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield _result_of(waiting.popleft())
        while waiting:
            yield _result_of(waiting.popleft())
    finally:
        for future in waiting:
            future.cancel()


def _result_of(future: Future[R]) -> R:
    """Return `future.result()`; looks for a signal while it waits."""
    while True:
        check()
        try:
            return future.result(POLL)
        except TimeoutError:
            if future.done():  # it may be the future's own
                return future.result()


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def run(
    batch: _Batch[T], engine: Engine, then: Callable[[Array], Iterable[R]]
) -> list[tuple[T, R | ImageError]]:
    """Return what comes of the engine's results for a batch, once it is loaded."""
    import numpy as np

    loaded = batch.loaded()
    good = [value for value in loaded if not isinstance(value, ImageError)]
    pixels = good[0][None] if len(good) == 1 else np.stack(good) if good else None
    results = iter(then(engine(pixels)) if pixels is not None else ())
    return [
        (item, value if isinstance(value, ImageError) else next(results))
        for item, value in zip(batch.items, loaded, strict=True)
    ]


class _Batch(Generic[T]):
    """A batch that several threads may load: each takes the next item that nobody has taken."""

    def __init__(self, items: list[T], load: Callable[[T], Array]) -> None:
        self.items, self.load = items, load
        self.values: dict[int, Array | ImageError] = {}
        self.failure: BaseException | None = None
        self.untaken = iter(range(len(items)))
        self.left = len(items)
        self.lock = threading.Lock()
        self.complete = threading.Event()

    def help(self) -> None:
        """Load until every item is taken."""
        while (number := self.take()) is not None:
            try:
                self.values[number] = attempt(self.load, self.items[number])
            except BaseException as error:  # is raised where the batch is waited for
                self.failure = error
            with self.lock:
                self.left -= 1
                if not self.left:
                    self.complete.set()

    def take(self) -> int | None:
        with self.lock:
            return next(self.untaken, None)

    def give_up(self) -> None:
        """Stop loading: what is not taken yet never will be."""
        with self.lock:
            skipped = len(list(self.untaken))
            self.left -= skipped
            if skipped:
                self.failure = RuntimeError("given up")
            if not self.left:
                self.complete.set()

    def loaded(self) -> list[Array | ImageError]:
        """Return what was loaded, once all of it is. Raises what a load has raised."""
        self.complete.wait()
        if self.failure is not None:
            raise self.failure
        return [self.values.pop(number) for number in range(len(self.items))]


class _Recent(Generic[T]):
    """The batches that may be unfinished."""

    def __init__(self, workers: int) -> None:
        self.batches: deque[_Batch[T]] = deque(maxlen=2 * workers + 1)

    def added(self, batch: _Batch[T]) -> _Batch[T]:
        self.batches.append(batch)
        return batch

    def help(self) -> None:
        for batch in list(self.batches):
            batch.help()

    def give_up(self) -> None:
        for batch in self.batches:
            batch.give_up()


def attempt(load: Callable[[T], R], item: T) -> R | ImageError:
    """Return what was loaded, or why it cannot be."""
    try:
        return load(item)
    except ImageError as error:
        # Without the frames it came through, which hold the photo's bytes until its row is written.
        error.__context__ = error.__cause__ = None
        return error.with_traceback(None)
