"""A head on rows that lie in a file: zoo's solver beside scikit-learn's partial_fit.

    python -m benchmarks.streamed [--rows 200000] [--classes 100] [--most 5]

Made features of 512 numbers, read in pieces by all. zoo solves for a penalty that is given; then
each of scikit-learn's goes over the rows until the mean cross-entropy of the training rows (of
SGDClassifier, one head against the rest for each class: of its normalised probabilities) is within
1 % of zoo's, or it has had `--most` times its CPU seconds. One BLAS thread each.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import SGDClassifier
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from benchmarks.measure import arguments, machine, save, show, timed, verdict
from benchmarks.solver import draw, solved
from zoo.head.layers import Linear
from zoo.head.scores import measured
from zoo.head.stored import Stored

WIDTH, BLOCK, PENALTY, NEAR, FASTER = 512, 5000, 1e-3, 1.01, 5.0
Array = Any


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--most", type=float, default=FASTER, help="times zoo's CPU seconds (5)")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, threadpool_limits(1):
        features, labels = made(Path(scratch) / "rows", flags.rows, flags.classes)
        cpu, wall, best = timed(lambda: solved(features, labels, flags.classes, PENALTY))
        least, _ = measured(features, labels, Linear(best.weight, best.bias))
        rows = [["zoo", f"{cpu:.1f}", f"{wall:.1f}", f"{least:.4f}", f"{best.iterations} steps"]]
        show(rows, ("solver", "CPU s", "s", "train loss", "passes"))
        softmax = MLPClassifier((), alpha=PENALTY, batch_size=500, random_state=0)
        one_by_one = SGDClassifier(loss="log_loss", alpha=PENALTY, random_state=0)
        times = {}
        for model in (softmax, one_by_one):
            found = followed(model, features, labels, NEAR * least, flags.most * cpu)
            times[found[0]] = float(found[1]) / cpu
            rows.append(found)
            show([found], ("solver", "CPU s", "s", "train loss", "passes"))
    bars = [
        verdict(f"CPU of {name} beside zoo's", ratio, FASTER, at_most=False)
        for name, ratio in times.items()
    ]
    save("streamed", machine(), {"rows": rows, "bars": bars})


def made(place: Path, count: int, classes: int) -> tuple[Stored, Array]:
    """Write rows to a file; return them, and their labels."""
    drawn = draw(count, WIDTH, classes)
    drawn[0].tofile(place)
    return Stored(place, drawn[0].shape), drawn[1]


def followed(model: Any, features: Stored, labels: Array, least: float, most: float) -> list[str]:
    """Go over the rows until the loss is reached or the CPU seconds are spent; return a line."""
    scale = _scale(features)
    classes, spent, began = np.unique(labels), 0.0, time.perf_counter()
    loss, passes = np.inf, 0.0
    order = np.random.default_rng(0)
    while loss > least and spent < most:
        for part in _parts(len(features), order):
            start = time.process_time()
            model.partial_fit((features[part] - scale[0]) / scale[1], labels[part], classes=classes)
            spent += time.process_time() - start
            passes += BLOCK / len(features)
            if spent >= most:
                break
        loss = _loss(model, features, labels, scale)
    reached = "" if loss <= least else ", not reached"
    wall = f"{time.perf_counter() - began:.1f}"
    about = [f"{spent:.1f}", wall, f"{loss:.4f}{reached}", f"{passes:.2g}"]
    return [f"{type(model).__name__}.partial_fit", *about]


def _parts(count: int, order: np.random.Generator | None = None) -> Iterator[slice]:
    firsts = np.arange(0, count, BLOCK)
    for first in firsts if order is None else order.permutation(firsts):
        yield slice(int(first), min(int(first) + BLOCK, count))


def _scale(features: Stored) -> tuple[Array, Array]:
    some = features[: 4 * BLOCK]
    return some.mean(axis=0), some.std(axis=0) + 1e-6


def _loss(model: Any, features: Stored, labels: Array, scale: tuple[Array, Array]) -> float:
    total = 0.0
    for part in _parts(len(features)):
        chances = model.predict_proba((features[part] - scale[0]) / scale[1])
        mine = chances[np.arange(len(chances)), labels[part]]
        total -= float(np.log(np.maximum(mine, 1e-12)).sum())
    return total / len(features)


if __name__ == "__main__":
    main()
