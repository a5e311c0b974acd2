"""Is one run better than another? McNemar's exact test on photos that neither was trained on.

A photo of one run is that of the other where it is the same file, or has the same content.

Two runs on the same photos are right on mostly the same of them, so the test looks at those alone
that one has right and the other wrong; with more than two runs, p is adjusted by Holm's method.
Runs know their val photos' answers by val.csv; one without it, or whose network was changed since,
is run on them again.
"""

from __future__ import annotations

import itertools
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from zoo import recipe
from zoo.data.names import plain
from zoo.errors import DataError, RunError, UsageError
from zoo.metrics import holm, mcnemar
from zoo.network import model_file
from zoo.predict.evaluate import evaluate
from zoo.predict.evaluation_set import Places
from zoo.predict.predictor import open_predictor
from zoo.run import Run
from zoo.text import listed
from zoo.watch import Counted

LEVEL = 0.05
APART = ("model", "cut")  # settings with a column of their own


@dataclass(frozen=True, slots=True)
class Compared:
    """A run: its record, its settings, and by real path (label, right) of each val photo.

    said: what it takes each for and how sure it is, by real path, where val.csv says so. digests:
    of val photos' content, by real path. trained: real paths of the photos of the training, and
    their digests; a digest that was not written down is in neither.
    """

    name: str
    record: dict[str, Any]
    settings: Mapping[str, object]
    answers: dict[str, tuple[str, bool]]
    digests: dict[str, str]
    trained: frozenset[str]
    said: Mapping[str, tuple[str, float]] = field(default_factory=dict)

    def seen_by(self, other: Compared) -> set[str]:
        """Return the val photos that another run was trained on."""
        known = other.trained
        return {path for path in self.answers if {path, self.digests.get(path)} & known}

    def once(self) -> dict[str, str]:
        """Return by digest the val photos whose content no other val photo has."""
        counts = Counter(self.digests.values())
        return {digest: path for path, digest in self.digests.items() if counts[digest] == 1}


@dataclass(frozen=True, slots=True)
class Pair:
    """Two runs on the photos that are in the val part of both.

    left_out: val photos of one that the other was trained on. p: adjusted, where there are more
    than two runs; p_alone: of this pair alone.
    """

    first: str
    second: str
    photos: int
    both: int
    only_first: int
    only_second: int
    neither: int
    left_out: int
    p_alone: float
    p: float

    @property
    def better(self) -> str:
        """Return the run that is better, where there is evidence of it."""
        if self.p >= LEVEL:
            return ""
        return self.first if self.only_first > self.only_second else self.second


@dataclass(frozen=True, slots=True)
class Comparison:
    """The runs, the names of the settings in which they differ, and each pair of them."""

    runs: tuple[Compared, ...]
    differing: tuple[str, ...]
    pairs: tuple[Pair, ...]


def compare(folders: Sequence[str], progress: Counted, *, trusts: bool = False) -> Comparison:
    """Compare each two of the runs on the val photos that they have in common.

    trusts: a network that was changed after its run was finished is measured as it is. Raises
    UsageError, RunError, and DataError for runs that have nothing in common.
    """
    opened = [(name, _open(name, trusts)) for name in folders]
    _check_together(opened)
    places = Places()
    runs = tuple(_compared(name, run, places, progress) for name, run in opened)
    pairs = [_tally(first, second) for first, second in itertools.combinations(runs, 2)]
    adjusted = holm([pair.p_alone for pair in pairs])
    pairs = [replace(pair, p=p) for pair, p in zip(pairs, adjusted, strict=True)]
    return Comparison(runs, _differing(runs), tuple(pairs))


def _open(name: str, trusts: bool = False) -> Run:
    """Open a finished run of a classifier. Raises UsageError, RunError."""
    if Path(name).is_file():
        folder = Path(name).parent
        hint = f"`zoo evaluate {shlex.quote(name)} --data PHOTOS` measures an exported file"
        if (folder / "run.json").is_file():
            hint = f"its run folder is {folder}: `zoo compare {shlex.quote(str(folder))} RUN`"
        raise UsageError(f"{name} is a file, and compare takes run folders", hint)
    run = Run.open(Path(name), trusts=trusts).finished()
    if run.record.get("task", "classify") == "reconstruct":
        raise UsageError(
            f"{name} is a run of the task {run.record['task']}, which has no right and wrong",
            "compare runs of classifiers",
        )
    if run.record.get("threshold") is not None:
        raise UsageError(
            f"{name} gives a photo several labels, which is not right or wrong as a whole",
            f"compare its mAP: `zoo evaluate {shlex.quote(name)}`",
        )
    return run


def _check_together(runs: Sequence[tuple[str, Run]]) -> None:
    if len(runs) < 2:
        raise UsageError("one run has nothing to be compared with", "`zoo compare RUN RUN`")
    seen: dict[Path, str] = {}
    for name, run in runs:
        other = seen.setdefault(run.folder.resolve(), name)
        if other is not name:
            raise UsageError(f"{name} is given twice", "give each run once")
    (first, one), *others = runs
    for name, run in others:
        theirs = {plain(each) for each in run.record["classes"]}
        if unequal := {plain(each) for each in one.record["classes"]} ^ theirs:
            raise DataError(
                f"{first} and {name} know different classes: {listed(sorted(unequal), 5)}",
                "measure each on its own photos: `zoo evaluate RUN`",
            )


def _compared(name: str, run: Run, places: Places, progress: Counted) -> Compared:
    path = run.path("val.csv")
    _, model = model_file(run)
    own = run.record.get("model_sha256", model) == model  # else val.csv is of another network
    rows = _read(run) if path.is_file() and own else _measure(name, run, progress)
    root = Path(run.record["data"]["root"])
    answers = {places.of(str(root / row.path)): (row.label, row.right) for row in rows}
    said = {places.of(str(root / row.path)): (row.said, row.sure) for row in rows if row.said}
    held = zip(run.photos("val"), run.digests("val"), strict=True)
    content = {places.of(str(path)): digest for path, digest in held if digest}
    digests = {path: content[path] for path in answers if path in content}
    trained = {places.of(str(path)) for path in run.photos("train")}
    trained |= set(run.digests("train")) - {""}
    settings = recipe.load(run.path("recipe.toml"))
    return Compared(name, run.record, settings, answers, digests, frozenset(trained), said)


@dataclass(frozen=True, slots=True)
class _Row:
    """A val photo: whether it is right; what it was taken for, and how surely, if that is known."""

    path: str
    label: str
    right: bool
    said: str = ""
    sure: float = 0.0


def _read(run: Run) -> list[_Row]:
    """Return the rows of val.csv."""
    try:
        rows = list(run.rows("val.csv", ("path", "label", "predicted")))
        return [_row(row) for row in rows]
    except (RunError, ValueError) as error:
        raise RunError(
            f"val.csv is not what a training writes: {getattr(error, 'what', error)}",
            "remove it: the answers are computed again",
        ) from None


def _row(row: Mapping[str, str]) -> _Row:
    label, said = row["label"], row["predicted"]
    return _Row(row["path"], label, label == said, said, float(row.get("probability") or 0))


def _measure(name: str, run: Run, progress: Counted) -> list[_Row]:
    """Return the same by running the network."""
    from zoo.predict.predictor import Opening

    photos = [(str(path), label) for path, label in run.labelled("val")]
    found = evaluate([open_predictor(name, Opening(trusts=run.trusts))], photos, progress)
    labels, (answers,) = dict(photos), found.answers
    rows = zip(found.paths, answers.correct, strict=True)
    return [_Row(path, labels[path], bool(right)) for path, right in rows]


def _tally(first: Compared, second: Compared) -> Pair:
    """Count the photos that both, one or none of the runs has right."""
    shared, left_out = _shared(first, second)
    if not shared:
        both = shlex.join((first.name, second.name))
        many = f": the other was trained on {left_out:,} of them" if left_out else ""
        raise DataError(
            f"{first.name} and {second.name} have no val photos in common{many}",
            "train them on the same photos with the same --seed and --val-fraction, or measure "
            f"them on others: `zoo evaluate {both} --data PHOTOS`",
        )
    counts: Counter[tuple[bool, bool]] = Counter()
    for path, twin in shared:
        (label, ours), (other, theirs) = first.answers[path], second.answers[twin]
        if plain(label) != plain(other):
            copy = "" if path == twin else f", as {twin},"
            raise DataError(
                f"{path} is {label} in {first.name} and{copy} {other} in {second.name}",
                "train both with the same labels",
            )
        counts[ours, theirs] += 1
    p = mcnemar(counts[True, False], counts[False, True])
    return Pair(
        first=first.name,
        second=second.name,
        photos=len(shared),
        both=counts[True, True],
        only_first=counts[True, False],
        only_second=counts[False, True],
        neither=counts[False, False],
        left_out=left_out,
        p_alone=p,
        p=p,
    )


def _shared(first: Compared, second: Compared) -> tuple[list[tuple[str, str]], int]:
    """Return the paths of each photo that neither was trained on, and how many are left out."""
    couples = _paired(first, second)
    gone, other_gone = first.seen_by(second), second.seen_by(first)
    left_out = len(gone) + len(other_gone)
    left_out -= sum(a in gone and b in other_gone for a, b in couples)  # one photo
    return [(a, b) for a, b in couples if a not in gone and b not in other_gone], left_out


@dataclass(frozen=True, slots=True)
class Apart:
    """A photo that one of two runs has right and the other wrong; said: by first and second."""

    path: str
    label: str
    first_right: bool
    said: tuple[str, str]
    sure: tuple[float, float]


def apart(first: Compared, second: Compared) -> list[Apart]:
    """Return the photos on which two runs differ in being right, the surest mistakes first."""
    found = []
    for path, twin in _shared(first, second)[0]:
        (label, ours), (_, theirs) = first.answers[path], second.answers[twin]
        if ours != theirs:
            told = first.said.get(path, ("", 0.0)), second.said.get(twin, ("", 0.0))
            said, sure = (told[0][0], told[1][0]), (told[0][1], told[1][1])
            found.append(Apart(path, label, ours, said, sure))
    return sorted(found, key=lambda one: -one.sure[one.first_right])


def _paired(first: Compared, second: Compared) -> list[tuple[str, str]]:
    """Return the paths of each photo in the val part of both: the same, or that of a copy."""
    same = first.answers.keys() & second.answers.keys()
    ours, theirs = first.once(), second.once()
    copies = [(ours[digest], theirs[digest]) for digest in ours.keys() & theirs.keys()]
    rest = [(a, b) for a, b in copies if a not in same and b not in same]
    return sorted([(path, path) for path in same] + rest)


def _differing(runs: Sequence[Compared]) -> tuple[str, ...]:
    """Return the settings that are not the same in all runs, in the order of a recipe."""
    names = [name for name in recipe.table() if name not in APART]
    return tuple(name for name in names if len({repr(run.settings.get(name)) for run in runs}) > 1)
