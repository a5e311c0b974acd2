"""A class more for a finished run, from a folder of its photos: a new run, the old one unchanged.

Only the head gets a row, or rows; those that are there stay bit for bit, and so do the scores of
the old classes. Features of photos that were seen before come from the cache.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zoo import __version__, weights
from zoo.data import folders
from zoo.data.index import DatasetIndex, Sample
from zoo.data.names import is_blank, matching, quoted
from zoo.errors import DataError, UsageError
from zoo.features.digests import digest_of
from zoo.finetune import results, scored, tables
from zoo.finetune.events import Finished
from zoo.finetune.kept_features import PLAIN, KeptFeatures
from zoo.finetune.solve import scores_from
from zoo.head.added import Fitted, Old, added, needs_old
from zoo.head.distance import Distance
from zoo.head.kinds import kind_of
from zoo.head.layers import Layer
from zoo.head.scores import scores_of
from zoo.head.threads import one_thread
from zoo.metrics import Array
from zoo.network_ref import classifier_of_run, distance_of_run
from zoo.run import Record, Run
from zoo.text import count, printable
from zoo.watch import Watch

FOLDS = 5  # of the new photos, each asked of a head that was found without it
ANEW = "train on the photos of all classes: `zoo finetune MODEL PHOTOS`, features are kept"
# What is true of the old run only.
DROPPED = ("exported", "evidence", "test", "plan", "seconds", "cpu_seconds", "phases",
           "agreement_with_fp32", "launch", "processes", "distance_sha256")  # fmt: skip


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
    if kind.word == "text":
        raise UsageError(f"the head of {run.folder} begins with the names of its classes", ANEW)
    if is_blank(name) or any(unicodedata.category(letter) == "Cc" for letter in name):
        raise UsageError(
            f"a class {quoted(name)}: its name has letters that are not seen",
            "give one that can be read, as wasps=photos/wasps",
        )
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
    pictures, twins = _unknown(run, folders.scan_pictures(folder, least=1))
    layer = classifier_of_run(run).ref.head
    if layer is None:
        raise UsageError(f"model.safetensors of {run.folder} was changed after training", ANEW)
    kept = KeptFeatures.of(run, watch)
    paths = [sample.path for sample in pictures.samples]
    new = kept.of_photos(pictures.root, paths, kept.views)
    if not new:
        raise DataError(f"none of the photos in {folder} can be read", "give 3 that can be")
    bad = [(path, "it cannot be read") for path in paths if path not in new]
    bad = [*twins, *bad]
    more = _adding(run, kept, layer)
    with one_thread():
        head = more(np.stack([*new.values()]))
        found = _held_out(more, np.stack([*new.values()]), len(run.record["classes"]))
    index = _index(run, name, pictures, new)
    features, _ = kept.of_part("val", PLAIN)
    labels = np.array(index.labels("val"))
    outputs, before = scores_of(features, head), scores_of(features, layer)
    away = None
    if "distance_sha256" in run.record:
        plain = np.stack([views[0] for views in new.values()])
        away = distance_of_run(run).with_class(plain, features)
    made = _written(run, place, index, _Grown(head, outputs, away))
    return Added(
        made,
        len(new),
        found,
        float(np.mean(before.argmax(axis=1) == labels)),
        float(np.mean(outputs.argmax(axis=1) == labels)),
        int(np.sum(outputs.argmax(axis=1) == len(index.classes) - 1)),
        (*pictures.skipped, *bad),
    )


def _unknown(run: Run, pictures: DatasetIndex) -> tuple[DatasetIndex, list[tuple[str, str]]]:
    """Return pictures without those that the run has already, by content; and these, with why.

    Raises DataError where none is left.
    """
    have = {row["sha256"]: row for row in run.index() if row.get("sha256")}
    digests = {each.path: digest_of(pictures.root / each.path) for each in pictures.samples}
    twins = [
        (path, f"it is a {row['split']} photo of the run already, of {printable(row['label'])}")
        for path, digest in digests.items()
        if (row := have.get(digest))
    ]
    left = tuple(each for each in pictures.samples if digests[each.path] not in have)
    if not left:
        raise DataError(
            f"the {count(len(twins), 'picture')} in {pictures.root}: each is a photo of the run "
            f"already, as {twins[0][0]}: {twins[0][1]}",
            f"give others; where photos are of another class than the run has them in, {ANEW}",
        )
    return replace(pictures, samples=left), twins


Adding = Callable[[Array], Layer]  # of the features of new photos, M x views x D


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
        head = more(photos[~out])
        found += int(np.sum(scores_of(photos[out, 0], head).argmax(axis=1) == number))
    return found


# The new run.


@dataclass(frozen=True, slots=True)
class _Grown:
    """A head with a class more, its scores of the val photos, and the distance of the run."""

    head: Layer
    outputs: Array
    distance: Distance | None


def _index(run: Run, name: str, pictures: DatasetIndex, new: dict[str, Array]) -> DatasetIndex:
    """Return the run's photos with those of the new class, to train on, behind them."""
    classes = [*run.record["classes"], name]
    number = {each: place for place, each in enumerate(classes)}
    root = Path(run.record["data"]["root"])
    samples = [Sample(row["path"], number[row["label"]], row["split"]) for row in run.index()]
    folder = pictures.root.absolute()
    samples += [Sample(str(folder / path), number[name], "train") for path in new]
    return DatasetIndex(root, tuple(classes), tuple(samples), pictures.skipped)


def _written(run: Run, place: Path, index: DatasetIndex, grown: _Grown) -> Run:
    """Write the new run folder. Raises RunError where it exists."""
    stage, old = run.record["linear_head"], weights.read_arrays(run.path("model.safetensors"))
    rest = {name: array for name, array in old.items() if not name.startswith(f"{stage}.")}
    state = rest | {f"{stage}.{name}": array for name, array in grown.head.arrays.items()}
    digests = {path: bytes.fromhex(digest) for path, digest in run.contents().items()}
    new = [each.path for each in index.samples[-index.counts("train")[-1] :]]
    digests |= {path: bytes.fromhex(digest_of(Path(path))) for path in new}
    outputs = grown.outputs
    with Run.creating(place, _record(run, index)) as made:
        digest = weights.save_arrays(
            state,
            made.path("model.safetensors"),
            {"zoo": __version__, "model": run.record["model"]},
        )
        made.path("recipe.toml").write_bytes(run.path("recipe.toml").read_bytes())
        made.save_index(index, digests)
        scores = scores_from(outputs, np.array(index.labels("val")), index.classes)
        why = "a class was added: the temperature is that of the run before"
        told = scored.confidence(made, index, outputs, 0, why)
        before = run.record.get("calibration", {}).get("temperature", 1.0)
        told = replace(told, temperature=before)
        tables.write_results(made, Finished(scores, None, 1, None, 0.0, told))
        if grown.distance is not None:
            results.keep(made, grown.distance)
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
