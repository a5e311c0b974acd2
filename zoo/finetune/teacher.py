"""A finished run whose answers another network learns; what it says of photos, and both compared.

Each view of a photo that the student is trained on is the teacher's too, the same crop at its own
size: what is right for one crop is wrong for another (Beyer et al. 2022, "Knowledge distillation: a
good teacher is patient and consistent", arXiv:2106.05237). The teacher's frozen part runs once for
each, and its features are kept as all are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zoo import device
from zoo.data.index import DatasetIndex, Sample
from zoo.device import Device
from zoo.engine.latency import latency
from zoo.engine.open import Opened, open_engine, without_head
from zoo.engine.select import choose_for_network
from zoo.errors import ConversionError, DataError, UsageError, WriteError
from zoo.features.cache import cache_of
from zoo.features.compute import Progress, Views, compute
from zoo.metrics import Array
from zoo.network_ref import Classifier, classifier_of_run
from zoo.recipe import Recipe
from zoo.run import Run
from zoo.text import listed


@dataclass(frozen=True, slots=True)
class Beside:
    """One of two networks that are compared. bytes: of its file. latency: milliseconds a photo."""

    model: str
    accuracy: float | None
    bytes: int
    latency: float


@dataclass(frozen=True, slots=True)
class Distilled:
    """A student beside its teacher, on those of the teacher's val photos that are still there.

    agreement: the share of these photos that both take for the same class.
    """

    teacher: Beside
    student: Beside
    photos: int
    agreement: float | None


class Teacher:
    """A run that answers, by the engine that is quickest here."""

    def __init__(self, run: Run, place: Device) -> None:
        self.run, self.place = run, place
        self.classes = tuple(run.record["classes"])

    @classmethod
    def of(cls, folder: str, place: Device | None = None) -> Teacher:
        """Return the teacher that is in a folder. Raises RunError, UsageError."""
        run = Run.open(Path(folder)).finished()
        if (task := run.record.get("task", "classify")) != "classify":
            raise UsageError(
                f"{folder} is a run of the task {task}: a teacher gives each photo one class",
                "give a run of `zoo finetune MODEL PHOTOS` with a class a photo",
            )
        return cls(run, place or device.choose())

    def record(self, recipe: Recipe, index: DatasetIndex) -> dict[str, object]:
        """Return what a student's run.json says of its teacher."""
        about = self.run.record
        return {
            "run": str(self.run.folder.absolute()),
            "model": about["model"],
            "sha256": about.get("model_sha256"),
            "temperature": recipe.temperature,
            "truth": recipe.truth,
            "labels": "the teacher's" if index.taught == "labels" else "the photos'",
        }

    def answers(
        self, root: Path, samples: Sequence[Sample], views: Views, progress: Progress
    ) -> Array:
        """Return the logits of the views of photos, N x V x K. Raises DataError for a bad photo."""
        network = classifier_of_run(self.run)
        return _answers(network, _opened(network, self.place), (root, samples), views, progress)

    def answered(
        self, index: DatasetIndex, views: Views, progress: Progress
    ) -> tuple[Array, DatasetIndex]:
        """Return what it says of the training photos' views, and the index.

        Photos without labels have the classes that it takes them for in that.
        """
        train = index.of("train")
        logits = self.answers(index.root, train, views, progress)
        if index.taught != "labels":
            return logits, index
        others = [sample for sample in index.samples if sample.split != "train"]
        said = self.answers(index.root, others, Views(), progress)
        both = np.concatenate([logits[:, 0], said[:, 0]])
        return logits, _relabelled(index, (*train, *others), both)


def _opened(network: Classifier, place: Device) -> Opened:
    kind, _ = choose_for_network("auto", place.name, place.precision)
    return open_engine(network.ref, kind, place, forgiven=(ConversionError, WriteError))


def _answers(
    network: Classifier,
    ready: Opened,
    photos: tuple[Path, Sequence[Sample]],
    views: Views,
    progress: Progress,
) -> Array:
    """Return the logits N x V x K; of a solved head by the features, which are kept."""
    (root, samples), ref = photos, network.ref
    shape = (len(samples), len(views.numbers), len(network.classes))
    if not samples:
        return np.zeros(shape, np.float32)
    frozen = without_head(ready)
    cache = cache_of(ref, frozen)
    work = [(sample, views) for sample in samples]
    found = compute(cache, frozen.engine, ref.preprocess, root, work, progress)
    if found.bad:
        path, why = next(iter(found.bad.items()))
        raise DataError(f"the teacher cannot read {path}: {why}", "replace or remove the photo")
    rows = cache.rows([key for sample in samples for key in found.keys[sample.path]]).flat()
    if frozen is not ready and ref.head is not None:
        rows = ref.head.scores(rows)
    return rows.reshape(shape).astype(np.float32)


# The photos.


def taught(
    look: Callable[[str | None], DatasetIndex], classes: tuple[str, ...], recipe: Recipe
) -> DatasetIndex:
    """Return the photos to learn from, with the teacher's classes, which are matched by name.

    look: scans the photos for a task. Photos whose folders are no classes of the teacher's have
    no labels: they get its answers when it is asked. Raises DataError.
    """
    try:
        index = look("classify")
    except DataError:
        index = None
    numbers = {name: number for number, name in enumerate(classes)}
    if index is not None and numbers.keys() >= set(index.classes):
        samples = tuple(
            replace(sample, label=numbers[index.classes[sample.label]]) for sample in index.samples
        )
        return replace(index, classes=classes, samples=samples, taught="classes")
    if recipe.truth:
        named = f"its classes are {listed(index.classes, 5)}" if index else "it has no classes"
        raise DataError(
            f"truth = {recipe.truth:g} takes labels, and {recipe.data} has none of the teacher's: "
            f"{named}",
            f"leave it out, or name the folders as the teacher's classes: {listed(classes, 5)}",
        )
    return replace(look("reconstruct"), classes=classes, taught="labels")


def _relabelled(index: DatasetIndex, samples: Sequence[Sample], logits: Array) -> DatasetIndex:
    """Return the index with what the teacher says as the label of each of these photos."""
    said = {s.path: int(label) for s, label in zip(samples, logits.argmax(axis=1), strict=True)}
    return replace(index, samples=tuple(replace(s, label=said[s.path]) for s in index.samples))


# What came of it.


def compare(teacher: Teacher, student: Run, progress: Progress) -> Distilled:
    """Measure both on the teacher's val photos, as far as they are still there."""
    root = Path(teacher.run.record["data"]["root"])
    numbers = {name: number for number, name in enumerate(teacher.classes)}
    rows = [row for row in teacher.run.index() if row["split"] == "val"]
    samples = [
        Sample(row["path"], numbers[row["label"]], "val")
        for row in rows
        if (root / row["path"].partition("#")[0]).exists() and row["label"] in numbers
    ]
    labels = np.array([sample.label for sample in samples])
    both: list[Beside] = []
    guesses: list[Array] = []
    for run in (teacher.run, student):
        network = classifier_of_run(run)
        ready = _opened(network, teacher.place)
        found = _answers(network, ready, (root, samples), Views(), progress)
        guesses.append(found[:, 0].argmax(axis=1))
        right = float((guesses[-1] == labels).mean()) if samples else None
        channels, height, width = network.ref.preprocess.shape
        seconds = latency(ready, teacher.place.precision, (height, width, channels))
        size = run.path("model.safetensors").stat().st_size
        both.append(Beside(run.record["model"], right, size, 1000 * seconds))
    same = float((guesses[0] == guesses[1]).mean()) if samples else None
    return Distilled(both[0], both[1], len(samples), same)
