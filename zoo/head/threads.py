"""All cores, and the same bits on any number of them.

What is to be done is cut into pieces by its shape alone. BLAS does each in one thread, threads of
ours do several pieces at a time, and what they give is taken in the order of the pieces.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import TypeVar

from zoo.machine import cores, one_thread

__all__ = ["in_order", "one_thread", "same_threads"]

PIECES = 16
LEAST = 128  # rows of a piece: with fewer a product of matrices is slow

One = TypeVar("One")
Given = TypeVar("Given")


class _Kept(threading.local):
    pool: ThreadPoolExecutor | None = None


_kept = _Kept()


@contextmanager
def same_threads() -> Iterator[None]:
    """Keep the threads of `in_order` from one call to the next, and BLAS to one of them each.

    A solve calls it a few hundred times, and to start threads takes as long as a small piece.
    """
    before = _kept.pool
    with one_thread(), ThreadPoolExecutor(cores(), "zoo-head") as pool:
        _kept.pool = pool
        try:
            yield
        finally:
            _kept.pool = before


def in_order(work: Callable[[Given], One], pieces: Sequence[Given]) -> Iterator[One]:
    """Yield what the work gives for each of the pieces; few more than there are cores wait."""
    threads = min(cores(), len(pieces))
    if threads < 2:
        yield from map(work, pieces)
        return
    waiting: deque[Future[One]] = deque()
    with ExitStack() as stack:
        pool = _kept.pool or stack.enter_context(ThreadPoolExecutor(threads, "zoo-head"))
        stack.callback(lambda: wait(waiting))  # what has begun is not left alone where one fails
        for piece in pieces:
            waiting.append(pool.submit(work, piece))
            if len(waiting) > threads + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def pieces(count: int, edges: Iterable[int] = (), parts: int = PIECES) -> list[slice]:
    """Return about so many parts of so many rows; one begins at each of the edges."""
    most = max(LEAST, -(-count // parts))
    found, ends = [], sorted({0, count, *edges})
    for first, last in pairwise(ends):
        number = -(-(last - first) // most)
        cuts = [first + (last - first) * k // number for k in range(number + 1)]
        found += [slice(*pair) for pair in pairwise(cuts)]
    return found
