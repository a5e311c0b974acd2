"""A class more for a finished run, from a folder of its photos: a new run, the old one unchanged.

Only the head gets a row, or rows; those that are there stay bit for bit, and so do the scores of
the old classes. Features of photos that were seen before come from the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zoo import __version__, weights
from zoo.data import folders
from zoo.data.index import DatasetIndex, Sample
from zoo.data.names import matching
from zoo.errors import DataError, UsageError
from zoo.finetune import results, tables
from zoo.finetune.events import Finished
from zoo.finetune.kept_features import PLAIN, KeptFeatures
from zoo.head.added import Fitted, Old, added, needs_old
from zoo.head.kinds import kind_of
from zoo.head.layers import Layer
from zoo.head.solver import loss_of, one_thread, scores_of
from zoo.metrics import Array, report
from zoo.network_ref import classifier_of_run
from zoo.run import Record, Run
from zoo.train.records import Scores
from zoo.watch import Watch

FOLDS = 5  # of the new photos, each asked of a head that was found without it
ANEW = "train on the photos of all classes: `zoo finetune MODEL PHOTOS`, features are kept"
# What is true of the old run only.
DROPPED = ("exported", "evidence", "test", "plan", "seconds", "cpu_seconds", "phases",
           "agreement_with_fp32", "launch", "processes")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Added:
    """What came of it. photos: of the new class, in `taken` from folder; skipped: with the reason.

    found: how many of them a head that was found without them answers rightly. before, after:
    accuracy on the val photos, all of old classes. lost: how many of those are taken for the new
    class.
    """

    run: Run
    photos: int
    found: int
    before: float
    after: float
    lost: int
    skipped: tuple[tuple[str, str], ...]


def check(run: Run, name: str) -> None:
    """Raises UsageError for a run whose head takes no class more, and for a class that is there."""
    record, kind = run.record, kind_of(run.record["head"])
    if record.get("task", "classify") != "classify":
        raise UsageError(f"{run.folder} is a run of the task {record['task']}", ANEW)
    if not record.get("linear_head"):
        raise UsageError(
            f"the head of {run.folder} ({record['head']}) was trained in steps: a class more would "
            "move the others",
            ANEW,
        )
    if kind.word == "linear" and not record.get("penalty"):
        raise UsageError(f"{run.folder} has no penalty in run.json: an older zoo wrote it", ANEW)
    if known := matching([name], record["classes"]):
        raise UsageError(
            f"{run.folder} has the class '{known[name]}' already",
            f"give another name than its {len(record['classes'])} classes; for more photos of it "
            + ANEW,
        )


def add_class(run: Run, name: str, folder: Path, place: Path, watch: Watch) -> Added:
    """Make the run at `place` out of a finished one, with a class more.

    Raises what `check` does, and DataError for photos that cannot be read.
    """
    check(run, name)
    pictures = folders.scan_pictures(folder)
    layer = classifier_of_run(run).ref.head
    if layer is None:
        raise UsageError(f"model.safetensors of {run.folder} was changed after training", ANEW)
    kept = KeptFeatures.of(run, watch)
    paths = [sample.path for sample in pictures.samples]
    new = kept.of_photos(pictures.root, paths, kept.views)
    if not new:
        raise DataError(f"none of the photos in {folder} can be read", "give 3 that can be")
    bad = [(path, "it cannot be read") for path in paths if path not in new]
    more = _adding(run, kept, layer)
    with one_thread():
        head = more(np.concatenate([*new.values()]))
        found = _held_out(more, np.stack([*new.values()]), len(run.record["classes"]))
    index = _index(run, name, pictures, new)
    features, _ = kept.of_part("val", PLAIN)
    labels = np.array(index.labels("val"))
    outputs, before = scores_of(features, head), scores_of(features, layer)
    made = _written(run, place, index, head, outputs)
    return Added(
        made,
        len(new),
        found,
        float(np.mean(before.argmax(axis=1) == labels)),
        float(np.mean(outputs.argmax(axis=1) == labels)),
        int(np.sum(outputs.argmax(axis=1) == len(index.classes) - 1)),
        (*pictures.skipped, *bad),
    )


Adding = Callable[[Array], Layer]  # of the features of new photos, N x D


def _adding(run: Run, kept: KeptFeatures, layer: Layer) -> Adding:
    """Return what gives the head with a class of these features more."""
    old = how = None
    if needs_old(layer):
        features, labels = kept.of_part("train", kept.views)
        places = {label: number for number, label in enumerate(run.record["classes"])}
        old = Old(features, np.array([places[label] for label in labels]))
        if kind_of(run.record["head"]).word == "linear":
            temperature = run.record.get("calibration", {}).get("temperature", 1.0)
            how = Fitted(run.record["penalty"], temperature)
    return lambda new: added(layer, new, old, how)


def _held_out(more: Adding, photos: Array, number: int) -> int:
    """Return how many photos a head without them takes for the class of this number.

    photos: M x views x D, in up to FOLDS parts that are left out in turn; of one none is.
    """
    parts, found = np.arange(len(photos)) % FOLDS, 0
    for part in range(min(FOLDS, len(photos))) if len(photos) > 1 else ():
        out = parts == part
        head = more(photos[~out].reshape(-1, photos.shape[2]))
        found += int(np.sum(scores_of(photos[out, 0], head).argmax(axis=1) == number))
    return found


# The new run.


def _index(run: Run, name: str, pictures: DatasetIndex, new: dict[str, Array]) -> DatasetIndex:
    """Return the run's photos with those of the new class, to train on, behind them."""
    classes = [*run.record["classes"], name]
    number = {each: place for place, each in enumerate(classes)}
    root = Path(run.record["data"]["root"])
    samples = [Sample(row["path"], number[row["label"]], row["split"]) for row in run.index()]
    folder = pictures.root.absolute()
    samples += [Sample(str(folder / path), number[name], "train") for path in new]
    return DatasetIndex(root, tuple(classes), tuple(samples), pictures.skipped)


def _written(run: Run, place: Path, index: DatasetIndex, head: Layer, outputs: Array) -> Run:
    """Write the new run folder. Raises RunError where it exists."""
    stage, old = run.record["linear_head"], weights.read_arrays(run.path("model.safetensors"))
    rest = {name: array for name, array in old.items() if not name.startswith(f"{stage}.")}
    state = rest | {f"{stage}.{name}": array for name, array in head.arrays.items()}
    digests = {path: bytes.fromhex(digest) for path, digest in run.contents().items()}
    with Run.creating(place, _record(run, index)) as made:
        weights.save_arrays(
            state,
            made.path("model.safetensors"),
            {"zoo": __version__, "model": run.record["model"]},
        )
        made.path("recipe.toml").write_bytes(run.path("recipe.toml").read_bytes())
        made.save_index(index, digests)
        labels = np.array(index.labels("val"))
        scores = Scores(
            loss_of(outputs, labels),
            report(outputs.argmax(axis=1), labels, index.classes),
            outputs=outputs,
        )
        why = "a class was added: the temperature is that of the run before"
        told = results.confidence(made, index, outputs, 0, why)
        before = run.record.get("calibration", {}).get("temperature", 1.0)
        told = replace(told, temperature=before)
        tables.write_results(made, Finished(scores, None, 1, None, 0.0, told))
        digest = weights.hash_of(made.path("model.safetensors"))
        made.update(status="finished", model_sha256=digest)
    return made


def _record(run: Run, index: DatasetIndex) -> Record:
    """Return what run.json says of the new run: where it is from, and what is as it was."""
    record = {key: value for key, value in run.record.items() if key not in DROPPED}
    counts = {part: len(index.of(part)) for part in ("train", "val", "test")}
    name = index.classes[-1]
    made_from = {
        "run": str(run.folder.absolute()),
        "model_sha256": run.record["model_sha256"],
        "class": name,
        "photos": index.counts("train")[-1],
    }
    data = {**record["data"], **counts, "fingerprint": index.fingerprint}
    return record | {
        "status": "started",
        "zoo": __version__,
        "classes": list(index.classes),
        "data": data,
        "made_from": made_from,
    }
