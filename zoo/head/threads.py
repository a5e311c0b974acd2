"""All cores, and the same bits on any number of them.

What is to be done is cut into pieces by its shape alone. BLAS does each in one thread, threads of
ours do several pieces at a time, and what they give is taken in the order of the pieces.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

from zoo.machine import cores, one_thread

__all__ = ["in_order", "one_thread"]

PIECES = 16
LEAST = 128  # rows of a piece: with fewer a product of matrices is slow

One = TypeVar("One")
Given = TypeVar("Given")


def in_order(work: Callable[[Given], One], pieces: Sequence[Given]) -> Iterator[One]:
    """Yield what the work gives for each of the pieces; few more than there are cores wait."""
    threads = min(cores(), len(pieces))
    if threads < 2:
        yield from map(work, pieces)
        return
    with ThreadPoolExecutor(threads, "zoo-head") as pool:
        waiting: deque[Future[One]] = deque()
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
