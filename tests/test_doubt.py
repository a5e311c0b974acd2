"""What a network does not know: unknown pictures, sets of classes, a promised share of errors."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kit import CLASSES, Here, csv_rows, picture, waves, write_photos
from kit.data import tree

import zoo
from zoo.cli import main
from zoo.head import conformal, distance
from zoo.metrics import auroc, softmax
from zoo.predict.next_photos import LEAST, picks
from zoo.predict.rows import Prediction
from zoo.run import Run


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of LeNet whose head was solved, with 24 val photos. Not to be changed."""
    root = tmp_path_factory.mktemp("solved")
    photos = write_photos(root / "photos", each=20)
    words = ["finetune", "lenet", str(photos), "--cut", "fc1", "--val-fraction", "0.4"]
    assert main([*words, "-o", str(root / "run")]) == 0
    return root / "run"


@pytest.fixture(scope="module")
def by_head(solved: Path) -> dict[str, Path]:
    """The same with other heads, which take the same features. Not to be changed."""
    found = {"linear": solved}
    words = ["finetune", "lenet", str(solved.parent / "photos"), "--cut", "fc1"]
    for head in ("knn:5", "mlp:8"):
        found[head] = solved.parent / head.replace(":", "-")
        more = ["--epochs", "2"] if head == "mlp:8" else []
        asked = ["--val-fraction", "0.4", "--head", head, *more, "-o", str(found[head])]
        assert main([*words, *asked]) == 0
    return found


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of none of the classes, and one of a class that no run has seen."""
    folder = tmp_path_factory.mktemp("others")
    for number in range(5):
        waves(60, 50, number).save(folder / f"{number}.png")
    picture("disc", 21).save(folder / "disc.png")
    return folder


# Sets of classes.


def outputs(count: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return scores that are too sure, and labels."""
    random = np.random.default_rng(seed)
    scores = random.normal(0, 1.5, (count, classes))
    labels = (softmax(scores).cumsum(axis=1) > random.random((count, 1))).argmax(axis=1)
    return 2 * scores, labels


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_sets_hold_the_true_class_as_often_as_asked_whatever_the_network(coverage: float) -> None:
    scores, labels = outputs(1200, 10, 0)
    probabilities = softmax(scores)
    likelier = conformal.likelier(probabilities, labels)
    falling = -np.sort(-probabilities, axis=1)
    found = conformal.by_halves(falling, likelier, coverage)
    assert found is not None
    assert abs(found.coverage - coverage) < 0.02
    assert 1 <= found.size < 10
    # Taken at their word, probabilities that are too sure make sets that hold it less often.
    assert conformal.covered(falling, likelier, coverage).coverage < coverage - 0.02


def test_the_limit_is_that_of_a_photo_more_than_there_are() -> None:
    scores = np.arange(1, 20) / 20
    assert conformal.needed(0.95) == 19
    assert conformal.limit(scores, 0.95) == scores[-1]
    assert conformal.limit(scores[1:], 0.95) == float("inf")
    assert conformal.limit(scores, 0.9) == scores[17]
    assert conformal.needed(0.9) == 9


@pytest.mark.parametrize(("coverage", "fewest"), [(0.9, 18), (0.95, 38), (0.8, 8)])
def test_sets_are_measured_where_each_half_has_the_photos_it_takes(
    coverage: float, fewest: int
) -> None:
    scores, labels = outputs(fewest, 4, 0)
    probabilities = softmax(scores)
    falling, likelier = -np.sort(-probabilities, axis=1), conformal.likelier(probabilities, labels)
    found = conformal.by_halves(falling, likelier, coverage)
    assert found is not None
    assert found.size < 4, "the limit is of enough photos to be finite"
    assert conformal.by_halves(falling[1:], likelier[1:], coverage) is None


def test_likelier_is_what_stands_before_the_true_class() -> None:
    table = np.array([[0.2, 0.5, 0.3], [0.2, 0.5, 0.3], [0.2, 0.5, 0.3]])
    assert np.allclose(conformal.likelier(table, np.array([0, 1, 2])), [0.8, 0, 0.5])
    assert np.allclose(conformal.before_each(np.array([0.5, 0.3, 0.2])), [0, 0.5, 0.8])


# A promised share of errors.


def test_thresholds_are_tenths_of_the_photos_that_are_there() -> None:
    for kept, reached in (([*range(1, 11)], [*range(1, 11)]), ([5, 10], [5, 10]), ([4], [4]),
                          ([1, 30], [1, 30]), ([2, 3, 20], [2, 3, 20])):  # fmt: skip
        places = np.arange(len(kept))
        found = conformal.thresholds(1 - places / 10, np.array(kept), places)
        assert [one.kept for one in found] == reached
        assert [one.errors for one in found] == [kept.index(one.kept) for one in found]


def test_bounds_are_clopper_and_pearson_s() -> None:
    from scipy.special import bdtr

    assert conformal.upper_bound(0, 59, 0.05) == pytest.approx(1 - 0.05 ** (1 / 59))
    for errors, count in ((1, 20), (7, 153)):
        bound = conformal.upper_bound(errors, count, 0.01)
        assert bdtr(errors, count, bound) == pytest.approx(0.01)
    assert conformal.upper_bound(3, 3, 0.05) == 1


def test_a_promise_of_few_errors_is_rarely_broken() -> None:
    """All ten bounds hold at a time in 95 % of the draws at least."""
    random, broken = np.random.default_rng(0), 0
    for _ in range(200):
        probability = np.sort(random.random(300))[::-1]
        errors = np.cumsum(random.random(300) > 0.5 + probability / 2)
        tried = conformal.thresholds(probability, np.arange(1, 301), errors)
        assert len(tried) == conformal.TRIED
        truth = [(1 - each.probability) / 4 for each in tried]  # of new photos that reach it
        broken += any(each.bound < real for each, real in zip(tried, truth, strict=True))
    assert broken <= 10


# Distance.


def clouds(count: int, seed: int, away: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return features of three classes, stretched, and the class of each."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    centres = np.random.default_rng(99).normal(0, 1, (3, 40))
    spread = np.linspace(0.2, 2, 40)
    rows = 5 + centres[labels] + random.normal(0, 1, (count, 40)) * spread
    rows[:, :5] += away
    return rows.astype(np.float32), labels


def test_the_stated_rate_of_known_photos_is_kept_and_others_are_far() -> None:
    rates = []
    for seed in range(20):
        known = distance.fit(*clouds(300, seed), clouds(200, 100 + seed)[0])
        new = known.of(clouds(400, 200 + seed)[0])
        rates.append((new > known.limit(0.05)).mean())
    assert abs(np.mean(rates) - 0.05) < 0.01
    assert auroc(new, known.of(clouds(100, 300, 3.0)[0])) > 0.95


def test_the_distance_is_mahalanobis_by_a_covariance_of_few_directions() -> None:
    found = distance.fit(*clouds(90, 0), clouds(30, 1)[0])
    rows = clouds(4, 2)[0].astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    inside = found.directions.T.astype(np.float64) @ found.directions
    assert np.allclose(
        found.directions @ found.directions.T, np.eye(len(found.directions)), 0, 1e-5
    )
    whole = (found.directions.T * found.variances) @ found.directions
    whole = whole + found.rest * (np.eye(40) - inside)
    away = rows[:, None] - found.means
    squares = np.einsum("nkd,de,nke->nk", away, np.linalg.inv(whole), away)
    wanted = np.sqrt(squares.min(axis=1) / 40)
    assert np.allclose(found.of(clouds(4, 2)[0]), wanted, 1e-3)


@pytest.mark.parametrize(("train", "width"), [(1, 5), (3, 1), (4, 2), (30, 2000)])
def test_few_photos_or_features_that_are_alike_still_have_a_distance(
    train: int, width: int
) -> None:
    rows = np.ones((train, width), np.float32)
    rows[:1] *= 3
    found = distance.fit(rows, np.arange(train) % 2, rows)
    assert np.isfinite(found.of(np.eye(width, dtype=np.float32))).all()
    again = distance.Distance.of_arrays(found.arrays())
    assert (again.of(rows) == found.of(rows)).all()


def test_arrays_that_fit_no_distance_are_refused() -> None:
    arrays = distance.fit(*clouds(90, 0), clouds(30, 1)[0]).arrays()
    wrong = ({"means": arrays["means"][:, 1:]}, {"rest": -arrays["rest"]},
             {"known": arrays["known"][:0]}, {"variances": arrays["directions"]},
             {"scales": arrays["scales"][1:]}, {"scales": -arrays["scales"]})  # fmt: skip
    for each in wrong:
        with pytest.raises(ValueError, match=r"arrays|variances|scales"):
            distance.Distance.of_arrays(arrays | each)


@pytest.mark.parametrize("count", [1, 3, 11])
def test_photos_of_a_class_that_was_added_are_known(count: int) -> None:
    """Its few photos differ in other directions than the others; the old rate stays."""
    val = clouds(200, 1)[0]
    found = distance.fit(*clouds(300, 0), val)
    random = np.random.default_rng(5)
    middle = np.abs(random.normal(6, 3, 40))

    def new(many: int) -> np.ndarray:
        return (middle + random.normal(0, 2, (many, 40))).astype(np.float32)

    more = found.with_class(new(count), val)
    limit = more.limit(0.05)
    assert (more.of(clouds(400, 2)[0]) > limit).mean() < 0.1
    mine = new(50)
    assert (found.of(mine) > found.limit(0.05)).mean() > 0.9
    if count > 1:
        assert (more.of(mine) > limit).mean() < 0.2
    assert len(more.with_class(new(3), val).means) == len(found.means) + 2


def test_auroc_counts_equal_numbers_half() -> None:
    assert auroc(np.array([1, 2, 3]), np.array([4, 5])) == 1
    assert auroc(np.array([1, 2]), np.array([2, 0])) == pytest.approx((0.5 + 1 + 0 + 0) / 4)


# The commands.


def test_unknown_pictures_have_no_label_and_a_distance(
    here: Here, solved: Path, others: Path
) -> None:
    plain = csv_rows(here("predict", solved, others).out)
    answer = here("predict", solved, others, "--unknown", "--unknown-rate", "10%")
    assert answer.code == 0, answer.err
    limit = float(answer.err.split("further than ")[1].split()[0])
    rows = csv_rows(answer.out)
    assert list(rows[0]) == ["path", "status", "label", "probability", "distance", "error"]
    for row, before in zip(rows, plain, strict=True):
        far = float(row["distance"]) > limit
        assert row["status"] == ("unknown" if far else "ok")
        assert row["label"] == ("" if far else before["label"])
        assert row["probability"] == before["probability"]  # the same network, the same bits
    assert f"{sum(row['status'] == 'unknown' for row in rows)} unknown" in answer.err
    assert {row["status"] for row in rows} == {"ok", "unknown"}


def test_torch_gives_the_same_distances(here: Here, solved: Path, others: Path) -> None:
    words = ["predict", solved, others, "--unknown"]
    one, two = (csv_rows(here(*words, "--engine", engine).out) for engine in ("openvino", "torch"))
    ours, theirs = ([float(row["distance"]) for row in rows] for rows in (one, two))
    assert ours == pytest.approx(theirs, rel=1e-3)


def test_a_distance_has_no_part_of_the_head_in_it(
    here: Here, by_head: dict[str, Path], others: Path
) -> None:
    rows = [csv_rows(here("predict", run, others, "--unknown").out) for run in by_head.values()]
    linear, nearest, in_steps = ([float(row["distance"]) for row in each] for each in rows)
    assert linear == nearest == pytest.approx(in_steps, rel=1e-3)
    assert len(linear) == len(set(linear)) == 6


@pytest.mark.slow
def test_a_distance_is_of_the_features_whatever_the_head(
    here: Here, by_head: dict[str, Path], others: Path
) -> None:
    found = []
    for run in by_head.values():
        answer = here("predict", run, others, "--unknown")
        assert answer.code == 0, answer.err
        found.append([float(row["distance"]) for row in csv_rows(answer.out)])
        assert here("next", run, others, "--count", "2").code == 0
        assert here("evaluate", run, "--unknown", others).code == 0
    answer = here("predict", by_head["mlp:8"], others, "--unknown", "--precision", "int8")
    assert (answer.code, "not in int8" in answer.err) == (2, True), answer.err
    assert found[0] == found[1] == pytest.approx(found[2], rel=1e-3)


@pytest.mark.parametrize(
    "head", ["knn:5", *(pytest.param(one, marks=pytest.mark.slow) for one in ("linear", "mlp:8"))]
)
def test_an_exported_file_gives_the_distance_of_its_run(
    here: Here, by_head: dict[str, Path], others: Path, tmp_path: Path, head: str
) -> None:
    file, solved = tmp_path / "unknown.onnx", by_head[head]
    answer = here("export", "onnx", solved, "--unknown", "-o", file, "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["distance_diff"] < 0.01
    words = ["predict", solved, others, "--unknown"]
    theirs, ours = csv_rows(here(*words).out), csv_rows(here("predict", file, *words[2:]).out)
    assert [row["status"] for row in ours] == [row["status"] for row in theirs]
    distances = [[float(row["distance"]) for row in rows] for rows in (ours, theirs)]
    assert distances[0] == pytest.approx(distances[1], rel=0.01)
    plain = [row["probability"] for row in csv_rows(here("predict", file, others).out)]
    assert plain == [row["probability"] for row in ours]
    assert here(*words[:1], file, *words[2:], "--unknown-rate", "10%").code == 2


def test_an_exported_file_without_a_distance_says_how_to_have_one(
    here: Here, exported: Path, others: Path
) -> None:
    answer = here("predict", exported, others, "--unknown")
    assert answer.code == 2
    assert "zoo export onnx RUN --unknown" in answer.err


def test_sets_begin_with_the_answer(here: Here, solved: Path, others: Path, tmp_path: Path) -> None:
    words = ["predict", solved, others, "--coverage", "90%", "--top", "2"]
    answer = here(*words)
    assert answer.code == 0, answer.err
    limit = float(answer.err.split("up to a sum of ")[1].split(",")[0])
    before = [float(row["likelier"]) for row in Run.open(solved).rows("val.csv", ("likelier",))]
    assert limit == pytest.approx(conformal.limit(np.array(before), 0.9), rel=1e-3)
    every = csv_rows(here("predict", solved, others, "--top", "3").out)
    for row, all_of in zip(csv_rows(answer.out), every, strict=True):
        chances = [float(all_of[f"probability{end}"]) for end in ("", "_2", "_3")]
        names = [all_of[f"label{end}"] for end in ("", "_2", "_3")]
        size = sum(before <= limit for before in (0, chances[0], chances[0] + chances[1]))
        assert row["set"] == "|".join(names[:size])
        assert "label_3" not in row
    told = [row.set for row in zoo.load(solved).predict(others, coverage=0.9)]
    assert told == [tuple(row["set"].split("|")) for row in csv_rows(answer.out)]
    assert max(map(len, told)) > 1
    assert here(*words, "-o", tmp_path / "a.jsonl").code == 0
    first = json.loads((tmp_path / "a.jsonl").read_text().splitlines()[0])
    assert first["set"][0] == first["label"]
    assert "label_3" not in first


def test_max_error_rejects_below_the_threshold_it_chose(
    here: Here, solved: Path, others: Path
) -> None:
    answer = here("predict", solved, others, "--max-error", "70%")
    assert answer.code == 0, answer.err
    below = float(answer.err.split("answers of ")[1].split()[0])
    assert "with 95 % confidence" in answer.err
    for row in csv_rows(answer.out):
        if abs(float(row["probability"]) - below) > 1e-3:
            rejected = float(row["probability"]) < below
            assert row["status"] == ("rejected" if rejected else "ok")


def test_what_val_photos_cannot_promise_is_said_with_how_many_can(
    here: Here, solved: Path, others: Path
) -> None:
    for words, what, hint in (
        (["--coverage", "0.99"], "24 val photos, and it takes 99", "--coverage 0.96 or less"),
        (["--unknown", "--unknown-rate", "1%"], "24 val photos, and it takes 99", "4% or more"),
        (
            ["--max-error", "1%"],
            "24 val photos promise that of no threshold",
            "about 528 have to be",
        ),
        (["--coverage", "1.5"], "no share between 0 and 1", "--coverage 0.95"),
        (["--max-error", "many"], "no share between 0 and 1", "--max-error 5%"),
        (["--max-error", "5%", "--reject-below", "0.5"], "with --reject-below", "one of them"),
        (["--unknown-rate", "5%"], "without --unknown", "give --unknown"),
        (["--copy"], "--copy without --sort-into", "--sort-into DIR"),
    ):
        answer = here("predict", solved, others, *words)
        assert (answer.code, answer.out) == (2, ""), words
        assert what in answer.err
        assert hint in answer.err.split("hint: ")[1]


def test_what_is_no_run_or_has_no_distance_says_so(
    here: Here, run: Path, exported: Path, solved: Path, others: Path, tmp_path: Path
) -> None:
    for model, flag, what in (
        ("lenet", "--unknown", "is no run"),
        (exported, "--coverage=0.5", "is no run"),
        (run, "--unknown", "does not know how far photos are"),  # it was trained in steps
    ):
        answer = here("predict", model, others, flag)
        assert answer.code == 2
        assert what in answer.err
    broken = tmp_path / "broken"
    shutil.copytree(solved, broken)
    data = bytearray((broken / "distance.safetensors").read_bytes())
    data[-1] ^= 1
    (broken / "distance.safetensors").write_bytes(data)
    answer = here("predict", broken, others, "--unknown")
    assert answer.code == 2
    assert "is not the file that the run has saved" in answer.err


def test_a_table_of_a_stranger_is_read_with_care(here: Here, solved: Path, tmp_path: Path) -> None:
    for number, (name, text) in enumerate((
        ("val.csv", "path,label\nx,y\n"),
        ("val.csv", "path,likelier\nx,much\n"),
        ("val.csv", "path,likelier\nx,nan\n"),
        ("risk_coverage.csv", "threshold,coverage,risk,kept\n"),
    )):  # fmt: skip
        copy = tmp_path / str(number)
        shutil.copytree(solved, copy)
        (copy / name).write_text(text)
        flag = "--coverage=0.5" if name == "val.csv" else "--max-error=50%"
        answer = here("predict", copy, solved.parent / "photos", flag)
        assert answer.code == 2, answer.err
        assert "hint: " in answer.err


def test_evaluate_measures_sets_and_unknown_pictures(
    here: Here, solved: Path, others: Path, tmp_path: Path
) -> None:
    words = ["evaluate", solved, "--coverage", "0.8", "--unknown", others, "--json"]
    found = json.loads(here(*words).out)
    assert found["sets"]["halves"]
    assert found["sets"]["photos"] == found["unknown"]["known_photos"] == 24
    assert 0.6 < found["sets"]["coverage"] <= 1
    assert found["unknown"]["unknown_photos"] == 6
    assert found["unknown"]["auroc"] > 0.8
    fresh = tmp_path / "fresh" / "disc"
    fresh.mkdir(parents=True)
    for number in (20, 21):
        picture("disc", number).save(fresh / f"{number}.png")
    val = next(row for row in csv_rows(solved / "val.csv") if row["label"] == "disc")
    shutil.copy(solved.parent / "photos" / val["path"], fresh / "copy.png")
    answer = here("evaluate", solved, "--data", fresh.parent, "--coverage", "0.8", "--json")
    sets = json.loads(answer.out)["sets"]
    assert (sets["photos"], sets["left_out"], sets["halves"]) == (2, 1, False)
    table = here("evaluate", solved, "--coverage", "0.8", "--unknown", others).out
    assert table.splitlines()[0].endswith(
        "covered  classes a set   AUROC  false alarms  unknown found"
    )
    for words, what in (
        (["evaluate", solved, solved, "--coverage", "0.8"], "measure them apart"),
        (
            ["evaluate", solved, "--unknown", solved.parent / "photos" / "disc"],
            "knows all",
        ),
        (["evaluate", solved, "--unknown", tmp_path / "none"], "does not exist"),
    ):
        answer = here(*words)
        assert answer.code == 2, words
        assert what in answer.err
        assert "photos of" not in answer.err  # before anything is measured


# Sorting.


def test_pictures_are_sorted_by_links_and_the_source_is_left_alone(
    here: Here, solved: Path, others: Path, tmp_path: Path
) -> None:
    source = tmp_path / "in"
    for deep in ("a", "b"):
        shutil.copytree(others, source / deep)
    (source / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    before = tree(source)
    answer = here("predict", solved, source, "--unknown", "--sort-into", tmp_path / "out")
    assert answer.code == 0, answer.err
    assert tree(source) == before
    rows = csv_rows(answer.out)
    links = [path for path in (tmp_path / "out").rglob("*") if path.is_symlink()]
    assert len(links) == len(rows) == 13
    assert {Path(os.readlink(link)) for link in links} == {
        (source / row["path"]).resolve() for row in rows
    }
    assert [path.name for path in (tmp_path / "out" / "_error").iterdir()] == ["broken.jpg"]
    unknown = [row["path"] for row in rows if row["status"] == "unknown"]
    names = {path.name for path in (tmp_path / "out" / "_unknown").iterdir()}
    assert len(names) == len(unknown) > 2
    first = Path(unknown[0])
    assert {first.name, f"{first.stem}-2{first.suffix}"} <= names  # two of one name are two
    assert not list(tmp_path.glob(".*partial"))


def test_copies_and_pictures_in_containers(here: Here, solved: Path, tmp_path: Path) -> None:
    from kit.data import write_idx

    box = write_idx(tmp_path / "box", "t10k", 4, end="") / "t10k-images-idx3-ubyte"
    answer = here("predict", solved, box, "--sort-into", tmp_path / "out", "--copy")
    assert answer.code == 0, answer.err
    made = list((tmp_path / "out").rglob("*.png"))
    assert sorted(path.name for path in made) == [f"{box.name}-{n}.png" for n in range(4)]
    photo = solved.parent / "photos" / "disc" / "00.png"
    os.chmod(photo, 0o644)
    assert here("predict", solved, photo, "--sort-into", tmp_path / "two", "--copy").code == 0
    (copy,) = (path for path in (tmp_path / "two").rglob("*.png"))
    assert not copy.is_symlink()
    assert copy.read_bytes() == photo.read_bytes()


def test_folders_to_sort_into_are_new_or_empty_and_elsewhere(
    here: Here, solved: Path, others: Path, tmp_path: Path
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "a").touch()
    link = tmp_path / "link"
    link.symlink_to(others, target_is_directory=True)
    for place, what in (
        (full, "not empty"), (others / "new", "lies inside"), (others, "not empty"),
        (link / "new", "lies inside"), (full / "a", "is no folder"),
        (tmp_path / "no" / "where", "there is no folder"), (link, "is no folder"),
    ):  # fmt: skip
        answer = here("predict", solved, others, "--sort-into", place)
        assert answer.code == 2, place
        assert what in answer.err
    (tmp_path / "empty").mkdir()
    assert here("predict", solved, others, "--sort-into", tmp_path / "empty").code == 0


def test_a_command_that_fails_leaves_no_folder(
    here: Here, solved: Path, others: Path, tmp_path: Path
) -> None:
    words = ["predict", solved, tmp_path / "list.txt", "--sort-into", tmp_path / "out"]
    (tmp_path / "list.txt").write_text(f"{others / '0.png'}\n{tmp_path / 'gone.png'}\n")
    answer = here(*words)
    assert "1 picture not there, and in no folder" in answer.err
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "rows.csv.partial").mkdir()  # so that the table cannot be written
    assert here(*words, "-o", tmp_path / "rows.csv").code == 4
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*partial"))


def test_names_of_classes_are_safe_as_folders() -> None:
    from zoo.predict.sorting import safe

    names = {"a/b": "a_b", "..": "_", ".x": "_x", "con": "_con", "NUL.txt": "_NUL.txt", "": "_",
             "x. ": "x_", "a\\b:c": "a_b_c", "straße": "straße", "t-shirt": "t-shirt"}  # fmt: skip
    assert {name: safe(name) for name in names} == names
    assert len(safe("ä" * 300).encode()) == 200


def test_classes_that_become_one_name_stay_apart(tmp_path: Path, others: Path) -> None:
    from zoo.predict.rows import Prediction
    from zoo.predict.sorting import filling

    file = str(others / "0.png")
    rows = [Prediction("0", "ok", (name,), (1.0,), file=file) for name in ("A", "a", "x/y", "x_y")]
    rows += [Prediction("0", "ok", ("_error",), (1.0,), file=file)]
    rows += [Prediction("0", "error", error="why", file=file)]
    with filling(tmp_path / "out", copy=False) as ours:
        assert list(ours.following(rows)) == rows
    folders = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert folders == sorted(["A", "a-2", "x_y", "x_y-2", "_error", "_error-2"])


# What to label next.


def test_no_two_photos_that_are_alike_are_chosen() -> None:
    from zoo.head.diversity import chosen

    features = np.repeat(np.eye(4, dtype=np.float32), 3, axis=0)
    chances = np.tile([0.5, 0.5], (12, 1))
    chances[:3] = [0.55, 0.45]
    chances[9:] = [1.0, 0.0]  # sure of them: nothing to learn
    found = chosen(features, chances, 12)
    assert len(found) == 3
    assert {each // 3 for each in found} == {0, 1, 2}
    assert found[0] // 3 in (1, 2)


def test_photos_to_label_are_among_the_least_sure_and_their_classes_go_by_name() -> None:
    """Behind a thousand sure photos; of three that are as unsure one says the same as the first."""

    def row(number: int, sure: float, names: str) -> Prediction:
        here = {"path": str(number), "file": str(number), "features": np.ones(2, np.float32)}
        return Prediction(status="ok", labels=tuple(names), probabilities=(sure, 1 - sure), **here)

    rows = [row(number, 0.9, "xy") for number in range(LEAST)]
    rows += [row(LEAST, 0.6, "xy"), row(LEAST + 1, 0.6, "yx"), row(LEAST + 2, 0.6, "xy")]
    assert [pick.path for pick in picks(rows, 2, None)] == [str(LEAST), str(LEAST + 1)]


def test_next_names_new_photos_with_a_reason(
    here: Here, solved: Path, others: Path, tmp_path: Path
) -> None:
    source = tmp_path / "in"
    shutil.copytree(others, source)
    shutil.copy(solved.parent / "photos" / "disc" / "00.png", source / "known.png")
    words = ["next", solved, source, "--count", "4"]
    answer = here(*words, "--sheet", tmp_path / "s.png", "--links", tmp_path / "links")
    assert answer.code == 0, answer.err
    rows = csv_rows(answer.out)
    assert list(rows[0]) == ["path", "predicted", "probability", "why"]
    assert len(rows) == 4
    assert "known.png" not in {row["path"] for row in rows}
    assert "1 photo left out, which the run knows already" in answer.err
    assert any("like no training photo" in row["why"] for row in rows)
    assert rows[0]["why"].startswith(
        f"{rows[0]['predicted']} {float(rows[0]['probability']):.2f} or"
    )
    links = sorted(path.name for path in (tmp_path / "links").iterdir())
    assert links == sorted(row["path"] for row in rows)
    from PIL import Image

    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.width == 4 * 168 + 8
    assert here(*words).out == answer.out


def test_next_takes_runs_that_were_trained_in_steps(here: Here, run: Path, others: Path) -> None:
    answer = here("next", run, others, "--count", "2")
    assert answer.code == 0, answer.err
    assert len(csv_rows(answer.out)) == 2
    assert {row["predicted"] for row in csv_rows(answer.out)} <= set(CLASSES)


def test_next_wants_a_run(here: Here, exported: Path, others: Path) -> None:
    answer = here("next", exported, others)
    assert answer.code == 2
    assert "is no run" in answer.err


@pytest.mark.slow
@pytest.mark.parametrize(("name", "file"), [
    ("timm/mobilenetv2_100", "timm-mobilenetv2_100-keras.pth"),
    ("torchvision/squeezenet1_1", "squeezenet1_1-caffe.pth"),
])  # fmt: skip
def test_insects_are_told_from_clothes(
    here: Here, shared: Path, tmp_path: Path, name: str, file: str
) -> None:
    words = ["finetune", name, shared / "data/clothing10", "--weights", shared / "weights" / file]
    assert here(*words, "-o", tmp_path / "run").code == 0
    insects = shared / "data/hymenoptera/val"
    words = ["evaluate", tmp_path / "run", "--unknown", insects, "--coverage", "0.9", "--json"]
    found = json.loads(here(*words).out)
    assert found["unknown"]["auroc"] >= 0.95
    assert abs(found["sets"]["coverage"] - 0.9) <= 0.02
    from zoo.predict import policy
    from zoo.run import Run

    known = policy.unknown(Run.open(tmp_path / "run"), 0.05).distance
    rates = []
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(len(known.known))
        ours, theirs = np.split(known.known[order], [len(order) // 2])
        rates.append((theirs > replace(known, known=np.sort(ours)).limit(0.05)).mean())
    assert abs(np.mean(rates) - 0.05) <= 0.02
