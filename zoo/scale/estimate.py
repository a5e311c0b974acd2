"""How long a job takes, from some of its photos that are done here and now.

Reading, decoding and the forward pass are measured apart, photo by photo, and then the whole of
them as `zoo work` does it, twice: the first time opens the network. Nothing is written down.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from zoo.data.samples import evenly
from zoo.engine import Array
from zoo.engine.pipeline import forward
from zoo.errors import ImageError, InputError
from zoo.machine import cores
from zoo.scale import parts, store, web
from zoo.scale.answers import Answers
from zoo.scale.plan import Photo, Plan, Shards
from zoo.scale.sources import content
from zoo.watch import Progress, check

SAMPLE, SHARDS = 200, 20  # photos that are measured, and shards that they are taken from
_FIRST = 8  # photos that are done before, so that the network is open and compiled


@dataclass(frozen=True, slots=True)
class Measured:
    """What a photo takes on this machine, in seconds and bytes.

    reading: until its bytes are there, one after the other; decoding, forward: CPU seconds, of
    forward on a GPU those of the clock. cpu, seconds: of the whole, CPU and by the clock. opening:
    seconds before the first row. threads: that read at once. read, written: bytes.
    """

    photos: int
    errors: int
    engine: str
    cores: int
    threads: int
    reading: float
    decoding: float
    forward: float
    cpu: float
    seconds: float
    opening: float
    read: float
    written: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """What `photos` by `workers` such machines take. binds: reading, network, decode or forward."""

    photos: int
    workers: int
    seconds: float
    node_hours: float
    cpu_hours: float
    read: float
    written: float
    binds: str
    idle: int
    measured: Measured


def sample(shards: Shards, most: int = SAMPLE) -> list[Photo]:
    """Return photos from all over the plan, in its order."""
    chosen = evenly(range(shards.plan.shards), SHARDS)
    each = math.ceil(most / len(chosen))
    found = [photo for shard in chosen for photo in evenly(shards.photos(shard), each)]
    return list(evenly(found, most))


def measure(
    opener: Callable[[], Answers], photos: Sequence[Photo], views: int, progress: Progress
) -> Measured:
    """Measure these photos. views: of each. Raises InputError where none of them can be read."""
    began = time.perf_counter()
    answers = opener()
    some = list(answers.rows(photos[:_FIRST], False))
    opening = time.perf_counter() - began
    if answers.forward is None or answers.load is None:
        raise InputError("this job cannot be measured", "run one shard of it: `zoo work JOB`")
    sizes, pixels, reading, decoding = _alone(photos, answers.load, progress)
    if not pixels:
        why = next((row["error"] for row in some if row.get("error")), "none can be read")
        raise InputError(f"of {len(photos):,} photos of the plan none can be read: {why}",
                         "are they where the plan says?")  # fmt: skip
    clock, cpu = time.perf_counter(), time.process_time()
    for _ in forward(pixels, lambda array: array, answers.forward):
        check()
    passed = time.perf_counter() - clock, time.process_time() - cpu
    clock, cpu = time.perf_counter(), time.process_time()
    rows = list(answers.rows(photos, False))
    whole = time.perf_counter() - clock, time.process_time() - cpu
    size = len(parts.written(rows, answers.schema, {}))
    threads = answers.forward.decoders or answers.forward.workers
    return Measured(
        len(photos), len(photos) - len(pixels), answers.engine, cores(), threads,
        reading=reading / len(photos),
        decoding=views * decoding / len(pixels),
        forward=views * passed[0 if answers.forward.decoders else 1] / len(pixels),
        cpu=whole[1] / len(photos),
        seconds=max(whole[0], reading / threads) / len(photos),
        opening=opening,
        read=sum(sizes) / len(photos),
        written=size / len(photos),
    )  # fmt: skip


def _alone(
    photos: Sequence[Photo], load: Callable[[bytes], Array], progress: Progress
) -> tuple[list[int], list[Array], float, float]:
    """Return the bytes and the pixels of those that can be read, and what both took, in seconds."""
    sizes, pixels, reading, decoding = [], [], 0.0, 0.0
    for number, photo in enumerate(photos):
        check()
        progress(number, len(photos))
        clock = time.perf_counter()
        try:
            data = content(photo.file)
        except ImageError:
            continue
        finally:
            reading += time.perf_counter() - clock
        cpu = time.thread_time()
        try:
            pixels.append(np.asarray(load(data)))
        except ImageError:
            continue
        finally:
            decoding += time.thread_time() - cpu
        sizes.append(len(data))
    return sizes, pixels, reading, decoding


def estimate(
    plan: Plan, found: Measured, workers: int, photos: int | None = None, far: bool = False
) -> Estimate:
    """Return what so many photos, by default those of the plan, take so many workers.

    Who has most shards is the last to end. far: whether photos come over a network.
    """
    many = plan.photos if photos is None else photos
    each = plan.photos / plan.shards
    cut = max(1, math.ceil(many / each))
    share = min(float(many), math.ceil(cut / workers) * each)
    seconds = found.opening + share * found.seconds
    times = {
        "network" if far else "reading": found.reading / found.threads,
        "decode": found.decoding / found.cores,
        "forward": found.forward / (1 if found.threads > found.cores else found.cores),
    }
    working = min(workers, cut)
    return Estimate(
        many,
        workers,
        seconds,
        node_hours=(many * found.seconds + working * found.opening) / 3600,
        cpu_hours=many * found.cpu / 3600,
        read=many * found.read,
        written=many * found.written,
        binds=max(times, key=lambda name: times[name]),
        idle=workers - working,
        measured=found,
    )


def is_far(photos: Sequence[Photo]) -> bool:
    """Return whether most photos lie in a bucket or at an address."""
    return 2 * sum(store.is_url(one.file) or web.is_web(one.file) for one in photos) > len(photos)
