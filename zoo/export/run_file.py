"""A run to a file: which kind of export it takes, where the file goes, and what the run notes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from zoo import weights
from zoo.errors import UsageError
from zoo.export.formats import Wanted, find
from zoo.export.records import Exported, Fields, Order, Rebuilt
from zoo.network import model_file
from zoo.run import Run

FEWEST = 16  # photos to choose those of the proof from


def place_of(run: Run, wanted: Wanted) -> Path:
    """Return where the file goes unless a place is given. Raises UsageError for what is no file."""
    rebuilds, row = _is_autoencoder(run), wanted.row
    if wanted.int8 and rebuilds:
        raise UsageError(
            f"--int8 of {run.folder}, an autoencoder: its agreement is measured by classes",
            "leave --int8 out",
        )
    if wanted.unknown and rebuilds:
        raise UsageError("--unknown is an output of a classifier", "leave --unknown out")
    if wanted.shape:
        return run.path(f"model-{wanted.shape}.onnx")
    return run.path(row.file.rstrip("/"))


def keep_apart(run: Run, place: Path) -> None:
    """Raise UsageError for a place among the run's photos, where nothing is written."""
    data = str(run.record["data"]["name"])
    root, real = Path(os.path.realpath(data)), Path(os.path.realpath(place))
    ours = Path(os.path.realpath(run.folder)) in real.parents
    if os.path.isabs(data) and root.is_dir() and root in real.parents and not ours:
        raise UsageError(
            f"-o {place} would be inside the photos' folder {data}", "choose a place outside of it"
        )


def photos_of(run: Run) -> Sequence[Path]:
    """Return the run's photos to compare on: of val, and of train where those are few."""
    val = run.photos("val")
    return val + run.photos("train")[: max(0, FEWEST - len(val))]


def write(run: Run, wanted: Wanted, order: Order) -> Exported | Rebuilt:
    """Write the file and return its proof, of which run.json keeps a note.

    Raises ParityError, DisagreementError where file and run differ: then there is no file.
    """
    row = wanted.row
    order = replace(order, kind=wanted.kind, shape=wanted.shape)
    if wanted.unknown:
        from zoo.export import distance

        order = replace(order, tail=distance.tail_of(run))
    proof: Exported | Rebuilt
    if _is_autoencoder(run) and row.title == "onnx":
        from zoo.export import reconstruction

        proof = reconstruction.export_run(run, order)
    else:
        proof = row.writer()(run, order)
    if row.suffix and proof.sha256 is None:
        proof = replace(proof, sha256=weights.hash_of(order.destination))
    noted = {name: value for name, value in proof.to_dict().items() if name != "sha256" or value}
    noted["model_sha256"] = weights.hash_of(model_file(run)[0])
    name = {"onnx": wanted.kind, "onnx --int8": f"{wanted.kind}-int8"}.get(row.title, row.title)
    run.update(exported={**run.record.get("exported", {}), name: noted})
    return proof


def proved(run: Run) -> Fields | None:
    """Return the note of RUN/model.onnx, where it is the file that was proved, of the run as it is.

    None where another file lies there, or the run has other weights since.
    """
    note = run.record.get("exported", {}).get(Wanted().kind, {})
    file = run.path(find("onnx").file)
    if not file.is_file() or note.get("model_sha256") != weights.hash_of(model_file(run)[0]):
        return None
    return note if note.get("sha256") == weights.hash_of(file) else None


def _is_autoencoder(run: Run) -> bool:
    return bool(run.record.get("task") == "reconstruct")
