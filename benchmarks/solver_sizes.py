"""The head's solver by the size of its rows: seconds, CPU seconds, and the most memory.

    python -m benchmarks.solver_sizes [--sizes 1362 20000 100000]

Choosing the penalty and solving, on all cores, on made rows that lie in a file; each time a process
of its own, whose peak memory holds the rows. Beside the smallest, in turns, scikit-learn's
cross-validation of half as many penalties on one thread. 1,000,000 rows: benchmarks.many_rows.
"""

from __future__ import annotations

import json
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.measure import (
    RESULTS,
    arguments,
    machine,
    median,
    numbers,
    python,
    run,
    save,
    show,
    summary,
    timed,
    verdict,
)


class Size(NamedTuple):
    """rows, columns, classes; bars: at most, by what is measured. peer: scikit-learn beside it."""

    rows: int
    columns: int
    classes: int
    bars: dict[str, float]
    peer: bool = False

    def __str__(self) -> str:
        return f"{self.rows:,} x {self.columns:,} x {self.classes:,}"


SIZES = {
    size.rows: size
    for size in (
        Size(1362, 1280, 43, {"s": 3.5, "CPU s": 4.0}, peer=True),
        Size(20_000, 2048, 100, {"s": 10.0}),
        Size(100_000, 1280, 1000, {"s": 240.0, "GB": 2.5}),
    )
}
OURS, PEER = "zoo", "scikit-learn"
Figures = dict[str, list[float]]


def main() -> None:
    if sys.argv[1:2] and sys.argv[1] in CHILDREN:
        print(json.dumps(CHILDREN[sys.argv[1]](Path(sys.argv[2]), *map(float, sys.argv[3:]))))
        return
    flags = parse()
    path = RESULTS / "solver_sizes.json"
    kept = json.loads(path.read_text())["sizes"] if path.exists() else {}
    for rows in flags.sizes:
        kept[str(SIZES[rows])] = one(SIZES[rows], flags.repeat)
        save("solver_sizes", machine(), {"sizes": kept})  # each as it comes


def parse() -> Namespace:
    parser = arguments(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", choices=SIZES, default=list(SIZES),
                        help="by their rows (all)")  # fmt: skip
    return parser.parse_args()


def one(size: Size, repeat: int) -> dict[str, Any]:
    """Measure a size; return its figures, and the bars beside them."""
    figures: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        run(child("draw", place, size.rows, size.columns, size.classes))
        for _ in range(repeat):
            found = told(figures, OURS, child("solve", place, size.classes))
            if size.peer:
                told(figures, PEER, child("peer", place, *found["penalties"][::2]), one_thread=True)
    lines = [
        [f"{size}, {who}: {what}", *numbers(values)]
        for who, each in figures.items()
        for what, values in each.items()
    ]
    show(lines, ("choose and solve", "min", "median", "max", "n"))
    bars = [
        verdict(f"choose and solve {size}, {what}", median(figures[OURS][what]), most, at_most=True)
        for what, most in size.bars.items()
    ]
    each = {who: {what: summary(v) for what, v in some.items()} for who, some in figures.items()}
    return {**each, "reason": found["reason"], "bars": bars, "machine": machine()}


def child(what: str, place: Path, *words: float) -> list[str]:
    return python("-m", "benchmarks.solver_sizes", what, place, *map(repr, words))


def told(
    figures: dict[str, Figures], who: str, command: list[str], *, one_thread: bool = False
) -> dict[str, Any]:
    """Run a process that solves; keep what it took."""
    env = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} if one_thread else {}
    job = run(command, env=env)
    found: dict[str, Any] = json.loads(job.out.splitlines()[-1])
    mine = figures.setdefault(who, {})
    for what, value in {"s": found["s"], "CPU s": found["cpu"], "GB": job.memory / 1024}.items():
        mine.setdefault(what, []).append(value)
    return found


# In the processes.


def draw(place: Path, rows: float, columns: float, classes: float) -> dict[str, Any]:
    """Write rows with the spectrum of a network's features, and their labels."""
    from benchmarks.solver import draw

    features, labels = draw(int(rows), int(columns), int(classes))
    np.save(place / "features.npy", features)
    np.save(place / "labels.npy", labels)
    return {}


def read(place: Path) -> tuple[Any, Any]:
    return np.load(place / "features.npy"), np.load(place / "labels.npy")


def ours(place: Path, classes: float) -> dict[str, Any]:
    from zoo.head.penalty import Search
    from zoo.head.softmax_regression import Targets
    from zoo.head.solver import solve

    features, labels = read(place)
    cpu, wall, found = timed(lambda: solve(features, Targets(labels, int(classes)), Search(0)))
    penalties = [row.penalty for row in found.table]
    return {"cpu": cpu, "s": wall, "reason": found.reason, "penalties": penalties}


def peer(place: Path, *penalties: float) -> dict[str, Any]:
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.preprocessing import StandardScaler

    features, labels = read(place)
    model = LogisticRegressionCV(
        Cs=[1 / (len(labels) * each) for each in penalties], cv=5, scoring="neg_log_loss",
        max_iter=5000, l1_ratios=(0.0,), use_legacy_attributes=False,
    )  # fmt: skip
    cpu, wall, _ = timed(lambda: model.fit(StandardScaler().fit_transform(features), labels))
    return {"cpu": cpu, "s": wall}


CHILDREN = {"draw": draw, "solve": ours, "peer": peer}


if __name__ == "__main__":
    main()
