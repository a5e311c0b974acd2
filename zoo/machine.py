"""What this process may use of the machine that it runs on."""

from __future__ import annotations

import os


def cores() -> int:
    """Return how many processors this process may use, by containers, taskset and torchrun."""
    all_of_us = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (here or 1) // all_of_us)
