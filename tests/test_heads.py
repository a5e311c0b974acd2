"""Heads of class means and of nearest neighbours: found, saved, asked, exported, and added to."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kit import (
    Watcher,
    carried_out,
    csv_rows,
    settings,
    sha256,
    tune,
    waves,
    write_photos,
)
from PIL import Image

from zoo import weights
from zoo.errors import DataError, Interrupted, UsageError
from zoo.finetune import begin
from zoo.finetune.add_class import add_class
from zoo.finetune.events import Note
from zoo.finetune.prepare import prepare
from zoo.head import added, layers, neighbours, prototype
from zoo.head.folds import Photos
from zoo.head.kinds import kind_of
from zoo.models.computed import Cosine, Neighbours
from zoo.run import DISTANCE, Run

Array = np.ndarray[Any, np.dtype[Any]]
KINDS = ("linear", "prototype", "prototype:cosine", "knn:5")
CLASSES = 3


def rows(count: int = 90, columns: int = 12, seed: int = 0) -> tuple[Array, Array, Photos]:
    """Positive features of classes that overlap, with the photos that they are of."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    middle = np.random.default_rng(9).standard_normal((CLASSES, columns))
    features = middle[labels] + random.standard_normal((count, columns)) + 3
    return features.astype(np.float32), labels, Photos.of(None, labels)


def head(kind: str, features: Array, labels: Array, photos: Photos) -> layers.Layer:
    asked = kind_of(kind)
    if asked.word == "knn":
        return neighbours.neighbours(features, labels, photos, asked.number)[0]
    found = prototype.cosine if asked.metric == "cosine" else prototype.mahalanobis
    return found(features, labels, photos)[0]


def new_photos(folder: Path) -> Path:
    """Three pictures of another class."""
    folder.mkdir()
    for number in range(3):
        waves(60, 40, number).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize("columns", [12, 200])
def test_mahalanobis_is_linear_discriminant_analysis(columns: int) -> None:
    """With Ledoit and Wolf's covariance, of more and of fewer rows than columns."""
    from sklearn.covariance import ledoit_wolf
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    features, labels, _ = rows(columns=columns)
    means = prototype.means_of(features, labels, CLASSES)
    spread = prototype.spread_of(features, labels, means)
    double = features.astype(np.float64)
    covariance, share = ledoit_wolf(double - means[labels], assume_centered=True)
    assert spread.share == pytest.approx(share, rel=1e-6)
    assert np.allclose(spread.covariance(), covariance, rtol=1e-8, atol=1e-10)
    ours = prototype.nearest(means, spread).scores(features)
    theirs = LinearDiscriminantAnalysis("lsqr", priors=[1 / 3] * 3)
    theirs.coef_ = np.linalg.solve(covariance, means.T).T
    theirs.intercept_ = -np.einsum("kd,kd->k", theirs.coef_, means) / 2
    theirs.classes_ = np.arange(CLASSES)
    assert np.allclose(ours, theirs.decision_function(double), atol=1e-2)


@pytest.mark.parametrize("count", [25, 60])
def test_the_scale_of_cosines_is_the_likeliest_with_each_photo_left_out(count: int) -> None:
    from scipy.optimize import minimize_scalar

    features, labels, photos = rows(count, columns=3)
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosines = np.empty((count, CLASSES))
    for photo, label in np.ndindex(cosines.shape):
        mean = units[(labels == label) & (np.arange(count) != photo)].mean(axis=0)
        cosines[photo, label] = units[photo] @ mean / np.linalg.norm(mean)

    def loss(log: float) -> float:
        scores = np.exp(log) * cosines
        right = scores[np.arange(count), labels]
        return float(np.mean(np.log(np.exp(scores - right[:, None]).sum(axis=1))))

    best = float(np.exp(minimize_scalar(loss, bounds=(0, 7), method="bounded").x))
    found, why = prototype.cosine(features, labels, photos)
    assert np.linalg.norm(found.weight, axis=1) == pytest.approx(best, rel=1e-2)
    assert why.startswith(f"scale {np.linalg.norm(found.weight[0]):.3g}, the likeliest")


def test_cosines_of_one_photo_a_class_have_the_scale_by_default() -> None:
    found, why = prototype.cosine(*rows(3))
    assert np.linalg.norm(found.weight, axis=1) == pytest.approx(100)
    assert why == "scale 100, by default: no class has two photos"


@pytest.mark.parametrize("kind", KINDS[1:])
def test_torch_computes_what_numpy_does(kind: str) -> None:
    features, labels, photos = rows()
    found = head(kind, features, labels, photos)
    module = {
        "linear": lambda: torch.nn.Linear(12, CLASSES),
        "cosine": lambda: Cosine(12, CLASSES),
        "knn": lambda: Neighbours(12, CLASSES, 5, len(features)),
    }[kind_of(kind).layer]()
    module.load_state_dict({name: torch.from_numpy(a) for name, a in found.arrays.items()})
    asked = rows(seed=1)[0]
    with torch.no_grad():
        theirs = module(torch.from_numpy(asked)).numpy()
    assert np.allclose(found.scores(asked), theirs, atol=2e-3)
    assert np.allclose(found.scores(asked[0]), found.scores(asked)[0], atol=1e-4)
    assert np.allclose(found.divided(2).scores(asked), found.scores(asked) / 2, atol=1e-5)
    assert (found.scores(asked).argmax(axis=1) == labels).mean() > 0.8
    again = layers.of_arrays(kind_of(kind), found.arrays, CLASSES)
    assert np.array_equal(again.scores(asked), found.scores(asked))


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_class_more_leaves_the_others_bit_for_bit(kind: str) -> None:
    features, labels, _ = rows()
    old = labels < 2
    before = head(kind, features[old], labels[old], Photos.of(None, labels[old]))
    known = added.Old(features[old], labels[old]) if added.needs_old(before) else None
    assert (known is None) == (kind != "prototype")
    after = added.added(before, features[~old][:3, None], known)
    asked, right, _ = rows(seed=1)
    for name, array in before.arrays.items():
        assert np.array_equal(after.arrays[name][: len(array)], array)
    assert (after.scores(asked).argmax(axis=1) == right).mean() > 0.7
    if kind == "prototype:cosine":  # the mean of the same photos is the row that they had
        whole = added.added(before, features[~old][:, None])
        mean = layers.unit(layers.unit(features[~old]).mean(axis=0))
        assert np.allclose(layers.unit(whole.arrays["weight"])[2], mean, atol=1e-6)


def test_a_solved_row_is_the_optimum_with_the_others_fixed() -> None:
    """Scikit-learn finds the same row where the old scores are one offset for all rows."""
    from sklearn.linear_model import LogisticRegression

    features, labels, _ = rows()
    new, old = features[labels == 2], features[labels != 2]
    fixed = layers.Linear(np.zeros((2, 12), np.float32), np.zeros(2, np.float32))
    how, known = added.Fitted(0.05, 1.0), added.Old(old, labels[labels != 2])
    found = added.added(fixed, new[:, None], known, how)
    every = np.concatenate([old, new]).astype(np.float64)
    scaled = (every - every.mean(axis=0)) / every.std(axis=0)
    theirs = LogisticRegression(C=1 / (len(every) * 0.05), tol=1e-10, max_iter=9999)
    theirs.fit(scaled, np.arange(len(every)) >= len(old))
    ours = found.arrays["weight"][2] * every.std(axis=0)
    assert np.allclose(ours, theirs.coef_[0], atol=1e-3)
    halved = added.added(fixed, new[:, None], known, added.Fitted(0.05, 2.0))
    assert np.allclose(2 * halved.arrays["weight"][2], found.arrays["weight"][2], atol=1e-3)


def test_neighbours_are_as_many_as_there_are_and_no_more_than_a_gigabyte() -> None:
    with pytest.raises(UsageError, match="knn:11 with 10 views"):
        neighbours.must_fit(10, 8, 11)
    with pytest.raises(UsageError, match=r"400,000 x 1,280 features in the network, 2.1 GB"):
        neighbours.must_fit(400_000, 1280, 5)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"freeze": False}, "everything is trained"),
        ({"epochs": 3}, "--epochs with --head knn:5 would do nothing"),
        ({"penalty": 0.1}, "--penalty with --head knn:5 would do nothing"),
        ({"balance": "weights"}, "--balance with"),
        ({"optimizer": "adamw"}, "--solver with"),
        ({"cut": "pool2"}, "more than a linear head is trained"),
        ({"head": "knn:999"}, "so many neighbours"),
    ],
)
def test_what_would_do_nothing_is_refused(photos: Path, more: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        prepare(settings("lenet", photos, **{"head": "knn:5", **more}))


@pytest.fixture(scope="module")
def runs(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of each kind, by name."""
    folder = tmp_path_factory.mktemp("heads")
    for kind in KINDS:
        tune(folder / kind, settings("lenet", photos, head=kind, cut="act4", views=2))
    return folder


@pytest.mark.parametrize(
    "kind", ["prototype", "knn:5", pytest.param("prototype:cosine", marks=pytest.mark.slow)]
)
def test_every_command_has_the_head(runs: Path, photos: Path, here: Any, kind: str) -> None:
    """Predict without torch and the exported file give what val.csv says; the plan says what."""
    run, val = runs / kind, csv_rows(runs / kind / "val.csv")
    root = Run.open(run).record["data"]["root"]
    listing = run.parent / f"{kind}.txt"
    listing.write_text("\n".join(f"{root}/{row['path']}" for row in val))
    assert here("export", "onnx", run, "-o", run.parent / f"{kind}.onnx").code == 0
    for model in (run, run.parent / f"{kind}.onnx"):
        told = csv_rows(here("predict", model, listing).out)
        assert [row["label"] for row in told] == [row["predicted"] for row in val]
        for row, known in zip(told, val, strict=True):
            assert float(row["probability"]) == pytest.approx(float(known["probability"]), abs=1e-4)
    gained = here("evaluate", run, "--tta", "3")
    assert gained.code == 0
    assert "with the mean over 3 views" in gained.err
    assert here("predict", run.parent / f"{kind}.onnx", listing, "--tta", "2").code == 2


@pytest.mark.parametrize(
    "kind",
    [
        "prototype",
        "knn:5",
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("linear", "prototype:cosine")),
    ],
)
def test_add_class_makes_a_new_run(runs: Path, here: Any, tmp_path: Path, kind: str) -> None:
    folder = new_photos(tmp_path / "more")
    before = {path.name: sha256(path) for path in (runs / kind).iterdir() if path.is_file()}
    made = here("add-class", runs / kind, f"d={folder}", "-o", tmp_path / "new")
    assert made.code == 0, made.err
    assert "old classes: accuracy" in made.err
    assert before == {path.name: sha256(path) for path in (runs / kind).iterdir() if path.is_file()}
    new, old = Run.open(tmp_path / "new").record, Run.open(runs / kind).record
    assert new["classes"] == [*old["classes"], "d"]
    assert new["made_from"]["model_sha256"] == old["model_sha256"]
    theirs = weights.read_arrays(runs / kind / "model.safetensors")
    for name, array in weights.read_arrays(tmp_path / "new" / "model.safetensors").items():
        assert np.array_equal(array[: len(theirs[name])], theirs[name]), name
    for run, what in (
        (tmp_path / "new", "none: class d was added to"),
        (runs / kind, "the head is"),
    ):
        assert what in here("info", run).out
    assert all(row["sha256"] for row in csv_rows(tmp_path / "new" / "index.csv"))
    told = here("predict", tmp_path / "new", folder, "--unknown", "--unknown-rate", "40%")
    assert "distance" in told.out.splitlines()[0]
    if kind == "knn:5":
        assert here("export", "onnx", tmp_path / "new").code == 0
    again = here("add-class", tmp_path / "new", f"d={folder}", "-o", tmp_path / "newer")
    assert again.code == 2
    assert "has the class 'd' already" in again.err


def test_what_makes_no_class(runs: Path, photos: Path, here: Any, tmp_path: Path) -> None:
    """Photos that the run has are left out; a name is one that can be read; one photo will do."""
    run, folder = runs / "prototype", new_photos(tmp_path / "more")
    known = Run.open(run).labelled("val")[0][0]
    for name, what in ((" ", "names no class"), ("\u200b", "not seen"), ("a\nb", "not seen")):
        answer = here("add-class", run, f"{name}={folder}", "-o", tmp_path / "new")
        assert (answer.code, what in answer.err) == (2, True), answer.err
    (twin := tmp_path / "twin").mkdir()
    shutil.copy(known, twin / "copy.png")
    answer = here("add-class", run, f"d={twin}", "-o", tmp_path / "new")
    assert answer.code == 2
    assert "the 1 picture in" in answer.err
    assert "a val photo of the run already" in answer.err
    shutil.copy(folder / "0.png", twin / "new.png")
    answer = here("add-class", run, f"d={twin}", "-o", tmp_path / "new")
    assert answer.code == 0, answer.err
    assert "left out: copy.png: it is a val photo of the run already" in answer.err
    assert "d: 1 photo" in answer.err


def test_a_mean_of_few_photos_is_off_by_chance_and_no_disadvantage() -> None:
    """Of two photos each a new class is found as often as an old one of many."""
    features, labels, _ = rows(300, 60)
    old = labels < 2
    before = head("prototype", features[old], labels[old], Photos.of(None, labels[old]))
    known = added.Old(features[old], labels[old])
    asked, right, _ = rows(600, 60, seed=1)
    found = []
    for first in range(0, 40, 2):
        new = features[~old][first : first + 2, None]
        scores = added.added(before, new, known).scores(asked)
        found.append([(scores.argmax(axis=1) == right)[right == k].mean() for k in (0, 2)])
    of_old, of_new = np.mean(found, axis=0)
    assert abs(of_old - of_new) < 0.05, (of_old, of_new)


def test_training_photos_that_are_gone_are_missed_by_those_who_need_them(
    tmp_path: Path,
) -> None:
    """Features that are kept do instead; class means by the cosine and neighbours need none."""
    place = write_photos(tmp_path / "photos")
    chosen = settings("lenet", place, cut="act4", head="linear")
    tune(tmp_path / "run", chosen)
    folder = new_photos(tmp_path / "more")
    for path in sorted((place).rglob("*.png"))[:2]:
        path.unlink()
    run = Run.open(tmp_path / "run").finished()
    add_class(run, "d", folder, tmp_path / "kept", Watcher())
    assert Run.open(tmp_path / "kept").finished()
    shutil.rmtree(weights.cache_folder() / "features")
    with pytest.raises(DataError, match="any more, and their features are not kept"):
        add_class(run, "d", folder, tmp_path / "gone", Watcher())


def test_a_head_trained_in_steps_takes_no_class_more(tmp_path: Path, photos: Path) -> None:
    tune(tmp_path / "run", settings("lenet", photos, epochs=1, head="mlp:8"))
    run = Run.open(tmp_path / "run").finished()
    with pytest.raises(UsageError, match=r"\(mlp:8\) was trained in steps"):
        add_class(run, "d", photos, tmp_path / "new", Watcher())


def test_a_fresh_head_begins_with_the_rows_of_shared_classes(
    runs: Path, photos: Path, tmp_path: Path
) -> None:
    """At a rate of nothing the run's accuracy is that of the one it started from."""
    chosen = settings("lenet", photos, weights=str(runs / "linear"), cut="act4", epochs=1, lr=1e-9,
                      optimizer="adamw", calibrate=False)  # fmt: skip
    assert "begin with its rows" in prepare(chosen).plan.reasons["rows"]
    tune(tmp_path / "run", chosen)
    theirs = weights.read_arrays(runs / "linear" / "model.safetensors")
    for name, array in weights.read_arrays(tmp_path / "run" / "model.safetensors").items():
        assert np.allclose(array, theirs[name], atol=1e-4), name
    for kind in sorted(theirs_of := Run.open(runs / "linear").record["classes"])[1:]:
        shutil.copytree(photos / kind, tmp_path / "fewer" / kind)
    fewer = replace(chosen, data=str(tmp_path / "fewer"))
    tune(tmp_path / "other", fewer)  # whose classes have other numbers
    rows = [theirs_of.index(name) for name in Run.open(tmp_path / "other").record["classes"]]
    assert rows == [1, 2]
    head = Run.open(runs / "linear").record["linear_head"]
    for name, array in weights.read_arrays(tmp_path / "other" / "model.safetensors").items():
        if name.startswith(f"{head}."):
            assert np.allclose(array, theirs[name][rows], atol=1e-4), name
    solved = prepare(settings("lenet", photos, weights=str(runs / "linear"), cut="act4"))
    assert "its rows would change nothing" in solved.plan.reasons["rows"]


def test_the_distance_is_by_the_plain_view_alone(runs: Path, photos: Path, tmp_path: Path) -> None:
    tune(tmp_path / "run", settings("lenet", photos, cut="act4", views=1))
    one, two = (weights.read_arrays(run / DISTANCE) for run in (tmp_path / "run", runs / "linear"))
    for name, array in one.items():
        assert np.allclose(array, two[name], atol=1e-5), name


def test_a_photo_of_the_new_class_is_judged_by_a_head_without_it(
    photos: Path, tmp_path: Path
) -> None:
    """Two that are as good as photos of old classes: each would be its own nearest neighbour."""
    run = tmp_path / "run"
    tune(run, settings("lenet", photos, cut="act4", head="knn:1", views=1))
    (tmp_path / "more").mkdir()
    for kind, (path, _) in zip("ab", Run.open(run).labelled("train")[::20], strict=True):
        with Image.open(path) as image:
            image.putpixel((0, 0), (90, 91, 92))
            image.save(tmp_path / "more" / f"{kind}.png")
    done = add_class(Run.open(run), "d", tmp_path / "more", tmp_path / "new", Watcher())
    assert (done.photos, done.found) == (2, 0)


def test_a_computed_head_is_resumed(photos: Path, tmp_path: Path) -> None:
    chosen = settings("lenet", photos, head="knn:5", cut="act4")
    with pytest.raises(Interrupted):
        tune(tmp_path / "run", chosen, Watcher("features", 3))
    run = Run.open(tmp_path / "run")
    carried_out(begin.resume(prepare(begin.recipe_of(run)), run, Watcher()))
    tune(tmp_path / "whole", chosen)
    files = (tmp_path / name / "model.safetensors" for name in ("run", "whole"))
    assert len({sha256(file) for file in files}) == 1


def test_a_stranger_s_neighbours_are_refused(runs: Path, here: Any, tmp_path: Path) -> None:
    """Labels of classes that there are not."""
    run = tmp_path / "run"
    shutil.copytree(runs / "knn:5", run)
    state = weights.read_arrays(run / "model.safetensors")
    (name,) = (name for name in state if name.endswith(".labels"))
    weights.save_arrays(state | {name: state[name] + 99}, run / "model.safetensors")
    opened = Run.open(run)
    opened.update(model_sha256=weights.hash_of(run / "model.safetensors"))
    answer = here("predict", run, new_photos(tmp_path / "more"))
    assert answer.code != 0
    assert "labels of other classes" in answer.err


# Labels that look wrong.


@pytest.mark.parametrize("views", [1, 2])
def test_moved_photos_are_named(photos: Path, tmp_path: Path, views: int) -> None:
    """By the heads of the folds, in the photos' own names; nothing is written of val photos."""
    place = tmp_path / "photos"
    shutil.copytree(photos, place)
    first, second, *_ = sorted(folder.name for folder in place.iterdir())
    moved = {f"{second}/moved-{number}.png" for number in (3, 7)}
    sources = sorted((place / first).iterdir())[1:9:6]
    for name, source in zip(sorted(moved), sources, strict=True):
        source.rename(place / name)
    chosen = settings("lenet", place, cut="act4", views=views)
    told = tune(tmp_path / "run", chosen)
    rows = csv_rows(tmp_path / "run/suspicious.csv")
    train = {row["path"]: row for row in csv_rows(tmp_path / "run/index.csv")
             if row["split"] == "train"}  # fmt: skip
    assert {row["path"] for row in rows} <= train.keys()
    found = moved & {row["path"] for row in rows}
    assert found
    for row in rows:
        assert row["label"] == train[row["path"]]["label"]
        assert row["suggested"] != row["label"]
        assert 0 < float(row["probability"]) <= 1
    assert {row["suggested"] for row in rows if row["path"] in found} == {first}
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    (line,) = [event.text for event in told
               if isinstance(event, Note) and "suspicious.csv" in event.text]  # fmt: skip
    assert line.startswith(f"{len(rows)} label")
    assert f"the first: {rows[0]['path']} is '{rows[0]['label']}'" in line
    record = Run.open(tmp_path / "run").record
    assert record["suspicious"] == len(rows)
    tried = [row["penalty"] for row in record["penalties"]]
    assert record["penalty"] in tried


def test_a_penalty_that_is_given_leaves_no_photo_out(photos: Path, tmp_path: Path) -> None:
    """So nothing is known of labels, and nothing is said."""
    told = tune(tmp_path / "run", settings("lenet", photos, cut="act4", penalty=0.1))
    assert not (tmp_path / "run/suspicious.csv").exists()
    assert not any("suspicious" in getattr(event, "text", "") for event in told)
    assert Run.open(tmp_path / "run").record["penalties"] == []


def test_names_of_heads() -> None:
    assert kind_of("prototype").metric == "mahalanobis"
    assert kind_of("prototype:mahalanobis").layer == "linear"
    assert kind_of("knn:7").graph == "knn:7"
    with pytest.raises(UsageError, match="a head 'knn:0'"):
        kind_of("knn:0")
