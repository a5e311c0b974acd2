"""All of a benchmark: the photos, the limit, every engine, and what holds the work up."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from zoo.bench import engines, limit, photos
from zoo.bench.engines import Measured
from zoo.bench.limit import Limit
from zoo.bench.photos import Decoding
from zoo.bench.subject import Subject
from zoo.disk import scratch
from zoo.errors import UsageError, ZooError
from zoo.watch import check, undoing, unheard

POLL = 0.1  # seconds
LIMIT_SECONDS, DECODE_SECONDS = 1.5, 1.5  # at most; less where an engine has less


@dataclass(frozen=True, slots=True)
class Asked:
    """engine: None for all that are there. seconds: of an engine."""

    subject: Subject
    engine: str | None = None
    precision: str = "fp32"
    device: str = "cpu"
    seconds: float = 10.0
    photos: Path | None = None


def run(asked: Asked) -> Iterator[Decoding | Limit | Measured]:
    """Each as soon as it is known. Where an engine that was asked for fails, its error is raised.

    The limit comes twice, before the engines and after them: on a machine with other work the
    higher one is nearer to what it can do.

    Every engine has a process of its own: memory is its own then, and so are its settings.
    """
    names = engines_for(asked)
    with photos.found(asked.photos) as (paths, source):
        seconds = min(DECODE_SECONDS, asked.seconds)
        yield photos.measure(paths, source, asked.subject.preprocess, seconds)
        given = (asked.precision, min(LIMIT_SECONDS, asked.seconds), asked.device)
        if asked.subject.macs:
            yield limit.measure(*given)
        for name in names:
            found = one(asked, name, str(paths[0]))
            if found.error and asked.engine is not None:
                raise ZooError(found.error, found.hint)
            yield found
        if asked.subject.macs:
            yield limit.measure(*given)


def engines_for(asked: Asked) -> list[str]:
    """Those that are there, in the order of preference. Raises UsageError."""
    from zoo.engine.select import choose, why_not

    if asked.subject.kind == "onnx":
        check_file(asked)
        return ["onnxruntime"]
    if asked.engine is not None:
        return [choose(asked.engine, asked.device, asked.precision)[0]]
    there = [] if why_not(asked.device) else ["openvino"]
    runtime = asked.device == "cpu" and find_spec("onnxruntime") is not None
    return [*there, "torch", *(["onnxruntime"] if runtime else [])]


def check_file(asked: Asked) -> None:
    """An exported file is what it is. Raises UsageError."""
    if asked.engine not in (None, "onnxruntime"):
        raise UsageError(
            f"--engine {asked.engine} with an exported file, which runs in onnxruntime",
            "leave --engine out",
        )
    if asked.precision != "fp32":
        raise UsageError(
            f"--precision {asked.precision} with an exported file, which has its own",
            "leave --precision out",
        )


def one(asked: Asked, engine: str, photo: str) -> Measured:
    """Converts in one process and measures in the next, which has no torch for that then."""
    from zoo.engine.select import choose

    try:
        choose(engine, asked.device, asked.precision)
    except UsageError as error:
        return Measured(engine, error=error.what, hint=error.hint)
    with scratch("bench") as place:
        converting = 0.0
        if engine in engines.CONVERT and asked.subject.file is None:
            made = alone(engine, "convert", (asked.subject, engine, asked.precision, place))
            if isinstance(made, Measured):
                return made
            converting = made
        given = (asked.subject, engine, asked.precision, asked.device, asked.seconds, photo)
        found = alone(engine, "measure", (*given, place))
        assert isinstance(found, Measured)
        return replace(found, converting=converting)


def alone(engine: str, what: str, given: tuple[Any, ...]) -> Measured | float:
    """A function of engines.py in a process of its own; one that dies is a row with an error."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(sender, engine, what, given), daemon=True)
    with unheard():
        process.start()
    sender.close()
    try:
        with undoing(process.kill):
            while not receiver.poll(POLL):
                check()
            found: Measured | float = receiver.recv()
            return found
    except EOFError:
        process.join()
        check()
        return Measured(
            engine,
            error=f"the process of {engine} ended with {process.exitcode} and no answer",
            hint="perhaps the memory was not enough: choose a smaller network",
        )
    finally:
        process.kill()
        process.join()


def child(sender: Connection, engine: str, what: str, given: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a library's thread may not have the mask
    found: Measured | float
    try:
        found = FUNCTIONS[what](*given)
    except ZooError as error:
        found = Measured(engine, error=error.what, hint=error.hint)
    except Exception as error:  # a library's
        text = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        found = Measured(engine, error=text, hint="another --engine may run it")
    sender.send(found)


FUNCTIONS: dict[str, Callable[..., Measured | float]] = {
    "convert": engines.convert,
    "measure": engines.measure,
}
