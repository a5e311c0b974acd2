"""zoo bench: how fast a network runs here, engine by engine, and what holds a job up."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from zoo import extras
from zoo.catalog.spec import pixels
from zoo.cli.console import Screen, out, print_json, print_table, prose, talk
from zoo.cli.options import flag, network, options, setting, shared
from zoo.errors import UsageError, ZooError
from zoo.settings.setting import HARDWARE, PHOTOS
from zoo.text import duration, percent, short

if TYPE_CHECKING:
    from zoo.bench.engines import Job, Measured
    from zoo.bench.photos import Advice, Decoding


@dataclass(frozen=True)
class Flags:
    model: str = network("A model, torchvision/X, timm/X, a run, or an .onnx file.", "resnet50")
    photos: Path | None = flag("Folder of photos to decode. Default: a few are made up.", PHOTOS)
    engine: Literal["openvino", "torch", "onnxruntime"] | None = flag(
        "Measure openvino or torch alone. Default: both, where they are here.", HARDWARE
    )
    precision: Literal["fp32", "bf16", "int8"] | None = shared("precision")
    device: str = setting("device")
    seconds: float = flag("Measure each engine for so many seconds.", HARDWARE, 10.0)
    trust_changed: bool = shared("trust_changed")
    json: bool = shared("json")


@options
def command(flags: Flags) -> None:
    """Measure how fast a network runs here: images/s, latency and memory of each engine.

    Beside it, how quickly photos decode, which of the two holds a job up, and what would help. A
    model's name runs with random weights, which cost as much as others; nothing is downloaded.
    """
    seconds, device = flags.seconds, flags.device
    if not 0 < seconds <= 3600:
        raise UsageError(f"--seconds {seconds:g}", "give a number above 0 and up to 3600")
    from zoo import device as devices
    from zoo.bench import engines
    from zoo.bench.photos import advise, decoded

    subject = engines.find(flags.model, trusts=flags.trust_changed)
    if device == "auto" and (flags.engine == "openvino" or subject.kind == "onnx"):
        device = "cpu"  # where they run
    if subject.kind != "onnx":
        extras.need(f"`zoo bench {flags.model}`", "torch")
    precision, device = flags.precision or subject.precision, devices.choose(device).name
    job = replace(subject, precision=precision, device=device, seconds=seconds)
    names = engines.here(job, flags.engine)
    with Screen():
        decoding = decoded(flags.photos, job.preprocess, seconds)
        talk(f"photos decoded; {seconds:g} s for each engine")
        rows = [_measured(replace(job, engine=name)) for name in names]
    good = [row for row in rows if not row.error]
    if not good:
        raise ZooError(rows[0].error, rows[0].hint)
    advice = advise(good, decoding, device)
    if flags.json:
        print_json(_record(job, decoding, rows, advice))
    else:
        _show(job, decoding, good, advice)


def _measured(job: Job) -> Measured:
    from zoo.bench import engines

    row = engines.measure(job)
    talk(f"{job.engine}: {row.error or 'measured'}")
    return row


def _record(
    job: Job, decoding: Decoding, rows: list[Measured], advice: Advice
) -> dict[str, object]:
    return {
        "model": job.name,
        "kind": job.kind,
        "macs": job.macs,
        "precision": job.precision,
        "device": job.device,
        "cores": decoding.threads,
        "photos": decoding._asdict(),
        "engines": [asdict(row) for row in rows],
        "bottleneck": advice._asdict(),
    }


def _show(job: Job, decoding: Decoding, good: list[Measured], advice: Advice) -> None:
    side, work = pixels(job.preprocess.size), f", {short(job.macs)} MACs" if job.macs else ""
    place = f"{decoding.threads} cores" if job.device == "cpu" else job.device
    prose(f"{job.name}, {side}{work}; {job.precision} on {place}")
    out()
    lines = [
        (
            row.engine,
            f"{row.images_per_second:,.1f}",
            duration(row.latency),
            duration(row.slowest),
            f"{row.memory / 1e6:,.0f} MB",
            f"{row.opening:.1f} s",
        )
        for row in good
    ]
    header = ("engine", "images/s", "one picture", "95 % below", "memory", "opens in")
    print_table(lines, header, " rrrrr", ("memory", "opens in"))
    rate = f"{decoding.photos_per_second:,.0f}/s decoded on {decoding.threads} cores"
    out()
    prose(f"photos: {rate} ({decoding.source})")
    what = "the forward pass" if advice.part == "forward" else "decoding"
    prose(
        f"a job: {advice.photos_per_second:,.1f} photos/s, {what} is "
        f"{percent(advice.share, 0)} of the work: {advice.text}"
    )
