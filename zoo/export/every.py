"""A run in every format that can be written here, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from zoo.errors import DisagreementError, ParityError, UsageError, WeightsError
from zoo.export.convert import rated
from zoo.export.fixed import own_size
from zoo.export.formats import FORMATS, Format, Wanted
from zoo.export.records import Exported, Order
from zoo.export.run_file import place_of, write
from zoo.run import Run


@dataclass(frozen=True, slots=True)
class Outcome:
    """A row of the table with its proof, or the reason why there is no file."""

    row: Format
    proof: Exported | None
    why: str = ""


def every(run: Run, order: Order) -> Iterator[Outcome]:
    """Write each format into the run folder. order: all but the place. A format that fails is told.

    Fixed shapes are those of one picture from which nothing is resized.
    """
    for row in FORMATS:
        one = row.variant
        shape = own_size(run) if one == "size" else None
        wanted = Wanted("image", one == "int8", False, row.name, one == "fp16", shape)
        try:
            placed = replace(order, destination=place_of(run, wanted))
            proof = write(run, wanted, placed)
        except (UsageError, ParityError, DisagreementError, WeightsError) as error:
            yield Outcome(row, None, error.what)
            continue
        if not isinstance(proof, Exported):
            yield Outcome(row, None, "an autoencoder: its file is written")
        elif proof.latency_ms is None:
            yield Outcome(row, replace(proof, **rated(run, placed)))
        else:
            yield Outcome(row, proof)
