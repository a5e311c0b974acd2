"""The search for a photo that ends the process that reads it, or keeps it for ever.

A range of photos is answered in a process of its own, which sends its rows one by one. Where it
ends, or is silent for SILENCE seconds, what it sent is kept and the rest is tried by halves, down
to one photo: that one gets an error row.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection

import numpy as np

from zoo.errors import ZooError
from zoo.scale.answers import Answers, Opener
from zoo.scale.parts import Cells
from zoo.scale.plan import Photo
from zoo.watch import check, unheard

SILENCE = 300.0  # seconds, in which a network is opened too
POLL = 0.5


def rows(opener: Opener, answers: Answers, photos: Sequence[Photo]) -> Iterator[Cells]:
    """Yield a row for each photo, in order, whatever they do. Raises what the network raises."""
    size = len(photos)
    while photos:
        some, why, done = photos[:size], "", 0
        for row in _tried(opener, some):
            if isinstance(row, str):
                why = row
            else:
                done += 1
                yield row
        photos = photos[done:]
        if not why:
            size *= 2
        elif len(some) > 1:
            size = max(1, (len(some) - done) // 2)
        else:
            yield answers.error(photos[0], why)
            photos = photos[1:]


def _tried(opener: Opener, photos: Sequence[Photo]) -> Iterator[Cells | str]:
    """Yield the rows that a process of its own sends; last, where it ends before, why."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(theirs, opener, photos), daemon=False)
    with unheard(spawned=True):
        child.start()
    theirs.close()
    left = len(photos)
    try:
        while left:
            answer = _next(ours)
            if answer is None:
                yield f"gave no answer in {SILENCE:g} s"
                return
            if "zoo_error" in answer:
                raise ZooError(*answer["zoo_error"])
            left -= 1
            yield answer
    except EOFError:
        child.join()
        code = child.exitcode or 0
        ended = f"signal {-code}" if code < 0 else f"code {code}"
        yield f"the process that read it ended with {ended}"
    finally:
        child.kill()
        child.join()
        ours.close()


def _next(ours: Connection) -> Cells | None:
    """Return the next row; None where there is none for too long. Raises EOFError."""
    for _ in range(max(1, round(SILENCE / POLL))):
        check()
        if ours.poll(POLL):
            answer: Cells = json.loads(ours.recv_bytes())
            return answer
    return None


def _answer(theirs: Connection, opener: Opener, photos: Sequence[Photo]) -> None:
    """Send a row for each photo; runs in the child, which ends when its parent does."""
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()
    try:
        for row in opener().rows(photos, True):
            theirs.send_bytes(json.dumps(row, default=_plain).encode())
    except ZooError as error:
        theirs.send_bytes(json.dumps({"zoo_error": [error.what, error.hint]}).encode())


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL)
    os._exit(1)


def _plain(value: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> list[float]:
    return [float(number) for number in value]
