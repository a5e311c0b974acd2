"""Where `zoo` begins, and `python -m zoo`, which torchrun starts."""

import gc
import os
import sys

from zoo import watch


def entry() -> None:
    """The console script; signals are heard before anything is imported that takes time."""
    _open_closed()
    watch.listen()
    # 2^4 cycles, from 2^26: NumPy's threads wait asleep for work that zoo's own threads mostly do.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    gc.set_threshold(10_000)  # from 700: imports and lists of photos make many objects, no cycles
    from zoo.cli import entry

    entry()


def _open_closed() -> None:
    """Open stdin, stdout and stderr where they are closed: a file of ours would take their place.

    What is read there is empty, what is said on stderr is lost, and an answer on stdout an error.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            handle = os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_RDWR)
            os.set_inheritable(handle, True)
            setattr(sys, name, open(handle, "w" if number else "r", closefd=False))  # noqa: SIM115


if __name__ == "__main__":
    entry()
