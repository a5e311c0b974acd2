"""The head's optimum: seconds and accuracy of zoo's solver beside scikit-learn's.

    python -m benchmarks.solver [--rows 10000 --columns 2048 --classes 10 --splits 12]

1. Made rows with the spectrum of a network's features: seconds, and how far from the optimum.
2. Real features of the shared photos, several splits: accuracy by the rule that picks the penalty.

One BLAS thread each; CPU seconds, which a busy machine distorts less than those of a clock. Ours
works on all cores all the same, and its seconds of a clock are told beside. Of each round every
one has a turn. benchmarks.solver_sizes: larger ones, and memory.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from benchmarks.accuracy import ALL, SETS
from benchmarks.measure import arguments, machine, save, shared, show, timed, verdict
from zoo import device
from zoo.data.index import scan
from zoo.engine.torch import TorchEngine
from zoo.features.compute import Pass, Views, compute
from zoo.finetune.backbones import opened
from zoo.finetune.rank import Unkept
from zoo.head.penalty import Search
from zoo.head.softmax_regression import Targets
from zoo.head.solver import Solution, solve
from zoo.network_ref import parted

BAR = 5.0  # CPU seconds for 10,000 photos
Array = Any


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=10_000, help="(10000)")
    parser.add_argument("--columns", type=int, default=2048, help="(2048)")
    parser.add_argument("--classes", type=int, default=10, help="(10)")
    parser.add_argument("--splits", type=int, default=12, help="of the real photos (12)")
    parser.add_argument("--no-peers", action="store_true", help="zoo alone")
    parser.add_argument("--shared", type=Path, default=shared(), help="has data/ and weights/")
    flags = parser.parse_args()
    facts = machine()
    with threadpool_limits(1):
        result = made(flags.rows, flags.columns, flags.classes, flags.repeat, flags.no_peers)
        if flags.shared.is_dir():
            print()
            result |= real(flags.shared, flags.splits)
    save("solver", facts, result)


# Made rows.


def made(count: int, columns: int, classes: int, repeat: int, alone: bool) -> dict[str, Any]:
    features, labels = draw(count + 2000, columns, classes)
    train, held = (features[:count], labels[:count]), (features[count:], labels[count:])
    ours = solved(*train, classes)
    print(f"{count:,} rows, {columns:,} columns, {classes} classes: {ours.reason}")
    work: dict[str, Callable[[], Any]] = {
        "zoo, choose and solve": lambda: solved(*train, classes),
        "zoo, this penalty": lambda: solved(*train, classes, ours.penalty),
    }
    scale = StandardScaler().fit(train[0])
    if not alone:
        work |= peers(scale.transform(train[0]), train[1], ours)
    turns = [{name: timed(each) for name, each in work.items()} for _ in range(repeat)]
    rows, spent = [], {}
    for name in work:
        cpu, clock, found = zip(*(turn[name] for turn in turns), strict=True)
        spent[name] = cpu
        score = right(*plain(found[0], scale), held)
        rows.append([name, f"{statistics.median(cpu):.2f}", f"{min(cpu):.2f} to {max(cpu):.2f}",
                     f"{statistics.median(clock):.2f}", f"{100 * score:.2f} %"])  # fmt: skip
    facts: dict[str, Any] = {"seconds": spent, "reason": ours.reason}
    if not alone:
        weight, _ = plain(turns[0]["scikit-learn, this penalty"][2], scale)
        facts["gap"] = float(np.linalg.norm(ours.weight - weight) / np.linalg.norm(weight))
        print(f"weights differ from scikit-learn's by {facts['gap']:.1e} of their norm")
    show(rows, ("on made rows", "CPU s", "range", "s", "accuracy"))
    facts["verdict"] = verdict(
        f"choose and solve {count:,} x {columns:,} x {classes}, CPU s on one thread",
        statistics.median(spent["zoo, choose and solve"]),
        BAR,
        at_most=True,
    )
    return {"made": facts}


def solved(features: Array, labels: Array, classes: int, penalty: float | None = None) -> Solution:
    return solve(features, Targets(labels, classes), Search(0, penalty=penalty))


def peers(scaled: Array, labels: Array, ours: Solution) -> dict[str, Callable[[], Any]]:
    """scikit-learn at the same penalty, and choosing among the same by as many folds."""
    count = len(scaled)
    model = LogisticRegression(C=1 / (count * ours.penalty), tol=1e-7, max_iter=5000)
    several = LogisticRegressionCV(
        Cs=[1 / (count * each.penalty) for each in ours.table],
        cv=3 if count > 5000 else 5,
        scoring="neg_log_loss",
        max_iter=5000,
        l1_ratios=(0.0,),
        use_legacy_attributes=False,
    )
    return {
        "scikit-learn, this penalty": lambda: model.fit(scaled, labels),
        "scikit-learn, choose and solve": lambda: several.fit(scaled, labels),
    }


def plain(found: Any, scale: StandardScaler) -> tuple[Array, Array]:
    """Return weight and bias for the features as they are, of ours or of scikit-learn's."""
    if isinstance(found, Solution):
        return found.weight, found.bias
    weight = found.coef_ / scale.scale_
    return weight, found.intercept_ - weight @ scale.mean_


def draw(count: int, columns: int, classes: int) -> tuple[Array, Array]:
    """Rectified mixtures of factors whose variances fall as 1/k; classes overlap."""
    random = np.random.default_rng(0)
    fall = np.arange(1, columns + 1) ** -0.5
    labels = random.integers(0, classes, count)
    factors = random.standard_normal((count, columns), np.float32)
    factors += 0.09 * random.standard_normal((classes, columns), np.float32)[labels]
    mixing = random.standard_normal((columns, columns), np.float32) * (fall / columns**0.5)[:, None]
    return np.maximum(10 * factors @ mixing.astype(np.float32) + 0.1, 0), labels


def right(weight: Array, bias: Array, held: tuple[Array, Array]) -> float:
    return float(((held[0] @ weight.T + bias).argmax(axis=1) == held[1]).mean())


# Real photos.


def real(folder: Path, splits: int) -> dict[str, Any]:
    """Accuracy on a quarter of the photos held out, mean of the splits, by rule."""
    scores: dict[str, dict[str, list[float]]] = {}
    for data in SETS:
        for model, file in ALL.items():
            features, labels = kept(folder, data, f"{model}={folder / 'weights' / file}")
            job = f"{model.split('/')[-1]}, {data}"
            parts = StratifiedShuffleSplit(splits, test_size=0.25, random_state=0)
            for train, held in parts.split(features, labels):
                for rule, score in by_rule(features, labels, train, held).items():
                    scores.setdefault(rule, {}).setdefault(job, []).append(score)
    jobs = list(next(iter(scores.values())))
    print(f"accuracy on a quarter held out, %, mean of {splits} splits; seconds: CPU, a split")
    means = {
        rule: [100 * float(np.mean(each[job])) for job in jobs] for rule, each in scores.items()
    }
    table = [
        [rule, *(f"{v:.2f}" for v in row), f"{np.mean(row):.2f}"] for rule, row in means.items()
    ]
    show(table, ("penalty by", *jobs, "mean"))
    return {"real": means, "jobs": jobs}


def by_rule(features: Array, labels: Array, train: Array, held: Array) -> dict[str, float]:
    classes = int(labels.max()) + 1
    rest = (features[held], labels[held])
    chosen = solved(features[train], labels[train], classes)
    least = min(chosen.table, key=lambda row: row.loss)
    near = next(row.penalty for row in chosen.table if row.loss <= least.loss + least.error)
    most = max(chosen.table, key=lambda row: row.accuracy).penalty
    scores = {"least loss (zoo)": right(chosen.weight, chosen.bias, rest)}
    others = {"one standard error": near, "most accuracy": most}
    others |= {"always 1": 1.0, "always 0.3": 0.3, "always 0.1": 0.1}
    for rule, penalty in others.items():
        found = solved(features[train], labels[train], classes, penalty)
        scores[rule] = right(found.weight, found.bias, rest)
    scale = StandardScaler().fit(features[train])
    model = LogisticRegression(max_iter=5000).fit(scale.transform(features[train]), labels[train])
    scores["scikit-learn's default"] = float(model.score(scale.transform(rest[0]), rest[1]))
    return scores


def kept(folder: Path, data: str, model: str) -> tuple[Array, Array]:
    """Features and labels of all photos of a set that can be read; plain views."""
    index = scan(folder / "data" / data)
    _, start = opened(model, 0)
    _, parts = parted(start, len(index.classes), 0)
    engine = TorchEngine(parts.frozen, start.preprocess, device.choose("cpu"))
    rows: dict[bytes, Array] = {}

    class Memory(Unkept):
        def add(self, key: bytes, row: Array) -> None:
            super().add(key, row)
            rows[key] = row

    work = [(sample, Views()) for sample in index.samples]
    found: Pass = compute(Memory(), engine, start.preprocess, index.root, work, lambda *_: None)  # type: ignore[arg-type]
    there = [sample for sample in index.samples if sample.path in found.keys]
    features = np.stack([rows[found.keys[sample.path][0]] for sample in there])
    return features.reshape(len(features), -1), np.array([sample.label for sample in there])


if __name__ == "__main__":
    main()
