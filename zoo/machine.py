"""What this process may use of the machine that it runs on."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

# What is said where memory has run out: by torch, C++, oneDNN, cuBLAS and cuDNN, the system's
# loader of libraries, and Python and C++ of a thread's.
NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory",
             "cannot allocate memory", "bad_alloc", "bad allocation",
             "could not create a primitive", "could not create a memory", "alloc_failed",
             "failed to map segment", "can't start new thread",
             "resource temporarily unavailable")  # fmt: skip


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
    import threadpoolctl  # noqa: F401  before modules are counted

    with _libraries(len(sys.modules)).limit(limits=1, user_api="blas"):
        yield


@lru_cache(maxsize=1)
def _libraries(modules: int) -> ThreadpoolController:
    """Return the libraries with threads of their own that are loaded with so many modules.

    They are looked for anew where a module was imported since: that takes a millisecond, and a
    solve asks for one thread again and again.
    """
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out: libraries raise a MemoryError, or nearly anything."""
    said = str(getattr(error, "strerror", None) or error).lower()  # and not the name of a file
    return isinstance(error, MemoryError) or any(words in said for words in NO_MEMORY)
