"""Labels that are probably wrong, ranked by probabilities of heads that never saw the photo."""

from __future__ import annotations

import numpy as np

from zoo.head.cross_validation import out_of_fold
from zoo.head.penalty import Search
from zoo.head.softmax_regression import Targets
from zoo.head.suspicious import suspicious


def probabilities(labels: np.ndarray, sure: float, classes: int = 3) -> np.ndarray:
    """Return rows that give the label `sure`, and the others the same."""
    table = np.full((len(labels), classes), (1 - sure) / (classes - 1))
    table[np.arange(len(labels)), labels] = sure
    return table


def test_changed_labels_come_first_and_their_true_class_is_proposed() -> None:
    true = np.arange(90) % 3
    labels = true.copy()
    wrong = [4, 31, 62]
    labels[wrong] = (true[wrong] + 1) % 3
    found = suspicious(probabilities(true, 0.9), labels)
    assert found.flagged == 3
    assert sorted(found.order[:3].tolist()) == wrong
    assert found.proposed[wrong].tolist() == true[wrong].tolist()
    assert found.scores[wrong].min() > 0.9 > 0.1 > np.delete(found.scores, wrong).max()


def test_a_class_that_is_never_sure_has_no_more_wrong_labels_than_another() -> None:
    """All photos of class 2 are taken for class 1 a little, none surely."""
    labels = np.arange(90) % 3
    table = probabilities(labels, 0.9)
    table[labels == 2] = [0.1, 0.5, 0.4]
    assert suspicious(table, labels).flagged == 0


def test_rows_that_no_head_was_tested_on_are_not_ranked() -> None:
    labels = np.array([0, 1, 0, 1, 2])
    table = probabilities(labels, 0.8)
    table[4] = np.nan
    found = suspicious(table, labels)
    assert sorted(found.order.tolist()) == [0, 1, 2, 3]
    assert found.proposed[4] == -1
    assert found.scores[4] == 0
    assert suspicious(table[4:], labels[4:]).order.tolist() == []


def test_no_photo_is_judged_by_a_head_that_was_fitted_on_it_or_on_its_copy() -> None:
    """Features are noise: heads that had seen a row, or its copy, would be sure of it."""
    random = np.random.default_rng(0)
    features = np.repeat(random.normal(size=(40, 60)).astype(np.float32), 2, axis=0)
    labels = np.repeat(np.arange(40) % 2, 2)
    groups = np.repeat(np.arange(40), 2)
    table = out_of_fold(features, Targets(labels, 2, groups), Search(0))
    assert np.isnan(table[1::2]).all()  # copies, which are one photo
    assert np.allclose(table[::2].sum(axis=1), 1)
    assert (table[::2].argmax(axis=1) == labels[::2]).mean() < 0.75
