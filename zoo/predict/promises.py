"""What became of a run's promises on photos whose classes are known, and on photos of none of them.

Photos that the limits were chosen on say nothing of them: there sets are measured by halves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from zoo.data.samples import Photos
from zoo.errors import DataError
from zoo.head import conformal
from zoo.metrics import Array, auroc
from zoo.predict import evaluation_set, policy
from zoo.predict.evaluate import Evaluation, ProgressFn
from zoo.predict.inputs import Input
from zoo.predict.policy import Unknown
from zoo.predict.rows import Predictor
from zoo.run import Run


@dataclass(frozen=True, slots=True)
class Sets:
    """The share of prediction sets that hold the true class, their mean size, on how many photos.

    halves: each half of the photos by the limit of the other, in 20 ways. left_out: photos that
    the limit was chosen on.
    """

    asked: float
    coverage: float
    size: float
    photos: int
    halves: bool
    left_out: int


def sets(run: Run, found: Evaluation, coverage: float) -> Sets:
    """Measure prediction sets on evaluated photos. Raises DataError for too few of them."""
    answers = found.answers[0]
    scores = conformal.likelier(answers.probabilities, answers.labels)
    falling = -np.sort(-answers.probabilities, axis=1)
    pairs = [(path, "") for path in found.paths]
    chosen_on = evaluation_set.known(pairs, [str(run.folder)], "val").photos
    new = np.array([path not in chosen_on for path in found.paths])
    if new.any():
        limit = policy.sets(run, coverage)
        made = conformal.covered(falling[new], scores[new], limit)
        return Sets(coverage, made.coverage, made.size, int(new.sum()), False, int((~new).sum()))
    halved = conformal.by_halves(falling, scores, coverage)
    if halved is None:
        raise DataError(
            f"--coverage {coverage:g}: half of {len(scores):,} val photos is fewer than the "
            f"{conformal.needed(coverage):,} that it takes",
            "measure on photos that are neither of its training nor its val photos: --data PHOTOS",
        )
    return Sets(coverage, halved.coverage, halved.size, len(scores), True, 0)


@dataclass(frozen=True, slots=True)
class Apart:
    """How well distance tells photos of no class from known ones.

    auroc: how often a photo of none is further away. limit: the threshold; known, unknown: the
    share of either that is further.
    """

    auroc: float
    limit: float
    known: float
    unknown: float
    known_photos: int
    unknown_photos: int


def apart(
    member: Predictor, unknown: Unknown, photos: Photos, others: list[Input], progress: ProgressFn
) -> Apart:
    """Measure a run's distance on known photos and on others. Raises DataError for none of them."""
    known = [Input(path, path) for path, _ in photos]
    total, done = len(known) + len(others), 0

    def distances(inputs: Iterable[Input]) -> Array:
        nonlocal done
        found = []
        for row in member.rows(inputs):
            if row.status == "ok":
                found.append(unknown.of(row.features))
            done += 1
            progress(done, total)
        if not found:
            raise DataError("no photo of --unknown can be read", "give a folder of others")
        return np.array(found)

    ours, theirs = distances(known), distances(others)
    return Apart(
        auroc(ours, theirs),
        unknown.limit,
        float((ours > unknown.limit).mean()),
        float((theirs > unknown.limit).mean()),
        len(ours),
        len(theirs),
    )
