"""The head's optimum: against scikit-learn, to the bit, and with whatever rows there are."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit import ROOT

from zoo.errors import DataError, TrainingError
from zoo.features.standardise import Scaling
from zoo.head import cross_validation, lbfgs, softmax_regression, solver
from zoo.head import penalty as penalties
from zoo.head import rows as head_rows
from zoo.head import scores as head_scores
from zoo.head import threads as head_threads
from zoo.head.folds import Photos
from zoo.head.layers import Linear
from zoo.head.penalty import Search
from zoo.head.scores import loss_of, measured, scores_of
from zoo.head.softmax_regression import Poll, Targets
from zoo.head.threads import in_order, pieces

Array = np.ndarray[Any, np.dtype[Any]]
CLASSES = 4


def rows(count: int, columns: int, seed: int = 0) -> tuple[Array, Array]:
    """Features as a network's: positive, of unequal scale, correlated; classes that overlap."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    hidden = random.standard_normal((count, columns)) * np.arange(1, columns + 1) ** -0.7
    hidden += 0.7 * random.standard_normal((CLASSES, columns))[labels] / columns**0.5
    mixed = hidden @ random.standard_normal((columns, columns)) * random.uniform(0.1, 9, columns)
    return np.maximum(mixed + 1, 0).astype(np.float32), labels


def logistic_regression(**options: Any) -> Any:
    """Return scikit-learn's, which takes a second to import."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(**options)


def solve(
    features: Array,
    labels: Array,
    classes: int,
    penalty: float | None = None,
    poll: Poll | None = None,
    **more: Any,
) -> solver.Solution:
    search = Search(seed=0, penalty=penalty)
    return solver.solve(features, Targets(labels, classes, **more), search, poll)


def cross_validated(
    features: Array, labels: Array, classes: int, penalty: float | None = None, **more: Any
) -> cross_validation.CrossValidated:
    targets, search = Targets(labels, classes, **more), Search(seed=0, penalty=penalty)
    return cross_validation.cross_validated(features, targets, search)


def standardised(features: Array, solution: solver.Solution) -> tuple[Array, Array, Array]:
    """The rows as the solver sees them, with the weight and the bias that belong to them."""
    double = features.astype(np.float64)
    mean, spread = double.mean(axis=0), double.std(axis=0)
    spread[spread < 1e-6] = 1
    weight = solution.weight.astype(np.float64)
    return (double - mean) / spread, weight * spread, solution.bias + weight @ mean


def log_loss(features: Array, weight: Array, bias: Array, labels: Array) -> float:
    scores = features @ weight.T + bias
    top = scores.max(axis=1)
    logs = np.log(np.exp(scores - top[:, None]).sum(axis=1)) + top
    return float(np.mean(logs - scores[np.arange(len(labels)), labels]))


@pytest.mark.parametrize(("count", "columns"), [(300, 40), (120, 300)])
@pytest.mark.parametrize("penalty", [1.0, 0.03])
def test_the_optimum_is_scikit_learns(count: int, columns: int, penalty: float) -> None:
    """More rows than columns, and fewer: the span of the rows is exact."""
    features, labels = rows(count, columns)
    found = solve(features, labels, CLASSES, penalty=penalty)
    scaled, weight, bias = standardised(features, found)
    theirs = logistic_regression(C=1 / (count * penalty), tol=1e-9, max_iter=5000)
    theirs.fit(scaled, labels)
    assert found.reason == f"penalty {penalty:.2g}, as asked for"
    assert np.linalg.norm(weight - theirs.coef_) < 1e-3 * np.linalg.norm(theirs.coef_)
    ours = log_loss(scaled, weight, bias, labels)
    assert ours == pytest.approx(
        log_loss(scaled, theirs.coef_, theirs.intercept_, labels), abs=1e-6
    )


def test_weights_of_classes_are_scikit_learns() -> None:
    features, labels = rows(300, 30)
    labels[(labels == 3) & (np.arange(300) > 40)] = 0
    each = np.array([0.5, 1.0, 1.5, 8.0])
    found = solve(features, labels, CLASSES, penalty=0.1, class_weights=each)
    scaled, weight, _ = standardised(features, found)
    theirs = logistic_regression(
        C=1 / (each[labels].sum() * 0.1),
        tol=1e-9,
        max_iter=5000,
        class_weight=dict(enumerate(each)),
    ).fit(scaled, labels)
    assert np.linalg.norm(weight - theirs.coef_) < 1e-3 * np.linalg.norm(theirs.coef_)
    alike = solve(features, labels, CLASSES, penalty=0.1)
    rare = features[labels == 3]
    answers = [(rare @ one.weight.T + one.bias).argmax(axis=1) for one in (found, alike)]
    assert np.mean(answers[0] == 3) > np.mean(answers[1] == 3)


def test_a_class_s_weight_belongs_to_its_photos_where_labels_are_smoothed() -> None:
    """Against scikit-learn: each row once for every label, with its share of the row's weight."""
    features, labels = rows(200, 20)
    each, smoothing = np.array([1.0, 2.0, 0.5, 6.0]), 0.2
    found = solve(
        *(features, labels, CLASSES),
        penalty=0.05,
        class_weights=each,
        label_smoothing=smoothing,
    )
    scaled, weight, _ = standardised(features, found)
    shares = (1 - smoothing) * np.eye(CLASSES)[labels] + smoothing / CLASSES
    counts = (each[labels][:, None] * shares).reshape(-1)
    theirs = logistic_regression(C=1 / (each[labels].sum() * 0.05), tol=1e-9, max_iter=5000)
    several = np.repeat(scaled, CLASSES, axis=0), np.tile(np.arange(CLASSES), len(labels))
    theirs.fit(*several, sample_weight=counts)
    assert np.linalg.norm(weight - theirs.coef_) < 1e-3 * np.linalg.norm(theirs.coef_)


@pytest.mark.parametrize("at_a_time", [1, 7, 99, 100, 4096])
def test_what_a_head_is_worth_is_that_of_all_rows_at_once(
    at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, labels = rows(100, 20)
    found = solve(features, labels, CLASSES, penalty=0.1)
    layer = Linear(found.weight, found.bias)
    whole = features @ found.weight.T + found.bias
    monkeypatch.setattr(head_scores, "AT_A_TIME", at_a_time)
    scores = scores_of(features, layer)
    np.testing.assert_allclose(scores, whole, rtol=1e-4, atol=1e-4)
    loss, accuracy = measured(features, labels, layer)
    expected = pytest.approx(log_loss(features, found.weight, found.bias, labels), rel=1e-5)
    assert loss == expected
    assert loss_of(scores, labels) == expected
    assert 0.5 < accuracy == np.mean(whole.argmax(axis=1) == labels) < 1


def test_iterations_are_all_steps_of_the_choice_and_of_the_head(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted, search = [], lbfgs.minimise

    def counting(*words: Any) -> tuple[Array, int]:
        found, steps = search(*words)
        counted.append(steps)
        return found, steps

    monkeypatch.setattr(lbfgs, "minimise", counting)
    features, labels = rows(150, 20)
    assert solve(features, labels, CLASSES).iterations == sum(counted)
    assert len(counted) > 3
    counted.clear()
    assert solve(features, labels, CLASSES, penalty=0.1).iterations == sum(counted)
    assert len(counted) == 1


def test_the_gradient_is_that_of_the_loss() -> None:
    """By differences, of two heads with other shares, weighted and smoothed."""
    random = np.random.default_rng(0)
    features, labels = rows(60, 7)
    targets = Targets(labels, CLASSES, None, np.array([1.0, 3.0, 0.2, 9.0]), 0.3)
    weights = random.uniform(size=(2, 60))
    point = random.standard_normal(2 * CLASSES * 8)

    def loss(values: Array) -> tuple[float, Array]:
        weight, bias = np.split(values, [2 * CLASSES * 7])
        parts = weight.reshape(2 * CLASSES, 7), bias.reshape(2, CLASSES)
        value, *gradients = softmax_regression.cross_entropy(
            features.astype(np.float64), targets, weights, *parts
        )
        return value, np.concatenate([each.ravel() for each in gradients])

    steps = 1e-5 * np.eye(len(point))
    by_differences = [(loss(point + s)[0] - loss(point - s)[0]) / 2e-5 for s in steps]
    np.testing.assert_allclose(loss(point)[1], by_differences, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("smoothing", [pytest.param(0.0, marks=pytest.mark.slow), 0.4])
def test_a_rare_class_with_its_weight_is_not_the_answer_to_everything(smoothing: float) -> None:
    """4 photos against 120: by torch's formula all are answered `rare` from 0.1 on."""
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], [4, 120])
    features = random.standard_normal((124, 10)).astype(np.float32) + 6 * labels[:, None]
    each = 124 / (2 * np.bincount(labels))
    found = solve(features, labels, 2, class_weights=each, label_smoothing=smoothing)
    answers = (features @ found.weight.T + found.bias).argmax(axis=1)
    assert (answers == labels).all()
    tested = cross_validated(features, labels, 2, class_weights=each, label_smoothing=smoothing)
    assert tested.accuracy == 1


def test_the_penalty_is_chosen_where_photos_held_out_are_told_best() -> None:
    features, labels = rows(200, 60)
    found = solve(features, labels, CLASSES)
    best = min(found.table, key=lambda row: row.loss)
    (chosen,) = [row for row in found.table if row.penalty == found.penalty]
    assert chosen is best
    assert 0 < found.table.index(best) == len(found.table) - 2, "tried until the loss rises"
    assert [row.penalty for row in found.table] == sorted(
        (row.penalty for row in found.table), reverse=True
    )
    assert found.reason == (
        f"penalty {found.penalty:.2g}, the best of {len(found.table)} tried "
        "by 5-fold cross-validation"
    )
    noise = np.random.default_rng(0).standard_normal(features.shape).astype(np.float32)
    assert solve(noise, labels, CLASSES).penalty > found.penalty


PRINT = """
import hashlib, sys
import numpy as np
from zoo.head import penalty, solver
from zoo.head.softmax_regression import Targets
from zoo.head.threads import one_thread
penalty.SAMPLE = 700
for path in sys.argv[1:]:
    with np.load(path) as kept:
        classes = int(kept["labels"].max()) + 1
        targets = Targets(kept["labels"], classes)
        s = solver.solve(kept["features"], targets, penalty.Search(seed=0, penalty=None))
    told = s.weight, s.bias, s.held_out.rows, s.held_out.probabilities
    print(hashlib.sha256(b"".join(each.tobytes() for each in told)).hexdigest())
with one_thread():
    from threadpoolctl import threadpool_info
    assert {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"} == {1}
"""


def test_the_same_rows_give_the_same_bits_on_any_number_of_threads(tmp_path: Path) -> None:
    """Of BLAS, of which scipy has its own, and of ours; pieces are more than threads."""
    files = [tmp_path / "high.npz", tmp_path / "wide.npz"]
    for path, size in zip(files, ((900, 50), (150, 300)), strict=True):
        features, labels = rows(*size)
        np.savez(path, features=features, labels=labels)
    said = set()
    for threads, ours in (("1", 1), ("3", 5)):
        code = f"import zoo.head.threads as own; own.cores = lambda: {ours}\n{PRINT}"
        done = subprocess.run(
            [sys.executable, "-c", code, *files],
            cwd=ROOT,
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        )
        said.add(done.stdout)
    assert len(said) == 1
    assert len(said.pop().split()) == 2


def test_pieces_are_all_rows_once_and_begin_at_the_edges() -> None:
    for count, edges in ((1, ()), (127, (3,)), (5000, (0, 1700, 3300)), (10, (10,))):
        found = pieces(count, edges)
        assert [part.stop for part in found[:-1]] == [part.start for part in found[1:]]
        assert (found[0].start, found[-1].stop) == (0, count)
        assert set(edges) - {count} <= {part.start for part in found}
        assert all(part.start < part.stop for part in found)
    assert list(in_order(lambda part: part.start, found)) == [0]


def test_threads_are_kept_for_a_solve_and_nothing_runs_on_behind_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(head_threads, "cores", lambda: 3)
    done: list[int] = []

    def work(piece: int) -> str:
        if piece == 0:
            raise ValueError("no")
        time.sleep(0.02)
        done.append(piece)
        return threading.current_thread().name

    started = set(threading.enumerate())
    with head_threads.same_threads():
        assert len({name for _ in range(5) for name in in_order(work, [1, 2, 3, 4])}) <= 3
        done.clear()
        with pytest.raises(ValueError, match="no"):
            list(in_order(work, [0, 1, 2, 3, 4, 5, 6, 7]))
        before = list(done)
        time.sleep(0.05)
        assert done == before
    assert not set(threading.enumerate()) - started
    assert len(list(in_order(work, [1, 2, 3, 4]))) == 4  # with threads of its own
    assert not set(threading.enumerate()) - started


def test_many_rows_choose_by_a_part_of_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """Views stay together; the optimum of all rows is found, and all rows are told of."""
    features, labels = rows(1200, 30)
    labels = np.repeat(labels[::2], 2)
    groups = np.repeat(np.arange(600), 2)
    monkeypatch.setattr(penalties, "SAMPLE", 400)
    found = solve(features, labels, CLASSES, groups=groups)
    assert "on 400 of 1,200 rows" in found.reason
    given = solve(features, labels, CLASSES, penalty=found.penalty, groups=groups)
    assert np.linalg.norm(found.weight - given.weight) < 1e-3 * np.linalg.norm(given.weight)
    assert found.held_out is not None
    assert sorted(found.held_out.rows) == list(range(0, 1200, 2))
    np.testing.assert_allclose(found.held_out.probabilities.sum(axis=1), 1, atol=1e-5)
    assert given.held_out is None
    monkeypatch.setattr(penalties, "ANSWERS", 100)
    assert len(solve(features, labels, CLASSES, groups=groups).held_out.rows) == 200


def test_the_rows_held_out_are_told_by_heads_that_have_not_seen_them() -> None:
    """Against scikit-learn's, fold by fold."""
    features, labels = rows(200, 20)
    found = solve(features, labels, CLASSES)
    out, _ = held(labels, None, 5)
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    told = np.empty((200, CLASSES))
    told[found.held_out.rows] = found.held_out.probabilities
    for fold in out:
        theirs = logistic_regression(C=1 / ((~fold).sum() * found.penalty), max_iter=5000)
        theirs.fit(scaled[~fold], labels[~fold])
        np.testing.assert_allclose(told[fold], theirs.predict_proba(scaled[fold]), atol=0.03)


def test_probabilities_out_of_fold_are_of_plain_views_by_heads_without_their_photos() -> None:
    """By the penalty that is chosen: against scikit-learn's, fold by fold."""
    features, labels = rows(160, 20)
    labels, groups = np.repeat(labels[:80], 2), np.repeat(np.arange(80), 2)
    targets, search = Targets(labels, CLASSES, groups), Search(seed=0)
    penalty = solver.solve(features, targets, search).penalty
    told = cross_validation.out_of_fold(features, targets, search)
    assert np.isnan(told[1::2]).all()
    np.testing.assert_allclose(told[::2].sum(axis=1), 1, atol=1e-5)
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    for fold in held(labels, groups, 5)[0]:
        theirs = logistic_regression(C=1 / ((~fold).sum() * penalty), max_iter=5000)
        theirs.fit(scaled[~fold], labels[~fold])
        tested = np.flatnonzero(fold)[::2]
        expected = theirs.predict_proba(scaled[tested])
        np.testing.assert_allclose(told[tested], expected, atol=0.03)


def test_the_end_of_the_grid_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = rows(150, 20)
    monkeypatch.setattr(penalties, "GRID", (10.0, 1.0))
    assert solve(features, labels, CLASSES).reason.endswith("; none weaker was tried")
    random = np.random.default_rng(0)
    noise = random.standard_normal((150, 100)).astype(np.float32)
    monkeypatch.setattr(penalties, "GRID", (1.0, 0.1))
    assert solve(noise, labels, CLASSES).reason.endswith("; none stronger was tried")


def test_features_that_never_change_do_no_harm() -> None:
    features, labels = rows(120, 20)
    plain = solve(features, labels, CLASSES, penalty=0.1)
    flat = np.full((120, 3), [0.0, 1e4, 1 / 3], np.float32)
    found = solve(np.hstack([features, flat]), labels, CLASSES, penalty=0.1)
    assert not found.weight[:, 20:].any()
    np.testing.assert_allclose(found.weight[:, :20], plain.weight, rtol=1e-2, atol=1e-6)
    nothing = solve(flat, labels[:120], CLASSES)
    assert not nothing.weight.any()
    np.testing.assert_allclose(nothing.bias, nothing.bias[0], atol=1e-3)


def test_values_that_are_not_finite_are_refused() -> None:
    features, labels = rows(40, 5)
    for wrong in ([np.nan], [np.inf], [np.inf, -np.inf]):
        spoilt = features.copy()
        spoilt[: len(wrong), 2] = wrong
        with pytest.raises(TrainingError, match="not finite"):
            solve(spoilt, labels, CLASSES)


# Photos held out.


def held(labels: Array, groups: Array | None, folds: int) -> tuple[Array, Photos]:
    photos = Photos.of(groups, labels)
    return photos.held_out(np.ones(len(labels), bool), 0, folds), photos


def test_views_of_a_photo_are_never_on_both_sides() -> None:
    labels = np.repeat(np.arange(30) % 3, 4)
    groups = np.repeat(np.random.default_rng(0).permutation(30), 4)
    out, photos = held(labels, groups, 5)
    assert out.shape == (5, 120)
    assert (out.sum(axis=0) == 1).all()
    for photo in range(30):
        assert len({tuple(column) for column in out[:, groups == photo].T}) == 1
    assert [out[k][labels == 1].sum() for k in range(5)] == [8] * 5
    assert photos.plain.tolist() == ([True] + [False] * 3) * 30


def test_twins_in_one_group_do_not_flatter() -> None:
    """Each photo twice: a head that may look up the twin is right; in groups it must guess."""
    random = np.random.default_rng(0)
    features = np.repeat(random.standard_normal((60, 200)), 2, axis=0).astype(np.float32)
    labels = np.repeat(np.arange(60) % 2, 2)
    apart = cross_validated(features, labels, 2, penalty=0.1)
    together = cross_validated(features, labels, 2, penalty=0.1, groups=np.arange(120) // 2)
    assert apart.accuracy > 0.9
    assert together.accuracy < 0.75
    assert (together.predictions[1::2] == -1).all()
    assert (together.predictions[::2] >= 0).all()


def test_classes_of_one_and_two_photos_can_be_solved_and_tested() -> None:
    features, labels = rows(100, 30)
    few = np.concatenate([np.flatnonzero(labels < 2), [2, 3, 7]])  # one of class 2, two of 3
    features, labels = features[few], labels[few]
    out, _ = held(labels, None, 5)
    assert not out[:, labels == 2].any()
    assert out[:, labels == 3].sum() == 2
    assert (out[:, labels == 3].sum(axis=1) <= 1).all()
    found = solve(features, labels, CLASSES)
    assert np.isfinite(found.weight).all()
    found = solve(features, labels, CLASSES, penalty=1e-3)
    assert (features @ found.weight.T + found.bias).argmax(axis=1)[labels == 2] == 2
    tested = cross_validated(features, labels, CLASSES)
    assert (tested.predictions == -1).sum() == 1


def test_there_are_no_more_folds_than_photos_of_a_class() -> None:
    out, _ = held(np.array([0, 0, 0, 1, 1, 2]), None, 5)
    assert len(out) == 3
    assert out.sum(axis=1).tolist() == [2, 2, 1]


def test_one_photo_a_class_leaves_the_penalty_at_its_default() -> None:
    features, labels = rows(4, 30)
    found = solve(features, labels, CLASSES)
    assert found.penalty == penalties.UNTESTED
    assert found.table == ()
    assert "no class has two photos" in found.reason
    assert ((features @ found.weight.T + found.bias).argmax(axis=1) == labels).all()
    with pytest.raises(DataError, match="no class has two photos"):
        cross_validated(features, labels, CLASSES)


def test_noise_is_told_at_the_level_of_chance() -> None:
    """What is chosen inside the folds has not seen what it is tested on."""
    random = np.random.default_rng(1)
    features = random.standard_normal((200, 400)).astype(np.float32)
    found = cross_validated(features, np.arange(200) % 2, 2)
    assert found.nested
    assert abs(found.accuracy - 0.5) < 0.11  # three standard errors
    assert found.interval > 0


def test_many_rows_are_cross_validated_with_one_penalty(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = rows(300, 20)
    nested = cross_validated(features, labels, CLASSES)
    monkeypatch.setattr(penalties, "FEW", 200)
    monkeypatch.setattr(cross_validation, "FEW", 200)
    monkeypatch.setattr(penalties, "MANY", 250)
    monkeypatch.setattr(penalties, "AT_ONCE", 100)
    found = cross_validated(features, labels, CLASSES)
    assert nested.nested
    assert not found.nested
    assert len(set(found.penalties)) == 1
    assert len(found.accuracies) == 5
    assert found.accuracy == pytest.approx(nested.accuracy, abs=0.05)
    assert solve(features, labels, CLASSES).reason.endswith("by 3-fold cross-validation")


@pytest.mark.parametrize(("few", "nested"), [(100, True), (99, False)])
def test_up_to_so_many_rows_each_fold_chooses_its_penalty(
    few: int, nested: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, labels = rows(100, 20)
    monkeypatch.setattr(cross_validation, "FEW", few)
    assert cross_validated(features, labels, CLASSES).nested is nested
    assert cross_validated(features, labels, CLASSES, penalty=0.1).nested


def test_students_table_is_scipys() -> None:
    from scipy.special import stdtrit

    for freedom, value in enumerate(cross_validation.STUDENTS, start=1):
        assert value == pytest.approx(float(stdtrit(freedom, 0.975)), rel=1e-14)
    more = cross_validation.CrossValidated((0.5, 0.75) * 6, (), np.zeros(0), True)
    assert more.interval == pytest.approx(float(stdtrit(11, 0.975)) * 0.1306 / 12**0.5, rel=1e-3)


def test_the_interval_is_students() -> None:
    from scipy.stats import t

    scores = (0.8, 0.9, 0.85, 0.7, 0.95)
    found = cross_validation.CrossValidated(scores, (1.0,) * 5, np.zeros(5), True)
    low, _ = t.interval(0.95, 4, np.mean(scores), np.std(scores, ddof=1) / 5**0.5)
    assert found.accuracy - found.interval == pytest.approx(low)


def test_whoever_is_asked_can_stop_it() -> None:
    calls = 0

    def stop() -> None:
        nonlocal calls
        calls += 1
        if calls == 10:
            raise KeyboardInterrupt

    features, labels = rows(100, 20)
    with pytest.raises(KeyboardInterrupt):
        solve(features, labels, CLASSES, poll=stop)
    assert calls == 10


def test_rows_of_many_columns_are_known_in_a_few_directions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The optimum is the same, whatever is known of how rows vary."""
    features, labels = rows(200, 40)
    usual = solve(features, labels, CLASSES, penalty=0.1)
    monkeypatch.setattr(head_rows, "DIRECTIONS", 10)
    found = solve(features, labels, CLASSES, penalty=0.1)
    assert np.linalg.norm(found.weight - usual.weight) < 2e-3 * np.linalg.norm(usual.weight)


def test_the_directions_are_those_in_which_rows_vary_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their squares are the largest eigenvalues, and none is lost of all."""
    monkeypatch.setattr(head_rows, "DIRECTIONS", 20)
    own = head_rows.Rows(rows(2000, 60)[0])
    true = np.linalg.eigvalsh(own.values.T @ own.values / 2000)[::-1]
    found = own.principal
    np.testing.assert_allclose(found.squares[::-1][:5], true[:5], rtol=0.08)
    assert found.squares.sum() + 40 * found.rest == pytest.approx(true.sum())
    values = np.random.default_rng(0).standard_normal((3, 60))
    again = found.divided(values, 0.5, 0.1)
    matrix = found.rest * np.eye(60) + (found.directions * (found.squares - found.rest)) @ (
        found.directions.T
    )
    np.testing.assert_allclose(again @ (0.5 * matrix + 0.1 * np.eye(60)), values, atol=1e-9)


def test_a_minimum_is_found_of_a_function_that_is_no_head() -> None:
    """From an inverse Hessian that is far off, and from the minimum itself."""
    scales = np.arange(1.0, 31.0)

    def objective(point: Array) -> tuple[float, Array]:
        away = point - 1
        value = float(np.sum(scales * (away**2 / 2 + away**4 / 4)))
        return value, scales * (away + away**3)

    for factor in (0.01, 1.0, 50.0):
        found, steps = lbfgs.minimise(objective, np.full(30, 3.0), lambda g: factor * g, 1e-14)  # noqa: B023
        np.testing.assert_allclose(found, 1, atol=1e-5)
        assert 0 < steps < 60
    again, steps = lbfgs.minimise(objective, found, lambda g: g, 1e-9)
    assert steps == 0
    np.testing.assert_array_equal(again, found)


def test_what_rounding_leaves_of_features_is_no_signal():
    features, labels = rows(40, 60)
    noise = (1 + 4e-6 * np.random.default_rng(0).standard_normal((40, 60))).astype(np.float32)
    found = solve(noise, labels, CLASSES)
    assert 0 < found.spread < head_rows.ALIKE
    assert not found.weight.any()
    assert solve(features, labels, CLASSES).spread > 0.1
    small = solve(1 + 1e-3 * features, labels, CLASSES)
    assert small.spread > head_rows.ALIKE
    assert small.weight.any()


@pytest.mark.parametrize("shape", [(6,), (6, 1, 1), (2, 3, 1)])
def test_a_scaling_is_folded_into_a_head_whatever_form_features_have(shape):
    import torch

    features = np.random.default_rng(0).normal(3, 2, (20, *shape)).astype(np.float32)
    head, scaling = torch.nn.Linear(6, 4), Scaling.of_rows(features)
    flat = torch.from_numpy(features).flatten(1)
    with torch.no_grad():
        scaled = head(scaling.scaled(torch.from_numpy(features)).flatten(1))
        scaling.fold(head)
        assert torch.allclose(head(flat), scaled, atol=1e-5)


def test_a_scaling_makes_no_signal_of_rounding():
    noise = (1 + 4e-6 * np.random.default_rng(0).standard_normal((40, 6))).astype(np.float32)
    scaling = Scaling.of_rows(noise)
    assert scaling.spread < head_rows.ALIKE
    assert scaling.scale == pytest.approx(1, abs=1e-3)
    assert Scaling.of_rows(np.zeros((4, 6), np.float32)).scale == 1
