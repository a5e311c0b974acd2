"""What answers: an engine with what stands before and behind it, and a row for each picture."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from zoo.catalog import Preprocess
from zoo.data.views import Source
from zoo.engine import Array, Engine
from zoo.engine.pipeline import NOT_FINITE, answers, forward_then
from zoo.errors import ImageError, InputError
from zoo.metrics import sigmoid, softmax
from zoo.predict.inputs import Input

ROUNDING = 1e-2  # of probabilities, and of their sum, in a file that says that it gives such


@dataclass(frozen=True, slots=True)
class Prediction:
    """One row: the top classes with their probabilities, or the error that took their place.

    status: ok, error, rejected: the first probability is below what was asked for, or unknown: it
    is like no training photo. reached: of a multi-label network the classes that reach its
    threshold, with their probabilities. plain: K probabilities by the plain view alone, where they
    are the mean over several. features: D numbers that the head sees, where they were asked for.
    distance: how far they are from the training photos (see zoo.head.distance). told: the classes
    of its prediction set. file: where the picture is, which is called `path`.
    """

    path: str
    status: str
    labels: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str = ""
    reached: tuple[tuple[str, float], ...] | None = None
    plain: Array | None = None
    features: Array | None = None
    distance: float | None = None
    told: tuple[str, ...] | None = None
    file: str = ""

    @property
    def answer(self) -> tuple[str, ...]:
        """Return what the picture is said to show: a class, or several of a multi-label network."""
        if self.reached is None:
            return self.labels[:1]
        return tuple(name for name, _ in self.reached)


def _as_they_are(pixels: Array) -> Array:
    return pixels


@dataclass(frozen=True, slots=True)
class Predictor:
    """An engine that gives class scores, and what stands before and behind it.

    load: from a picture to the engine's uint8 (or float) array. logits: whether softmax is still
    to come, or the sigmoid. threshold: of a multi-label network, whose classes are told one by one.
    views: how many each picture is asked by, view: one of them by its number. features: whether the
    engine gives other numbers of a picture before its class scores. preprocess, prepare: `load` in
    its two halves, from a picture to uint8 S S C and from there to the engine's array.
    """

    engine: Engine
    classes: tuple[str, ...]
    load: Callable[[Source], Array]
    logits: bool
    about: str
    threshold: float | None = None
    views: int = 1
    view: Callable[[Source, int], Array] | None = None
    features: bool = False
    preprocess: Preprocess = field(default_factory=Preprocess)
    prepare: Callable[[Array], Array] = _as_they_are

    def __post_init__(self) -> None:
        """Raises InputError for a threshold that is no probability."""
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise InputError(
                f"the network's threshold is {self.threshold:g}, which is no probability",
                "one is above 0 and at most 1: train or export it anew",
            )

    def rows(self, inputs: Iterable[Input], top: int = 1) -> Iterator[Prediction]:
        """Yield one Prediction for each input, in order, in constant memory."""
        for item, scores, plain, features in self._asked(inputs):
            yield replace(self.row(item, scores, top), plain=plain, features=features)

    def row(self, item: Input, scores: Array | ImageError, top: int = 1) -> Prediction:
        """Return the row of a picture with these K probabilities, or with why there are none."""
        if isinstance(scores, ImageError):
            return Prediction(item.shown, "error", error=str(scores), file=item.file)
        top = min(top, len(self.classes))
        best = [scores.argmax()] if top == 1 else np.argsort(-scores, kind="stable")
        return Prediction(
            item.shown,
            "ok",
            tuple(self.classes[k] for k in best[:top]),
            tuple(float(scores[k]) for k in best[:top]),
            reached=self.reached(scores),
            file=item.file,
        )

    def scores(self, batch: Array) -> list[Array | ImageError]:
        """Return K probabilities of each picture that `load` gave, or why there are none.

        In the thread of the caller, which was given to `engine.start_worker` before.
        """
        results = self.engine(batch)
        if self.logits:
            told = self._answered(results)
            return [one if isinstance(one, ImageError) else one[1] for one in told]
        good = np.asarray(np.isfinite(results).all(axis=1)).tolist()
        finite = [
            one if fine else ImageError(NOT_FINITE) for one, fine in zip(results, good, strict=True)
        ]
        return [self.probabilities(self._parted(one)[1]) for one in finite]

    def _asked(
        self, inputs: Iterable[Input]
    ) -> Iterator[tuple[Input, Array | ImageError, Array | None, Array | None]]:
        """Yield each input with K probabilities, those of the plain view alone, and its features.

        The probabilities are the mean over the views.
        """
        one = self.view is None or self.views == 1
        if one and self.logits:
            found = forward_then(
                inputs, lambda item: self.load(item.source), self.engine, self._answered
            )
            for item, answer in found:
                if isinstance(answer, ImageError):
                    yield item, answer, None, None
                else:
                    yield item, answer[1], None, answer[0]
            return
        if one:
            for item, result in answers(inputs, lambda item: self.load(item.source), self.engine):
                features, scores = self._parted(result)
                yield item, self.probabilities(scores), None, features
            return
        assert self.view is not None
        for item, own in _of_each(inputs, self.views, self.view, self.engine):
            parted = [self._parted(result) for result in own]
            each = [self.probabilities(scores) for _, scores in parted]
            plain = None if isinstance(each[0], ImageError) else each[0]
            yield item, _mean(each), plain, parted[0][0]

    def _answered(self, results: Array) -> list[tuple[Array | None, Array] | ImageError]:
        """Return the features, if any, and the K probabilities of each picture of a batch.

        All at once: one by one they cost a small network's picture more than its forward pass.
        """
        features, scores = None, results
        if self.features:
            at = results.shape[1] - len(self.classes)
            features, scores = results[:, :at], results[:, at:]
        self._must_fit(scores.shape[1:])
        finite = np.asarray(np.isfinite(results).all(axis=1))
        with np.errstate(invalid="ignore"):  # of those that are not finite
            told = softmax(scores) if self.threshold is None else sigmoid(scores)
        return [
            (None if features is None else features[row], told[row])
            if good
            else ImageError(NOT_FINITE)
            for row, good in enumerate(finite.tolist())
        ]

    def _must_fit(self, shape: tuple[int, ...]) -> None:
        """Raises InputError where a picture's results are no score for each class."""
        if shape != (len(self.classes),):
            raise InputError(
                f"the network gives {' x '.join(map(str, shape))} numbers a picture and "
                f"has the names of {len(self.classes)} classes",
                "train or export it anew: its network and its record are not of one training",
            )

    def _parted(self, result: Array | ImageError) -> tuple[Array | None, Array | ImageError]:
        """Return the features that the engine gives of a picture, if any, and its class scores."""
        if not self.features or isinstance(result, ImageError):
            return None, result
        scores = len(self.classes)
        return result[:-scores], result[-scores:]

    def of_views(self, pictures: Iterable[Array]) -> Array:
        """Return N x K probabilities of pictures uint8 S S C. Raises ImageError for NaN."""
        found = []
        for _, result in answers(pictures, self.prepare, self.engine):
            scores = self.probabilities(self._parted(result)[1])
            if isinstance(scores, ImageError):
                raise scores
            found.append(scores)
        return np.stack(found)

    def probabilities(self, result: Array | ImageError) -> Array | ImageError:
        """Return the K probabilities of a picture, or why there are none. Raises InputError."""
        if isinstance(result, ImageError):
            return result
        self._must_fit(result.shape)
        if self.logits:
            return softmax(result) if self.threshold is None else sigmoid(result)
        least, most, total = float(result.min()), float(result.max()), float(result.sum())
        if not (least >= -ROUNDING and most <= 1 + ROUNDING):
            odd = most if most > 1 else least
            return ImageError(f"the network gives {odd:g} as a probability")
        if self.threshold is None and abs(total - 1) > ROUNDING:
            return ImageError(f"the network gives probabilities whose sum is {total:g}, not 1")
        return result

    def reached(self, scores: Array) -> tuple[tuple[str, float], ...] | None:
        """Return the classes that reach the threshold, in their order."""
        if self.threshold is None:
            return None
        pairs = zip(self.classes, scores.tolist(), strict=True)
        return tuple((name, score) for name, score in pairs if score >= self.threshold)


def _of_each(
    inputs: Iterable[Input], count: int, view: Callable[[Source, int], Array], engine: Engine
) -> Iterator[tuple[Input, list[Array | ImageError]]]:
    """Yield each input with the engine's results for its views 0 to count - 1, in order."""
    pairs = ((item, number) for item in inputs for number in range(count))
    found = answers(pairs, lambda pair: view(pair[0].source, pair[1]), engine)
    for (item, _), first in found:
        yield item, [first, *(result for _, result in itertools.islice(found, count - 1))]


def _mean(each: Sequence[Array | ImageError]) -> Array | ImageError:
    """Return the mean of probabilities, or the first error among them."""
    good = [scores for scores in each if not isinstance(scores, ImageError)]
    bad = [scores for scores in each if isinstance(scores, ImageError)]
    return bad[0] if bad else np.asarray(np.mean(good, axis=0))
