"""A check, from the words that ask for it to all findings."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zoo import datasets
from zoo.catalog import Preprocess, holds_run
from zoo.check import copies, files, labels
from zoo.check.drift import FEWEST, Drift, drift
from zoo.check.features import Source, kept, opened
from zoo.check.look import Looked, Photo, look
from zoo.check.records import Checked, Example, Finding, Severity
from zoo.data.index import DatasetIndex, labelled, scan
from zoo.data.samples import Sample
from zoo.errors import DataError, UsageError
from zoo.features.digests import contents
from zoo.metrics import Array
from zoo.run import Run
from zoo.text import count, percent
from zoo.watch import Watch

DRIFTED = 0.01  # p below which new photos are called different
WEAK = 0.5  # accuracy of the heads, below which they cannot judge labels
NEEDS = "needs a network's features: --model NAME, or fine-tune, rank or embed these photos first"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be checked, as the flags of the command say it."""

    data: str
    model: str | None = None
    weights: str | None = None
    device: str = "auto"
    against: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class _Data:
    """An index, and why `zoo finetune` would refuse the data. known: the photos have labels."""

    index: DatasetIndex
    refused: Finding | None = None
    known: bool = True


def run(asked: Asked, watch: Watch) -> Checked:
    """Look at the photos and return all that was found. Raises InputError, UsageError."""
    if asked.group is not None:
        copies.pattern(asked.group)
    if asked.weights is not None and asked.model is None:
        words = ["zoo", "check", asked.data, "--model", "MODEL", "--weights", asked.weights]
        raise UsageError(
            f"--weights {asked.weights} without --model", f"name its network: `{shlex.join(words)}`"
        )
    if asked.against is not None and not Path(asked.against).exists():
        raise DataError(f"{asked.against} does not exist", "give a folder of photos, or a run")
    data = _read(asked.data)
    index = data.index
    looked = look(index.root, index.samples, lambda d, n: watch.progress("photos", d, n))
    parts = Counter(sample.split for sample in index.samples) if data.known else {}
    checked = Checked(
        asked.data, str(index.root), len(index.samples),
        index.classes if data.known else (), dict(parts),
    )  # fmt: skip
    source = _source(asked, looked, len(index.classes), watch)
    checked.network = source.name if source else ""
    preprocess = source.preprocess if source else Preprocess()
    checked.add(data.refused, _notes(index), *files.findings(looked, index.skipped, preprocess))
    near, judged = _pairs_and_labels(data, looked, source, watch)
    groups = copies.groups_of(looked, index.groups, asked.group)
    checked.add(*copies.findings(looked, near, index.drawn, lambda p: index.named(p.sample)))
    checked.add(*copies.of_groups(looked, groups, index.drawn))
    if data.known:
        checked.add(labels.of_names(index.classes), *labels.of_balance(index))
        _add_labels(checked, judged, index.multilabel)
    if asked.against is not None:
        _add_drift(checked, asked.against, looked, source, watch)
    return checked


def _read(text: str) -> _Data:
    """Return the index of the data, also where training would refuse them. Raises DataError."""
    root = datasets.locate(text)
    try:
        index = scan(root, keep_copies=True)
        if index.drawn:  # as a fine-tune divides them
            index = scan(root, contents=contents)
        return _Data(index)
    except DataError as error:
        what = f"`zoo finetune` refuses these data: {error.what}"
        refused = Finding("refused", "serious", what, error.hint)
    try:
        return _Data(_all_of(root), refused)
    except DataError:
        index = scan(root, task="reconstruct")  # pictures without labels
    note = Finding("unlabelled", "note", "no labels: pictures alone", refused.advice)
    return _Data(replace(index, drawn=False, samples=_one_part(index)), note, known=False)


def _all_of(root: Path) -> DatasetIndex:
    """Return an index of data that training refuses, as `zoo evaluate` reads them."""
    parts = labelled(root)
    names = sorted({name for photos in parts.values() for _, name in photos})
    samples = [
        Sample(str(Path(path).relative_to(root)) if root.is_dir() else path,
               names.index(name), part or "train", Path(path).stat().st_size)
        for part, photos in parts.items() for path, name in photos if Path(path).is_file()
    ]  # fmt: skip
    if not samples:
        raise DataError(f"{root} has no photos", "")
    return DatasetIndex(root if root.is_dir() else Path("/"), tuple(names), tuple(samples))


def _one_part(index: DatasetIndex) -> tuple[Sample, ...]:
    return tuple(replace(sample, split="all") for sample in index.samples)


def _notes(index: DatasetIndex) -> Finding | None:
    """Return what reading the data has said by itself."""
    if not index.notes:
        return None
    examples = tuple(Example((), note) for note in index.notes)
    what = "reading the data says " + count(len(examples), "thing")
    return Finding("notes", "note", what, "`zoo finetune` says them too", examples)


def _source(asked: Asked, looked: Looked, classes: int, watch: Watch) -> Source | None:
    """Return where features are from: the network asked for, that of --against, or the cache."""
    model = asked.model
    if model is None and asked.against and holds_run(asked.against):
        model = asked.against
    if model is None:
        return kept([photo.digest for photo in looked.differ()])

    def progress(done: int, total: int) -> None:
        watch.progress(f"weights of {model}", done, total)

    return opened(model, asked.weights, classes, asked.device, progress)


def _features(source: Source, looked: Looked, watch: Watch) -> tuple[list[Photo], Array]:
    """Return the different photos that have features, numbers that are finite, and these."""
    photos = looked.differ()
    places, rows = source.rows(
        looked.root, [photo.sample for photo in photos], [photo.digest for photo in photos],
        lambda done, total: watch.progress("features", done, total),
    )  # fmt: skip
    good = np.isfinite(rows).all(axis=1)
    return [photos[place] for place in np.asarray(places, int)[good]], rows[good]


def _pairs_and_labels(
    data: _Data, looked: Looked, source: Source | None, watch: Watch
) -> tuple[list[tuple[Photo, Photo, float]], labels.Judged | None]:
    """Return the pairs of near duplicates, and what heads say of the labels."""
    if source is None:
        return copies.alike(looked, None), None
    photos, rows = _features(source, looked, watch)
    whole = rows if len(photos) == len(looked.differ()) and len(photos) > 1 else None
    near = copies.alike(looked, whole)
    classes = data.index.classes
    if not data.known or data.index.multilabel or len(classes) < 2 or len(photos) < 2:
        return near, None
    groups = labels.groups_of(photos, near)
    return near, labels.judge(photos, rows, groups, classes, seed=0)


def _add_labels(checked: Checked, judged: labels.Judged | None, several: bool) -> None:
    what = "suspicious labels and classes that overlap"
    if several:
        checked.unchecked.append(f"{what}: photos have several labels each")
    elif judged is None and checked.network:
        checked.unchecked.append(f"{what}: two classes of photos that can be read are needed")
    elif judged is None:
        checked.unchecked.append(f"{what}: {NEEDS}")
    elif (right := judged.accuracy) < WEAK:
        checked.unchecked.append(
            f"{what}: heads on {checked.network} are right on {percent(right, 0)} of the photos "
            "only; another network may tell"
        )
    else:
        checked.add(*labels.of_labels(judged))


# New photos against known ones.


def _add_drift(
    checked: Checked, against: str, looked: Looked, source: Source | None, watch: Watch
) -> None:
    """Compare the photos with those of a folder or of a run's training."""
    root, samples, digests = _known(against)
    known = Looked(root)
    if not digests:
        known = look(root, samples, lambda d, n: watch.progress(f"photos of {against}", d, n))
        samples = [photo.sample for photo in known.photos]
        digests = [photo.digest for photo in known.photos]
    by, new, old = "", *(np.zeros((0, 0), np.float32),) * 2
    photos: list[Photo] = []
    if source is not None:
        photos, new = _features(source, looked, watch)
        _, old = source.rows(
            root, samples, digests, lambda d, n: watch.progress(f"features of {against}", d, n)
        )
        by = source.name
    if len(old) < FEWEST and known.photos:
        by = "size, light and colour (no network's features are kept of both: --model NAME)"
        photos = looked.differ()
        new, old = (np.array([p.tones for p in some]) for some in (photos, known.differ()))
    if min(len(old), len(new)) < FEWEST:
        checked.unchecked.append(f"--against {against}: {FEWEST} photos of each are needed")
        return
    same = len({photo.digest for photo in looked.photos} & set(digests))
    checked.add(_drifted(against, drift(old, new), photos, by, same))


def _known(against: str) -> tuple[Path, list[Sample], list[bytes]]:
    """Return the photos that new ones are compared with; of a run those that it learned from.

    Their digests too, where a run knows them.
    """
    if holds_run(against):
        run = Run.open(Path(against)).finished()
        rows = [row for row in run.index() if row["split"] == "train"]
        samples = [Sample(row["path"], 0, "train") for row in rows]
        digests = [bytes.fromhex(row.get("sha256") or "") for row in rows]
        return Path(run.record["data"]["root"]), samples, digests
    index = _read(against).index
    return index.root, list(index.samples), []


def _drifted(against: str, found: Drift, photos: list[Photo], by: str, same: int) -> Finding:
    different = found.p <= DRIFTED
    verb = "differ from" if different else "are like"
    what = (
        f"the photos {verb} those of {against}: p = {found.p:.3g}, "
        f"{percent(found.share)} of their distance"
    )
    advice = (
        f"by {by}; energy distance, permutation test, {found.counts[0]:,} and "
        f"{found.counts[1]:,} photos; other shares of the classes count as a difference too"
    )
    strange = [Example((photos[row].path,), "far from all known ones") for row in found.strangest]
    if same:
        strange.insert(0, Example((), f"{count(same, 'photo is', 'photos are')} among the known"))
    kind: Severity = "serious" if different else "note"
    return Finding("drift", kind, what, advice, tuple(strange), pictures=different)
