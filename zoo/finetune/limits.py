"""What a network that zoo chooses must keep to: size, latency, licence, and time to choose."""

from __future__ import annotations

import math
from dataclasses import dataclass

from zoo.catalog.conditions import licensed
from zoo.errors import UsageError
from zoo.finetune.rank import Ranked
from zoo.text import BYTES, amount, size

_TIMES = {"ms": 1.0, "s": 1000.0}  # in milliseconds


@dataclass(frozen=True, slots=True)
class Limits:
    """What the network must keep to; None is no limit.

    bytes: of its parameters in float32, which an exported file is about as large as. latency:
    milliseconds of one picture on this machine. licence: of the weights, see `catalog.Wanted`.
    minutes: for the choice.
    """

    bytes: int | None = None
    latency: float | None = None
    licence: str | None = None
    minutes: float | None = None

    @classmethod
    def of(
        cls,
        max_size: str | None,
        max_latency: str | None,
        licence: str | None,
        minutes: float | None,
    ) -> Limits:
        """Return the limits that flags say, as 20MB and 10ms. Raises UsageError for no amount."""
        numbers = []
        for name, text, units, example in (
            ("max-size", max_size, BYTES, "20MB"),
            ("max-latency", max_latency, _TIMES, "10ms"),
        ):
            number = amount(text, units) if text is not None else None
            if text is not None and not number:
                raise UsageError(
                    f"--{name} {text} is no amount above 0",
                    f"give a number with {', '.join(units)}, as in {example}",
                )
            numbers.append(number)
        most, longest = numbers
        return cls(int(most) if most else None, longest, licence, minutes)

    def beyond(self, row: Ranked) -> str:
        """Return in words which limits a network does not keep; nothing where it keeps all."""
        found = []
        if self.bytes is not None and (more := bytes_of(row) - self.bytes) > 0:
            found.append(f"{size(bytes_of(row))}, {size(more)} more than --max-size")
        if self.latency is not None and (longer := (row.latency or 0) - self.latency) > 0:
            found.append(f"{row.latency:.1f} ms, {longer:.1f} ms more than --max-latency")
        if self.licence is not None and not licensed(row.licence, self.licence):
            found.append(f"its licence is {row.licence or 'not stated'}, not {self.licence}")
        return "; ".join(found)

    def excess(self, row: Ranked) -> float:
        """Return how many times over its limits a network is; no number makes up for a licence."""
        if self.licence is not None and not licensed(row.licence, self.licence):
            return math.inf
        over = [bytes_of(row) / max(1, self.bytes)] if self.bytes is not None else []
        return max([*over, (row.latency or 0) / self.latency if self.latency else 0.0])


def bytes_of(row: Ranked) -> int:
    """Return the bytes of a network's parameters in float32."""
    return 4 * row.parameters
