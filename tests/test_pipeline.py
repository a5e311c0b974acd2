"""The pipeline's threads: who loads what, what waits for what, and what a failure leaves behind."""

from __future__ import annotations

import threading
import time
from collections import Counter

import numpy as np
import pytest

from zoo.engine.pipeline import attempt, forward
from zoo.errors import ImageError


class Sums:
    """An engine that adds up each picture's bytes and remembers how it was called."""

    name = "sums"

    def __init__(self, workers: int = 2, decoders: int = 0, batch: int = 4) -> None:
        self.workers, self.decoders, self.batch = workers, decoders, batch
        self.calls: list[int] = []
        self.started: list[str] = []

    def start_worker(self) -> None:
        self.started.append(threading.current_thread().name)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        assert threading.current_thread().name in self.started
        self.calls.append(len(pixels))
        return pixels.reshape(len(pixels), -1).sum(axis=1, dtype=np.float32)[:, None]


def picture(number: int) -> np.ndarray:
    return np.full((2, 2, 1), number % 256, np.uint8)


ENGINES = [(1, 0), (2, 0), (5, 0), (2, 3), (1, 1)]


@pytest.mark.parametrize(("workers", "decoders"), ENGINES)
@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 61])
def test_every_item_gives_its_own_row_in_order(workers: int, decoders: int, count: int) -> None:
    engine, loaded = Sums(workers, decoders), Counter[int]()

    def load(number: int) -> np.ndarray:
        loaded[number] += 1
        time.sleep(0.001 * (number * 7 % 5))
        if number % 9 == 5:
            raise ImageError(f"no {number}")
        return picture(number)

    rows = list(forward(range(count), load, engine))
    assert [number for number, _ in rows] == list(range(count))
    assert loaded == Counter(range(count)), "each item is loaded once"
    for number, row in rows:
        if number % 9 == 5:
            assert str(row) == f"no {number}"
        else:
            assert row == [4 * number]
    assert sum(engine.calls) == sum(number % 9 != 5 for number in range(count))
    assert len(engine.calls) <= -(-count // engine.batch)


def test_a_batch_without_a_readable_picture_never_reaches_the_engine() -> None:
    def load(number: int) -> np.ndarray:
        raise ImageError("no")

    engine = Sums()
    assert len(list(forward(range(10), load, engine))) == 10
    assert engine.calls == []


@pytest.mark.parametrize(("workers", "decoders"), ENGINES)
def test_what_is_not_an_unreadable_picture_ends_the_pass(workers: int, decoders: int) -> None:
    """In whichever thread it was raised; and no thread is left waiting."""

    def load(number: int) -> np.ndarray:
        if number == 18:
            raise MemoryError("eighteen")
        return picture(number)

    before = set(threading.enumerate())
    seen: list[int] = []
    with pytest.raises(MemoryError, match="eighteen"):
        seen.extend(number for number, _ in forward(range(1000), load, Sums(workers, decoders)))
    assert seen == list(range(16))
    assert not set(threading.enumerate()) - before


@pytest.mark.parametrize(("workers", "decoders"), ENGINES)
def test_an_interrupted_source_ends_the_pass(workers: int, decoders: int) -> None:
    def items():
        yield from range(50)
        raise KeyboardInterrupt

    before, seen = set(threading.enumerate()), []
    with pytest.raises(KeyboardInterrupt):
        seen.extend(number for number, _ in forward(items(), picture, Sums(workers, decoders)))
    assert seen == list(range(len(seen)))
    assert not set(threading.enumerate()) - before


@pytest.mark.parametrize(("workers", "decoders"), ENGINES)
def test_a_consumer_that_stops_leaves_no_thread(workers: int, decoders: int) -> None:
    """Nor are the pictures decoded that were taken in advance."""
    before, loaded = set(threading.enumerate()), []

    def load(number: int) -> np.ndarray:
        loaded.append(number)
        time.sleep(pause)  # long in the end: time enough to be told to stop
        return picture(number)

    pause = 0.001
    stream = forward(range(10_000), load, Sums(workers, decoders, batch=64))
    for _ in range(7):
        next(stream)
    pause, at_the_end = 0.2, len(loaded)
    stream.close()
    assert not set(threading.enumerate()) - before
    assert len(loaded) - at_the_end <= 4 * (workers + decoders)


def test_at_the_end_idle_workers_load_for_the_others() -> None:
    """One batch, four workers: its items wait for each other, so one thread alone would not do."""
    together = threading.Barrier(4, timeout=60)

    def load(number: int) -> np.ndarray:
        together.wait()
        return picture(number)

    rows = list(forward(range(4), load, Sums(workers=4)))
    assert [float(row[0]) for _, row in rows] == [0, 4, 8, 12]


def test_decoders_load_the_next_batch_while_a_worker_is_at_the_device() -> None:
    loaded_second, saw = threading.Event(), []

    class Device(Sums):
        def __call__(self, pixels: np.ndarray) -> np.ndarray:
            if pixels[0, 0, 0, 0] == 0:
                saw.append(loaded_second.wait(60))
            return super().__call__(pixels)

    def load(number: int) -> np.ndarray:
        if number == 7:
            loaded_second.set()
        return picture(number)

    assert len(list(forward(range(8), load, Device(workers=2, decoders=2)))) == 8
    assert saw == [True]


def test_no_more_pictures_are_in_memory_than_are_being_worked_on() -> None:
    """However slow the consumer, and however many there are."""
    there, most, lock = 0, 0, threading.Lock()

    class Counted(np.ndarray):
        def __del__(self) -> None:
            nonlocal there
            with lock:
                there -= 1

    def load(number: int) -> np.ndarray:
        nonlocal there, most
        made = np.zeros((2, 2, 1), np.uint8).view(Counted)
        with lock:
            there += 1
            most = max(most, there)
        return made

    class Plain(Sums):
        def __call__(self, pixels: np.ndarray) -> np.ndarray:
            return np.zeros((len(pixels), 1), np.float32)

    engine = Plain(workers=3, batch=4)
    for number, _ in forward(range(2000), load, engine):
        if number % 500 == 0:
            time.sleep(0.05)
    assert 0 < most <= 40, f"{most} of 2,000 pictures were in memory at once"


def test_a_photo_that_cannot_be_read_is_not_held_by_its_error() -> None:
    def load(item: int) -> np.ndarray:
        held = bytearray(10_000_000)
        try:
            raise ValueError(f"{item} of {len(held)}")
        except ValueError as error:
            raise ImageError("what Pillow says") from error

    for item in range(3):
        error = attempt(load, item)
        assert isinstance(error, ImageError)
        assert error.__traceback__ is error.__context__ is error.__cause__ is None
