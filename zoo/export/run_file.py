"""A run to a file: which kind of export it takes, where the file goes, and what the run notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from zoo import weights
from zoo.errors import UsageError
from zoo.export.records import Exported, Order, Rebuilt
from zoo.run import Run

FEWEST = 16  # photos to choose those of the proof from


@dataclass(frozen=True, slots=True)
class Wanted:
    """The file that is asked for. unknown: with a distance from the training photos. See Order."""

    kind: str = "image"
    int8: bool = False
    unknown: bool = False


def place_of(run: Run, wanted: Wanted) -> Path:
    """Return where the file goes unless a place is given. Raises UsageError for what is no file."""
    rebuilds = _is_autoencoder(run)
    if wanted.int8 and rebuilds:
        raise UsageError(
            f"--int8 of {run.folder}, an autoencoder: its agreement is measured by classes",
            "leave --int8 out",
        )
    if wanted.unknown and (wanted.int8 or rebuilds):
        raise UsageError(
            "--unknown is an output of a classifier in fp32", "leave --unknown out, or --int8"
        )
    return run.path("model-int8.onnx" if wanted.int8 else "model.onnx")


def photos_of(run: Run) -> Sequence[Path]:
    """Return the run's photos to compare on: of val, and of train where those are few."""
    val = run.photos("val")
    return val + run.photos("train")[: max(0, FEWEST - len(val))]


def write(run: Run, wanted: Wanted, order: Order) -> Exported | Rebuilt:
    """Write the file and return its proof, of which run.json keeps a note.

    Raises ParityError, DisagreementError where file and run differ: then there is no file.
    """
    order = replace(order, kind=wanted.kind)
    if wanted.unknown:
        from zoo.export import distance

        order = replace(order, tail=distance.tail_of(run))
    proof: Exported | Rebuilt
    if _is_autoencoder(run):
        from zoo.export import reconstruction

        proof = reconstruction.export_run(run, order)
    elif wanted.int8:
        from zoo.export import int8

        proof = int8.export_run(run, order)
    else:
        from zoo.export import onnx

        proof = onnx.export_run(run, order)
    noted = {**proof.to_dict(), "sha256": weights.hash_of(order.destination)}
    name = f"{wanted.kind}-int8" if wanted.int8 else wanted.kind
    run.update(exported={**run.record.get("exported", {}), name: noted})
    return proof


def _is_autoencoder(run: Run) -> bool:
    return bool(run.record.get("task") == "reconstruct")
