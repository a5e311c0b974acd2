"""Evidence: repetitions are true ones, on folds that are fair, from one feature pass."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from kit import Watcher, carried_out, settings, sha256, tune

from zoo import weights
from zoo.data.folds import folds_of
from zoo.data.index import scan
from zoo.errors import Interrupted, UsageError
from zoo.finetune import begin, repeats
from zoo.finetune.events import FeaturesDone, Finished, Note
from zoo.finetune.prepare import prepare
from zoo.run import Run


def accuracy(run: Path) -> float:
    return Run.open(run).record["results"]["accuracy"]


def cached_rows() -> int:
    folder = weights.cache_folder() / "features"
    return sum(len(np.load(path)) for path in folder.rglob("*.keys.npy"))


@pytest.fixture(scope="module")
def start(tmp_path_factory, photos) -> Path:
    """A run of LeNet to start from, which knows little."""
    run = tmp_path_factory.mktemp("start") / "lenet"
    tune(run, settings("lenet", photos, freeze=False, epochs=2, views=1, lr=0.002, batch_size=8))
    return run


@pytest.fixture
def alone(tmp_path, monkeypatch) -> None:
    """A cache that nobody else fills."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


KINDS = [
    pytest.param({"cut": "act4"}, id="solved"),
    pytest.param(
        {"cut": "act4", "epochs": 3, "batch_size": 8, "lr": 0.01},
        id="head-in-steps",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        {"cut": "act3", "epochs": 3, "head": "mlp:8", "batch_size": 8},
        id="deeper",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        {"cut": "act4", "schedule": "head-then-all", "epochs": 3},
        id="two-phases",
        marks=pytest.mark.slow,
    ),
    pytest.param({"freeze": False, "epochs": 3, "views": 1}, id="everything"),
    pytest.param(
        {"freeze": False, "epochs": 3, "views": 1, "weights": "none", "lr": 0.003},
        id="from-scratch",
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.parametrize("values", KINDS)
def test_a_repetition_is_the_run_with_that_seed(tmp_path, photos, start, values):
    """Its numbers are those of `--seed N` alone, and the main run's weights are its own.

    With one view: of several, those of the first seed are used by all.
    """
    base = {"weights": str(start), "seed": 7, "views": 1, **values}
    *events, finished = tune(tmp_path / "run", settings("lenet", photos, seeds=2, **base))
    for name, seed in (("a", 7), ("b", 8)):
        tune(tmp_path / name, settings("lenet", photos, **base | {"seed": seed}))
    alone = tuple(accuracy(tmp_path / name) for name in "ab")
    assert isinstance(finished, Finished)
    (found,) = finished.evidence
    assert found.accuracy == alone
    assert sha256(tmp_path / "run") == sha256(tmp_path / "a")
    losses = [
        [line["val_loss"] for line in Run.open(folder).metrics()]
        for folder in (tmp_path / "run/repeats/seed-8", tmp_path / "b")
    ]
    assert losses[0] == losses[1]
    said = [event.text for event in events if isinstance(event, Note)]
    said = [text for text in said if "suspicious.csv" not in text]
    assert said == [f"seed-8: accuracy {100 * alone[1]:.1f} %"]


def test_mean_deviation_and_interval_are_scipys(tmp_path, photos, start):
    import scipy.stats

    chosen = settings("lenet", photos, weights=str(start), cut="act4", seeds=2, folds=3)
    *_, finished = tune(tmp_path / "run", chosen)
    record = Run.open(tmp_path / "run").record["evidence"]
    assert list(record) == ["seeds", "folds"]
    for kind, count in (("seeds", 2), ("folds", 3)):
        found = record[kind]
        values = found["accuracy"]
        assert len(values) == len(found["macro_f1"]) == count
        assert found["mean"] == pytest.approx(np.mean(values))
        assert found["deviation"] == pytest.approx(np.std(values, ddof=1))
        low, high = scipy.stats.t.interval(
            0.95, count - 1, np.mean(values), scipy.stats.sem(values)
        )
        if np.std(values) == 0:  # no width: scipy says nan
            low = high = values[0]
        ends = (max(0.0, low), min(1.0, high))
        assert (found["low"], found["high"]) == pytest.approx(ends)
    assert [each.kind for each in finished.evidence] == ["seeds", "folds"]


def test_the_interval_of_known_numbers():
    mean, deviation, low, high = repeats.interval([0.90, 0.92, 0.97])
    assert (mean, deviation) == pytest.approx((0.93, 0.0360555), abs=1e-6)
    assert (low, high) == pytest.approx((0.840434, 1.0), abs=1e-5)  # 1.0196 is no accuracy


def test_the_screen_shows_them(here, tmp_path, photos, start):
    words = ("finetune", "lenet", photos, "--weights", start, "--cut", "act4", "--folds", 3)
    answer = here(*words, "-o", tmp_path / "run")
    assert answer.code == 0, answer.err
    assert "3 folds: accuracy " in answer.err
    assert ", 95 % interval of the mean " in answer.err
    assert "fold-2: accuracy " in answer.err
    assert answer.out == f"{tmp_path / 'run'}\n"
    assert sorted(path.name for path in (tmp_path / "run/repeats").iterdir()) == [
        "fold-1", "fold-2", "fold-3",
    ]  # fmt: skip
    assert not list((tmp_path / "run/repeats").rglob("*.safetensors"))
    for spent in ("seconds", "cpu_seconds"):  # each begins when the one before it is over
        whole, *folds = (
            Run.open(tmp_path / "run" / name).record[spent]
            for name in (".", *(f"repeats/fold-{number}" for number in (1, 2, 3)))
        )
        assert 0 < sum(folds) < whole
    shown = here("info", tmp_path / "run").out
    assert "evidence   3 folds: mean " in shown
    assert "epochs     none: the head is the optimum on the training photos" in shown


def test_seeds_that_change_nothing_are_not_called_certainty(here, tmp_path, photos, start):
    """One val part and one optimum: the deviation is 0, whatever other photos would say."""
    data = tmp_path / "photos"
    for split in ("train", "val"):
        shutil.copytree(photos, data / split)
    words = ("finetune", "lenet", data, "--weights", start, "--cut", "act4", "--seeds", 2)
    words = (*words, "--keep-duplicates")
    answer = here(*words, "--penalty", 0.1, "--views", 1, "-o", tmp_path / "run")
    assert answer.code == 0, answer.err
    assert "standard deviation 0.0 %" in answer.err
    assert "the seed changes nothing here" in answer.err


# Folds.


@pytest.fixture
def doubles(tmp_path, photos) -> Path:
    """36 photos of which 6 are copies, each in its class, under other names."""
    data = tmp_path / "doubles"
    shutil.copytree(photos, data)
    for kind in ("disc", "stripes"):
        for number in (0, 4, 7):
            shutil.copy(data / kind / f"{number:02}.png", data / kind / f"copy{number}.png")
    return data


@pytest.mark.parametrize("folds", [2, 4, 5])
def test_every_photo_is_in_one_fold_and_equal_ones_in_the_same(doubles, folds):
    index = scan(doubles)
    digests = {
        sample.path: hashlib.sha256((doubles / sample.path).read_bytes()).digest()
        for sample in index.samples
    }
    numbers = folds_of(index, digests, folds, seed=3)
    assert len(numbers) == len(index.samples) == 42
    assert set(numbers.tolist()) == set(range(folds))
    where: dict[bytes, set[int]] = {}
    for sample, number in zip(index.samples, numbers.tolist(), strict=True):
        where.setdefault(digests[sample.path], set()).add(number)
    assert all(len(numbers) == 1 for numbers in where.values())
    for label in range(3):
        sizes = Counter(
            number for sample, number in zip(index.samples, numbers.tolist(), strict=True)
            if sample.label == label
        )  # fmt: skip
        assert max(sizes.values()) - min(sizes[fold] for fold in range(folds)) <= 2
    assert np.ptp(np.bincount(numbers)) <= 3
    assert folds_of(index, digests, folds, seed=3).tolist() == numbers.tolist()
    assert folds_of(index, digests, folds, seed=4).tolist() != numbers.tolist()


def test_each_fold_is_the_val_part_once(tmp_path, doubles, start):
    chosen = settings("lenet", doubles, weights=str(start), cut="act4", folds=4)
    tune(tmp_path / "run", chosen)
    seen: Counter[str] = Counter()
    for fold in range(1, 5):
        run = Run.open(tmp_path / f"run/repeats/fold-{fold}")
        val, train = (set(map(str, run.photos(split))) for split in ("val", "train"))
        assert not val & train
        assert len(val | train) == 42
        seen.update(val)
    assert len(seen) == 42
    assert set(seen.values()) == {1}


def test_folds_leave_the_run_as_it_is_and_compute_no_feature_twice(tmp_path, photos, start, alone):
    base = {"weights": str(start), "cut": "act4"}
    *_, finished = tune(tmp_path / "plain", settings("lenet", photos, **base))
    before = cached_rows()
    assert before == 36
    events = tune(tmp_path / "run", settings("lenet", photos, folds=4, seeds=2, **base))
    assert sha256(tmp_path / "run") == sha256(tmp_path / "plain")
    assert cached_rows() == before
    done = next(event for event in events if isinstance(event, FeaturesDone))
    assert (done.computed, done.cached) == (0, 36)
    assert events[-1].scores.report.accuracy == finished.scores.report.accuracy


def test_no_epoch_is_chosen_on_a_fold(tmp_path, photos, start):
    chosen = settings("lenet", photos, weights=str(start), cut="act4", folds=3, epochs=4)
    tune(tmp_path / "run", chosen)
    for fold in (1, 2, 3):
        record = Run.open(tmp_path / f"run/repeats/fold-{fold}").record
        assert (record["best_by"], record["best_epoch"]) == ("last", 4)


@pytest.mark.parametrize(
    ("photos_of_disc", "folds", "what"),
    [
        (12, 40, "--folds 40 of 36 photos"),
        (1, 3, "--folds 3: the photos of class 'disc' are all in one"),
    ],
)
def test_folds_that_cannot_be_are_refused_before_anything_runs(
    here, tmp_path, photos, photos_of_disc, folds, what
):
    data = tmp_path / "photos"
    shutil.copytree(photos, data)
    for path in sorted((data / "disc").iterdir())[photos_of_disc:]:
        path.unlink()
    if photos_of_disc == 1:  # else the class could not be in both parts
        for split, kinds in (("train", ("disc", "square", "stripes")), ("val", ("square",))):
            for kind in kinds:
                (tmp_path / "split" / split / kind).parent.mkdir(parents=True, exist_ok=True)
                shutil.copytree(data / kind, tmp_path / "split" / split / kind)
        data = tmp_path / "split"
    words = ("finetune", "lenet", data, "--weights", "none", "--cut", "act4", "--folds", folds)
    answer = here(*words, "--keep-duplicates", "-o", tmp_path / "run")
    assert answer.code == 2, answer.err
    assert f"error: {what}" in answer.err
    assert "hint: give " in answer.err
    assert not (tmp_path / "run").exists()


def test_copies_of_one_photo_are_no_class_to_cross_validate(tmp_path, photos, start):
    """That is told before anything runs."""
    data = tmp_path / "photos"
    shutil.copytree(photos, data)
    for path in sorted((data / "disc").iterdir())[1:]:
        shutil.copy(data / "disc" / "00.png", path)
    chosen = settings("lenet", data, weights=str(start), cut="act4", folds=3)
    with pytest.raises(UsageError, match="class 'disc' are all in one"):
        prepare(chosen)


# A stop.

STOPS = [
    pytest.param({"cut": "act4", "epochs": 4, "lr": 0.01}, "epoch", 21, id="in-the-first"),
    pytest.param(
        {"cut": "act4", "epochs": 4, "lr": 0.01},
        "epoch",
        50,
        id="in-the-third",
        marks=pytest.mark.slow,
    ),
    pytest.param({"cut": "act4"}, "features", 80, id="in-a-pass", marks=pytest.mark.slow),
    pytest.param(
        {"freeze": False, "views": 1, "weights": "none", "epochs": 3},
        "epoch",
        35,
        id="from-scratch",
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.parametrize(("values", "what", "after"), STOPS)
def test_interrupted_repetitions_go_on_to_the_same_numbers(
    tmp_path, photos, start, values, what, after
):
    steps = {"batch_size": 8} if "epochs" in values else {}
    chosen = settings(
        "lenet", photos, **{"weights": str(start), "seeds": 2, "folds": 3, **steps, **values}
    )
    tune(tmp_path / "whole", chosen)
    run = tmp_path / "run"
    with pytest.raises(Interrupted) as stopped:
        tune(run, chosen, Watcher(what, after))
    assert (run / "repeats").is_dir(), "the stop was to be among the repetitions"
    assert stopped.value.what.startswith(("seed-", "fold-"))
    assert stopped.value.resume == Run.open(run).resume
    assert str(run) in stopped.value.resume
    assert "repeats" not in stopped.value.advice
    again = prepare(begin.recipe_of(Run.open(run)))
    carried_out(begin.resume(again, Run.open(run), Watcher()))
    ours, theirs = (Run.open(folder).record for folder in (run, tmp_path / "whole"))
    assert ours["evidence"] == theirs["evidence"]
    assert ours["results"] == theirs["results"]
    assert sha256(run) == sha256(tmp_path / "whole")
    assert not list((run / "repeats").rglob("*.safetensors"))
