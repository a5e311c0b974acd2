"""zoo bench: what this machine makes of a network, engine by engine, and what holds it up."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.console import Screen, out, print_json, table, talk
from zoo.cli.options import TrustChanged
from zoo.errors import UsageError, ZooError
from zoo.text import percent, short

if TYPE_CHECKING:
    from zoo.bench.advice import Advice
    from zoo.bench.bench import Asked
    from zoo.bench.engines import Measured
    from zoo.bench.limit import Limit
    from zoo.bench.photos import Decoding

ENGINES, PRECISIONS = ("openvino", "torch", "onnxruntime"), ("fp32", "bf16", "int8")


def command(
    model: Annotated[
        str, typer.Argument(help="A model, torchvision/X, timm/X, a run, or an .onnx file.")
    ] = "resnet50",
    photos: Annotated[
        Path | None, typer.Option(help="Folder of photos to decode; else a few are made up.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="openvino, torch or onnxruntime; else all that are there.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, bf16 or int8; a run has its own.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    seconds: Annotated[float, typer.Option(help="For each engine.")] = 10.0,
    trust_changed: TrustChanged = False,
    json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """How fast a network runs here: images/s, latency, memory, and the share of what could be.

    The limit is measured on the spot: an ideal convolution in the same precision. Beside it, how
    quickly photos decode, which of the two holds a job up, and what would help. A model's name
    runs with random weights, which cost as much as others; nothing is downloaded.
    """
    check(engine, precision, seconds)
    from zoo.bench import bench, subject

    found = subject.find(model, trusts=trust_changed)
    precision = precision or found.precision
    place = where(device, engine, found.kind)
    asked = bench.Asked(found, engine, precision, place, seconds, photos)
    warn_if_busy()
    with Screen():
        decoding, limit, rows = measured(asked)
    good = [row for row in rows if not row.error]
    if not good:
        raise ZooError(rows[0].error, rows[0].hint)
    advice = advise(asked, decoding, limit, good)
    if json:
        print_json(record(asked, decoding, limit, rows, advice))
        return
    show(asked, decoding, limit, good, advice)
    for row in rows:
        if row.error:
            talk(f"{row.engine}: {row.error} ({row.hint})")


def check(engine: str | None, precision: str | None, seconds: float) -> None:
    if engine not in (None, *ENGINES):
        raise UsageError(f"--engine {engine}", f"give {', '.join(ENGINES)}; all without it")
    if precision not in (None, *PRECISIONS):
        raise UsageError(f"--precision {precision}", f"give {', '.join(PRECISIONS)}")
    if not 0 < seconds <= 3600:
        raise UsageError(f"--seconds {seconds:g}", "give a number above 0 and up to 3600")


def warn_if_busy() -> None:
    """Other work takes its share of what is measured."""
    from zoo.machine import cores

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > cores() / 2:
        talk(f"the machine is busy (load {load:.1f}): expect less than it can do")


def where(device: str, engine: str | None, kind: str) -> str:
    """The device; what runs on CPUs only needs no torch to find out."""
    from zoo import device as devices

    only = engine in ("openvino", "onnxruntime") or kind == "onnx"
    if device == "cpu" or (device == "auto" and (only or not devices.may_have_gpu())):
        return "cpu"
    if only:
        what = f"--engine {engine}" if engine else "an exported file"
        raise UsageError(f"--device {device} with {what}, which runs on CPUs", "leave it out")
    return devices.choose(device).name


def measured(asked: Asked) -> tuple[Decoding, Limit | None, list[Measured]]:
    from zoo.bench import bench
    from zoo.bench.limit import Limit
    from zoo.bench.photos import Decoding

    decoding: Decoding | None = None
    limit: Limit | None = None
    rows: list[Measured] = []
    for found in bench.run(asked):
        if isinstance(found, Decoding):
            decoding = found
            talk(f"photos decoded; {asked.seconds:g} s for each engine")
        elif isinstance(found, Limit):
            limit = found if limit is None or found.gflops > limit.gflops else limit
        else:
            rows.append(found)
            talk(f"{found.engine}: {'failed' if found.error else 'measured'}")
    assert decoding is not None
    return decoding, limit, rows


def advise(asked: Asked, decoding: Decoding, limit: Limit | None, good: list[Measured]) -> Advice:
    from zoo.bench import advice
    from zoo.engine.select import bf16

    where = {"precision": asked.precision, "device": asked.device}
    able = bf16() and asked.subject.kind != "onnx"  # a file computes as it is
    return advice.advise(good, decoding, limit, asked.subject.macs, bf16=able, **where)


def record(
    asked: Asked,
    decoding: Decoding,
    limit: Limit | None,
    rows: list[Measured],
    advice: Advice,
) -> dict[str, Any]:
    from zoo.bench.advice import share_of_limit
    from zoo.machine import cores

    macs = asked.subject.macs
    return {
        "model": asked.subject.name,
        "kind": asked.subject.kind,
        "macs": macs,
        "precision": asked.precision,
        "device": asked.device,
        "cores": cores(),
        "limit": asdict(limit) if limit else None,
        "photos": asdict(decoding),
        "engines": [
            {**asdict(row), "share_of_limit": share_of_limit(row.images_per_second, macs, limit)}
            for row in rows
        ],
        "bottleneck": asdict(advice),
    }


def show(
    asked: Asked, decoding: Decoding, limit: Limit | None, good: list[Measured], advice: Advice
) -> None:
    from zoo.bench.advice import share_of_limit

    subject, side = asked.subject, asked.subject.preprocess.size
    work = f", {short(subject.macs)} mult-adds" if subject.macs else ""
    out(f"{subject.name}, {side} x {side}{work}; {asked.precision} on {place(asked.device)}\n")
    lines = [
        (
            row.engine,
            f"{row.images_per_second:,.1f}",
            percent(share_of_limit(row.images_per_second, subject.macs, limit), 0),
            milliseconds(row.latency),
            milliseconds(row.slowest),
            f"{row.memory / 1e6:,.0f} MB",
            f"{row.opening:.1f} s",
        )
        for row in good
    ]
    header = (
        "engine",
        "images/s",
        "of the limit",
        "one picture",
        "95 % below",
        "memory",
        "opens in",
    )
    out("\n".join(table(lines, header, " rrrrrr")))
    out()
    if limit and subject.macs:
        most = 1e9 * limit.gflops / (2 * subject.macs)
        out(f"limit: {limit.gflops:,.0f} GFLOP/s in {limit.precision} ({limit.how}), which is "
              f"{most:,.1f} images/s")  # fmt: skip
        if any(row.images_per_second > 1.05 * most for row in good):
            out("       more than the limit: other work took its share while that was measured")
    out(f"photos: {decoding.photos_per_second:,.0f}/s decoded on {place('cpu')} "
          f"({decoding.source})")  # fmt: skip
    what = "the forward pass" if advice.part == "forward" else "decoding"
    out(f"a job: {advice.photos_per_second:,.1f} photos/s, {what} is {percent(advice.share, 0)} "
          f"of the work: {advice.text}")  # fmt: skip


def place(device: str) -> str:
    from zoo.machine import cores

    if device != "cpu":
        return device
    return "1 core" if cores() == 1 else f"{cores()} cores"


def milliseconds(seconds: float) -> str:
    value = 1000 * seconds
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"
