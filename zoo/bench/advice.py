"""Which part of a job takes its time, and what would help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zoo.bench.engines import Measured
from zoo.bench.limit import Limit
from zoo.bench.photos import Decoding

NEAR = 0.75  # of the limit: an engine cannot do much better
BIG = 500_000  # bytes of a photo: far more pixels than a network looks at


@dataclass(frozen=True, slots=True)
class Advice:
    """part: decode or forward. share: of the time that the two take together for a photo.

    photos_per_second: of a whole job, decoding included.
    """

    part: str
    share: float
    photos_per_second: float
    text: str


def share_of_limit(rate: float, macs: int | None, limit: Limit | None) -> float | None:
    """What an engine makes of the machine, 0 to 1."""
    return 2 * macs * rate / (1e9 * limit.gflops) if macs and limit else None


def advise(
    rows: Sequence[Measured],
    decoding: Decoding,
    limit: Limit | None,
    macs: int | None,
    *,
    precision: str,
    device: str,
    bf16: bool,
) -> Advice:
    """rows: at least one without an error. bf16: whether the processor computes in it."""
    best = max(rows, key=lambda row: row.images_per_second)
    decode, forward = 1 / decoding.photos_per_second, 1 / best.images_per_second
    part = "forward" if forward >= decode else "decode"
    # On a CPU both need the same cores; beside a GPU one waits for the other.
    whole = decode + forward if device == "cpu" else max(decode, forward)
    share = max(decode, forward) / (decode + forward)
    if part == "decode":
        text = of_decoding(decoding)
    else:
        reached = share_of_limit(best.images_per_second, macs, limit)
        text = of_forward(best, reached, precision=precision, device=device, bf16=bf16)
    return Advice(part, share, 1 / whole, text)


def of_decoding(decoding: Decoding) -> str:
    if decoding.median_bytes > BIG:
        size = f"{decoding.median_bytes / 1e6:.1f} MB"
        return f"photos of {size} hold more than a network sees: smaller copies decode faster"
    return "more cores decode more photos; a quicker engine or network would not help"


def of_forward(
    best: Measured, reached: float | None, *, precision: str, device: str, bf16: bool
) -> str:
    helps = []
    if precision == "fp32" and bf16 and device == "cpu":
        helps.append("--precision bf16, if it agrees (zoo predict measures that)")
    helps.append("a smaller network (`zoo list --sort macs`)")
    if device == "cpu":
        helps.append("a GPU")
    ways = f"{', '.join(helps[:-1])} or {helps[-1]}" if len(helps) > 1 else helps[0]
    if reached is not None and reached >= NEAR:
        return f"{best.engine} is near what this machine computes in {precision}; quicker: {ways}"
    if reached is not None:
        return f"layers of this kind keep {best.engine} from the machine's limit; quicker: {ways}"
    return f"quicker: {ways}"
