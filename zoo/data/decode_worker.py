"""The process that zoo.data.decode_process starts: photos come by stdin, raw pixels go by stdout.

With the pixels goes what the decoder has said of the photo: the other process knows its name.

Each photo has limits of memory (over what is mapped now, where /proc tells) and processor time.
Where the system has no such limits, the clock of the other process remains.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import sys
from typing import BinaryIO

import numpy as np
from PIL import AvifImagePlugin

from zoo.catalog.spec import Preprocess
from zoo.data import decoder_warnings
from zoo.data.decode import decoded
from zoo.data.decode_process import ANSWER, QUESTION, Job
from zoo.data.preprocess import Pixels
from zoo.data.structure import check
from zoo.data.views import view_here
from zoo.errors import ZooError

NO_MEMORY = 3


def main() -> None:
    """Answer one photo after the other until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the other process decides
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    source, target = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a stray print is no pixel
    gc.freeze()
    with contextlib.suppress(BrokenPipeError):
        while head := source.read(QUESTION.size):
            length, size = QUESTION.unpack(head)
            job: Job = json.loads(source.read(length))
            _answer(job, source.read(size), target)
            gc.collect()  # an error may hold its photo in a circle


def _answer(job: Job, data: bytes, target: BinaryIO) -> None:
    said: list[str] = []
    try:
        _limit(job["memory"], job["seconds"])
        decoder_warnings.HERE.said = said
        pixels = _pixels(job, data)
        _limit(None, 0)
    except MemoryError:
        os._exit(NO_MEMORY)
    except ZooError as error:
        _limit(None, 0)
        why = error.what.encode("utf-8", "replace")[:1000]
        target.write(ANSWER.pack(len(why), 0, 0, 0, 0) + why)
    else:
        told = json.dumps(said).encode()
        target.write(ANSWER.pack(pixels.nbytes, *pixels.shape, len(told)) + told)
        target.write(np.ascontiguousarray(pixels).data)
    target.flush()


def _pixels(job: Job, data: bytes) -> Pixels:
    checked = check(data)
    if "view" in job:
        return view_here(checked, Preprocess.from_dict(job["preprocess"]), job["view"])
    with decoded(checked, job["mode"], lambda width, height: 1.0) as picture:
        pixels = np.asarray(picture.complete().image)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _limit(memory: int | None, seconds: float) -> None:
    """Allow so many bytes more than now, and so much processor time from now on; None: any."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)  # its signal ends the process
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        limit = hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        if memory is not None:
            with open("/proc/self/statm") as file:
                limit = int(file.read().split()[0]) * resource.getpagesize() + memory
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
