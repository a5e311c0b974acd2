"""What this process may use of the machine that it runs on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def cores() -> int:
    """Return how many processors this process may use, by containers, taskset and torchrun."""
    all_of_us = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (here or 1) // all_of_us)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep BLAS to one thread: several that contend make seconds minutes, and other sums.

    SciPy has a BLAS of its own, which is bound where it is imported by then: what is done inside
    takes NumPy's alone.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield
