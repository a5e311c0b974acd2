"""The sequential test of a lower precision: how few photos it asks, how often it is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from kit import Here

import zoo
from zoo.engine import agreement
from zoo.engine.agreement import compare, leads
from zoo.errors import DisagreementError
from zoo.predict import agreement as of_predict

PHOTOS, CLASSES = 400, 5


def answers(seed: int, moved: float, apart: float = 6.0):
    """Scores of fp32 and of what is off them by noise of this size; photos by how clear."""
    random = np.random.default_rng(seed)
    exact = random.normal(size=(PHOTOS, CLASSES))
    clear = random.exponential(apart, PHOTOS)
    exact[np.arange(PHOTOS), random.integers(0, CLASSES, PHOTOS)] += clear
    return exact, exact + moved * random.normal(size=exact.shape)


def asking(exact):
    """What gives the scores of fp32, and the rows that it was asked for."""
    asked: list[int] = []

    def ask(rows):
        asked.extend(rows)
        return rows, exact[list(rows)]

    return ask, asked


def truth(exact, ours):
    return float((exact.argmax(1) == ours.argmax(1)).mean())


def test_what_moves_little_is_settled_by_the_first_sixteen():
    exact, ours = answers(0, 0.002)
    ask, asked = asking(exact)
    said = compare(ours, ask, 0.98)
    assert said.enough
    assert len(asked) == said.asked == agreement.FIRST
    assert said.share == pytest.approx(truth(exact, ours), abs=0.002)


def test_what_answers_otherwise_is_refused_without_asking_all():
    exact, ours = answers(1, 3.0)
    ask, asked = asking(exact)
    assert truth(exact, ours) < 0.9
    assert not compare(ours, ask, 0.98).enough
    assert len(asked) <= 64


@pytest.mark.parametrize("moved", [0.02, 0.05, 0.1, 0.2, 0.3, 0.5])
def test_the_verdict_is_seldom_another_than_that_of_all_photos(moved):
    """Where the share is well to one side of 98 %; within half a point either is right."""
    wrong = judged = 0
    for seed in range(20):
        exact, ours = answers(seed, moved)
        share = truth(exact, ours)
        said = compare(ours, asking(exact)[0], 0.98)
        assert said.share == pytest.approx(share, abs=0.05)
        if abs(share - 0.98) > 0.005:
            judged += 1
            wrong += said.enough != (share >= 0.98)
    assert wrong <= max(1, 0.05 * judged)


def test_few_photos_are_all_asked_and_counted():
    exact = np.eye(5)[[0, 1, 2, 3, 4, 0, 1, 2]]
    ours = exact.copy()
    ours[3] = exact[0]
    said = compare(ours, asking(exact)[0], 0.98)
    assert (said.enough, said.asked, said.differ, said.share) == (False, 8, 1, 7 / 8)
    assert compare(ours, asking(exact)[0], 0.8).enough


def test_photos_that_cannot_be_read_again_say_nothing():
    exact, ours = answers(2, 0.01)
    said = compare(ours, lambda rows: (rows[::2], exact[rows[::2]]), 0.98)
    assert said.enough
    assert said.asked == agreement.FIRST // 2


def test_of_several_labels_every_one_must_be_the_same():
    ours = np.array([[2.0, -1.0, 0.5], [-3.0, 4.0, -0.1]])
    assert leads(ours, ours, True).tolist() == [0.5, 0.1]
    theirs = np.array([[2.0, -1.0, -0.2], [-3.0, 4.0, -0.1]])
    assert leads(theirs, ours, True).tolist() == [-0.2, 0.1]


def test_98_of_100_are_enough() -> None:
    of_predict.Agreement("int8", "fp32", "class", "photos", 98, 100).must_hold()
    with pytest.raises(DisagreementError, match="answers 3 of 100 photos otherwise"):
        of_predict.Agreement("int8", "fp32", "class", "photos", 97, 100).must_hold()


def test_predict_goes_on_with_what_disagrees_only_where_it_is_forced(
    here: Here, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_predict, "ENOUGH", 1.01)  # which nothing can reach
    words = ("predict", "lenet/mnist", photos / "disc", "--precision", "int8")
    answer = here(*words)
    assert (answer.code, answer.out) == (DisagreementError.exit_code, ""), answer.err
    assert "hint: leave --precision and --engine out" in answer.err
    assert here(*words, "--force").out.count(",ok,") == 12
    with pytest.raises(DisagreementError):
        zoo.load("lenet/mnist", precision="int8").predict(photos / "disc")
    assert len(zoo.load("lenet/mnist", precision="int8", force=True).predict(photos / "disc")) == 12
